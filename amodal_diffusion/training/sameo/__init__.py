"""Training of SAMEO."""
