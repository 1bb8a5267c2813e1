"""Train the distilled autoencoder: `accelerate launch recipes/tiny/train_distilled_autoencoder.py --config FILE`."""

import logging
import sys

from amodal_diffusion.config import parse_settings, save_settings
from amodal_diffusion.training.log import refuse
from amodal_diffusion.types import InputError
from recipes.tiny.distilled_autoencoder import DistillationSettings, distill_autoencoder

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = parse_settings(DistillationSettings, sys.argv[1:])
    settings.out.mkdir(parents=True, exist_ok=True)
    save_settings(settings, settings.out / "settings.yaml")
    try:
        distill_autoencoder(settings)
    except InputError as error:
        sys.exit(refuse(error))
