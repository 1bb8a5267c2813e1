"""Follow one object through a clip by shift, turn and scale, and see in each frame what the others show of it."""
