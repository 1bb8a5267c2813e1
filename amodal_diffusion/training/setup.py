"""What a training script has around its steps: command line, exit status, data, beginning and end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator

from amodal_diffusion.config import dump_settings, parse_settings
from amodal_diffusion.data.cache import TensorCache
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.dataset import TaskBatch, training_clips
from amodal_diffusion.training.distributed import TERMINATED_STATUS, Termination, make_accelerator, together
from amodal_diffusion.training.encoded_scenes import EncodedScenes
from amodal_diffusion.training.latent_cache import FrameDepth, LatentCache, frame_depth, latent_cache
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.log import log_to_terminal, refuse, start_tracker
from amodal_diffusion.training.memory_plan import report
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.trainer import Trainer, TrainingResult
from amodal_diffusion.training.validation import Validator
from amodal_diffusion.types import InputError, Stage

Train = Callable[[TrainingSettings], TrainingResult]


def train_main(args: Sequence[str], *, stage: Stage | None = None) -> int:
    """Train either stage as a command line says; see :func:`run`."""
    return run(train, parse_settings(TrainingSettings, args, description="Train one of the two stages."), stage=stage)


def run(train: Train, settings: TrainingSettings, *, stage: Stage | None = None) -> int:
    """Train, or print the settings and a memory plan (``dry_run``).

    Args:
        train: takes the steps of a training run.
        settings: from the command line.
        stage: the stage that the script trains; None takes that of the settings.

    Returns:
        exit status: 0 after the last step or the time limit; 2 after one line ``error: ...`` that says what stands in
        the way; 143 after SIGTERM, with a checkpoint from which the same command goes on.
    """
    log_to_terminal()
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
    """Train either stage; `train/train_amodal_segmentation.py` explains the steps.

    Raises:
        InputError: if settings, networks, cache or checkpoint do not fit each other, or the run cannot go on.
    """
    with Termination() as termination:
        accelerator = start_processes(settings)
        components = build_components(settings)
        storage = open_storage(settings)
        depth = frame_depth(settings, storage, depth_device(settings, accelerator))
        trainer = Trainer(
            settings,
            accelerator,
            components=components,
            clips=load_clips(settings, components, storage, depth=depth),
            validate=Validator(settings, accelerator, termination, depth=depth) if settings.validation.every else None,
            termination=termination,
            cache=load_latents(settings, components, storage),
        )
        trainer.resume()
        begin(settings, accelerator)
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer  # see `end`
        end(accelerator)
        return result


def start_processes(settings: TrainingSettings) -> Accelerator:
    """Join the processes of the launch, with the precision, batches and tracker of the settings."""
    return make_accelerator(
        settings.mixed_precision,
        cpu=settings.cpu,
        accumulation=settings.batches_per_step,
        tracker=settings.tracker,
        log_folder=str(settings.output),
    )


def open_storage(settings: TrainingSettings) -> TensorCache | None:
    """The folder ``data.cache``, if there is one."""
    return None if settings.data.cache is None else TensorCache(settings.data.cache)


def depth_device(settings: TrainingSettings, accelerator: Accelerator) -> torch.device | str:
    """Where the depth network runs: processes that load clips have no GPU."""
    return "cpu" if settings.data.workers else accelerator.device


def load_clips(
    settings: TrainingSettings,
    components: StageComponents,
    storage: TensorCache | None,
    *,
    depth: FrameDepth | None = None,
) -> Clips[TaskBatch] | Clips[LatentBatch]:
    """The training clips: tracks, generated scenes, or scenes that were encoded before.

    Args:
        settings: name the data.
        components: VAE and image encoder, which encoded scenes must have been made with.
        storage: encoded scenes, if ``data.cache`` names them.
        depth: depth of tracks, which have none of their own.

    Raises:
        InputError: if a file cannot be used, or encoded scenes are missing.
    """
    if storage is None or not settings.data.encoded:
        return training_clips(settings, depth=depth)
    scenes = EncodedScenes(settings, storage, components)
    scenes.check()
    return scenes


def load_latents(
    settings: TrainingSettings, components: StageComponents, storage: TensorCache | None
) -> LatentCache | None:
    """Latents and tokens of tracks that were encoded before, if there is a cache."""
    if storage is None or settings.data.encoded:
        return None
    return latent_cache(settings, storage, components)


def begin(settings: TrainingSettings, accelerator: Accelerator) -> None:
    """Write ``settings.yaml`` and start the tracker, once nothing can be refused any more."""

    def note() -> None:
        if accelerator.is_main_process:
            settings.output.mkdir(parents=True, exist_ok=True)
            write_text(settings.output / "settings.yaml", dump_settings(replace(settings, dry_run=False)))

    together(note)
    start_tracker(settings, accelerator)


def end(accelerator: Accelerator) -> None:
    """Wait for all processes and end them; the caller must have let go of its Trainer.

    DistributedDataParallel must not outlive the processes' group: torch would end it under Python's lock, which a
    thread of the group may be waiting for, and hang.
    """
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    accelerator.end_training()


def _show(settings: TrainingSettings) -> None:
    """Print the settings and the memory plan, in one process of the launch."""
    if os.environ.get("RANK", "0") == "0":
        plan = report(settings, processes=int(os.environ.get("WORLD_SIZE", "1")))
        sys.stdout.write(dump_settings(settings) + plan)
