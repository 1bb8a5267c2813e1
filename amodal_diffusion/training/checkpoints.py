"""Checkpoints of a training run: saving, rotation, resumption, and export of the model."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial as bound
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import PARTIAL, find_damage, make_folder, replacing_folder, sync_folder, write_digests
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import save_stage
from amodal_diffusion.training.damaged import Damaged
from amodal_diffusion.training.distributed import like, reshard, together, trained_parameters, whole

logger = logging.getLogger(__name__)

PROGRESS = "progress.json"
DAMAGED = ".damaged"


@contextmanager
def averaged_weights(unet: nn.Module, ema: EMAModel | None) -> Iterator[None]:
    """Context in which the UNet has the EMA of its weights, if there is one."""
    reshard(unet)
    parameters = list(trained_parameters(unet).values())
    if ema is not None:
        ema.store(parameters)
        ema.copy_to(parameters)
    try:
        yield
    finally:
        reshard(unet)
        if ema is not None:
            ema.restore(parameters)


def export(components: StageComponents, folder: Path) -> None:
    """Write the model in the package's layout, atomically replacing an earlier export; only one process calls this.

    Args:
        components: networks and settings.
        folder: destination, see :func:`~amodal_diffusion.io.atomic.replacing_folder`.
    """
    with replacing_folder(folder) as fresh:
        save_stage(components, fresh)


# Files that Accelerate writes for a sharded network, and can read only under the same kind of launch.
_SHARES = {DistributedType.FSDP: "pytorch_model_fsdp*", DistributedType.DEEPSPEED: "pytorch_model"}


@dataclass(frozen=True)
class Progress:
    """Progress of a run, over all processes.

    Attributes:
        step: number of optimizer steps done.
        clips: number of clips taken.
        skipped_steps: number of steps skipped because the loss or gradient was not finite.
        skipped_in_a_row: number of consecutive steps skipped up to now.
        skipped_clips: number of clips that could not be read and were replaced by others.
        damaged: names of the distinct ones among them, by the number of their data set, in the order found.
    """

    step: int = 0
    clips: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    skipped_clips: int = 0
    damaged: Damaged = field(default_factory=dict)


class Checkpoints:
    """Writes, rotates and loads the checkpoints of a training run.

    Args:
        folder: output folder of the run.
        accelerator: accelerator that has prepared the UNet and the optimizer.
        unet: the network without wrappers; its parameters that require gradients are saved.
        ema: EMA of those parameters, if any.
        keep: number of checkpoints to keep.
    """

    def __init__(
        self, folder: Path, accelerator: Accelerator, *, unet: nn.Module, ema: EMAModel | None, keep: int
    ) -> None:
        self.folder = folder / "checkpoints"
        self.accelerator = accelerator
        self.unet = unet
        self.ema = ema
        self.keep = keep
        accelerator.register_save_state_pre_hook(self._save_weights)
        accelerator.register_load_state_pre_hook(self._load_weights)

    def complete(self) -> list[Path]:
        """Folders of the complete checkpoints, oldest first."""
        return complete_checkpoints(self.folder)

    def save(self, progress: Progress) -> Path:
        """Write a checkpoint; all processes must call this together.

        Args:
            progress: progress of the run.

        Returns:
            folder of the checkpoint.

        Raises:
            InputError: in every process, if one cannot write; earlier checkpoints are kept.
        """
        final = self.folder / f"{progress.step:08d}"
        partial = final.with_name(final.name + PARTIAL)
        try:
            for part in (
                bound(self._begin, partial),
                bound(self.accelerator.save_state, str(partial)),
                bound(self._complete, partial, final, progress),
            ):
                together(bound(self._attempt, part, partial))
        except InputError:
            if self.accelerator.is_main_process:  # an incomplete checkpoint would only fill the disk
                shutil.rmtree(partial, ignore_errors=True)
            raise
        return final

    def _begin(self, partial: Path) -> None:
        if self.accelerator.is_main_process:
            for leftover in self.folder.glob(f"*{PARTIAL}"):  # of interrupted saves
                shutil.rmtree(leftover)
            make_folder(partial)

    def _complete(self, partial: Path, final: Path, progress: Progress) -> None:
        if not self.accelerator.is_main_process:
            return
        (partial / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        write_digests(partial)
        partial.rename(final)
        sync_folder(self.folder)  # before the old one goes, else a power cut may lose both
        for old in [folder for folder in self.complete()[: -self.keep] if folder != final]:
            leaving = old.with_name(old.name + PARTIAL)  # a partly removed folder must not count as complete
            old.rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)

    def _attempt(self, part: Callable[[], None], partial: Path) -> None:
        """Run a part of a save, and convert disk errors to a one-line InputError.

        On a full disk, torch raises RuntimeError, or CheckpointException in all processes under FSDP.
        """
        try:
            part()
        except (OSError, SafetensorError, RuntimeError, CheckpointException) as error:
            free = shutil.disk_usage(next(folder for folder in partial.absolute().parents if folder.is_dir())).free
            kept = self.complete()
            newest = f"{kept[-1]} is complete" if kept else "there is no complete one yet"
            raise InputError(
                f"output: checkpoint {partial} cannot be written ({_reason(error)}), {free // 2**20} MiB are free "
                f"there; {newest}; make room and give the same command to go on"
            ) from error

    def load(self, folder: Path) -> Progress:
        """Load a checkpoint; all processes must call this together.

        Args:
            folder: folder of a complete checkpoint.

        Returns:
            progress of the run at the checkpoint.

        Raises:
            InputError: if the checkpoint is incomplete or not the newest in its folder, or was saved with another
                network or kind of launch.
        """
        path = folder / PROGRESS
        if not path.is_file():
            raise InputError(f"resume: {folder} is not a complete checkpoint, it has no {path.name}")
        newer = [other.name for other in self.complete() if folder.parent == self.folder and other.name > folder.name]
        if newer:  # rotation and `auto` order checkpoints by step, so of two branches in a folder one would be lost
            raise InputError(
                f"resume: {self.folder} also holds {', '.join(newer)}, which come after {folder.name}; move them away, "
                "or go on in another output folder"
            )
        kind = self.accelerator.distributed_type
        if not any(folder.glob(_SHARES.get(kind, "optimizer.bin"))):
            raise InputError(
                f"resume: {folder} was saved under another kind of launch than {kind.value}; give the same file of "
                "configs/accelerate"
            )
        progress = Progress(**json.loads(path.read_text(encoding="utf-8")))
        self.accelerator.load_state(str(folder))
        if self.ema is not None:
            self.ema.optimization_step = progress.step
        return progress

    def _save_weights(self, _: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        """Write only the trained weights, in place of Accelerate's copy of the complete network."""
        weights.clear()
        trained = trained_parameters(self.unet)
        files = {"unet.safetensors": self._whole(trained)}
        if self.ema is not None:
            files["ema.safetensors"] = self._whole(dict(zip(trained, self.ema.shadow_params, strict=True)))
        if self.accelerator.is_main_process:  # after all gathers: a failed write then leaves no process waiting
            for name, tensors in files.items():
                save_file(tensors, Path(folder) / name)

    def _whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Full tensors on the CPU in the main process, nothing in the others; all processes must call this together."""
        kept = {}
        for name, value in tensors.items():
            tensor = whole(value.detach())
            if self.accelerator.is_main_process:
                kept[name] = tensor.cpu().contiguous()
        return kept

    def _load_weights(self, models: list[nn.Module], folder: str) -> None:
        """Load the weights that :meth:`_save_weights` wrote."""
        models.clear()
        trained = trained_parameters(self.unet)
        _copy(load_file(Path(folder) / "unet.safetensors"), trained, Path(folder))
        if self.ema is not None:
            path = Path(folder) / "ema.safetensors"
            if not path.is_file():
                raise InputError(f"resume: {folder} has no moving average; give optimizer.ema_decay=0")
            _copy(load_file(path), dict(zip(trained, self.ema.shadow_params, strict=True)), Path(folder))


def _reason(error: BaseException) -> str:
    """Error message on one line; for an error of several processes, that of the first."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())


@torch.no_grad()
def _copy(saved: Mapping[str, Tensor], into: Mapping[str, Tensor], folder: Path) -> None:
    if saved.keys() != into.keys() or any(saved[name].shape != into[name].shape for name in into):
        raise InputError(f"resume: {folder} was saved by another network or another choice of model.trainable")
    for name, value in into.items():
        value.copy_(like(saved[name], value))


def complete_checkpoints(folder: Path) -> list[Path]:
    """Folders of the complete checkpoints in a folder, oldest first."""
    return [path for path in _numbered(folder) if (path / PROGRESS).is_file()]


def find_checkpoint(run: Path, resume: str) -> Path | None:
    """Find the checkpoint to resume from; only one process calls this.

    Args:
        run: output folder of the run.
        resume: ``auto``, ``none``, or the folder of a checkpoint.

    Returns:
        the checkpoint, or None for a new run. ``auto`` selects the newest undamaged checkpoint, and renames newer
        damaged ones with a warning.

    Raises:
        InputError: if the checkpoint does not exist or is damaged, all checkpoints are damaged, or the folder has
            checkpoints of another run.
    """
    folder = run / "checkpoints"
    if resume == "auto":
        return _newest_sound(folder)
    if resume != "none" and not Path(resume).is_dir():
        raise InputError(f"resume: expected auto, none or a checkpoint's folder, got {resume}, which is no folder")
    if complete_checkpoints(folder) and (resume == "none" or Path(resume).resolve().parent != folder.resolve()):
        raise InputError(
            f"output: {run} holds checkpoints of an earlier run; give another folder, or --resume auto to go on"
        )
    if resume == "none":
        return None
    damage = find_damage(Path(resume))
    if damage:
        raise InputError(f"resume: {resume} is damaged, {damage}; give another checkpoint, or auto")
    return Path(resume)


def _numbered(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def _newest_sound(folder: Path) -> Path | None:
    damages: dict[Path, str] = {}
    for path in reversed(_numbered(folder)):
        damage = find_damage(path) if (path / PROGRESS).is_file() else f"{PROGRESS} is missing"
        if damage is None:
            for damaged, reason in damages.items():
                aside = damaged.with_name(damaged.name + DAMAGED)
                logger.warning("%s is damaged, %s: renamed to %s; going on from %s", damaged, reason, aside.name, path)
                shutil.rmtree(aside, ignore_errors=True)
                damaged.rename(aside)
            return path
        damages[path] = damage
    if damages:
        path, damage = next(iter(damages.items()))
        raise InputError(
            f"resume: none of the {len(damages)} checkpoints in {folder} is as it was written (of {path.name} "
            f"{damage}); give another output folder to begin anew"
        )
    return None
