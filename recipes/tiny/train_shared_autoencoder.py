"""Train the autoencoder that both stages share: `python recipes/tiny/train_shared_autoencoder.py --config FILE`."""

import logging
import sys

from amodal_diffusion.basics import InputError
from amodal_diffusion.parsing import parse_settings, save_settings
from amodal_diffusion.training.log import refuse
from recipes.tiny.shared_autoencoder import SharedAutoencoderSettings, train_shared_autoencoder

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = parse_settings(SharedAutoencoderSettings, sys.argv[1:])
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        save_settings(settings, settings.out / "settings.yaml")
        train_shared_autoencoder(settings)
    except InputError as error:
        sys.exit(refuse(error))
