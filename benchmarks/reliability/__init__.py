"""The parts of the campaign in `benchmarks/faults.py`: the commands that it disturbs, and the faults."""
