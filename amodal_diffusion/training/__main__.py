"""Train any method: `accelerate launch -m amodal_diffusion.training --config FILE`."""

import sys

from amodal_diffusion.training.programs import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
