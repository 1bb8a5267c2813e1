"""Scores methods on benchmarks: one file a benchmark, one for the report."""
