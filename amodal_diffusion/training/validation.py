"""The look at fixed clips during training: figures over all processes and a picture of the first few clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor

from amodal_diffusion.data.sailvos import ClipDepth
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.frames.transforms import to_uint8
from amodal_diffusion.metrics import PROTOCOLS, Protocol, TrackScores, score_track, summarise
from amodal_diffusion.models.checkpoint import SamplingDefaults
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.pipelines.postprocessing import hidden_part
from amodal_diffusion.pipelines.views import window_scores
from amodal_diffusion.training.batches import Clips, reason_of
from amodal_diffusion.training.dataset import TaskBatch, task_of, validation_samples
from amodal_diffusion.training.distributed import Termination, together
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import InputError, UInt8Array

_SHOWN_FRAMES = 2  # of each clip in the picture: a third and two thirds through
_GAP = 2  # pixels between the pictures
_PEAK = 255.0


@dataclass(frozen=True)
class Prediction:
    """One validation clip and what the model made of it.

    Attributes:
        index: of the clip.
        sample: the clip.
        batch: the clip as the networks take it.
        video: predicted amodal video, float32 ``[F, 3, H, W]`` in [-1, 1]; in stage 1 the scores that the masks are
            cut from, ``[F, 1, H, W]``, in [0, 1].
    """

    index: int
    sample: AmodalSample
    batch: TaskBatch
    video: Tensor


@dataclass(frozen=True)
class Findings:
    """What a validation found.

    Attributes:
        figures: by name; the same in every process.
        picture: of the first clips, 8-bit RGB ``[H, W, 3]``; None if none is to be shown.
    """

    figures: dict[str, float]
    picture: UInt8Array | None


class Validator:
    """Samples the first clips of the validation split, shared out over the processes, always with the same noise.

    Stage 1's masks come about as in use (views, what other frames show, each frame's own threshold), but at the size
    that the model works at, in one window, and without the guards.

    Every process samples equally often, the last clip once more where there is none left for it, so that all end
    together and networks that are spread over processes work.

    Args:
        settings: of the run.
        accelerator: of the run.
        termination: notes requests to end, upon which a validation breaks off.
        depth: of clips that have none of their own.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        accelerator: Accelerator,
        termination: Termination,
        *,
        depth: ClipDepth | None = None,
    ) -> None:
        self.settings = settings
        self.accelerator = accelerator
        self.termination = termination
        self.task = task_of(settings.stage, other_frames=settings.sampling.other_frames)
        length = settings.validation.clips
        self.samples = validation_samples(settings.data, self.task, length=length, depth=depth)
        # Depth also tells what may hide the object, so that it is not enough to leave out the guide.
        self._depthless: Clips[AmodalSample] | None = None
        if settings.data.guide_dropout > 0 or settings.data.depthless_share > 0:
            self._depthless = validation_samples(settings.data, self.task, length=length, depthless=True)

    def __call__(self, components: StageComponents, step: int) -> Findings | None:
        """Sample, measure and draw; all processes call this together.

        Args:
            components: the networks, with the weights to validate.
            step: optimizer steps done, for the picture's name.

        Returns:
            what was found; None if a process was asked to end before.

        Raises:
            InputError: in every process, if a clip cannot be read.
        """
        predictions = self._predict(components, self.samples, with_guide=True)
        if predictions is None:
            return None
        figures, picture = self._measure(predictions), self._draw(predictions, step)
        if self._depthless is not None:
            without = self._predict(components, self._depthless, with_guide=False)
            if without is None:
                return None
            figures |= {f"{name}_without_guide": value for name, value in self._measure(without).items()}
        return Findings(figures, picture)

    def _predict(
        self, components: StageComponents, samples: Clips[AmodalSample], *, with_guide: bool
    ) -> list[Prediction] | None:
        """Sample this process's clips one by one."""
        pipeline = ConditionedVideoPipeline.from_components(components)
        pipeline.set_progress_bar_config(disable=True)
        clips, processes = len(samples), self.accelerator.num_processes
        predictions = []
        for turn in range(-(-clips // processes)):
            if self.termination.agreed(self.accelerator):
                return None
            place = turn * processes + self.accelerator.process_index
            index = min(place, clips - 1)
            sample = together(partial(self._read, samples, index))
            batch = self.task.prepare(sample).to(self.accelerator.device)
            video = self._sample(pipeline, batch, with_guide=with_guide, seed=index)
            if place == index:
                predictions.append(Prediction(index, sample, batch.to("cpu"), video.cpu()))
        return predictions

    def _sample(self, pipeline: ConditionedVideoPipeline, batch: TaskBatch, *, with_guide: bool, seed: int) -> Tensor:
        """The video of :class:`Prediction`, on the pipeline's device."""
        sampling = self.settings.sampling

        def sample(modal: Tensor, guide: Tensor | None, *, backwards: bool = False) -> Tensor:  # noqa: ARG001
            generator = torch.Generator(self.accelerator.device).manual_seed(seed)  # the same noise for each view
            return pipeline(modal, guide, sampling=sampling, generator=generator).video

        guide = batch.guide if with_guide and bool(batch.guide_present) else None
        if self.settings.stage == "content_completion":
            return sample(batch.modal, guide)[0]
        return window_scores(sample, batch.modal, guide, sampling=sampling)

    def _read(self, samples: Clips[AmodalSample], index: int) -> AmodalSample:
        try:
            return samples[index]
        except Exception as error:
            name = samples.name(index)
            raise InputError(
                f"validation: {name} cannot be read ({reason_of(error, name)}); repair it, or give --validation.every 0"
            ) from error

    def _measure(self, predictions: list[Prediction]) -> dict[str, float]:
        """Figures over all processes, which do not depend on how many these are."""
        if self.settings.stage == "content_completion":
            errors = gather_object([(entry.index, _squared_error(entry)) for entry in predictions])
            return _hidden_psnr([error for _, error in sorted(errors)])
        scores = gather_object([(entry.index, _scores(entry, self.settings.sampling)) for entry in predictions])
        return _mask_figures([score for _, score in sorted(scores, key=lambda pair: pair[0])])

    def _draw(self, predictions: list[Prediction], step: int) -> UInt8Array | None:
        """The picture, in every process; the main one also writes it."""
        shown = [(entry.index, rows(entry)) for entry in predictions if entry.index < self.settings.validation.pictures]
        everywhere = sorted(gather_object(shown), key=lambda pair: pair[0])
        if not everywhere:
            return None
        picture = _beside([picture for _, picture in everywhere], axis=0)
        together(partial(self._write, picture, step))
        return picture

    def _write(self, picture: UInt8Array, step: int) -> None:
        if self.accelerator.is_main_process:
            folder = self.settings.output / "validation"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{step:08d}.png")


def rows(entry: Prediction) -> UInt8Array:
    """A picture of a clip with the columns visible, guide (depth or amodal mask), predicted, truth; two frames."""
    frames, batch = len(entry.video), entry.batch
    pictures = []
    for frame in [frames * (place + 1) // (_SHOWN_FRAMES + 1) for place in range(_SHOWN_FRAMES)]:
        predicted = entry.video[frame] if entry.video.shape[1] == 3 else entry.video[frame] * 2 - 1
        columns = [batch.modal[0, frame], batch.guide[0, frame], predicted, batch.amodal[0, frame]]
        pictures.append(_beside([_pixels(column) for column in columns], axis=1))
    return _beside(pictures, axis=0)


def _pixels(frame: Tensor) -> UInt8Array:
    """A frame ``[1 or 3, H, W]`` in [-1, 1] as 8-bit RGB ``[H, W, 3]``."""
    return to_uint8(frame.expand(3, -1, -1)[None])[0]


def _beside(pictures: list[UInt8Array], *, axis: int) -> UInt8Array:
    """Pictures of one size in a row or column, with a grey line between them."""
    height, width = pictures[0].shape[:2]
    line = np.full((height, _GAP, 3) if axis == 1 else (_GAP, width, 3), 128, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture, line)]
    return np.concatenate(parts[:-1], axis=axis)


def _scores(entry: Prediction, sampling: SamplingDefaults) -> dict[Protocol, TrackScores]:
    sample = entry.sample
    frames = zip(entry.video[:, 0].numpy(), sample.modal, strict=True)
    mask = np.stack([hidden_part(score, modal, sampling) for score, modal in frames]) | sample.modal
    return {protocol: score_track(mask, sample.modal, sample.amodal, protocol=protocol) for protocol in PROTOCOLS}


def _mask_figures(tracks: list[dict[Protocol, TrackScores]]) -> dict[str, float]:
    """The strict protocol's figures, and what the released one changes."""
    strict, released = (summarise([track[protocol] for track in tracks]) for protocol in PROTOCOLS)
    figures = {
        "miou": strict.miou.value,
        "miou_occ": strict.miou_occ.value,
        "miou_occ_released": released.miou_occ.value,
        "miou_hidden": strict.miou_hidden.value,
        "invented": strict.invented,
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
