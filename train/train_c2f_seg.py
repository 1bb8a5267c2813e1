"""Train C2F-Seg: `accelerate launch train/train_c2f_seg.py --config FILE`, first `--part autoencoder`, then the rest.

`--help` lists every setting; a flag beats the file. The same command goes on from the newest checkpoint.
"""

import os
import sys

from amodal_diffusion.parsing import dump_settings
from amodal_diffusion.training.c2f_seg.clips import training_clips
from amodal_diffusion.training.c2f_seg.setup import (
    autoencoder_task,
    build_autoencoder,
    build_model,
    read_settings,
    segmentation_task,
)
from amodal_diffusion.training.distributed import Termination
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.objective_trainer import ObjectiveTrainer
from amodal_diffusion.training.setup import end, exit_status


def main() -> TrainingResult | None:
    """Train one part of C2F-Seg, step by step."""
    # 1. Settings: defaults, then YAML, then flags.
    settings = read_settings(sys.argv[1:])
    if settings.dry_run:
        if os.environ.get("RANK", "0") == "0":
            sys.stdout.write(dump_settings(settings))
        return None

    with Termination() as termination:  # SIGTERM ends training after the current step, with a checkpoint
        # 2. The processes of this launch.
        accelerator = settings.loop.accelerator()

        # 3. Data: crops around the object, as in inference; modal masks are changed at random.
        clips = training_clips(settings)

        # 4. What is trained: the mask autoencoder, or all but it. The losses are training/c2f_seg/objectives.py.
        if settings.part == "autoencoder":
            task = autoencoder_task(settings, build_autoencoder(settings), clips)
        else:
            task = segmentation_task(settings, build_model(settings), clips)

        # 5. The training loop (training/objective_trainer.py).
        trainer = ObjectiveTrainer(task, settings.loop, settings.rate, accelerator, termination=termination)
        trainer.resume()

        # 6. Train to the last step, then export OUTPUT/model: `--autoencoder` of the second part, or the model.
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer, task
        end(accelerator)
        return result


if __name__ == "__main__":
    sys.exit(exit_status(main))
