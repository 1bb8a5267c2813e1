"""Frames and masks as arrays: ranges, sizes, crops, windows, layers, drawing; no files."""
