"""Setup of an S-AModal training run: network and task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from transformers import SamModel

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.checkpoint import SETTINGS_FILE
from amodal_diffusion.models.s_amodal.network import SAModal
from amodal_diffusion.models.s_amodal.saving import load_s_amodal, save_s_amodal
from amodal_diffusion.models.sam import load_sam
from amodal_diffusion.models.sameo.saving import load_sameo
from amodal_diffusion.parsing import dump_settings, parse_settings
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.objective_trainer import Task, train_method
from amodal_diffusion.training.s_amodal.images import PromptBatch, PromptedImages, join, training_images
from amodal_diffusion.training.s_amodal.objective import SAModalObjective, parameter_groups
from amodal_diffusion.training.s_amodal.settings import SAModalTrainingSettings


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
    return SAModal(settings.networks, sam=_pretrained(settings), seed=settings.loop.seed)


def _pretrained(settings: SAModalTrainingSettings) -> SamModel | None:
    """The SAM to begin with; None draws one at random.

    Raises:
        InputError: if it cannot be loaded, or is another backend's.
    """
    if settings.sam is None:
        return None
    if not (Path(settings.sam) / SETTINGS_FILE).is_file():
        return load_sam(settings.sam)
    network = load_sameo(Path(settings.sam))[0].network
    if not isinstance(network, SamModel):
        raise InputError(f"sam: expected a SAMEO model of the backend sam, got another backend's in {settings.sam}")
    return network


def make_task(settings: SAModalTrainingSettings, model: SAModal, images: PromptedImages) -> Task[PromptBatch]:
    """Training of adapters and mask decoder; the rest is frozen, as the configuration says.

    The exported model leaves the frozen weights out only if they are those of a pretrained SAM, which users have.
    """
    whole = settings.sam is None or settings.networks.train_encoder or (Path(settings.sam) / SETTINGS_FILE).is_file()
    base = None if whole else settings.sam
    objective = SAModalObjective(model, settings.loss)
    return Task(
        objective=objective,
        clips=images,
        join=join,
        groups=parameter_groups(objective, weight_decay=settings.rate.weight_decay),
        export=lambda folder: save_s_amodal(
            model, folder, sam=base, sampling=settings.sampling, dtype=settings.loop.exported
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
