"""Between tensors and pictures: files, grids, films, captions, colour, tiles, plots."""
