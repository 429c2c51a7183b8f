"""Generators and discriminators, one file a family of architectures; import them from their files."""
