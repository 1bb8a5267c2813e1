"""From clicks, boxes or texts to the visible masks of objects; see docs/segmenters.md."""
