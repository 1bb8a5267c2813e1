"""Train stage 1, from modal to amodal masks: `accelerate launch train/train_amodal_segmentation.py --config FILE`.

`--help` lists all settings, `--dry-run` prints them with a memory plan. The loss is in `training/loss.py`, the loop in
`training/trainer.py`. docs/training.md begins with the paper's training runs.
"""

import sys

from amodal_diffusion.config import parse_settings
from amodal_diffusion.training.distributed import Termination
from amodal_diffusion.training.latent_cache import frame_depth
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.setup import (
    begin,
    depth_device,
    end,
    load_clips,
    load_latents,
    open_storage,
    run,
    start_processes,
)
from amodal_diffusion.training.trainer import Trainer, TrainingResult
from amodal_diffusion.training.validation import Validator


def train(settings: TrainingSettings) -> TrainingResult:
    """Train the UNet; VAE, image encoder and depth network are frozen."""
    with Termination() as termination:  # after SIGTERM, finish the step, save a checkpoint and end
        accelerator = start_processes(settings)

        # A UNet with 12 input channels (noise, modal mask, guide), from Stable Video Diffusion or a checkpoint.
        components = build_components(settings)

        # Clips with modal and amodal masks. The guide is depth: a scene has its own, that of a track's frames is
        # estimated. The cache holds what `train/precompute.py` has computed before.
        storage = open_storage(settings)
        depth = frame_depth(settings, storage, depth_device(settings, accelerator))
        clips = load_clips(settings, components, storage, depth=depth)
        latents = load_latents(settings, components, storage)

        validate = Validator(settings, accelerator, termination, depth=depth) if settings.validation.every else None
        trainer = Trainer(
            settings,
            accelerator,
            components=components,
            clips=clips,
            validate=validate,
            termination=termination,
            cache=latents,
        )
        trainer.resume()  # from the newest undamaged checkpoint; the steps that follow are the same as without a break
        begin(settings, accelerator)
        result = trainer.fit()
        if not result.terminated:
            trainer.export()  # with the moving average of the weights, as a checkpoint for `complete --model`
        del trainer  # before the processes part, see `end`
        end(accelerator)
        return result


if __name__ == "__main__":
    settings = parse_settings(TrainingSettings, sys.argv[1:], description="Train stage 1, amodal segmentation.")
    sys.exit(run(train, settings, stage="amodal_segmentation"))
