"""Generators and discriminators, one file per family of architectures. Import them from their files."""
