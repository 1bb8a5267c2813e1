"""Setup of an S-AModal training run: network and task."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator

from amodal_diffusion.config import dump_settings, parse_settings
from amodal_diffusion.models.s_amodal.network import SAModal
from amodal_diffusion.models.s_amodal.saving import load_s_amodal, save_s_amodal
from amodal_diffusion.models.sam import load_sam
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.objective_trainer import Task, train_method
from amodal_diffusion.training.s_amodal.images import PromptBatch, PromptedImages, join, training_images
from amodal_diffusion.training.s_amodal.objective import SAModalObjective, parameter_groups
from amodal_diffusion.training.s_amodal.settings import SAModalTrainingSettings
from amodal_diffusion.types import InputError


def read_settings(args: Sequence[str]) -> SAModalTrainingSettings:
    """Parse a command line; options override ``--config FILE``, which overrides the defaults.

    Args:
        args: the command line without the program's name.
    """
    return parse_settings(SAModalTrainingSettings, args, description="Train S-AModal: adapters and mask decoder.")


def build_model(settings: SAModalTrainingSettings) -> SAModal:
    """The network of ``settings.base``, or a new one around the pretrained SAM, or all of it from random weights.

    Raises:
        InputError: if a checkpoint is missing, damaged or of another shape than ``settings.networks``.
    """
    if settings.base is not None:
        model, _ = load_s_amodal(settings.base, sam=settings.sam)
        if model.config != settings.networks:
            raise InputError(
                f"networks: {settings.networks} differs from that of {settings.base}, {model.config}; give the "
                "settings that it was trained with"
            )
        return model
    sam = None if settings.sam is None else load_sam(settings.sam)
    return SAModal(settings.networks, sam=sam, seed=settings.loop.seed)


def make_task(settings: SAModalTrainingSettings, model: SAModal, images: PromptedImages) -> Task[PromptBatch]:
    """Training of adapters and mask decoder; the rest is frozen, as the configuration says."""
    objective = SAModalObjective(model, settings.loss)
    return Task(
        objective=objective,
        clips=images,
        join=join,
        groups=parameter_groups(objective, weight_decay=settings.rate.weight_decay),
        export=lambda folder: save_s_amodal(
            model, folder, sam=settings.sam, sampling=settings.sampling, dtype=settings.loop.exported
        ),
        text=dump_settings(settings),
        workers=settings.data.workers,
    )


def prepare(
    settings: SAModalTrainingSettings, accelerator: Accelerator
) -> tuple[SAModalTrainingSettings, Task[PromptBatch]]:
    """Images, network and task; the number of steps follows from the epochs, if they are given.

    Raises:
        InputError: if settings, network and images do not fit each other.
    """
    images = training_images(settings)
    settings = settings.with_epochs(len(images), accelerator.num_processes)
    return settings, make_task(settings, build_model(settings), images)


def train(settings: SAModalTrainingSettings) -> TrainingResult:
    """Train; the Python equivalent of ``train/train_s_amodal.py``.

    Args:
        settings: training settings; ``dry_run`` is ignored.

    Raises:
        InputError: if settings, networks, clips or checkpoint do not fit each other.
    """
    return train_method(settings, prepare)
