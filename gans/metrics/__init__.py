"""Evaluation of generated images: pure functions on features, metric classes, extractors, protocols."""
