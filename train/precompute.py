"""Encode a run's clips once, before it: `accelerate launch train/precompute.py --config FILE`."""

import sys

from amodal_diffusion.training.precompute import precompute_main

if __name__ == "__main__":
    sys.exit(precompute_main(sys.argv[1:]))
