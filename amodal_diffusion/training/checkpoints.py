"""Checkpoints of a run: what they hold, which one a run resumes from, and the model that a run exports."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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

from amodal_diffusion.io.atomic import PARTIAL, find_damage, replacing_folder, write_digests
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import save_stage
from amodal_diffusion.training.distributed import like, reshard, together, trained_parameters, whole
from amodal_diffusion.types import InputError

logger = logging.getLogger(__name__)

PROGRESS = "progress.json"
DAMAGED = ".damaged"


@contextmanager
def averaged_weights(unet: nn.Module, ema: EMAModel | None) -> Iterator[None]:
    """Within this context the UNet has the moving average of its weights, if there is one."""
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
    """Write the model in the package's layout, in place of an earlier export; one process calls this.

    Args:
        components: networks and settings.
        folder: of the export; it is whole at any moment but that of two renames.
    """
    with replacing_folder(folder) as fresh:
        save_stage(components, fresh)


# What Accelerate writes for a network in shares; it reads these back under the same kind of launch alone.
_SHARES = {DistributedType.FSDP: "pytorch_model_fsdp*", DistributedType.DEEPSPEED: "pytorch_model"}


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        clips: clips that all processes together have taken.
        skipped_steps: steps that changed nothing, as their loss or gradient was not finite.
        skipped_in_a_row: how many of these came last.
        skipped_clips: clips that could not be read, others taken in their place.
    """

    step: int = 0
    clips: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    skipped_clips: int = 0


class Checkpoints:
    """Writes, rotates and loads the checkpoints of a training run.

    Args:
        folder: output folder of the training.
        accelerator: has prepared the UNet and the optimizer.
        unet: the network without wrappers; its parameters that require gradients are saved.
        ema: moving average of those parameters, if there is one.
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
        """Write a checkpoint; all processes call this together.

        Args:
            progress: how far the run is.

        Returns:
            its folder.

        Raises:
            InputError: in every process, if one cannot write; checkpoints that were there are kept.
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
            if self.accelerator.is_main_process:  # what is half written would only fill the disk
                shutil.rmtree(partial, ignore_errors=True)
            raise
        return final

    def _begin(self, partial: Path) -> None:
        if self.accelerator.is_main_process:
            for leftover in self.folder.glob(f"*{PARTIAL}"):  # of saves that were interrupted
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)

    def _complete(self, partial: Path, final: Path, progress: Progress) -> None:
        if not self.accelerator.is_main_process:
            return
        (partial / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        write_digests(partial)
        partial.rename(final)
        for old in [folder for folder in self.complete()[: -self.keep] if folder != final]:
            leaving = old.with_name(old.name + PARTIAL)  # a folder that is removed in part must not pass for complete
            old.rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)

    def _attempt(self, part: Callable[[], None], partial: Path) -> None:
        """Do a part of a save; what goes wrong with the disk is one line.

        torch says RuntimeError of a full disk, and CheckpointException in all processes under FSDP.
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
        """Load a checkpoint; all processes call this together.

        Args:
            folder: a complete checkpoint.

        Raises:
            InputError: if it is none, or of another network or kind of launch.
        """
        path = folder / PROGRESS
        if not path.is_file():
            raise InputError(f"resume: {folder} is not a complete checkpoint, it has no {path.name}")
        newer = [other.name for other in self.complete() if folder.parent == self.folder and other.name > folder.name]
        if newer:  # rotation and `auto` go by the number of steps: two branches in one folder would lose one
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
        """Write the trained weights under their own names, in place of Accelerate's copy of the whole network."""
        weights.clear()
        trained = trained_parameters(self.unet)
        files = {"unet.safetensors": self._whole(trained)}
        if self.ema is not None:
            files["ema.safetensors"] = self._whole(dict(zip(trained, self.ema.shadow_params, strict=True)))
        if self.accelerator.is_main_process:  # only now: if it fails, no other process waits for its share
            for name, tensors in files.items():
                save_file(tensors, Path(folder) / name)

    def _whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors in the main process, none in the others; all processes gather sharded tensors together."""
        kept = {}
        for name, value in tensors.items():
            tensor = whole(value.detach())
            if self.accelerator.is_main_process:
                kept[name] = tensor.cpu().contiguous()
        return kept

    def _load_weights(self, models: list[nn.Module], folder: str) -> None:
        """Read what :meth:`_save_weights` has written."""
        models.clear()
        trained = trained_parameters(self.unet)
        _copy(load_file(Path(folder) / "unet.safetensors"), trained, Path(folder))
        if self.ema is not None:
            path = Path(folder) / "ema.safetensors"
            if not path.is_file():
                raise InputError(f"resume: {folder} has no moving average; give --optimizer.ema_decay 0")
            _copy(load_file(path), dict(zip(trained, self.ema.shadow_params, strict=True)), Path(folder))


def _reason(error: BaseException) -> str:
    """One line; of an error of several processes that of the first."""
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
    """Which checkpoint a run goes on from; one process calls this.

    Args:
        run: its folder.
        resume: ``auto``, ``none``, or a checkpoint's folder.

    Returns:
        None for a fresh start. With ``auto`` the newest that is as it was written; damaged ones on the way are warned
        of and renamed.

    Raises:
        InputError: if there is no such checkpoint, all are damaged, or a start would mix with an earlier run.
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
