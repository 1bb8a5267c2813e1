"""What a segmenter is, and what it gives, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.prompts import Prompts
from amodal_diffusion.types import BoolArray, UInt8Array

CLASSICAL = "classical"
"""Name of the segmenter without weights, see `classical`."""


@dataclass(frozen=True)
class ObjectMask:
    """What can be seen of one object in one frame.

    Attributes:
        object_name: the object's ID.
        frame: index of the frame, the first is 0.
        mask: bool ``[H, W]`` at the frame's size; empty where nothing of it can be seen.
    """

    object_name: str
    frame: int
    mask: BoolArray


class Segmenter(Protocol):
    """Anything that finds objects in the frames of a clip from what a user shows of them."""

    def segment(self, frames: Iterable[UInt8Array], prompts: Prompts) -> Iterator[ObjectMask]:
        """Segment a clip.

        Args:
            frames: uint8 ``[H, W, 3]``, RGB. Can be gone through more than once, from the first frame on each time;
                whoever wants clips of any length holds few of them at a time.
            prompts: checked against the clip.

        Yields:
            masks in any order, at most one for an object in a frame. A frame that gets none for an object shows
            nothing of it.

        Raises:
            InputError: if it does not know a kind of prompt.
        """


def checked_masks(
    segmenter: Segmenter, frames: Iterable[UInt8Array], prompts: Prompts, *, num_frames: int, height: int, width: int
) -> Iterator[ObjectMask]:
    """Segment a clip with any segmenter, and hold prompts and masks against the clip.

    Args:
        segmenter: does the work.
        frames: uint8 ``[H, W, 3]``; can be gone through more than once.
        prompts: what is shown.
        num_frames: of the clip.
        height: of its frames, pixels.
        width: of its frames, pixels.

    Yields:
        the segmenter's masks, as they come; for texts those alone that are not empty.

    Raises:
        InputError: if a prompt does not fit the clip, or selects nothing in the frame that it was given for.
        RuntimeError: if the segmenter gives what its protocol forbids.
    """
    prompts.check(num_frames=num_frames, height=height, width=width)
    shown = {name: prompts.shown(name) for name in prompts.objects}
    given: set[tuple[str, int]] = set()
    found: set[str] = set()
    for entry in segmenter.segment(frames, prompts):
        place = (entry.object_name, entry.frame)
        if entry.mask.dtype != np.bool_ or entry.mask.shape != (height, width):
            raise RuntimeError(
                f"segmenter: expected masks of bool [{height}, {width}], got {entry.mask.dtype} "
                f"{list(entry.mask.shape)}"
            )
        if place in given or not 0 <= entry.frame < num_frames or (shown and entry.object_name not in shown):
            raise RuntimeError(f"segmenter: a mask that was not asked for, of object {place[0]} in frame {place[1]}")
        if entry.frame in shown.get(entry.object_name, ()) and not entry.mask.any():
            raise InputError(
                f"prompt: object {entry.object_name}: selects nothing in frame {entry.frame}; click on the object "
                "itself, or draw a box around it"
            )
        given.add(place)
        if shown or entry.mask.any():
            found.add(entry.object_name)
            yield entry
    missing = [name for name in shown if name not in found]
    if missing or not found:
        what = ", ".join(missing or prompts.texts)
        raise InputError(f"prompt: {what}: nothing found in any of {num_frames} frames; show it in another way")


def segment_frames(rgb: UInt8Array, prompts: Prompts, segmenter: Segmenter) -> dict[str, BoolArray]:
    """Segment a clip that is in memory.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        prompts: what is shown of the objects.
        segmenter: does the work.

    Returns:
        by object, its masks, bool ``[F, H, W]``, as `VideoClip` takes them.

    Raises:
        InputError: as :func:`checked_masks`.
    """
    num_frames, height, width = rgb.shape[:3]
    masks = {name: np.zeros(rgb.shape[:3], np.bool_) for name in prompts.objects}
    for entry in checked_masks(segmenter, rgb, prompts, num_frames=num_frames, height=height, width=width):
        masks.setdefault(entry.object_name, np.zeros(rgb.shape[:3], np.bool_))[entry.frame] = entry.mask
    return masks
