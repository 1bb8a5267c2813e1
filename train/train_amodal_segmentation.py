"""Train amodal segmentation: `accelerate launch train/train_amodal_segmentation.py --config FILE`."""

import sys

from amodal_diffusion.training.setup import train_main

if __name__ == "__main__":
    sys.exit(train_main(sys.argv[1:], stage="amodal_segmentation"))
