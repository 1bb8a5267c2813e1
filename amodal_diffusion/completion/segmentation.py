"""Segment objects from clicks, boxes or texts: what `segment` does, and the first step of `complete` with prompts."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.images import natural_key, write_mask_png
from amodal_diffusion.io.mask_files import MaskTrack, read_masks
from amodal_diffusion.io.mask_pictures import SINGLE
from amodal_diffusion.io.prompts import Box, Point, Prompts
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.models.libraries import quieten_libraries

if TYPE_CHECKING:
    from amodal_diffusion.models.segmenters.protocol import Segmenter


CLASSICAL_NOTICE = (
    "segmenter: masks are made without a network, from colors and motion; look at them, and correct them with more "
    "points. For better masks: --segmenter facebook/sam2.1-hiera-tiny (docs/segmenters.md)"
)
_TEXTS = (
    "--segmenter: a text needs one that knows words, such as facebook/sam3 (docs/segmenters.md); --point and --box "
    "need none"
)
logger = logging.getLogger(__name__)
_ENTRY = re.compile(r"(?:(?P<name>[^:@]*):)?(?P<numbers>[^:@]*)(?:@(?P<frame>\d+))?")


def read_prompts(
    point: Sequence[str], negative_point: Sequence[str], box: Sequence[str], text: Sequence[str]
) -> Prompts | None:
    """Parse the prompts of a command line.

    Args:
        point: ``[ID:]X,Y@FRAME``, positive points.
        negative_point: ``[ID:]X,Y@FRAME``, negative points.
        box: ``[ID:]X0,Y0,X1,Y1@FRAME``.
        text: names of things to find, such as ``red car``.

    Returns:
        the prompts; None if there are none.

    Raises:
        InputError: if a value has another format.
    """
    prompts = Prompts(
        points=(
            *(_point("--point", value, inside=True) for value in point),
            *(_point("--negative-point", value, inside=False) for value in negative_point),
        ),
        boxes=tuple(_box(value) for value in box),
        texts=tuple(text),
    )
    return None if prompts == Prompts() else prompts


def check_prompts(prompts: Prompts | None, segmenter: str | None, clip: ClipReader) -> Prompts:
    """Check prompts against a clip, before any network is loaded.

    Args:
        prompts: points, boxes or texts; None if there are none.
        segmenter: name of the segmenter; None for the one without weights.
        clip: the frames.

    Returns:
        the prompts.

    Raises:
        InputError: if there are no prompts, one does not fit the clip, or a text comes without a segmenter's name.
    """
    prompts = prompts or Prompts()
    prompts.check(num_frames=clip.num_frames, height=clip.height, width=clip.width)
    if prompts.texts and segmenter is None:
        raise InputError(_TEXTS)
    return prompts


def _point(option: str, value: str, *, inside: bool) -> Point:
    name, (x, y), frame = _read(option, value, "[ID:]X,Y@FRAME", count=2)
    return Point(x, y, frame, inside, name)


def _box(value: str) -> Box:
    name, (left, top, right, bottom), frame = _read("--box", value, "[ID:]X0,Y0,X1,Y1@FRAME", count=4)
    return Box(left, top, right, bottom, frame, name)


def _read(option: str, value: str, form: str, *, count: int) -> tuple[str, list[float], int]:
    match = _ENTRY.fullmatch(value)
    try:
        numbers = [float(number) for number in match["numbers"].split(",")] if match else []
    except ValueError:
        numbers = []
    if match is None or len(numbers) != count:
        example = ",".join(("120", "80", "200", "140")[:count])
        raise InputError(f"{option}: expected {form}, such as {example}@0 or 2:{example}@0, got {value!r}")
    return SINGLE if match["name"] is None else match["name"], numbers, int(match["frame"] or 0)


RECORD = "segmentation.json"
MODAL_MASKS = "objects/{name}/modal_masks"
"""Where a result keeps the modal masks that prompts made."""
_STEP = "segmentation"


def open_segmenter(name: str | None, *, device: str, dtype: str, quiet: bool, yes: bool = False) -> Segmenter:
    """Load a segmenter; the place that chooses one where a user names none.

    Args:
        name: a plug-in, a folder or a hub id; None takes the segmenter without weights, and says so.
        device: ``"auto"`` or torch's name.
        dtype: ``"auto"`` or torch's name.
        quiet: also hide the progress bars of libraries.
        yes: download a hub id without asking.

    Raises:
        InputError: if it cannot be loaded, or may not be downloaded.
    """
    if name is None:
        from amodal_diffusion.models.segmenters.classical import ClassicalSegmenter

        logger.warning(CLASSICAL_NOTICE)
        return ClassicalSegmenter()
    quieten_libraries(quiet=quiet)
    from amodal_diffusion.models.segmenters.loading import load_segmenter

    return load_segmenter(name, device=device, dtype=dtype, yes=yes)


def segment_clip(
    clip: ClipReader,
    prompts: Prompts,
    segmenter: Callable[[], Segmenter],
    out: OutputFolder,
    *,
    place: str = "{name}",
    quiet: bool,
) -> tuple[MaskTrack, ...]:
    """Segment objects and write their masks as 0/255 PNG; masks that an earlier run finished are kept.

    Args:
        clip: the frames.
        prompts: clicks, boxes or texts.
        segmenter: loads the segmenter; called only if masks are missing.
        out: the opened result folder.
        place: subfolder of an object's masks, with ``{name}`` for the object.
        quiet: show no progress bar.

    Returns:
        masks of the objects, in natural order of their names.

    Raises:
        InputError: if a prompt selects nothing.
    """
    if not out.is_finished(_STEP):
        areas = _write_masks(clip, prompts, segmenter(), out, place=place, quiet=quiet)
        record = {"prompts": asdict(prompts), "visible_area": areas}
        with out.step(_STEP, [RECORD]) as work:
            (work / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    names = json.loads((out.work / RECORD).read_text(encoding="utf-8"))["visible_area"]
    tracks = []
    for name in sorted(names, key=natural_key):
        (track,) = read_masks(out.work / place.format(name=name)).values()
        tracks.append(replace(track, name=name))
    return tuple(tracks)


def _write_masks(
    clip: ClipReader, prompts: Prompts, segmenter: Segmenter, out: OutputFolder, *, place: str, quiet: bool
) -> dict[str, list[int]]:
    """Write the segmenter's masks, and empty ones for the remaining frames; return the areas per object and frame."""
    from amodal_diffusion.models.segmenters.protocol import checked_masks

    areas: dict[str, list[int | None]] = {}
    total = clip.num_frames * len(prompts.objects) or None
    with ExitStack() as steps, tqdm(total=total, desc="segment", unit="mask", disable=quiet) as bar:
        for entry in checked_masks(
            segmenter, clip, prompts, num_frames=clip.num_frames, height=clip.height, width=clip.width
        ):
            folder = place.format(name=entry.object_name)
            if entry.object_name not in areas:
                areas[entry.object_name] = [None] * clip.num_frames
                files = [f"{folder}/{index:05d}.png" for index in range(clip.num_frames)]
                steps.enter_context(out.step(f"masks {entry.object_name}", files))
            write_mask_png(out.work / folder / f"{entry.frame:05d}.png", entry.mask)
            areas[entry.object_name][entry.frame] = int(entry.mask.sum())
            bar.update()
        for name, found in areas.items():
            for frame in (index for index, area in enumerate(found) if area is None):
                empty = np.zeros((clip.height, clip.width), np.bool_)
                write_mask_png(out.work / place.format(name=name) / f"{frame:05d}.png", empty)
    return {name: [area or 0 for area in found] for name, found in areas.items()}
