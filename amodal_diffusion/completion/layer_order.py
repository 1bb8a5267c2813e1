"""Layer order of the objects in each frame, and the error of recomposing the input from the layers in that order."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amodal_diffusion.completion.inputs import CompletionInputs
from amodal_diffusion.completion.layout import layer_path, mask_path
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.frames.layer_order import FrameOrder, Relation, order_objects
from amodal_diffusion.frames.layers import Difference, compare, recompose
from amodal_diffusion.frames.masks import shrunk_mask
from amodal_diffusion.io.background import read_ahead
from amodal_diffusion.io.depth_files import DepthTrack
from amodal_diffusion.io.images import read_integers, read_rgba
from amodal_diffusion.io.result_folder import OutputFolder

ORDER = "order.jsonl"


def write_order(
    inputs: CompletionInputs, depth: DepthTrack | None, out: OutputFolder, request: CompletionRequest
) -> None:
    """Write the layer order, one JSON line per frame, from the masks and layers in a result folder.

    Args:
        inputs: the clip and the modal masks of its objects.
        depth: depth of the clip, or None.
        out: result folder with the amodal masks, and the layers if stage 2 runs; these are then recomposed, and their
            difference from the input is recorded, where visible masks are not shrunk.
        request: says whether stage 2 runs, and by how much it shrinks the visible masks.
    """
    if out.is_finished("order"):
        return
    clip, tracks, pixels = inputs.clip, inputs.tracks, request.sampling.shrink_mask or 0
    before: tuple[int, ...] = ()
    with (
        out.step("order", [ORDER]) as work,
        (work / ORDER).open("w", encoding="utf-8") as file,
        tqdm(total=clip.num_frames, desc="order", unit="frame", disable=request.output.quiet) as bar,
        ExitStack() as stack,
    ):
        maps = repeat(None) if depth is None else iter(depth)
        frames = stack.enter_context(closing(read_ahead(zip(clip, maps, *tracks, strict=False))))  # maps may be endless
        for index, (rgb, values, *modal) in enumerate(frames):
            amodal = [read_integers(work / mask_path(track, index)).values > 0 for track in tracks]
            before = () if index in inputs.cuts else before
            order = order_objects(modal, amodal, depth=values, before=before)
            before = order.front_to_back
            line = _describe(index, order, inputs)
            if request.painted:
                kept = [shrunk_mask(mask, pixels, inside=inputs.canvas.inside) for mask in modal]
                layers = (read_rgba(work / layer_path(tracks[place], index)) for place in reversed(before))
                line["recomposition"] = asdict(compare(recompose(rgb, modal, layers), rgb, kept))
            file.write(json.dumps(line) + "\n")
            bar.update()


def summarize_order(work: Path) -> dict[str, Any]:
    """Summarize the output of :func:`write_order`: runs of frames with the same order, and the recomposition error.

    Args:
        work: result folder.
    """
    runs: list[dict[str, Any]] = []
    circles = undecided = differing = 0
    difference: Difference | None = None
    with (work / ORDER).open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if not runs or runs[-1]["front_to_back"] != line["front_to_back"]:
                runs.append({"first": line["frame"], "last": line["frame"], "front_to_back": line["front_to_back"]})
            runs[-1]["last"] = line["frame"]
            circles += bool(line["left_out"])
            undecided += bool(line["undecided"])
            if "recomposition" in line:
                found = Difference(**line["recomposition"])
                difference = found + (difference or Difference())
                differing += found.differing > 0
    return {
        "order": {"runs": runs, "frames_with_circles": circles, "frames_with_undecided_pairs": undecided},
        "recomposition": None
        if difference is None
        else {
            "pixels": difference.pixels,
            "max_abs_difference": difference.largest,
            "mean_abs_difference": difference.mean,
            "differing_share": difference.share,
            "differing_frames": differing,
        },
    }


def _describe(index: int, order: FrameOrder, inputs: CompletionInputs) -> dict[str, Any]:
    names = [track.name for track in inputs.tracks]

    def named(relation: Relation) -> dict[str, Any]:
        return {**asdict(relation), "front": names[relation.front], "back": names[relation.back]}

    return {
        "frame": index,
        "front_to_back": [names[place] for place in order.front_to_back],
        "relations": [named(relation) for relation in order.relations],
        "left_out": [named(relation) for relation in order.left_out],
        "undecided": [[names[first], names[second]] for first, second in order.undecided],
    }
