"""Predict whole-object masks and paint what hides: `amodal-diffusion complete` with both stages."""

import sys

from amodal_diffusion.cli import main

if __name__ == "__main__":
    sys.exit(main(["complete", *sys.argv[1:], "--stages", "all"]))
