"""One object through a whole video, as a user's data has it, before it is cut into clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amodal_diffusion.video.masks import Rle


@dataclass(frozen=True)
class LongTrack:
    """One object through all N frames of a video.

    Attributes:
        name: video and object, for messages.
        obj_id: unique among the objects of the video.
        category_id: of the object.
        size: height and width of the masks in pixels.
        image_ids: number of each frame, the same for all objects of the video.
        image_file_names: path of each frame, with ``/``, relative to the root of the frames.
        modal: visible part in each frame; None where there is none.
        amodal: whole object in each frame; None where there is none.
    """

    name: str
    obj_id: int
    category_id: int
    size: tuple[int, int]
    image_ids: Sequence[int]
    image_file_names: Sequence[str]
    modal: Sequence[Rle | None]
    amodal: Sequence[Rle | None]
