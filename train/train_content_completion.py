"""Train stage 2, content completion: `accelerate launch train/train_content_completion.py --config FILE`.

`--help` lists every setting; a flag beats the file. The same command goes on from the newest checkpoint.
"""

import sys

from amodal_diffusion.training.distributed import Termination
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.setup import (
    end,
    exit_status,
    join_processes,
    note_start,
    open_cache,
    open_clips,
    open_latents,
    open_teacher,
    read_settings,
    show,
)
from amodal_diffusion.training.trainer import Trainer
from amodal_diffusion.training.validation import Validator


def main() -> TrainingResult | None:
    """Train stage 2, step by step."""
    # 1. Settings: defaults, then YAML, then flags.
    settings = read_settings(sys.argv[1:], stage="content_completion")
    if settings.dry_run:
        show(settings)
        return None

    with Termination() as termination:  # SIGTERM ends training after the current step, with a checkpoint
        # 2. The processes of this launch.
        accelerator = join_processes(settings)

        # 3. Networks: UNet (trained), VAE and image encoder (frozen).
        components = build_components(settings)

        # 4. Data: complete objects behind pasted occluders, or generated scenes; the guide is the amodal mask.
        cache = open_cache(settings)
        teacher = open_teacher(settings, cache)  # of a run to one step: its samples are targets
        clips = open_clips(settings, components, cache, depth=None, teacher=teacher)

        # 5. The training loop (training/trainer.py), whose loss is training/loss.py.
        trainer = Trainer(
            settings,
            accelerator,
            components=components,
            clips=clips,
            validate=Validator(settings, accelerator, termination) if settings.validation.every else None,
            termination=termination,
            cache=open_latents(settings, components, cache),
        )
        trainer.resume()
        note_start(settings, accelerator)

        # 6. Train to the last step, then export OUTPUT/model, which `--content-model` takes.
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer
        end(accelerator)
        return result


if __name__ == "__main__":
    sys.exit(exit_status(main))
