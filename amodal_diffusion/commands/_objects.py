"""One object through the networks: its masks, layers and answers as files, and a record of them for the summary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from amodal_diffusion.commands._paths import (
    answer_path,
    layer_path,
    mask_path,
    record_path,
    step_of,
    uncertainty_path,
)
from amodal_diffusion.commands._request import CompletionInputs, CompletionRequest
from amodal_diffusion.metrics import Agreement
from amodal_diffusion.types import AmodalResult, BoolArray, FloatArray
from amodal_diffusion.video.encoding import VideoLayout, VideoWriter
from amodal_diffusion.video.mask_files import MaskTrack
from amodal_diffusion.video.outdir import OutputFolder
from amodal_diffusion.video.overlay import draw_uncertainty
from amodal_diffusion.video.pictures import write_mask_png, write_rgba_png

if TYPE_CHECKING:
    from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput
    from amodal_diffusion.pipelines.spans import Spans


def complete_object(
    track: MaskTrack,
    inputs: CompletionInputs,
    completer: AmodalCompleter,
    request: CompletionRequest,
    out: OutputFolder,
) -> None:
    """Write one object's files as they come, and a record of them for the summary.

    Args:
        track: the object.
        inputs: all of the clip.
        completer: does it.
        request: how.
        out: where; the step of the object is done here.
    """
    paints, answers = request.stages == "all", _answers(track, inputs, request)
    frames = range(track.num_frames)
    files = [record_path(track), *(mask_path(track, index) for index in frames)]
    files += [layer_path(track, index) for index in frames if paints]
    files += [answer_path(track, answer, index) for answer in range(answers) for index in frames]
    files += [uncertainty_path(track)] if answers else []
    seconds, guarded, copied = dict(completer.seconds), dict(completer.guarded), dict(completer.copied)
    areas: list[int] = []
    with (
        out.step(step_of(track), files) as work,
        _AnswerFiles(track, inputs, work, count=answers) as writer,
        tqdm(total=track.num_frames, desc=f"object {track.name}", unit="frame", disable=request.quiet) as bar,
    ):
        spans = _spans(track, inputs, request)
        for result in _stream(track, inputs, completer, request, spans):
            writer.write(result, start=len(areas))
            for position, mask in enumerate(result.amodal_mask):
                write_mask_png(work / mask_path(track, len(areas)), mask)
                if result.rgba is not None:
                    write_rgba_png(work / layer_path(track, len(areas)), result.rgba[position])
                areas.append(int(mask.sum()))
            bar.update(len(result.amodal_mask))
        if len(areas) != track.num_frames:
            raise RuntimeError(f"{len(areas)} results for {track.num_frames} frames of object {track.name}")
        record = {
            "visible_area": list(track.areas),
            "amodal_area": areas,
            "spans": [asdict(run) for run in spans.runs],
            "removed_by_guards": {name: count - guarded[name] for name, count in completer.guarded.items()},
            **_copied_record({name: count - copied[name] for name, count in completer.copied.items()}),
            **writer.record(),
            "seconds": {stage: round(spent - seconds[stage], 3) for stage, spent in completer.seconds.items()},
        }
        (work / record_path(track)).write_text(json.dumps(record) + "\n", encoding="utf-8")


def _copied_record(tally: Mapping[str, float]) -> dict[str, object]:
    """Which share of the hidden pixels are copies from other frames; nothing where none was copied at all."""
    return {"copied_share": round(tally["copied"] / tally["hidden"], 4)} if tally["hidden"] else {}


class _AnswerFiles:
    """Writes several answers beside their consensus, where there are several."""

    def __init__(self, track: MaskTrack, inputs: CompletionInputs, work: Path, *, count: int) -> None:
        self._track, self._inputs, self._work, self._count = track, inputs, work, count
        self._agreement = Agreement(max(1, count))
        self._open = ExitStack()
        self._video: VideoWriter | None = None

    def __enter__(self) -> _AnswerFiles:
        if self._count:
            path = self._work / uncertainty_path(self._track)
            self._video = self._open.enter_context(VideoWriter(path, "mp4", VideoLayout.of(self._inputs.clip)))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]  # what `with` gives is what it takes

    def write(self, result: AmodalResult, *, start: int) -> None:
        """Write frames from number ``start`` on."""
        if self._video is None or result.samples is None:
            return
        self._agreement.add(result.samples)
        for position, probability in enumerate(result.probability):
            self._video.write(draw_uncertainty(probability))
            for answer in range(self._count):
                path = self._work / answer_path(self._track, answer, start + position)
                write_mask_png(path, result.samples[answer, position])

    def record(self) -> dict[str, object]:
        """The answers, those that agree best with the others first; nothing where there is one."""
        if not self._count:
            return {}
        agreement = self._agreement.result()
        order = np.argsort([-value for value in agreement], kind="stable")
        return {"answers": [{"answer": int(k) + 1, "agreement": round(agreement[k], 4)} for k in order]}


def _answers(track: MaskTrack, inputs: CompletionInputs, request: CompletionRequest) -> int:
    """How many answers are written: none beside a single one, and none where the whole masks are given."""
    return request.samples if request.samples > 1 and track.name not in inputs.whole else 0


def _stream(
    track: MaskTrack, inputs: CompletionInputs, completer: AmodalCompleter, request: CompletionRequest, spans: Spans
) -> Iterator[AmodalResult]:
    from amodal_diffusion.pipelines.guards import Guards

    return completer.stream(
        _frames(track, inputs),
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
    )


def _spans(track: MaskTrack, inputs: CompletionInputs, request: CompletionRequest) -> Spans:
    """Where the object can be hidden, judged by what the frame itself shows of the canvas."""
    from amodal_diffusion.pipelines.spans import SpanFrame, Spans, find_spans, given_spans

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


def _frames(track: MaskTrack, inputs: CompletionInputs) -> Iterator[FrameInput]:
    from amodal_diffusion.pipelines.completer import FrameInput
    from amodal_diffusion.video.focus import follow
    from amodal_diffusion.video.frames import depth_to_unit

    depth, whole = inputs.depth, inputs.whole.get(track.name)
    maps: Iterator[FloatArray | None] = repeat(None) if depth is None else iter(depth)
    wholes: Iterator[BoolArray | None] = repeat(None) if whole is None else iter(whole)
    places = follow(track if whole is None else (modal | amodal for modal, amodal in zip(track, whole, strict=True)))
    for rgb, modal, values, amodal, focus in zip(inputs.clip, track, maps, wholes, places, strict=False):  # two endless
        unit = None
        if values is not None and depth is not None:
            unit = depth_to_unit(values[None], limits=depth.limits)[0, 0].numpy()
        yield FrameInput(rgb=rgb, modal=modal, depth=unit, amodal=amodal, focus=focus)
