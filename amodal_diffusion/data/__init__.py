"""Training and test clips: annotation records, samples, data sets."""
