"""What other frames know of a hidden part: motion estimation, mask votes, color propagation (beyond the paper)."""
