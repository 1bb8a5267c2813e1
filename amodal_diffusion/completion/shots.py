"""The shots of a clip that is to be completed: the option that names hard cuts, and the pass that finds them."""

from __future__ import annotations

from pathlib import Path

from amodal_diffusion.basics import Cuts
from amodal_diffusion.frames.cuts import CutDetector
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.types import check_cuts


def open_shots(
    path: Path, cuts: Cuts, *, allow_truncated: bool = False, bit_depth: int | None = None
) -> tuple[ClipReader, tuple[int, ...]]:
    """Open a clip, and find its hard cuts.

    Args:
        path: of the clip, as for :func:`~amodal_diffusion.io.video_reader.open_clip`.
        cuts: as they were asked for.
        allow_truncated: as for that function.
        bit_depth: as for that function.

    Returns:
        the clip, and the first frames of new shots.

    Raises:
        InputError: if the clip cannot be read, or is shorter than the cuts that are given.
    """
    clip = open_clip(path, allow_truncated=allow_truncated, bit_depth=bit_depth)
    if cuts == "auto":
        detector = CutDetector()
        for frame in clip:
            detector.add(frame)
        return clip, detector.finish()
    return clip, () if cuts == "none" else check_cuts(cuts, clip.num_frames, what="--cuts")
