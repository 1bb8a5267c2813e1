"""Values of options, parsed: formats, frames, colors, hard cuts, mask filters. This page imports nothing slow."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Literal, cast, get_args

from amodal_diffusion.basics import Cuts, InputError
from amodal_diffusion.config import MASK_FILTERS, OLD_FILTERS, MaskFilter

Format = Literal[
    "png", "prores", "webm", "mp4", "gif", "psd", "ora", "masks-mp4", "davis", "coco", "youtube-vis", "scores"
]
FORMATS: tuple[Format, ...] = get_args(Format)
_OTHER_NAMES: dict[str, Format] = {
    **dict.fromkeys(("mov", "prores4444", "prores-4444", "quicktime", "alpha-mov", "qt"), "prores"),
    **dict.fromkeys(("jpg", "jpeg", "tif", "tiff", "webp", "exr", "bmp", "rgba", "images", "pictures"), "png"),
    **dict.fromkeys(("apng", "animation"), "gif"),
    **dict.fromkeys(("photoshop", "psb", "adobe"), "psd"),
    **dict.fromkeys(("openraster", "krita", "kra", "gimp", "xcf"), "ora"),
    **dict.fromkeys(("vp9", "mkv"), "webm"),
    **dict.fromkeys(("h264", "h.264", "m4v", "avi", "video"), "mp4"),
    **dict.fromkeys(("masks", "mask", "mask-mp4"), "masks-mp4"),
    **dict.fromkeys(("json", "rle"), "coco"),
    **dict.fromkeys(("ytvis", "ytvos", "youtube"), "youtube-vis"),
}
"""Names that users try, and the format that serves them."""
MEANT = dict.fromkeys(("over", "background", "bg", "color"), "did you mean --over-color?")
"""Options that users try whose nearest name is another; what to say of them."""


def meant_format(name: str) -> Format:
    """The format that a wrong name means: by a table, else the nearest."""
    nearest = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.0)[0]
    return _OTHER_NAMES.get(name) or cast("Format", nearest)


def read_formats(text: str | Sequence[str]) -> tuple[Format, ...]:
    """Parse a list of formats, with commas between them; returns them in the order of `FORMATS`.

    Raises:
        InputError: if a format is unknown (names the one that is meant, or the nearest), or none is given.
    """
    given = text.split(",") if isinstance(text, str) else text
    names = [name.strip().lower().removeprefix(".") for name in given if name.strip()]
    wrong = sorted(set(names) - set(FORMATS))
    if wrong:
        if _is_color(wrong[0]):
            raise InputError(f"--formats: {wrong[0]} is a color; for the background, add --over-color {wrong[0]}")
        meant = meant_format(wrong[0])
        raise InputError(
            f"--formats: expected some of {','.join(FORMATS)}, got {','.join(wrong)}; did you mean {meant}?"
        )
    if not names:
        raise InputError(f"--formats: expected some of {','.join(FORMATS)}, got none")
    return tuple(name for name in FORMATS if name in names)


LayerFrames = Literal["auto", "all"] | tuple[int, ...]
"""Frames of which layered pictures are written; ``auto`` is the one in which most is hidden."""


def read_layer_frames(text: str | Sequence[int]) -> LayerFrames:
    """Parse ``auto``, ``all``, or frame numbers with commas between them, counted from 0.

    Raises:
        InputError: if it is something else.
    """
    if text == "auto":
        return "auto"
    if text == "all":
        return "all"
    numbers = [number.strip() for number in (text.split(",") if isinstance(text, str) else map(str, text))]
    if not numbers or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise InputError(f"--layer-frames: expected auto, all, or frames such as 1,5,9, got {text}")
    return tuple(sorted({int(number) for number in numbers}))


def read_color(text: str, argument: str = "--over-color") -> str:
    """Check a color, which Pillow reads later.

    Args:
        text: the color.
        argument: what it was given as.

    Raises:
        InputError: if it is neither a CSS color name nor ``#rrggbb``.
    """
    name = str(text).strip()
    if not _is_color(name):
        from PIL import ImageColor

        nearest = difflib.get_close_matches(name.lower(), ImageColor.colormap, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise InputError(f"{argument}: expected a CSS color name or #rrggbb, got {text}{hint}")
    return name


def _is_color(name: str) -> bool:
    from PIL import ImageColor  # with which the command's help need not wait

    try:
        ImageColor.getrgb(name)
    except ValueError:
        return False
    return True


def read_cuts(value: str | int | Sequence[int]) -> Cuts:
    """Hard cuts: ``auto``, ``none``, or first frames of new shots, on the command line with commas.

    Raises:
        InputError: if they are anything else.
    """
    if isinstance(value, str) and value.strip() in ("auto", "none"):
        return cast("Cuts", value.strip())
    entries = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    try:
        return tuple(int(str(entry)) for entry in entries)
    except (TypeError, ValueError):
        raise InputError(
            f"--cuts: expected auto, none, or the first frames of new shots such as 24,80, got {value or 'nothing'}"
        ) from None


def read_filters(text: str | Sequence[str]) -> tuple[MaskFilter, ...]:
    """Parse a list of mask filters, separated by commas on the command line, or ``all`` or ``none``.

    Raises:
        InputError: if a filter is unknown.
    """
    names = [name.strip() for name in (text.split(",") if isinstance(text, str) else text) if name.strip()]
    if names in (["all"], ["none"]):
        return MASK_FILTERS if names == ["all"] else ()
    names = [OLD_FILTERS.get(name, name) for name in names]
    wrong = sorted(set(names) - set(MASK_FILTERS))
    if wrong or (isinstance(text, str) and not names):
        expected = ", ".join(MASK_FILTERS)
        raise InputError(
            f"--mask-filters: expected all, none or some of {expected}, got {', '.join(wrong) or 'nothing'}"
        )
    return tuple(name for name in MASK_FILTERS if name in names)


def read_threshold(value: str | float | None) -> float | None:
    """Threshold of the scores.

    Raises:
        InputError: if it is no number from 0 to below 1.
    """
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise InputError(f"--mask-threshold: expected a number from 0 to below 1, got {value}")
    return number


def read_bit_depth(value: str | int | None) -> int | None:
    """Bits of the values in pictures of 16 bits.

    Raises:
        InputError: if it is no number from 1 to 16.
    """
    if value is None:
        return None
    if not str(value).isdecimal() or not 1 <= int(value) <= 16:
        raise InputError(f"--bit-depth: expected a number of bits from 1 to 16, got {value}")
    return int(value)
