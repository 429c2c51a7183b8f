"""Conversion between tensors and images: files, grids, films, captions, colour, tiles and plots."""
