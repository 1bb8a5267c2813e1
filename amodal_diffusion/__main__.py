"""The command as a module: `accelerate launch -m amodal_diffusion evaluate ...`, `python -m amodal_diffusion`."""

import sys

from amodal_diffusion.cli import main

if __name__ == "__main__":
    sys.exit(main())
