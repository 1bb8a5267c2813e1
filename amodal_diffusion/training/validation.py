"""Validation during training: completes fixed clips as in inference, computes metrics and draws the first clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.frames.drawing import SheetRow, draw_sheet, enlarge, stack_sheets
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import depth_to_unit
from amodal_diffusion.metrics import PROTOCOLS, Protocol, TrackScores, score_track, summarise
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import AmodalCompleter, CompletionConfig
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.training.batches import reason_of
from amodal_diffusion.training.clip_sources import validation_clips
from amodal_diffusion.training.dataset import ClipDepth, TaskClips
from amodal_diffusion.training.distributed import Termination, together
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import BoolArray, UInt8Array, VideoClip

_SHOWN_FRAMES = 2  # frames per clip in the image, after one and two thirds of the clip
_WIDTH = 320  # pixels of a frame in the image, at most, unless it is larger itself
_PEAK = 255.0
_FRAMES = "miou_occ_frames"  # the same with and without the guide


@dataclass(frozen=True)
class Prediction:
    """A validation clip and its prediction.

    Attributes:
        index: index of the clip.
        sample: the clip with its ground truth.
        mask: predicted amodal mask, bool ``[F, H, W]``; in stage 2 the ground truth, which is an input.
        rgb: predicted amodal RGB on white, uint8 ``[F, H, W, 3]``; None in stage 1.
    """

    index: int
    sample: AmodalSample
    mask: BoolArray
    rgb: UInt8Array | None


@dataclass(frozen=True)
class Findings:
    """Results of a validation.

    Attributes:
        figures: maps names of metrics to values; the same in every process.
        picture: image of the first clips, uint8 RGB ``[H, W, 3]``; None if no clip is shown.
    """

    figures: dict[str, float]
    picture: UInt8Array | None


class Validator:
    """Completes the first clips of the validation split as in inference, distributed over the processes.

    A clip is completed by :class:`~amodal_diffusion.pipelines.completer.AmodalCompleter` with the run's sampling
    settings and its index as seed, so the metrics measure the default output of the exported checkpoint. Two settings
    differ. No frame is skipped, so that all processes call the network equally often. Color propagation is off, so that
    the metrics of stage 2 measure the network alone.

    Every process completes the same number of clips, if necessary the last clip again, because sharded networks need
    all processes in every call.

    Args:
        settings: resolved training settings.
        accelerator: accelerator of this process.
        termination: records SIGTERM, which interrupts a validation.
        depth: estimates the depth of clips without depth.
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
        self.clips = validation_clips(settings, depth=depth)
        # Depth also determines what may occlude the object, so dropping the guide alone is not enough.
        self._depthless: TaskClips | None = None
        if settings.data.guide_dropout > 0 or settings.data.depthless_share > 0:
            self._depthless = validation_clips(settings, depthless=True)

    def __call__(self, components: StageComponents, step: int) -> Findings | None:
        """Complete the clips, compute the metrics and draw the image; all processes must call this together.

        Args:
            components: the networks, with the weights to validate.
            step: number of optimizer steps done, for the name of the image.

        Returns:
            the results; None if SIGTERM interrupted the validation.

        Raises:
            InputError: in every process, if a clip cannot be read.
        """
        predictions = self._predict(components, self.clips)
        if predictions is None:
            return None
        figures, picture = self._measure(predictions), self._draw(predictions, step)
        if self._depthless is not None:
            without = self._predict(components, self._depthless)
            if without is None:
                return None
            measured = self._measure(without)
            figures |= {f"{name}_without_guide": value for name, value in measured.items() if name != _FRAMES}
        return Findings(figures, picture)

    def _predict(self, components: StageComponents, clips: TaskClips) -> list[Prediction] | None:
        """Complete this process's clips one by one; return None after SIGTERM."""
        completer = _completer(components)
        config = completer.config(preset="default", skip_unoccluded=False, color_propagation=False)
        count, processes = len(clips), self.accelerator.num_processes
        predictions = []
        for turn in range(-(-count // processes)):
            if self.termination.agreed(self.accelerator):
                return None
            place = turn * processes + self.accelerator.process_index
            index = min(place, count - 1)
            sample = together(partial(self._read, clips, index))
            prediction = self._complete(completer, config, sample, index)
            if place == index:
                predictions.append(prediction)
        return predictions

    def _complete(
        self, completer: AmodalCompleter, config: CompletionConfig, sample: AmodalSample, index: int
    ) -> Prediction:
        """Complete one clip, in stage 2 with its ground-truth amodal mask."""
        frames = np.broadcast_to(np.uint8(0), (*sample.modal.shape, 3)) if sample.rgb is None else sample.rgb
        truth = None if self.settings.stage == "amodal_segmentation" else sample.amodal
        clip = VideoClip(frames, sample.modal, cuts="none")  # so that all processes call the network equally often
        result = completer(clip, config, depth=sample.depth, amodal_mask=truth, seed=index)
        return Prediction(index, sample, result.amodal_mask, result.amodal_rgb)

    def _read(self, clips: TaskClips, index: int) -> AmodalSample:
        """Read a clip with its depth at full size."""
        try:
            return clips.read(index)
        except Exception as error:
            name = clips.name(index)
            raise InputError(
                f"validation: {name} cannot be read ({reason_of(error, name)}); repair it, or give validation.every=0"
            ) from error

    def _measure(self, predictions: list[Prediction]) -> dict[str, float]:
        """Compute metrics over the clips of all processes; their number does not affect the result."""
        if self.settings.stage == "content_completion":
            errors = gather_object([(entry.index, _squared_error(entry)) for entry in predictions])
            return _hidden_psnr([error for _, error in sorted(errors)])
        scores = gather_object([(entry.index, _scores(entry)) for entry in predictions])
        return _mask_figures([score for _, score in sorted(scores, key=lambda pair: pair[0])])

    def _draw(self, predictions: list[Prediction], step: int) -> UInt8Array | None:
        """Draw the image in every process; the main process also writes it."""
        shown = [
            (entry.index, draw_prediction(entry))
            for entry in predictions
            if entry.index < self.settings.validation.pictures
        ]
        everywhere = sorted(gather_object(shown), key=lambda pair: pair[0])
        if not everywhere:
            return None
        picture = stack_sheets([(f"clip {index}, step {step}", sheet) for index, sheet in everywhere])
        together(partial(self._write, picture, step))
        return picture

    def _write(self, picture: UInt8Array, step: int) -> None:
        if self.accelerator.is_main_process:
            folder = self.settings.output / "validation"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{step:08d}.png")


def _completer(components: StageComponents) -> AmodalCompleter:
    """Completer with only the stage that is trained."""
    if components.settings.stage == "amodal_segmentation":
        segmentation = AmodalSegmentationPipeline.from_components(components)
        segmentation.set_progress_bar_config(disable=True)
        completer = AmodalCompleter(segmentation, None)
        completer.warn_without_depth = False  # clips without depth are validated too
        return completer
    content = ContentCompletionPipeline.from_components(components)
    content.set_progress_bar_config(disable=True)
    return AmodalCompleter(None, content)


def draw_prediction(entry: Prediction) -> UInt8Array:
    """Draw two frames of a clip, with labeled rows for what the network sees, the prediction and the ground truth."""
    sample, count = entry.sample, len(entry.mask)
    frames = [count * (place + 1) // (_SHOWN_FRAMES + 1) for place in range(_SHOWN_FRAMES)]
    rows = [] if sample.rgb is None else [("frame", sample.rgb)]
    if entry.rgb is None or sample.rgb is None or sample.whole_rgb is None:
        rows.append(("modal mask", _gray(sample.modal)))
        if sample.depth is not None:
            rows.append(("depth", _gray((depth_to_unit(sample.depth)[:, 0].numpy() + 1) / 2)))
        rows += [("predicted", _gray(entry.mask)), ("ground truth", _gray(sample.amodal))]
    else:
        rows += [
            ("modal RGB", cut_out_on_white(sample.rgb, sample.modal)),
            ("amodal mask", _gray(sample.amodal)),
            ("predicted", entry.rgb),
            ("ground truth", sample.whole_rgb),
        ]
    scale = max(1, _WIDTH // sample.modal.shape[2])
    return draw_sheet(
        [SheetRow(label, [enlarge(pictures[frame], scale) for frame in frames]) for label, pictures in rows],
        column_labels=[f"frame {frame}" for frame in frames],
    )


def _gray(levels: npt.NDArray[np.generic]) -> UInt8Array:
    """Masks, or levels in 0..1, ``[F, H, W]``, as RGB."""
    gray = np.rint(np.asarray(levels, np.float32) * 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def _scores(entry: Prediction) -> dict[Protocol, TrackScores]:
    sample = entry.sample
    return {protocol: score_track(entry.mask, sample.modal, sample.amodal, protocol=protocol) for protocol in PROTOCOLS}


def _mask_figures(tracks: list[dict[Protocol, TrackScores]]) -> dict[str, float]:
    """Metrics of the strict protocol, and the one that the released protocol changes.

    mIoU_occ is left out where no frame hides anything; ``miou_occ_frames`` is the number of frames that do.
    """
    strict, released = (summarise([track[protocol] for track in tracks]) for protocol in PROTOCOLS)
    figures = {
        "miou": strict.miou.value,
        "miou_occ": strict.miou_occ.value,
        _FRAMES: strict.miou_occ.frames,
        "miou_occ_released": released.miou_occ.value,
        "miou_hidden": strict.miou_hidden.value,
        "invented": strict.invented,
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def _squared_error(entry: Prediction) -> tuple[float, int]:
    """Sum of squared errors over the hidden pixels of a clip, in 8-bit levels, and the number of values."""
    sample = entry.sample
    if entry.rgb is None or sample.whole_rgb is None:
        raise RuntimeError(f"{sample.name}: stage 2 is validated on clips with the whole object's RGB")
    hidden = sample.amodal & ~sample.modal
    error = entry.rgb[hidden].astype(np.float64) - sample.whole_rgb[hidden]
    return float((error**2).sum()), error.size


def _hidden_psnr(errors: list[tuple[float, int]]) -> dict[str, float]:
    total, number = sum(error for error, _ in errors), sum(count for _, count in errors)
    return {"psnr_hidden": 10 * math.log10(_PEAK**2 * number / total)} if total > 0 else {}
