"""The error for bad input and the names of the two stages; without numpy, so that `--help` answers at once."""

from __future__ import annotations

from typing import Literal

Cuts = Literal["auto", "none"] | tuple[int, ...]
"""Hard cuts of a clip: found by its colors, none, or the first frames of all shots but the first, in order."""
Stage = Literal["amodal_segmentation", "content_completion"]
STAGES: tuple[Stage, ...] = ("amodal_segmentation", "content_completion")


class InputError(ValueError):
    """Something given from outside is wrong; the message names it, what was expected, what came, what to do."""


def one_line(error: InputError | OSError) -> str:
    """What a user is told of an error: one line, which begins with the file if the system refused one."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror or type(error).__name__}"
    return " ".join(text.split())


def counted(number: int, noun: str) -> str:
    """Number and noun, such as ``1 frame`` or ``2 frames``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
