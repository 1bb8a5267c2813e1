"""Train stage 2, from visible to whole colors: `accelerate launch train/train_content_completion.py --config FILE`.

The steps are those of `train/train_amodal_segmentation.py`. The clips differ, and the guide: it is the amodal mask, so
no depth network is loaded.
"""

import sys

from amodal_diffusion.config import parse_settings
from amodal_diffusion.training.distributed import Termination
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.setup import begin, end, load_clips, load_latents, open_storage, run, start_processes
from amodal_diffusion.training.trainer import Trainer, TrainingResult
from amodal_diffusion.training.validation import Validator


def train(settings: TrainingSettings) -> TrainingResult:
    """Train the UNet; VAE and image encoder are frozen."""
    with Termination() as termination:
        accelerator = start_processes(settings)
        components = build_components(settings)

        # Objects that are completely visible, hidden behind the masks of other tracks (`data.occluders`), or generated
        # scenes, which have both. Modal and target are the object on white.
        storage = open_storage(settings)
        clips = load_clips(settings, components, storage)

        trainer = Trainer(
            settings,
            accelerator,
            components=components,
            clips=clips,
            validate=Validator(settings, accelerator, termination) if settings.validation.every else None,
            termination=termination,
            cache=load_latents(settings, components, storage),
        )
        trainer.resume()
        begin(settings, accelerator)
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer
        end(accelerator)
        return result


if __name__ == "__main__":
    settings = parse_settings(TrainingSettings, sys.argv[1:], description="Train stage 2, content completion.")
    sys.exit(run(train, settings, stage="content_completion"))
