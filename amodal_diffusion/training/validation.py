"""The look at fixed clips during training: figures over all processes and a picture of the first few clips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor

from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.metrics import TrackScores, score_track, summarise
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.pipelines.amodal_segmentation import mask_score
from amodal_diffusion.pipelines.conditioned_video import ConditionedVideoPipeline
from amodal_diffusion.training.clips import scenes
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.tasks import TaskBatch, task_of
from amodal_diffusion.types import UInt8Array
from amodal_diffusion.video.frames import to_uint8

_SHOWN_FRAMES = 2  # of each clip in the picture: a third and two thirds through
_GAP = 2  # pixels between the pictures
_PEAK = 255.0


@dataclass(frozen=True)
class Prediction:
    """One validation clip and what the model made of it.

    Attributes:
        sample: the clip.
        batch: the clip as the networks take it.
        video: predicted amodal video, float32 ``[F, 3, H, W]`` in [-1, 1].
    """

    sample: AmodalSample
    batch: TaskBatch
    video: Tensor


class Validator:
    """Samples the first clips of the validation split, shared out over the processes, always with the same noise.

    Args:
        settings: of the run.
        accelerator: of the run.
    """

    def __init__(self, settings: TrainingSettings, accelerator: Accelerator) -> None:
        self.settings = settings
        self.accelerator = accelerator
        self.task = task_of(settings.stage)
        self.samples = scenes(
            replace(settings.data, seed=0), self.task, split="validation", length=settings.validation.clips
        )

    def __call__(self, components: StageComponents, step: int) -> dict[str, float]:
        """Sample, measure and draw; all processes call this together.

        Args:
            components: the networks, with the weights to validate.
            step: optimizer steps done, for the picture's name.

        Returns:
            the same figures in every process.
        """
        figures = self._measure(list(self._predict(components, with_guide=True)), step)
        if self.settings.data.guide_dropout > 0:
            without = self._measure(list(self._predict(components, with_guide=False)), None)
            figures |= {f"{name}_without_guide": value for name, value in without.items()}
        return figures

    def _predict(self, components: StageComponents, *, with_guide: bool) -> Iterator[Prediction]:
        """Sample this process's clips one by one."""
        pipeline = ConditionedVideoPipeline.from_components(components)
        pipeline.set_progress_bar_config(disable=True)
        sampling = self.settings.sampling
        for index in range(self.accelerator.process_index, len(self.samples), self.accelerator.num_processes):
            sample = self.samples[index]
            batch = self.task.prepare(sample).to(self.accelerator.device)
            output = pipeline(
                batch.modal,
                batch.guide if with_guide and bool(batch.guide_present) else None,
                noise_aug_strength=sampling.noise_aug_strength,
                decode_chunk_size=sampling.decode_chunk_size,
                generator=torch.Generator(self.accelerator.device).manual_seed(index),
            )
            yield Prediction(sample, batch.to("cpu"), output.video[0].cpu())

    def _measure(self, predictions: list[Prediction], step: int | None) -> dict[str, float]:
        """Figures over all processes; the picture too if a step is given."""
        if step is not None and self.accelerator.is_main_process:
            folder = self.settings.output / "validation"
            folder.mkdir(parents=True, exist_ok=True)
            draw(predictions[: self.settings.validation.pictures], folder / f"{step:08d}.png")
        if self.settings.stage == "content_completion":
            return _hidden_psnr(gather_object([_squared_error(entry) for entry in predictions]))
        threshold = self.settings.sampling.mask_threshold
        return _mask_figures(gather_object([_score(entry, threshold) for entry in predictions]))


def draw(predictions: list[Prediction], path: Path) -> None:
    """Write a picture with the columns visible, guide (depth or amodal mask), predicted, truth.

    Args:
        predictions: two rows each.
        path: of the PNG file.
    """
    rows = []
    for entry in predictions:
        frames = len(entry.video)
        for frame in [frames * (place + 1) // (_SHOWN_FRAMES + 1) for place in range(_SHOWN_FRAMES)]:
            batch = entry.batch
            columns = [batch.modal[0, frame], batch.guide[0, frame], entry.video[frame], batch.amodal[0, frame]]
            rows.append(_beside([_pixels(column) for column in columns], axis=1))
    if rows:
        Image.fromarray(_beside(rows, axis=0)).save(path)


def _pixels(frame: Tensor) -> UInt8Array:
    """A frame ``[1 or 3, H, W]`` in [-1, 1] as 8-bit RGB ``[H, W, 3]``."""
    return to_uint8(frame.expand(3, -1, -1)[None])[0]


def _beside(pictures: list[UInt8Array], *, axis: int) -> UInt8Array:
    """Pictures of one size in a row or column, with a grey line between them."""
    height, width = pictures[0].shape[:2]
    line = np.full((height, _GAP, 3) if axis == 1 else (_GAP, width, 3), 128, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture, line)]
    return np.concatenate(parts[:-1], axis=axis)


def _score(entry: Prediction, threshold: float) -> TrackScores:
    mask = (mask_score(entry.video) > threshold).numpy()
    return score_track(mask, entry.sample.modal, entry.sample.amodal)


def _mask_figures(tracks: list[TrackScores]) -> dict[str, float]:
    summary = summarise(tracks)
    figures = {
        "miou": summary.miou.value,
        "miou_occ": summary.miou_occ.value,
        "miou_hidden": summary.miou_hidden.value,
        "invented": summary.invented,
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def _squared_error(entry: Prediction) -> tuple[float, int]:
    """Sum of squared errors over the hidden pixels of a clip, in 8-bit levels, and their number."""
    hidden = torch.from_numpy(entry.sample.amodal & ~entry.sample.modal)
    error = (entry.video - entry.batch.amodal[0]).movedim(1, -1)[hidden] * (_PEAK / 2)
    return float(error.double().square().sum()), error.numel()


def _hidden_psnr(errors: list[tuple[float, int]]) -> dict[str, float]:
    total, number = sum(error for error, _ in errors), sum(count for _, count in errors)
    return {"psnr_hidden": 10 * math.log10(_PEAK**2 * number / total)} if total > 0 else {}
