"""Training both stages: tasks, loss, loop, checkpoints, validation, export."""
