"""Evidence from other frames: motion estimation, temporal mask prior and color propagation (beyond the paper)."""
