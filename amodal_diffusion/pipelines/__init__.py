"""Sampling: from conditions to amodal masks and appearance."""
