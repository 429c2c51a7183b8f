"""The machine: one training step that is exact under DDP, mixed precision and resume."""
