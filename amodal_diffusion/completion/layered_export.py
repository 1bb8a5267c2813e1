"""Layered pictures of a result: the source frame below, and above it one layer an object, the front object on top."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodal_diffusion.completion.inputs import CompletionInputs
from amodal_diffusion.completion.layer_order import ORDER
from amodal_diffusion.completion.layout import layer_path, layered_path, record_path
from amodal_diffusion.completion.option_values import Format
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.frames.layers import style_layer
from amodal_diffusion.io.background import read_ahead
from amodal_diffusion.io.images import read_rgba
from amodal_diffusion.io.layered import Layer, LayeredPicture, write_ora, write_psd
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.types import UInt8Array

_SOFT_EDGE = 1  # pixels, unless the user asks for another number: a hard edge looks cut out with scissors


def write_layered(name: Format, inputs: CompletionInputs, request: CompletionRequest, out: OutputFolder) -> None:
    """Write the wanted frames that are not finished; each is a step.

    Args:
        name: psd or ora.
        inputs: the clip and its objects on the canvas, whose layers and order are finished.
        request: gives the frames and the soft edge.
        out: opened result folder.
    """
    write = write_psd if name == "psd" else write_ora
    wanted = [index for index in _wanted(inputs, request, out.work) if not out.is_finished(_step(name, index))]
    if not wanted:
        return
    orders = (out.work / ORDER).read_text(encoding="utf-8").splitlines()
    edge = _SOFT_EDGE if request.output.soft_edge is None else request.output.soft_edge
    with (
        closing(read_ahead(inputs.clip)) as frames,
        tqdm(total=len(wanted), desc=name, unit="frame", disable=request.output.quiet) as bar,
    ):
        for index in range(wanted[-1] + 1):
            rgb = next(frames)
            if index not in wanted:
                continue
            front_to_back = json.loads(orders[index])["front_to_back"]
            with out.step(_step(name, index), [layered_path(name, index)]) as work:
                layers = [_source_layer(rgb, index, inputs), *_object_layers(work, index, front_to_back, inputs, edge)]
                canvas = inputs.canvas
                write(work / layered_path(name, index), LayeredPicture(canvas.height, canvas.width, layers))
            bar.update()


def most_hidden_frame(inputs: CompletionInputs, work: Path) -> int:
    """The frame in which most pixels of all objects are hidden; of frames without any, the one that shows most.

    Args:
        inputs: the objects, whose records are finished.
        work: result folder.
    """
    records = [json.loads((work / record_path(track)).read_text(encoding="utf-8")) for track in inputs.tracks]
    whole = np.sum([record["amodal_area"] for record in records], axis=0)  # [F]
    hidden = whole - np.sum([record["visible_area"] for record in records], axis=0)
    return int(np.lexsort((whole, hidden))[-1])


def _wanted(inputs: CompletionInputs, request: CompletionRequest, work: Path) -> list[int]:
    frames = request.output.layer_frames
    if frames == "auto":
        return [most_hidden_frame(inputs, work)]
    return list(range(inputs.clip.num_frames) if frames == "all" else frames)


def _step(name: Format, index: int) -> str:
    return f"{name} {index:05d}"


def _source_layer(rgb: UInt8Array, index: int, inputs: CompletionInputs) -> Layer:
    """The frame itself, without the margins of the canvas."""
    source = rgb[inputs.canvas.inside]
    opaque = np.full((*source.shape[:2], 1), 255, np.uint8)
    return Layer(f"frame {index}", np.concatenate([source, opaque], axis=-1), inputs.canvas.top, inputs.canvas.left)


def _object_layers(
    work: Path, index: int, front_to_back: list[str], inputs: CompletionInputs, edge: int
) -> list[Layer]:
    """Layers of the objects that are in a frame, the farthest first."""
    tracks = {track.name: track for track in inputs.tracks}
    layers = (
        Layer.cropped(_title(name), style_layer(read_rgba(work / layer_path(tracks[name], index)), soft_edge=edge))
        for name in reversed(front_to_back)
    )
    return [layer for layer in layers if layer is not None]


def _title(name: str) -> str:
    """What the editor's list of layers calls an object: ``object 1`` for one that has a number alone for its name."""
    return f"object {name}" if name.isdecimal() else name
