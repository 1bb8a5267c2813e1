"""Implementation of `complete`: complete all objects of a clip and write the results into one folder."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.completion.canvas import Canvas
from amodal_diffusion.completion.depth import STEP as DEPTH_STEP
from amodal_diffusion.completion.depth import clip_depth
from amodal_diffusion.completion.formats import drop_layers, sound_of, write_formats
from amodal_diffusion.completion.inputs import CompletionInputs, open_inputs
from amodal_diffusion.completion.layer_order import summarize_order, write_order
from amodal_diffusion.completion.layout import SHEET, SUMMARY, record_path
from amodal_diffusion.completion.memory import out_of_memory_explained
from amodal_diffusion.completion.networks import Networks
from amodal_diffusion.completion.objects import FORMAT, OnProgress, complete_objects
from amodal_diffusion.completion.previews import write_previews
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.completion.segmentation import MODAL_MASKS, segment_clip
from amodal_diffusion.io.depth_files import DepthTrack
from amodal_diffusion.io.manifest import MANIFEST, InputRecord, read_manifest
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.models.libraries import uncollected
from amodal_diffusion.options import package_version

if TYPE_CHECKING:
    from amodal_diffusion.models.downloads import Source

_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "av")


def complete_clip(
    request: CompletionRequest,
    *,
    networks: Networks | None = None,
    records: Callable[[], Mapping[str, InputRecord]] | None = None,
    extras: Mapping[str, Callable[[Path], None]] | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Complete the objects of a clip; the result folder appears only when it is complete.

    Args:
        request: the options of `complete`.
        networks: loaded networks; None loads them for this clip.
        records: gives the records of the input files, where they are not those of the paths in ``request``.
        extras: maps the names of additional result files to functions that write them. Each is called last, with the
            result folder.
        on_progress: told of the steps of `complete_objects`, of ``overlay`` (frames), and of the beginning of
            ``order`` and ``formats``.

    Returns:
        the result folder.

    Raises:
        InputError: if an input is wrong, an existing file or folder may not be replaced, or the device has too little
            memory; what is finished is then kept.
    """
    with out_of_memory_explained(request):
        inputs = open_inputs(request)
        _refuse_work_of_version_0_1(request)
        folder = OutputFolder(
            request.out,
            inputs=(records or request.inputs)(),
            settings=request.settings(),
            overwrite=request.output.overwrite,
        )
        sound = sound_of(request, inputs.clip)
        if networks is None:
            with uncollected():
                networks = Networks(request)
        config = networks.config(request)
        estimator = networks.estimator if request.depth.depth == "auto" and not inputs.whole else None
        quiet, prompts = request.output.quiet, request.clicks.prompts
        with folder.opened() as out:
            sources = networks.sources
            if estimator is not None and estimator.source is not None:
                sources = {**sources, "depth_model": estimator.source}
            _check_sources(sources, out)
            if prompts is not None:
                tracks = segment_clip(inputs.clip, prompts, networks.segmenter, out, place=MODAL_MASKS, quiet=quiet)
                inputs = replace(inputs, tracks=tracks)
            depth = clip_depth(inputs, estimator, out, quiet=quiet)
            laid = replace(inputs, depth=depth).on_canvas()
            notify = on_progress or _ignore
            complete_objects(laid, networks.completer, config, request, out, notify)
            with_sheet = SHEET not in (extras or {})
            write_previews(laid, request, out, sound=sound, sheet=with_sheet, on_progress=notify)
            notify("order", 0, 1)
            write_order(laid, laid.depth, out, request)
            notify("formats", 0, 1)
            write_formats(laid, request, out, sound=sound)
            with out.step("summary", [SUMMARY]) as work:
                summary = _summary(request, inputs, depth, networks, out)
                summary["downloaded"] = {name: asdict(source) for name, source in sources.items()}
                (work / SUMMARY).write_text(_to_json(summary), encoding="utf-8")
            for name, write in (extras or {}).items():
                with out.step(f"extra {name}", [name]) as work:
                    write(work)
            drop_layers(laid, request, out)
            out.discard(DEPTH_STEP)
            out.commit()
        return request.out


def _ignore(step: str, done: int, total: int) -> None:
    """Where nobody asks for the progress."""


def _refuse_work_of_version_0_1(request: CompletionRequest) -> None:
    """Refuse to resume a run of version 0.1, whose settings and records have other keys."""
    out = request.out.resolve()
    work = out.with_name(f"{out.name}.partial")
    if request.output.overwrite or not (work / MANIFEST).is_file():
        return
    if "spans" in read_manifest(work).get("settings", {}):
        raise InputError(
            f"out: {work}: begun by version 0.1, which this version cannot go on from; finish it with version 0.1, "
            "choose another folder, or --overwrite to begin anew"
        )


def _check_sources(sources: Mapping[str, Source], out: OutputFolder) -> None:
    """Refuse to go on with another commit of a model than the one that the work began with."""
    for name, source in sources.items():
        begun = out.noted("networks", name)
        if begun not in (None, source.commit):
            raise InputError(
                f"out: {out.work}: begun with commit {begun} of {source.repository}, which is now {source.commit}; "
                f"name {source.repository}@{begun}, choose another folder, or --overwrite to begin anew"
            )
    if sources:
        out.note("networks", {name: source.commit for name, source in sources.items()})


def _summary(
    request: CompletionRequest,
    inputs: CompletionInputs,
    depth: DepthTrack | None,
    networks: Networks,
    out: OutputFolder,
) -> dict[str, Any]:
    """Settings, versions, inputs, running times and object records of the results."""
    objects = {
        track.name: json.loads((out.work / record_path(track)).read_text(encoding="utf-8")) for track in inputs.tracks
    }
    seconds = {stage: round(sum(entry["seconds"][stage] for entry in objects.values()), 3) for stage in STAGES}
    kind = "none" if depth is None else "given" if inputs.depth is not None else "estimated"
    model = request.depth.depth_model or networks.completer.default_depth_model
    return {
        "format": FORMAT,
        "versions": _versions(),
        **_origin(request, inputs, networks),
        "settings": request.settings(),
        "sampling": networks.completer.settings(networks.config(request)),
        "halved_decode_chunks": networks.completer.halved_chunks(),
        "depth": kind,
        "depth_model": model if kind == "estimated" else None,
        "clip": _describe(inputs.clip, request),
        "masks": {track.name: track.kind for track in inputs.tracks},
        "cuts": list(inputs.cuts),
        "canvas": _describe_canvas(inputs.canvas),
        "objects": objects,
        **summarize_order(out.work),
        "seconds": seconds,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _origin(request: CompletionRequest, inputs: CompletionInputs, networks: Networks) -> dict[str, Any]:
    """Networks and seed of the results: those of this run, or of the run that kept the scores."""
    if inputs.scores is not None:
        return {**inputs.scores.origin, "from_scores": str(inputs.scores.folder)}
    return {
        "model": request.model.model,
        "method": networks.method,
        "seed": request.sampling.seed,
        "preset": request.sampling.preset,
        "device": networks.completer.device,
        "dtype": networks.completer.dtype,
        "from_scores": None,
    }


def _to_json(summary: dict[str, Any]) -> str:
    """Indented JSON, with each list of numbers on one line."""
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


def _describe(clip: ClipReader, request: CompletionRequest) -> dict[str, object]:
    return {
        "path": request.name_of(str(clip.path)),
        "frames": clip.num_frames,
        "fps": round(clip.fps, 4),
        "height": clip.height,
        "width": clip.width,
        "color": clip.source_color,
    }


def _describe_canvas(canvas: Canvas) -> dict[str, int]:
    """Size of masks and layers in pixels, and the position of the frame's top left pixel in them."""
    return {"height": canvas.height, "width": canvas.width, "offset_y": canvas.top, "offset_x": canvas.left}
