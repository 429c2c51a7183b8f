"""Checkpoints that others have published, read without executing anything in them."""
