"""Training of both stages: data, loss, training loop, checkpoints, validation and export."""
