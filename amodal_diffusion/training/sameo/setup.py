"""Setup of a SAMEO training run: network, task and exit."""

from __future__ import annotations

from collections.abc import Sequence

from accelerate import Accelerator

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.sameo.network import Sameo
from amodal_diffusion.models.sameo.saving import load_sameo, save_sameo
from amodal_diffusion.parsing import dump_settings, parse_settings
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.objective_trainer import Task, parameter_groups, train_method
from amodal_diffusion.training.sameo.images import MixedImages, training_images
from amodal_diffusion.training.sameo.objective import PromptBatch, SameoObjective, join
from amodal_diffusion.training.sameo.settings import SameoTrainingSettings


def read_settings(args: Sequence[str]) -> SameoTrainingSettings:
    """Parse a command line; options override ``--config FILE``, which overrides the defaults.

    Args:
        args: the command line without the program's name.
    """
    return parse_settings(SameoTrainingSettings, args, description="Train SAMEO's mask decoder.")


def build_model(settings: SameoTrainingSettings) -> Sameo:
    """The network of ``start``, or a new one over ``base``, or one of random weights.

    Raises:
        InputError: if the model of ``start`` has another shape than the settings say, or weights cannot be read.
    """
    if settings.start is not None:
        model = load_sameo(settings.start)[0]
        if model.config != settings.networks:
            raise InputError(
                f"networks: {settings.networks} differs from that of {settings.start}, {model.config}; give the "
                "settings that it was trained with"
            )
    else:
        model = Sameo(settings.networks, seed=settings.loop.seed)
        if settings.base is not None:
            model.load_base(settings.base)
    model.train_parts(settings.trained)
    return model


def sameo_task(settings: SameoTrainingSettings, model: Sameo, images: MixedImages) -> Task[PromptBatch]:
    """Training of the mask decoder, or of all networks."""
    objective = SameoObjective(model, settings.loss, cache=settings.embedding_cache)
    # Only over a frozen base is the decoder alone enough to have the model again.
    base = settings.base if settings.trained == "decoder" else None
    return Task(
        objective=objective,
        clips=images,
        join=join,
        groups=parameter_groups(objective, weight_decay=settings.rate.weight_decay),
        export=lambda folder: save_sameo(
            model, folder, sampling=settings.sampling, base=base, dtype=settings.loop.exported
        ),
        text=dump_settings(settings),
        workers=settings.data.workers,
    )


def prepare(
    settings: SameoTrainingSettings,
    accelerator: Accelerator,  # noqa: ARG001 - methods that count epochs need it
) -> tuple[SameoTrainingSettings, Task[PromptBatch]]:
    """Network, images and task.

    Raises:
        InputError: if settings, network and images do not fit each other.
    """
    return settings, sameo_task(settings, build_model(settings), training_images(settings))


def train(settings: SameoTrainingSettings) -> TrainingResult:
    """Train; the Python equivalent of ``train/train_sameo.py``.

    Args:
        settings: training settings; ``dry_run`` is ignored.

    Raises:
        InputError: if settings, networks, clips or checkpoint do not fit each other.
    """
    return train_method(settings, prepare)
