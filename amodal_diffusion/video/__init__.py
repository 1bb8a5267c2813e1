"""Clips and masks: files, ranges, sizes, run-length encoding, windows."""
