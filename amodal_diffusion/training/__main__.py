"""Train either stage: `accelerate launch -m amodal_diffusion.training --config FILE`."""

import sys

from amodal_diffusion.training.setup import train_main

if __name__ == "__main__":
    sys.exit(train_main(sys.argv[1:]))
