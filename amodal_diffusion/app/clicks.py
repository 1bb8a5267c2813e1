"""Clicks on objects, drawn on the frame, and the masks that a segmenter makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from amodal_diffusion.models.segmenters.protocol import Segmenter, checked_masks
from amodal_diffusion.types import UInt8Array
from amodal_diffusion.video.io import ClipReader
from amodal_diffusion.video.overlay import COLOURS
from amodal_diffusion.video.pictures import write_mask_png
from amodal_diffusion.video.prompts import Point, Prompts


def draw_clicks(rgb: UInt8Array, points: Sequence[Point]) -> UInt8Array:
    """Draw clicks on a frame: a disc on the object, a cross beside it, in the object's colour.

    Args:
        rgb: the frame, uint8 ``[H, W, 3]``.
        points: of this frame; objects are named by numbers from 1 on.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    picture = Image.fromarray(rgb)
    pen = ImageDraw.Draw(picture)
    radius = max(3, min(rgb.shape[:2]) // 60)
    for point in points:
        colour = COLOURS[(int(point.object_name) - 1) % len(COLOURS)]
        x, y = point.x, point.y
        box = (x - radius, y - radius, x + radius, y + radius)
        if point.inside:
            pen.ellipse(box, fill=colour, outline=(0, 0, 0), width=max(1, radius // 3))
        else:
            for line in (box, (box[0], box[3], box[2], box[1])):
                pen.line(line, fill=(0, 0, 0), width=radius)
                pen.line(line, fill=colour, width=max(1, radius // 2))
    return np.array(picture)


def write_clicked(
    clip: ClipReader, points: Sequence[Point], segmenter: Segmenter, folder: Path, on_share: Callable[[float], None]
) -> None:
    """Find the objects that are clicked on in all frames, and write a folder of masks for each.

    Args:
        clip: the frames.
        points: the clicks.
        segmenter: does the work.
        folder: existing, empty.
        on_share: called with the share that is done, from 0 to 1; an exception that it raises ends the work.

    Raises:
        InputError: if there is no click, or one selects nothing.
    """
    prompts = Prompts(points=tuple(points))
    empty = np.zeros((clip.height, clip.width), np.bool_)
    for name in prompts.objects:
        (folder / name).mkdir()
        for frame in range(clip.num_frames):  # those that a segmenter leaves out show nothing
            write_mask_png(folder / name / f"{frame:05d}.png", empty)
    total = max(1, len(prompts.objects) * clip.num_frames)
    masks = checked_masks(segmenter, clip, prompts, num_frames=clip.num_frames, height=clip.height, width=clip.width)
    for number, entry in enumerate(masks):
        on_share(number / total)
        write_mask_png(folder / entry.object_name / f"{entry.frame:05d}.png", entry.mask)
