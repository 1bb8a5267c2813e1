"""Benchmarks, one module each, and the registry that opens them by name."""
