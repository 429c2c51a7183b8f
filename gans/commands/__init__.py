"""Commands beside the trainer: what they do, for the thin files in `scripts`."""
