"""What other frames know of a hidden part: motion estimation, mask votes, colour propagation (beyond the paper)."""
