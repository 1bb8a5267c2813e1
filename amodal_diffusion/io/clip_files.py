"""A clip and the masks of its objects, read from files into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amodal_diffusion.basics import Cuts, InputError
from amodal_diffusion.config import MaskType
from amodal_diffusion.io.mask_files import fit_track, read_masks
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.types import BoolArray, VideoClip


def read_objects(
    clip: str | Path,
    masks: str | Path,
    *,
    names: Sequence[str] | None = None,
    mask_type: MaskType | None = None,
    cuts: Cuts = "auto",
    allow_truncated: bool = False,
) -> dict[str, VideoClip]:
    """Read a clip and the masks of its objects.

    Args:
        clip: see :func:`~amodal_diffusion.io.video_reader.open_clip`.
        masks: see :func:`~amodal_diffusion.io.mask_files.read_masks`.
        names: objects to read; all when None.
        mask_type: what the values of mask pictures mean; decided by the files when None.
        cuts: see `VideoClip`.
        allow_truncated: take the frames that decode from damaged videos.

    Returns:
        a clip for each object, by name; the clips share their frames.

    Raises:
        InputError: if a file cannot be read, masks do not fit the clip, or an object is unknown or never
            visible.
    """
    reader = open_clip(clip, allow_truncated=allow_truncated)
    found = read_masks(masks, allow_truncated=allow_truncated, mask_type=mask_type)
    unknown = next((name for name in names or () if name not in found), None)
    if unknown is not None:
        raise InputError(f"masks: no object {unknown}; there are {', '.join(found)}")
    tracks = {name: fit_track(found[name], reader, what="masks") for name in names or found}
    given = next(iter(tracks.values())).positions  # of frames that have masks; the same in every track of a source
    wanted = None if given is None else frozenset(given)
    rgb = np.stack([frame for number, frame in enumerate(reader) if wanted is None or number in wanted])
    clips = {}
    for name, track in tracks.items():
        modal: BoolArray = np.stack(list(track))
        if modal.shape != rgb.shape[:3]:
            raise InputError(f"masks: object {name} has {len(modal)} masks for {len(rgb)} frames; give one a frame")
        if not modal.any():
            raise InputError(f"masks: object {name} is empty in every frame; leave it out of the masks")
        clips[name] = VideoClip(rgb, modal, reader.fps, cuts)
    return clips
