"""Train the autoencoder of the bundled model: `accelerate launch recipes/tiny/train_autoencoder.py --config FILE`."""

import logging
import sys

from amodal_diffusion.config import parse_settings, save_settings
from amodal_diffusion.training.log import refuse
from amodal_diffusion.types import InputError
from recipes.tiny.autoencoder import AutoencoderSettings, train_autoencoder

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = parse_settings(AutoencoderSettings, sys.argv[1:])
    settings.out.mkdir(parents=True, exist_ok=True)
    save_settings(settings, settings.out / "settings.yaml")
    try:
        train_autoencoder(settings)
    except InputError as error:
        sys.exit(refuse(error))
