"""Predict whole-object masks: `amodal-diffusion complete CLIP --masks MASKS --out DIR`, first stage alone."""

import sys

from amodal_diffusion.cli import main

if __name__ == "__main__":
    sys.exit(main(["complete", *sys.argv[1:], "--stages", "masks"]))
