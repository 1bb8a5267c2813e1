"""Labels of objects from a video that keeps every value, such as FFV1 or PNG in MOV: grey values, or colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amodal_diffusion.types import UInt8Array
from amodal_diffusion.video.io import ClipReader
from amodal_diffusion.video.pictures import davis_palette

Colours = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class LabelSurvey:
    """Which values a video holds.

    Attributes:
        counts: a frame each, pixels by packed colour; black is the background and left out.
        names: of the objects, by packed colour.
    """

    counts: tuple[dict[int, int], ...]
    names: dict[int, str]


def survey_labels(clip: ClipReader, *, most: int) -> LabelSurvey | None:
    """Read a video through for its labels.

    Grey values are labels themselves; colours of DAVIS's palette have the numbers that they have there; any other
    colours are numbered from 1 as they come.

    Args:
        clip: of a codec that keeps every value.
        most: largest number of values, background included, that is taken for labels.

    Returns:
        None where there are more values, so that it is no video of labels, or one object in black and white.
    """
    counts: list[dict[int, int]] = []
    seen: dict[int, None] = {}  # in the order in which they come
    for frame in clip:
        values, numbers = np.unique(packed(frame), return_counts=True)
        found = {int(value): int(number) for value, number in zip(values, numbers, strict=True) if value}
        counts.append(found)
        seen.update(dict.fromkeys(found))
        if len(seen) >= most:
            return None
    if not seen or set(seen) in ({0x010101}, {0xFFFFFF}):
        return None
    return LabelSurvey(tuple(counts), _names(list(seen)))


def packed(rgb: UInt8Array) -> Colours:
    """Colours as numbers, uint32 ``[H, W]``, red first, of uint8 ``[H, W, 3]``."""
    wide = rgb.astype(np.uint32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], dtype=np.uint32)


def _names(colours: list[int]) -> dict[int, str]:
    if all(colour % 0x010101 == 0 for colour in colours):
        return {colour: str(colour // 0x010101) for colour in sorted(colours)}
    palette = {int(colour): label for label, colour in enumerate(packed(davis_palette()[None])[0])}
    if all(colour in palette for colour in colours):
        return {colour: str(palette[colour]) for colour in sorted(colours, key=palette.__getitem__)}
    return {colour: str(number) for number, colour in enumerate(colours, start=1)}
