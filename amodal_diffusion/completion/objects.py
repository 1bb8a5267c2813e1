"""Completion of objects: writes their masks, layers and samples, and a record of each object for the summary."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tqdm import tqdm

from amodal_diffusion.basics import STAGES
from amodal_diffusion.completion.inputs import CompletionInputs
from amodal_diffusion.completion.layout import (
    SCORES,
    layer_path,
    mask_path,
    record_path,
    sample_path,
    score_path,
    step_of,
    uncertainty_path,
)
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.completion.survey import survey_objects
from amodal_diffusion.config import MASK_FILTERS
from amodal_diffusion.frames.drawing import draw_uncertainty
from amodal_diffusion.frames.masks import shrunk_mask
from amodal_diffusion.io.atomic import stamp, write_text
from amodal_diffusion.io.background import WriteBehind, read_ahead
from amodal_diffusion.io.images import read_integers, write_levels_png, write_mask_png, write_rgba_png
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.io.video_writer import VideoLayout, VideoWriter
from amodal_diffusion.metrics import Agreement, probability_map
from amodal_diffusion.types import AmodalResult, BoolArray, FloatArray

if TYPE_CHECKING:
    from amodal_diffusion.frames.crop import CropCenter
    from amodal_diffusion.pipelines.completer import (
        AmodalCompleter,
        CompletionConfig,
        FrameInput,
        StreamStatistics,
    )
    from amodal_diffusion.pipelines.occlusion_intervals import OcclusionIntervals

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and how much there is; an exception ends the work."""

FORMAT = 2
"""Format number of ``object.json`` and ``summary.json``; version 0.1 wrote none and used other keys."""

_AT_ONCE = 4  # frames that are recorded together: a record waits until the disk has them

logger = logging.getLogger(__name__)


def complete_objects(
    inputs: CompletionInputs,
    completer: AmodalCompleter,
    config: CompletionConfig,
    request: CompletionRequest,
    out: OutputFolder,
    on_progress: OnProgress,
) -> None:
    """Complete all objects that are not finished, in batches of ``object_batch`` objects.

    The objects of a batch are processed together: their windows are rows of one network call. The files of a frame are
    written as soon as it is done, and an interrupted run resumes after the finished frames.

    Args:
        inputs: the clip and its objects.
        completer: the networks.
        config: sampling settings.
        request: gives the seed, the stages and the batch size.
        out: opened result folder; each object is a step.
        on_progress: told of ``candidates``, the frames in which an object may be occluded, and of ``frames``, which
            this call finished; both count those of all objects.
    """
    from amodal_diffusion.pipelines.completer import ObjectStream

    total, finished = sum(track.num_frames for track in inputs.tracks), 0

    unfinished = [track for track in inputs.tracks if not out.is_finished(step_of(track))]
    surveys = survey_objects(unfinished, inputs, config, request) if unfinished else {}
    on_progress("candidates", sum(entry.candidates for entry in surveys.values()), total)
    left = iter(unfinished)
    while tracks := list(islice(left, request.sampling.object_batch)):
        with ExitStack() as steps:
            files = [steps.enter_context(_object_files(track, config, request, out)) for track in tracks]
            intervals = [surveys[track.name].intervals for track in tracks]
            centers = [surveys[track.name].centers for track in tracks]
            objects = [ObjectStream(found, entry.begun.frames) for found, entry in zip(intervals, files, strict=True)]
            written = [_masks(track, entry.work, entry.begun.frames)
                       for track, entry in zip(tracks, files, strict=True)]  # fmt: skip
            frames = steps.enter_context(closing(read_ahead(_frames(tracks, inputs, written, centers))))
            names = ", ".join(track.name for track in tracks)
            bar = steps.enter_context(
                tqdm(
                    total=sum(track.num_frames for track in tracks),
                    initial=sum(entry.begun.frames for entry in files),
                    desc=f"object {names}" if len(tracks) == 1 else f"objects {names}",
                    unit="frame",
                    disable=request.output.quiet,
                )
            )
            writer = steps.enter_context(WriteBehind(behind=_AT_ONCE))
            for place, result in completer.stream_objects(frames, objects, config, seed=request.sampling.seed):
                files[place].write(result, objects[place].statistics, writer)
                bar.update()
                finished += 1
                on_progress("frames", finished, total)
            writer.wait()
            for entry, found in zip(files, intervals, strict=True):
                entry.finish(found if config.skip_unoccluded else None, inputs)


@dataclass(frozen=True)
class Progress:
    """Progress of an object over all runs so far, stored with its files.

    Attributes:
        frames: number of finished frames, counted from the first.
        seconds: running time of the networks in seconds, by stage.
        removed_by_filters: number of hidden pixels that each mask filter removed.
        hidden_pixels: number of ``"hidden"`` pixels painted, and of those ``"propagated"`` from other frames.
    """

    frames: int = 0
    seconds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    removed_by_filters: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(MASK_FILTERS, 0))
    hidden_pixels: Mapping[str, float] = field(default_factory=lambda: {"hidden": 0.0, "propagated": 0.0})

    @classmethod
    def read(cls, path: Path, *, noted: str | None) -> Self:
        """Read the progress, or the record of a finished object.

        Args:
            path: file with the output of :meth:`to_json`, or with the record of a finished object.
            noted: :func:`~amodal_diffusion.io.atomic.stamp` of the latter, if it was noted.

        Returns:
            no frame is done if the file is missing or not as it was written.
        """
        try:
            text = path.read_text(encoding="utf-8")
            found: dict[str, Any] = json.loads(text)
            if "digest" in found:
                progress = cls(**{name: found[name] for name in asdict(cls())})
                return progress if progress.to_json() == text else cls()
            if stamp(path) != noted:
                return cls()
            hidden = found.get("hidden_pixels", cls().hidden_pixels)
            return cls(len(found["amodal_area"]), found["seconds"], found["removed_by_filters"], hidden)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def plus(self, frames: int, statistics: StreamStatistics) -> Self:
        """Progress after more frames.

        Args:
            frames: number of additional frames.
            statistics: statistics of these frames.
        """
        propagation = {"hidden": statistics.hidden, "propagated": statistics.propagated}
        return replace(
            self,
            frames=self.frames + frames,
            seconds={stage: spent + statistics.seconds[stage] for stage, spent in self.seconds.items()},
            removed_by_filters={name: n + statistics.removed[name] for name, n in self.removed_by_filters.items()},
            hidden_pixels={kind: count + propagation[kind] for kind, count in self.hidden_pixels.items()},
        )

    def to_json(self) -> str:
        """JSON text that :meth:`read` reads, with a digest of itself."""
        values = asdict(self)
        digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
        return json.dumps({**values, "digest": digest}) + "\n"


@dataclass(frozen=True)
class _WaitingFrame:
    """A frame whose images may not be written yet.

    Attributes:
        written: done when they are.
        files: the images, relative to the result folder.
        progress: up to this frame.
    """

    written: Future[None]
    files: list[str]
    progress: Progress


@dataclass
class _ObjectFiles:
    """Writer of the files of one object.

    Attributes:
        track: modal masks of the object.
        out: result folder.
        samples: number of samples to write in addition to the mask; 0 for none.
        scores: whether to write the scores of stage 1.
        shrink: pixels by which the visible mask is shrunk for stage 2.
        begun: progress of earlier runs.
        done: current progress, of frames whose images are written.
        given: frames of this run, written or waiting.
        fresh: files of each finished frame that the record does not count yet.
        waiting: frames after these, whose images are being written.
    """

    track: MaskTrack
    out: OutputFolder
    samples: int
    scores: bool
    shrink: int
    begun: Progress
    done: Progress
    given: int = 0
    fresh: list[list[str]] = field(default_factory=list)
    waiting: deque[_WaitingFrame] = field(default_factory=deque)

    @property
    def work(self) -> Path:
        """The folder's path."""
        return self.out.work

    def write(self, result: AmodalResult, statistics: StreamStatistics, writer: WriteBehind) -> None:
        """Have the images of the next frame written; every few frames, record those that are.

        Args:
            result: of one frame.
            statistics: of all frames of this run so far.
            writer: writes the images.
        """
        index = self.begun.frames + self.given
        self.given += 1
        files = frame_files(
            self.track, index, painted=result.rgba is not None, samples=self.samples, scores=self.scores
        )
        written = writer.add(self._write_images, result, index)
        self.waiting.append(_WaitingFrame(written, files, self.begun.plus(self.given, statistics)))
        while self.waiting and self.waiting[0].written.done():
            self._take()
        if len(self.fresh) >= _AT_ONCE:
            self.record()

    def _write_images(self, result: AmodalResult, index: int) -> None:
        """Write the images of a frame."""
        from amodal_diffusion.pipelines.postprocessing import score_levels

        write_mask_png(self.work / mask_path(self.track, index), result.amodal_mask[0])
        if result.rgba is not None:
            write_rgba_png(self.work / layer_path(self.track, index), result.rgba[0])
        for sample, masks in enumerate(() if result.samples is None else result.samples):
            write_mask_png(self.work / sample_path(self.track, sample, index), masks[0])
        if self.scores and result.score is not None:
            write_levels_png(self.work / score_path(self.track, index), score_levels(result.score[0]))

    def _take(self) -> None:
        """Count the oldest waiting frame as done, once its images are written; raises the error of that."""
        frame = self.waiting[0]
        frame.written.result()
        self.waiting.popleft()  # one that failed stays, so that no later frame counts
        self.fresh.append(frame.files)
        self.done = frame.progress

    def settle(self) -> None:
        """Wait for the images of all frames."""
        while self.waiting:
            self._take()

    def record(self) -> None:
        """Record the progress once all images are on the disk."""
        if self.fresh:
            self.out.record(step_of(self.track), chain.from_iterable(self.fresh))
            self.fresh = []
            write_text(self.work / record_path(self.track), self.done.to_json())

    def finish(self, intervals: OcclusionIntervals | None, inputs: CompletionInputs) -> None:
        """Write the record of the object after its last frame."""
        self.settle()
        track, done = self.track, self.done
        if done.frames != track.num_frames:
            raise RuntimeError(f"{done.frames} results for {track.num_frames} frames of object {track.name}")
        values = {
            "format": FORMAT,
            "visible_area": list(track.areas),
            "amodal_area": [int(mask.sum()) for mask in _masks(track, self.work, track.num_frames)],
            "occlusion_intervals": None if intervals is None else [asdict(run) for run in intervals.runs],
            "removed_by_filters": done.removed_by_filters,
            **_propagation_record(done.hidden_pixels),
            **self._rim_record(inputs),
            **_compare_samples(track, inputs, self.work, self.samples),
            "seconds": {stage: round(spent, 3) for stage, spent in done.seconds.items()},
        }
        write_text(self.work / record_path(track), json.dumps(values) + "\n")
        self.out.note(step_of(track), {record_path(track): stamp(self.work / record_path(track))})

    def _rim_record(self, inputs: CompletionInputs) -> dict[str, object]:
        """Visible pixels that are repainted in each frame; empty if masks are not shrunk."""
        if not self.shrink:
            return {}
        inside = inputs.canvas.inside
        return {
            "rim_area": [int(mask.sum() - shrunk_mask(mask, self.shrink, inside=inside).sum()) for mask in self.track]
        }


@contextmanager
def _object_files(
    track: MaskTrack, config: CompletionConfig, request: CompletionRequest, out: OutputFolder
) -> Iterator[_ObjectFiles]:
    """Begin the step of an object, or resume it after the frames that an earlier run finished."""
    stage_1 = config.amodal_segmentation
    samples = 0 if stage_1 is None or stage_1.samples == 1 else stage_1.samples
    scores = SCORES in request.output.formats
    shrink = 0 if config.content_completion is None else config.content_completion.beyond.shrink_mask
    frames = [
        frame_files(track, index, painted=request.painted, samples=samples, scores=scores)
        for index in range(track.num_frames)
    ]
    files = [record_path(track), *chain.from_iterable(frames), *([uncertainty_path(track)] if samples else [])]
    with out.step(step_of(track), files, progress=record_path(track)) as work:
        begun = Progress.read(work / record_path(track), noted=out.noted(step_of(track), record_path(track)))
        if not out.check(step_of(track), chain.from_iterable(frames[: begun.frames])):
            begun = Progress()
        if begun.frames and not request.output.quiet:
            logger.info("object %s: resumes at frame %d of %d", track.name, begun.frames, track.num_frames)
        entry = _ObjectFiles(track, out, samples, scores, shrink, begun, begun)
        try:
            yield entry
        except BaseException:
            with suppress(BaseException):  # the error that is raised already, or another of the same kind
                entry.settle()
            with suppress(OSError):  # the disk may be full
                entry.record()
            raise


def frame_files(track: MaskTrack, index: int, *, painted: bool, samples: int, scores: bool) -> list[str]:
    """Files of one frame of an object, relative to the result folder.

    Args:
        track: modal masks of the object.
        index: index of the frame.
        painted: whether there is a layer.
        samples: number of samples that are written in addition to the mask.
        scores: whether there is a score.
    """
    layer = [layer_path(track, index)] if painted else []
    score = [score_path(track, index)] if scores else []
    return [mask_path(track, index), *layer, *score, *(sample_path(track, sample, index) for sample in range(samples))]


def _frames(
    tracks: Sequence[MaskTrack],
    inputs: CompletionInputs,
    found: Sequence[Iterator[BoolArray]],
    centers: Sequence[Sequence[CropCenter]],
) -> Iterator[list[FrameInput]]:
    """Yield the inputs of each frame for all objects; ``found`` are the amodal masks that an earlier run wrote."""
    from amodal_diffusion.frames.transforms import depth_to_unit
    from amodal_diffusion.pipelines.completer import FrameInput

    depth = inputs.depth
    maps: Iterator[FloatArray | None] = repeat(None) if depth is None else iter(depth)
    wholes: list[Iterator[BoolArray | None]] = []
    scores: list[Iterator[FloatArray | None]] = []
    for track, written in zip(tracks, found, strict=True):
        whole = inputs.whole.get(track.name)
        wholes.append(chain(written, repeat(None)) if whole is None else iter(whole))
        scores.append(repeat(None) if inputs.scores is None else inputs.scores.of(track))
    limits = [] if depth is None else depth.shot_limits(inputs.cuts)
    for index, (rgb, values, *modal) in enumerate(zip(inputs.clip, maps, *tracks, strict=False)):  # maps may be endless
        unit = None
        if values is not None:
            unit = depth_to_unit(values[None], limits=limits[index])[0, 0].numpy()
        cut, inside = index in inputs.cuts, inputs.canvas.inside
        yield [
            FrameInput(rgb, mask, unit, next(whole), places[index], next(score), starts_shot=cut, inside=inside)
            for mask, whole, places, score in zip(modal, wholes, centers, scores, strict=True)
        ]


def _masks(track: MaskTrack, work: Path, count: int) -> Iterator[BoolArray]:
    """Read the written amodal masks of the first ``count`` frames."""
    return (read_integers(work / mask_path(track, index)).values > 0 for index in range(count))


def _propagation_record(pixels: Mapping[str, float]) -> dict[str, object]:
    """Number of hidden pixels and the share with propagated color; empty if there are none."""
    if not pixels["hidden"]:
        return {}
    return {"hidden_pixels": dict(pixels), "propagated_share": round(pixels["propagated"] / pixels["hidden"], 4)}


def _compare_samples(track: MaskTrack, inputs: CompletionInputs, work: Path, count: int) -> dict[str, object]:
    """Draw the differences between samples, and sort the samples by agreement; empty for a single sample."""
    if not count:
        return {}
    agreement = Agreement(count)
    with VideoWriter(work / uncertainty_path(track), "mp4", VideoLayout.of(inputs.clip)) as video:
        for index in range(track.num_frames):
            paths = (work / sample_path(track, sample, index) for sample in range(count))
            samples = np.stack([read_integers(path).values > 0 for path in paths])  # [K, H, W]
            agreement.add(samples)
            video.write(draw_uncertainty(probability_map(list(samples))))
    found = agreement.result()
    order = np.argsort([-value for value in found], kind="stable")
    return {"samples": [{"sample": int(k) + 1, "agreement": round(found[k], 4)} for k in order]}
