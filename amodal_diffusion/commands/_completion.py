"""The work of `complete`: each object through the networks, then the overlay and the summary, into one folder."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from amodal_diffusion.commands._depth import STEP as DEPTH_STEP
from amodal_diffusion.commands._depth import clip_depth
from amodal_diffusion.commands._files import drop_layers, sound_of, write_formats
from amodal_diffusion.commands._networks import Networks
from amodal_diffusion.commands._paths import layer_path, mask_path, record_path, step_of
from amodal_diffusion.commands._request import CompletionInputs, CompletionRequest, open_inputs, package_version
from amodal_diffusion.commands._segmentation import MODAL_MASKS, segment_clip
from amodal_diffusion.commands._stacking import summarise_order, write_order
from amodal_diffusion.types import STAGES, AmodalResult, BoolArray, FloatArray
from amodal_diffusion.video.canvas import Canvas
from amodal_diffusion.video.depth_files import DepthTrack
from amodal_diffusion.video.encoding import VideoLayout, VideoWriter
from amodal_diffusion.video.io import ClipReader
from amodal_diffusion.video.mask_files import MaskTrack
from amodal_diffusion.video.outdir import OutputFolder
from amodal_diffusion.video.overlay import OverlayLayer, draw_overlay
from amodal_diffusion.video.pictures import read_integers, write_mask_png, write_rgba_png

if TYPE_CHECKING:
    from amodal_diffusion.pipelines.completer import AmodalCompleter, FrameInput

OVERLAY, SUMMARY = "overlay.mp4", "summary.json"
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "av")


def complete_clip(
    request: CompletionRequest,
    *,
    networks: Networks | None = None,
    extras: Mapping[str, Callable[[Path], None]] | None = None,
) -> Path:
    """Complete the objects of a clip into a folder that is whole or absent.

    Args:
        request: what to do.
        networks: what to do it with; loaded for this clip alone when None.
        extras: more files of the result by name, each with what writes it; called with the folder so far, last.

    Returns:
        the folder of the results.

    Raises:
        InputError: if an input is wrong or something is in the way.
    """
    inputs = open_inputs(request)
    folder = OutputFolder(
        request.out, inputs=request.inputs(), settings=request.settings(), overwrite=request.overwrite
    )
    sound = sound_of(request)
    networks = networks or Networks(request)
    estimator = networks.estimator if request.depth == "auto" and not inputs.whole else None
    with folder.opened() as out:
        if request.prompts is not None:
            tracks = segment_clip(
                inputs.clip, request.prompts, networks.segmenter, out, place=MODAL_MASKS, quiet=request.quiet
            )
            inputs = replace(inputs, tracks=tracks)
        depth = clip_depth(inputs, estimator, out, quiet=request.quiet)
        laid = replace(inputs, depth=depth).on_canvas()
        for track in laid.tracks:
            if not out.is_finished(step_of(track)):
                _complete_object(track, laid, laid.depth, networks.completer, request, out)
        _write_overlay(laid, out, sound=sound, quiet=request.quiet)
        write_order(laid, laid.depth, out, painted=request.stages == "all", quiet=request.quiet)
        write_formats(laid, request, out, sound=sound)
        with out.step("summary", [SUMMARY]) as work:
            summary = _summary(request, inputs, depth, networks, out)
            (work / SUMMARY).write_text(_to_json(summary), encoding="utf-8")
        for name, write in (extras or {}).items():
            with out.step(f"extra {name}", [name]) as work:
                write(work)
        drop_layers(laid, request, out)
        out.discard(DEPTH_STEP)
        out.commit()
    return request.out


def _stream(
    completer: AmodalCompleter, frames: Iterator[FrameInput], request: CompletionRequest
) -> Iterator[AmodalResult]:
    return completer.stream(
        frames,
        seed=request.seed,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        height=request.height,
        width=request.width,
    )


def _complete_object(
    track: MaskTrack,
    inputs: CompletionInputs,
    depth: DepthTrack | None,
    completer: AmodalCompleter,
    request: CompletionRequest,
    out: OutputFolder,
) -> None:
    """Write one object's masks and layers as they come, and a record of them for the summary."""
    paints = request.stages == "all"
    files = [record_path(track), *(mask_path(track, index) for index in range(track.num_frames))]
    files += [layer_path(track, index) for index in range(track.num_frames) if paints]
    before = dict(completer.seconds)
    areas: list[int] = []
    with (
        out.step(step_of(track), files) as work,
        tqdm(total=track.num_frames, desc=f"object {track.name}", unit="frame", disable=request.quiet) as bar,
    ):
        for result in _stream(completer, _frames(track, inputs, depth), request):
            for position, mask in enumerate(result.amodal_mask):
                write_mask_png(work / mask_path(track, len(areas)), mask)
                if result.rgba is not None:
                    write_rgba_png(work / layer_path(track, len(areas)), result.rgba[position])
                areas.append(int(mask.sum()))
            bar.update(len(result.amodal_mask))
        if len(areas) != track.num_frames:
            raise RuntimeError(f"{len(areas)} results for {track.num_frames} frames of object {track.name}")
        spent = {stage: round(seconds - before[stage], 3) for stage, seconds in completer.seconds.items()}
        record = {"visible_area": list(track.areas), "amodal_area": areas, "seconds": spent}
        (work / record_path(track)).write_text(json.dumps(record) + "\n", encoding="utf-8")


def _frames(track: MaskTrack, inputs: CompletionInputs, depth: DepthTrack | None) -> Iterator[FrameInput]:
    from amodal_diffusion.pipelines.completer import FrameInput
    from amodal_diffusion.video.focus import follow
    from amodal_diffusion.video.frames import depth_to_unit

    maps: Iterator[FloatArray | None] = repeat(None) if depth is None else iter(depth)
    whole = inputs.whole.get(track.name)
    wholes: Iterator[BoolArray | None] = repeat(None) if whole is None else iter(whole)
    places = follow(track if whole is None else (modal | amodal for modal, amodal in zip(track, whole, strict=True)))
    for rgb, modal, values, amodal, focus in zip(inputs.clip, track, maps, wholes, places, strict=False):  # two endless
        unit = None
        if values is not None and depth is not None:
            unit = depth_to_unit(values[None], limits=depth.limits)[0, 0].numpy()
        yield FrameInput(rgb=rgb, modal=modal, depth=unit, amodal=amodal, focus=focus)


def _write_overlay(inputs: CompletionInputs, out: OutputFolder, *, sound: Path | None, quiet: bool) -> None:
    """Draw all objects over the clip, from what is in the folder by now."""
    if out.is_finished("overlay"):
        return
    clip = inputs.clip
    with (
        out.step("overlay", [OVERLAY]) as work,
        VideoWriter(work / OVERLAY, "mp4", VideoLayout.of(clip), sound_of=sound) as video,
        tqdm(total=clip.num_frames, desc="overlay", unit="frame", disable=quiet) as bar,
    ):
        visible = zip(*inputs.tracks, strict=True)
        for index, (rgb, masks) in enumerate(zip(clip, visible, strict=True)):
            layers = [
                OverlayLayer(mask, read_integers(work / mask_path(track, index)).values > 0)
                for track, mask in zip(inputs.tracks, masks, strict=True)
            ]
            video.write(draw_overlay(rgb, layers))
            bar.update()


def _summary(
    request: CompletionRequest,
    inputs: CompletionInputs,
    depth: DepthTrack | None,
    networks: Networks,
    out: OutputFolder,
) -> dict[str, Any]:
    """Everything that tells how the results came about."""
    objects = {
        track.name: json.loads((out.work / record_path(track)).read_text(encoding="utf-8")) for track in inputs.tracks
    }
    seconds = {stage: round(sum(entry["seconds"][stage] for entry in objects.values()), 3) for stage in STAGES}
    return {
        "versions": _versions(),
        "model": request.model,
        "seed": request.seed,
        "settings": request.settings(),
        "sampling": {stage: asdict(values) for stage, values in networks.sampling(request).items()},
        "device": networks.completer.device,
        "dtype": networks.completer.dtype,
        "depth": "none" if depth is None else "given" if inputs.depth is not None else "estimated",
        "clip": _describe(inputs.clip),
        "canvas": _describe_canvas(inputs.canvas),
        "objects": objects,
        **summarise_order(out.work),
        "seconds": seconds,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _to_json(summary: dict[str, Any]) -> str:
    """Indented, but with the numbers of all frames on one line."""
    text = json.dumps(summary, indent=2)
    return re.sub(r"\[[\d\s,]+\]", lambda numbers: " ".join(numbers[0].split()), text) + "\n"


def _versions() -> dict[str, str]:
    found = {"amodal-diffusion": package_version(), "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "unknown"
    return found


def _describe(clip: ClipReader) -> dict[str, object]:
    return {
        "path": str(clip.path),
        "frames": clip.num_frames,
        "fps": round(clip.fps, 4),
        "height": clip.height,
        "width": clip.width,
    }


def _describe_canvas(canvas: Canvas) -> dict[str, int]:
    """Size of masks and layers, and where on them the first pixel of the input lies."""
    return {"height": canvas.height, "width": canvas.width, "offset_y": canvas.top, "offset_x": canvas.left}
