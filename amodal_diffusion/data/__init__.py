"""Clips to train and test on: records, samples, procedural scenes."""
