"""Operations on frames and masks as arrays: ranges, sizes, crops, windows, layers, drawing; no files."""
