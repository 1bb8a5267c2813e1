"""Setup of a C2F-Seg training run: networks, task and exit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg.autoencoder import MaskAutoencoder
from amodal_diffusion.models.c2f_seg.network import C2FSeg
from amodal_diffusion.models.c2f_seg.saving import load_autoencoder, load_c2f_seg, save_autoencoder, save_c2f_seg
from amodal_diffusion.models.perceptual import Lpips
from amodal_diffusion.parsing import dump_settings, parse_settings
from amodal_diffusion.training.c2f_seg.clips import CroppedClips, training_clips
from amodal_diffusion.training.c2f_seg.objectives import (
    AutoencoderObjective,
    CropBatch,
    SegmentationObjective,
    join,
)
from amodal_diffusion.training.c2f_seg.settings import C2FTrainingSettings
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.objective_trainer import Task, parameter_groups, train_method


def read_settings(args: Sequence[str]) -> C2FTrainingSettings:
    """Parse a command line; options override ``--config FILE``, which overrides the defaults.

    Args:
        args: the command line without the program's name.
    """
    return parse_settings(C2FTrainingSettings, args, description="Train C2F-Seg: its autoencoder, then the rest.")


def build_autoencoder(settings: C2FTrainingSettings) -> MaskAutoencoder:
    """A new mask autoencoder, or that of ``settings.autoencoder`` to go on with."""
    if settings.autoencoder is not None:
        return load_autoencoder(settings.autoencoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.loop.seed)
        return MaskAutoencoder(settings.networks.autoencoder)


def build_model(settings: C2FTrainingSettings) -> C2FSeg:
    """All networks: those of ``settings.base``, or new ones around a trained autoencoder.

    Raises:
        InputError: if there is neither, or the autoencoder has another shape than the settings say.
    """
    if settings.base is not None:
        return load_c2f_seg(settings.base)[0]
    if settings.autoencoder is None:
        raise InputError("autoencoder: expected the folder of a trained one; train it first with --part autoencoder")
    autoencoder = load_autoencoder(settings.autoencoder)
    if autoencoder.config != settings.networks.autoencoder:
        raise InputError(
            f"networks.autoencoder: {settings.networks.autoencoder} differs from that of {settings.autoencoder}, "
            f"{autoencoder.config}; give the settings that it was trained with"
        )
    model = C2FSeg(settings.networks, seed=settings.loop.seed)
    model.autoencoder.load_state_dict(autoencoder.state_dict())
    if settings.backbone is not None:
        model.load_backbone(settings.backbone)
    return model


def autoencoder_task(
    settings: C2FTrainingSettings, autoencoder: MaskAutoencoder, clips: CroppedClips
) -> Task[CropBatch]:
    """Training of the mask autoencoder, on amodal masks alone."""
    losses = settings.autoencoder_loss
    wanted = losses.lpips if losses.reconstruction == "l1_lpips_gan" else None
    lpips = None if wanted is None else Lpips.from_file(wanted)
    objective = AutoencoderObjective(autoencoder, losses, lpips)
    return Task(
        objective=objective,
        clips=clips,
        join=join,
        groups=parameter_groups(objective, weight_decay=settings.rate.weight_decay),
        export=lambda folder: save_autoencoder(autoencoder, folder),
        text=dump_settings(settings),
        workers=settings.data.workers,
        next_step="go on with the other networks: part=segmentation autoencoder={model}",
    )


def segmentation_task(settings: C2FTrainingSettings, model: C2FSeg, clips: CroppedClips) -> Task[CropBatch]:
    """Training of image features, transformer and refinement; the autoencoder is frozen."""
    objective = SegmentationObjective(model, settings.segmentation_loss, settings.sampling)
    return Task(
        objective=objective,
        clips=clips,
        join=join,
        groups=parameter_groups(objective, weight_decay=settings.rate.weight_decay),
        export=lambda folder: save_c2f_seg(model, folder, sampling=settings.sampling, dtype=settings.loop.exported),
        text=dump_settings(settings),
        workers=settings.data.workers,
    )


def prepare(settings: C2FTrainingSettings, accelerator: Accelerator) -> tuple[C2FTrainingSettings, Task[CropBatch]]:  # noqa: ARG001 - methods that count epochs need it
    """Clips, networks and task of the part to train.

    Raises:
        InputError: if settings, networks and clips do not fit each other.
    """
    clips = training_clips(settings)
    if settings.part == "autoencoder":
        return settings, autoencoder_task(settings, build_autoencoder(settings), clips)
    return settings, segmentation_task(settings, build_model(settings), clips)


def train(settings: C2FTrainingSettings) -> TrainingResult:
    """Train; the Python equivalent of ``train/train_c2f_seg.py``.

    Args:
        settings: training settings; ``dry_run`` is ignored.

    Raises:
        InputError: if settings, networks, clips or checkpoint do not fit each other.
    """
    return train_method(settings, prepare)
