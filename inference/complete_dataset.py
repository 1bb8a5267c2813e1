"""Complete all clips of a list: `accelerate launch inference/complete_dataset.py --input LIST --out DIR`."""

import sys

from amodal_diffusion.cli import main

if __name__ == "__main__":
    sys.exit(main(["batch", *sys.argv[1:]]))
