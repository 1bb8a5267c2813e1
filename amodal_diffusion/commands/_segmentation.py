"""Clicks to mask files: the work of `segment`, and the first step of `complete` where it is given clicks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from amodal_diffusion.commands._libraries import quieten_libraries
from amodal_diffusion.video.io import ClipReader
from amodal_diffusion.video.mask_files import MaskTrack, read_masks
from amodal_diffusion.video.outdir import OutputFolder
from amodal_diffusion.video.pictures import natural_key, write_mask_png
from amodal_diffusion.video.prompts import Prompts

if TYPE_CHECKING:
    from amodal_diffusion.models.segmenters.protocol import Segmenter

RECORD = "segmentation.json"
MODAL_MASKS = "objects/{name}/modal_masks"
"""Where results keep the masks that clicks made."""
_STEP = "segmentation"


def open_segmenter(name: str, *, device: str, dtype: str, quiet: bool) -> Segmenter:
    """Load a segmenter, its libraries quietened.

    Args:
        name: a plug-in, a folder or a hub id.
        device: ``"auto"`` or torch's name.
        dtype: ``"auto"`` or torch's name.
        quiet: no progress bars.

    Raises:
        InputError: if it cannot be loaded.
    """
    quieten_libraries(quiet=quiet)
    from amodal_diffusion.models.segmenters.loading import load_segmenter

    return load_segmenter(name, device=device, dtype=dtype)


def segment_clip(
    clip: ClipReader,
    prompts: Prompts,
    segmenter: Callable[[], Segmenter],
    out: OutputFolder,
    *,
    place: str = "{name}",
    quiet: bool,
) -> tuple[MaskTrack, ...]:
    """Write the masks of the objects that are shown, as 0/255 PNG, unless an earlier run has.

    Args:
        clip: the frames.
        prompts: what is shown of the objects.
        segmenter: loads what does the work.
        out: an opened folder.
        place: folder of an object's masks in it, with ``{name}`` for the object.
        quiet: no progress bar.

    Returns:
        the objects, in natural order of their names.

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
    """Write masks as they come, then empty ones where none came; returns the areas, by object, per frame."""
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
