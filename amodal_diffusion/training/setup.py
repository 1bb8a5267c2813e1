"""From a command line to a finished run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from accelerate import Accelerator

from amodal_diffusion.config import dump_settings, parse_settings, save_settings
from amodal_diffusion.data.cache import TensorCache
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.dataset import TaskBatch, training_clips
from amodal_diffusion.training.distributed import TERMINATED_STATUS, Termination, make_accelerator, together
from amodal_diffusion.training.latent_cache import FrameDepth, frame_depth, latent_cache
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.log import log_to_terminal, refuse, start_tracker
from amodal_diffusion.training.memory_plan import report
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.shards import LatentSettings, LatentShards
from amodal_diffusion.training.trainer import Trainer, TrainingResult
from amodal_diffusion.training.validation import Validator
from amodal_diffusion.types import InputError, Stage


def train_main(args: Sequence[str], *, stage: Stage | None = None) -> int:
    """Train as a command line says.

    Args:
        args: the command line without the program's name.
        stage: the stage that the program is for; None leaves it to the settings.

    Returns:
        exit status: 0 after the last step or the time limit; 2 after one line ``error: ...`` that says what stands in
        the way; 143 after a request to end (SIGTERM), with a checkpoint, from which the same command goes on.
    """
    log_to_terminal()
    settings = parse_settings(TrainingSettings, args, description="Train one of the two stages.")
    try:
        if settings.dry_run:
            _show(settings)
            return 0
        if stage is not None and settings.stage != stage:
            raise InputError(f"stage: this script trains {stage}, the settings say {settings.stage}")
        result = train(settings)
    except InputError as error:
        return refuse(error)
    return TERMINATED_STATUS if result.terminated else 0


def train(settings: TrainingSettings) -> TrainingResult:
    """Run a training from its settings to its exported model.

    Args:
        settings: of the run.

    Returns:
        how it ended.

    Raises:
        InputError: if settings, networks, latents or checkpoint do not fit each other.
    """
    with Termination() as termination:
        accelerator = make_accelerator(
            settings.mixed_precision,
            cpu=settings.cpu,
            accumulation=settings.batches_per_step,
            tracker=settings.tracker,
            log_folder=str(settings.output),
        )
        components = build_components(settings)
        storage = None if settings.data.cache is None else TensorCache(settings.data.cache)
        # Processes that load clips have no device: what the cache lacks is computed on their CPUs.
        depth = frame_depth(settings, storage, "cpu" if settings.data.workers else accelerator.device)
        trainer = Trainer(
            settings,
            accelerator,
            components=components,
            clips=_clips(settings, components, depth),
            validate=Validator(settings, accelerator, termination, depth=depth) if settings.validation.every else None,
            termination=termination,
            cache=None if storage is None else latent_cache(settings, storage, components),
        )
        trainer.resume()
        together(partial(_note_settings, settings, accelerator))  # now that nothing can be refused any more
        start_tracker(settings, accelerator)
        result = trainer.fit()
        accelerator.wait_for_everyone()
        # DistributedDataParallel must not outlive the processes' group: torch would end it under Python's lock, which
        # a thread of the group may be waiting for, and hang.
        del trainer
        accelerator.free_memory()
        accelerator.end_training()
        return result


def _show(settings: TrainingSettings) -> None:
    """Print what the run would be, in one process of the launch, without starting it."""
    if os.environ.get("RANK", "0") == "0":
        plan = report(settings, processes=int(os.environ.get("WORLD_SIZE", "1")))
        sys.stdout.write(dump_settings(settings) + plan)


def _note_settings(settings: TrainingSettings, accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        settings.output.mkdir(parents=True, exist_ok=True)
        save_settings(replace(settings, dry_run=False), settings.output / "settings.yaml")


def _clips(
    settings: TrainingSettings, components: StageComponents, depth: FrameDepth | None
) -> Clips[TaskBatch] | Clips[LatentBatch]:
    data = settings.data
    if data.latents is not None:
        return LatentShards(data.latents, LatentSettings.of(settings, components), length=data.clips)
    return training_clips(settings, depth=depth)
