"""How far the completion of an object has come, kept beside its files so that a later run goes on from there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tqdm import tqdm

from amodal_diffusion.completion.request import (
    CompletionInputs,
    CompletionRequest,
    answer_path,
    layer_path,
    mask_path,
    record_path,
    step_of,
    uncertainty_path,
)
from amodal_diffusion.frames.drawing import draw_uncertainty
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.io.images import read_integers, write_mask_png, write_rgba_png
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.io.video_writer import VideoLayout, VideoWriter
from amodal_diffusion.metrics import Agreement, probability_map
from amodal_diffusion.pipelines.copies import TALLY
from amodal_diffusion.pipelines.postprocessing import GUARDS
from amodal_diffusion.types import STAGES, AmodalResult, BoolArray, FloatArray

if TYPE_CHECKING:
    from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput
    from amodal_diffusion.pipelines.network_calls import Ask
    from amodal_diffusion.pipelines.occlusion_intervals import Spans
    from amodal_diffusion.pipelines.tally import Tally


@dataclass(frozen=True)
class Progress:
    """What was done for the first frames of an object, by all runs together.

    Attributes:
        frames: whose files are written.
        seconds: time of the networks, by stage.
        removed_by_guards: hidden pixels that were removed from these frames, by guard.
        hidden_pixels: those that were painted, and how many of them are copies.
    """

    frames: int = 0
    seconds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    removed_by_guards: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(GUARDS, 0))
    hidden_pixels: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TALLY, 0.0))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`to_json` wrote, or the record of a finished object; nothing is done where there is neither.

        Args:
            path: of the file.
        """
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        frames = found["frames"] if "frames" in found else len(found["amodal_area"])
        hidden = found.get("hidden_pixels", dict.fromkeys(TALLY, 0.0))
        return cls(frames, found["seconds"], found["removed_by_guards"], hidden)

    def plus(
        self,
        frames: int,
        *,
        seconds: Mapping[str, float],
        removed_by_guards: Mapping[str, int],
        hidden_pixels: Mapping[str, float],
    ) -> Self:
        """What is done with more frames.

        Args:
            frames: more, like the following.
            seconds: by stage.
            removed_by_guards: pixels by guard.
            hidden_pixels: pixels by kind.
        """
        return type(self)(
            self.frames + frames,
            {stage: spent + seconds[stage] for stage, spent in self.seconds.items()},
            {guard: count + removed_by_guards[guard] for guard, count in self.removed_by_guards.items()},
            {kind: count + hidden_pixels[kind] for kind, count in self.hidden_pixels.items()},
        )

    def to_json(self) -> str:
        """For :meth:`read`."""
        return json.dumps(asdict(self)) + "\n"


logger = logging.getLogger(__name__)


def complete_object(
    track: MaskTrack,
    inputs: CompletionInputs,
    completer: AmodalCompleter,
    request: CompletionRequest,
    out: OutputFolder,
    ask: Ask,
) -> None:
    """Write one object's files as they come, and a record of them for the summary.

    Until that is written, it tells how many frames are finished; a run that was broken off goes on after them.

    Args:
        track: the object.
        inputs: all of the clip.
        completer: does it.
        request: how.
        out: where; the step of the object is done here.
        ask: what runs its windows.
    """
    from amodal_diffusion.pipelines.tally import Tally

    answers = _answers(track, inputs, request)
    frames = [_files_of_frame(track, index, request, answers) for index in range(track.num_frames)]
    files = [record_path(track), *chain.from_iterable(frames), *([uncertainty_path(track)] if answers else [])]
    with out.step(step_of(track), files, progress=record_path(track)) as work:
        record, spans = work / record_path(track), _spans(track, inputs, request)
        begun = Progress.read(record)
        if not all((work / file).is_file() for file in chain.from_iterable(frames[: begun.frames])):
            begun = Progress()
        if begun.frames and not request.quiet:
            logger.info("object %s: goes on at frame %d of %d", track.name, begun.frames, track.num_frames)
        done, tally = begun, Tally()
        frames_in = _frames(track, inputs, _masks(track, work, begun.frames))
        stream = _stream(frames_in, completer, request, spans, done=begun.frames, ask=ask, tally=tally)
        with tqdm(
            total=track.num_frames, initial=begun.frames, desc=f"object {track.name}", unit="frame",
            disable=request.quiet,
        ) as bar:  # fmt: skip
            for result in stream:
                ask.check()
                _write_frames(track, result, work, start=done.frames)
                done = begun.plus(
                    done.frames - begun.frames + len(result.amodal_mask),
                    seconds=tally.seconds,
                    removed_by_guards=tally.guarded,
                    hidden_pixels=tally.copied,
                )
                write_text(record, done.to_json())
                bar.update(len(result.amodal_mask))
        if done.frames != track.num_frames:
            raise RuntimeError(f"{done.frames} results for {track.num_frames} frames of object {track.name}")
        values = {
            "visible_area": list(track.areas),
            "amodal_area": [int(mask.sum()) for mask in _masks(track, work, track.num_frames)],
            "spans": [asdict(run) for run in spans.runs],
            "removed_by_guards": done.removed_by_guards,
            **_copied_record(done.hidden_pixels),
            **_compare_answers(track, inputs, work, answers),
            "seconds": {stage: round(spent, 3) for stage, spent in done.seconds.items()},
        }
        write_text(record, json.dumps(values) + "\n")


def _copied_record(tally: Mapping[str, float]) -> dict[str, object]:
    """How many hidden pixels there are, and which share of them are copies; nothing where none was copied at all."""
    if not tally["hidden"]:
        return {}
    return {"hidden_pixels": dict(tally), "copied_share": round(tally["copied"] / tally["hidden"], 4)}


def _files_of_frame(track: MaskTrack, index: int, request: CompletionRequest, answers: int) -> list[str]:
    layers = [layer_path(track, index)] if request.stages == "all" else []
    return [mask_path(track, index), *layers, *(answer_path(track, answer, index) for answer in range(answers))]


def _write_frames(track: MaskTrack, result: AmodalResult, work: Path, *, start: int) -> None:
    """Write the pictures of frames from number ``start`` on."""
    for position, mask in enumerate(result.amodal_mask):
        index = start + position
        write_mask_png(work / mask_path(track, index), mask)
        if result.rgba is not None:
            write_rgba_png(work / layer_path(track, index), result.rgba[position])
        for answer, masks in enumerate(() if result.samples is None else result.samples):
            write_mask_png(work / answer_path(track, answer, index), masks[position])


def _masks(track: MaskTrack, work: Path, count: int) -> Iterator[BoolArray]:
    """The whole masks of the first frames, as they were written."""
    return (read_integers(work / mask_path(track, index)).values > 0 for index in range(count))


def _compare_answers(track: MaskTrack, inputs: CompletionInputs, work: Path, count: int) -> dict[str, object]:
    """Draw where written answers differ, and name those first that agree best with the others; nothing where is one."""
    if not count:
        return {}
    agreement = Agreement(count)
    with VideoWriter(work / uncertainty_path(track), "mp4", VideoLayout.of(inputs.clip)) as video:
        for index in range(track.num_frames):
            paths = (work / answer_path(track, answer, index) for answer in range(count))
            answers = np.stack([read_integers(path).values > 0 for path in paths])  # [K, H, W]
            agreement.add(answers)
            video.write(draw_uncertainty(probability_map(list(answers))))
    found = agreement.result()
    order = np.argsort([-value for value in found], kind="stable")
    return {"answers": [{"answer": int(k) + 1, "agreement": round(found[k], 4)} for k in order]}


def _answers(track: MaskTrack, inputs: CompletionInputs, request: CompletionRequest) -> int:
    """How many answers are written: none beside a single one, and none where the whole masks are given."""
    return request.samples if request.samples > 1 and track.name not in inputs.whole else 0


def _stream(
    frames: Iterator[FrameInput],
    completer: AmodalCompleter,
    request: CompletionRequest,
    spans: Spans,
    *,
    done: int,
    ask: Ask,
    tally: Tally,
) -> Iterator[AmodalResult]:
    from amodal_diffusion.pipelines.postprocessing import Guards

    return completer.stream(
        frames,
        seed=request.seed,
        preset=request.preset,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        solver=request.solver,
        height=request.height,
        width=request.width,
        guards=None if request.guards is None else Guards.of(request.guards),
        copies=None if request.copies is None else request.copies == "on",
        samples=request.samples,
        spans=spans,
        done=done,
        ask=ask,
        tally=tally,
    )


def _spans(track: MaskTrack, inputs: CompletionInputs, request: CompletionRequest) -> Spans:
    """Where the object can be hidden, judged by what the frame itself shows of the canvas."""
    from amodal_diffusion.pipelines.occlusion_intervals import SpanFrame, Spans, find_spans, given_spans

    if (request.spans or ("all" if request.conditioning == "released" else "auto")) == "all":
        return Spans.whole(track.num_frames)
    if track.name in inputs.whole:
        return given_spans(zip(track, inputs.whole[track.name], strict=True))
    inside = inputs.canvas.inside
    if inputs.depth is not None:
        frames = (
            SpanFrame(modal[inside], depth=depth[inside]) for modal, depth in zip(track, inputs.depth, strict=True)
        )
    else:
        others = [other for other in inputs.tracks if other is not track]
        frames = (
            SpanFrame(modal[inside], others=np.any([np.zeros_like(modal), *masks], axis=0)[inside])
            for modal, *masks in zip(track, *others, strict=True)
        )
    return find_spans(frames, beyond=request.expand > 0)


def _frames(track: MaskTrack, inputs: CompletionInputs, found: Iterator[BoolArray]) -> Iterator[FrameInput]:
    """All frames; ``found`` are the whole masks that were written for the first of them."""
    from amodal_diffusion.frames.crop import follow
    from amodal_diffusion.frames.transforms import depth_to_unit
    from amodal_diffusion.pipelines.completer import FrameInput

    depth, whole = inputs.depth, inputs.whole.get(track.name)
    maps: Iterator[FloatArray | None] = repeat(None) if depth is None else iter(depth)
    wholes: Iterator[BoolArray | None] = chain(found, repeat(None)) if whole is None else iter(whole)
    places = follow(track if whole is None else (modal | amodal for modal, amodal in zip(track, whole, strict=True)))
    for rgb, modal, values, amodal, focus in zip(inputs.clip, track, maps, wholes, places, strict=False):  # two endless
        unit = None
        if values is not None and depth is not None:
            unit = depth_to_unit(values[None], limits=depth.limits)[0, 0].numpy()
        yield FrameInput(rgb=rgb, modal=modal, depth=unit, amodal=amodal, focus=focus)
