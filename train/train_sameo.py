"""Train SAMEO's mask decoder: `accelerate launch train/train_sameo.py --config FILE --base FOLDER`.

`--help` lists every setting; a flag beats the file. The same command goes on from the newest checkpoint.
"""

import os
import sys

from amodal_diffusion.parsing import dump_settings
from amodal_diffusion.training.distributed import Termination
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.objective_trainer import ObjectiveTrainer
from amodal_diffusion.training.sameo.images import training_images
from amodal_diffusion.training.sameo.setup import build_model, read_settings, sameo_task
from amodal_diffusion.training.setup import end, exit_status


def main() -> TrainingResult | None:
    """Train SAMEO, step by step."""
    # 1. Settings: defaults, then YAML, then flags.
    settings = read_settings(sys.argv[1:])
    if settings.dry_run:
        if os.environ.get("RANK", "0") == "0":
            sys.stdout.write(dump_settings(settings))
        return None

    with Termination() as termination:  # SIGTERM ends training after the current step, with a checkpoint
        # 2. The processes of this launch.
        accelerator = settings.loop.accelerator()

        # 3. Data: one object in one frame; data sets are mixed by the logarithm of their size.
        images = training_images(settings)

        # 4. What is trained: the mask decoder, under frozen encoders. The loss is training/sameo/objective.py.
        model = build_model(settings)
        task = sameo_task(settings, model, images)

        # 5. The training loop (training/objective_trainer.py).
        trainer = ObjectiveTrainer(task, settings.loop, settings.rate, accelerator, termination=termination)
        trainer.resume()

        # 6. Train to the last step, then export OUTPUT/model.
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer, task, model
        end(accelerator)
        return result


if __name__ == "__main__":
    sys.exit(exit_status(main))
