"""Train S-AModal: `accelerate launch train/train_s_amodal.py --config FILE`.

`--help` lists every setting; a flag beats the file. The same command goes on from the newest checkpoint.
"""

import os
import sys

from amodal_diffusion.parsing import dump_settings
from amodal_diffusion.training.distributed import Termination
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.objective_trainer import ObjectiveTrainer
from amodal_diffusion.training.s_amodal.images import training_images
from amodal_diffusion.training.s_amodal.setup import build_model, make_task, read_settings
from amodal_diffusion.training.setup import end, exit_status


def main() -> TrainingResult | None:
    """Train S-AModal's adapters and mask decoder, step by step."""
    # 1. Settings: defaults, then YAML, then flags.
    settings = read_settings(sys.argv[1:])
    if settings.dry_run:
        if os.environ.get("RANK", "0") == "0":
            sys.stdout.write(dump_settings(settings))
        return None

    with Termination() as termination:  # SIGTERM ends training after the current step, with a checkpoint
        # 2. The processes of this launch.
        accelerator = settings.loop.accelerator()

        # 3. Data: single frames, points on the visible part drawn as in inference, amodal masks.
        images = training_images(settings)
        settings = settings.with_epochs(len(images), accelerator.num_processes)

        # 4. What is trained: adapters and mask decoder of a pretrained SAM. The loss is training/s_amodal/objective.py.
        model = build_model(settings)
        task = make_task(settings, model, images)

        # 5. The training loop (training/objective_trainer.py).
        trainer = ObjectiveTrainer(task, settings.loop, settings.rate, accelerator, termination=termination)
        trainer.resume()

        # 6. Train to the last step, then export OUTPUT/model.
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer, task
        end(accelerator)
        return result


if __name__ == "__main__":
    sys.exit(exit_status(main))
