"""Setup and teardown of a training program: settings, processes, data and exit status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from accelerate import Accelerator

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.data.cache import TensorCache
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.parsing import dump_settings, parse_settings
from amodal_diffusion.training.batches import Clips
from amodal_diffusion.training.clip_sources import training_clips
from amodal_diffusion.training.data_files import check_data_files
from amodal_diffusion.training.dataset import TaskBatch
from amodal_diffusion.training.distillation import Teacher
from amodal_diffusion.training.distributed import TERMINATED_STATUS, Termination, make_accelerator, together
from amodal_diffusion.training.encoded_scenes import EncodedScenes
from amodal_diffusion.training.latent_cache import FrameDepth, LatentCache, frame_depth, latent_cache
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.log import log_to_terminal, refuse, start_tracker
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.memory_plan import report
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.trainer import Trainer
from amodal_diffusion.training.validation import Validator

logger = logging.getLogger(__name__)


def exit_status(program: Callable[[], TrainingResult | None]) -> int:
    """Run a training program, say where the model is, and convert the result to an exit status.

    Args:
        program: training program; it returns None if it only printed its settings.

    Returns:
        0 after the last step or the time limit; 2 after an InputError, printed as one line ``error: ...``; 143 after
        SIGTERM, with a checkpoint from which the same command resumes.
    """
    log_to_terminal()
    try:
        result = program()
    except (InputError, OSError) as error:
        return refuse(error)
    if result is not None and result.terminated:
        return TERMINATED_STATUS
    if result is not None and os.environ.get("RANK", "0") == "0":
        logger.info("model in %s; %s", result.model, result.next_step)
    return 0


def read_settings(args: Sequence[str], *, stage: Stage | None = None) -> TrainingSettings:
    """Parse a command line; options override ``--config FILE``, which overrides the defaults.

    Args:
        args: the command line without the program's name.
        stage: the only stage that the program trains; None accepts either.

    Raises:
        InputError: if the settings name another stage, or a file is missing. Other errors print one line and exit with
            status 2.
    """
    settings = parse_settings(TrainingSettings, args, description="Train one of the two stages.")
    if settings.dry_run:
        return settings
    if stage is not None and settings.stage != stage:
        raise InputError(f"stage: this script trains {stage}, the settings say {settings.stage}")
    check_data_files(settings.data, settings.stage)
    return settings


def show(settings: TrainingSettings) -> None:
    """Print the resolved settings and the memory plan in the first process; no weights are loaded."""
    if os.environ.get("RANK", "0") == "0":
        plan = report(settings, processes=int(os.environ.get("WORLD_SIZE", "1")))
        sys.stdout.write(dump_settings(settings) + plan)


def join_processes(settings: TrainingSettings) -> Accelerator:
    """Join the other processes of the launch, with the precision and tracker of the settings."""
    return make_accelerator(
        settings.mixed_precision,
        cpu=settings.cpu,
        accumulation=settings.batches_per_step,
        tracker=settings.tracker,
        log_folder=str(settings.output),
        comm_hook=settings.ddp_comm_hook,
    )


def open_cache(settings: TrainingSettings) -> TensorCache | None:
    """Open the cache that ``train/precompute.py`` filled; None without ``data.cache``."""
    return None if settings.data.cache is None else TensorCache(settings.data.cache)


def open_depth(settings: TrainingSettings, accelerator: Accelerator, cache: TensorCache | None) -> FrameDepth | None:
    """Depth of an annotation file's frames, from the cache or else a depth network; None for runs without depth.

    The processes that load clips (``data.workers``) have no GPU, so they estimate depth on the CPU.
    """
    return frame_depth(settings, cache, "cpu" if settings.data.workers else accelerator.device)


def open_clips(
    settings: TrainingSettings,
    components: StageComponents,
    cache: TensorCache | None,
    depth: FrameDepth | None,
    teacher: Teacher | None = None,
) -> Clips[TaskBatch] | Clips[LatentBatch]:
    """Training clips: latents for generated scenes with a cache, else pixels.

    Raises:
        InputError: if a file cannot be used, or the cache lacks scenes for these settings and networks.
    """
    if cache is None or not settings.data.encoded:
        return training_clips(settings, depth=depth, teach=None if teacher is None else teacher.read_sample_of_track)
    scenes = EncodedScenes(settings, cache, components, teacher)
    scenes.check()
    return scenes


def open_latents(
    settings: TrainingSettings, components: StageComponents, cache: TensorCache | None
) -> LatentCache | None:
    """Cached latents and tokens of tracks; None without a cache, and for generated scenes."""
    return None if cache is None or settings.data.encoded else latent_cache(settings, cache, components)


def open_teacher(settings: TrainingSettings, cache: TensorCache | None) -> Teacher | None:
    """Stored samples of the teacher of a run to one step; None for other runs.

    Raises:
        InputError: if the teacher, whose weights name its samples, cannot be loaded.
    """
    teacher = Teacher.of(settings, cache)
    return None if teacher is None else teacher.without_networks()


def note_start(settings: TrainingSettings, accelerator: Accelerator) -> None:
    """Write ``settings.yaml`` and start the tracker, after all checks; all processes must call this together."""
    together(partial(_note_settings, settings, accelerator))
    start_tracker(settings, accelerator)


def end(accelerator: Accelerator) -> None:
    """Wait for the other processes and leave the process group.

    The caller must have deleted its trainer, because DistributedDataParallel must not outlive the process group.
    Otherwise torch destroys the group while holding Python's GIL, and a thread of the group may deadlock.
    """
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    accelerator.end_training()


def train(settings: TrainingSettings) -> TrainingResult:
    """Train either stage; the Python equivalent of the scripts in ``train/``.

    Args:
        settings: training settings; ``dry_run`` is ignored.

    Raises:
        InputError: if settings, networks, cache or checkpoint do not fit each other.
    """
    with Termination() as termination:
        accelerator = join_processes(settings)
        components = build_components(settings)
        cache = open_cache(settings)
        depth = open_depth(settings, accelerator, cache)
        teacher = open_teacher(settings, cache)
        trainer = Trainer(
            settings,
            accelerator,
            components=components,
            clips=open_clips(settings, components, cache, depth, teacher=teacher),
            validate=Validator(settings, accelerator, termination, depth=depth) if settings.validation.every else None,
            termination=termination,
            cache=open_latents(settings, components, cache),
        )
        trainer.resume()
        note_start(settings, accelerator)
        result = trainer.fit()
        if not result.terminated:
            trainer.export()
        del trainer
        end(accelerator)
        return result


def train_main(args: Sequence[str], *, stage: Stage | None = None) -> int:
    """Train with the settings of a command line.

    Args:
        args: as for :func:`read_settings`.
        stage: as for :func:`read_settings`.

    Returns:
        as :func:`exit_status`.
    """

    def program() -> TrainingResult | None:
        settings = read_settings(args, stage=stage)
        if settings.dry_run:
            show(settings)
            return None
        return train(settings)

    return exit_status(program)


def _note_settings(settings: TrainingSettings, accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        settings.output.mkdir(parents=True, exist_ok=True)
        write_text(settings.output / "settings.yaml", dump_settings(replace(settings, dry_run=False)))
