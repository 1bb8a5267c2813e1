"""Copies of what other frames show, laid over what the network paints where an object is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from amodal_diffusion.propagation.colors import HiddenColours, colours_of_others
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

TALLY: tuple[str, ...] = ("hidden", "copied")


class SeenFrame(Protocol):
    """What copies are made of: a frame, uint8 ``[H, W, 3]``, what is visible, bool ``[H, W]``, depth or None."""

    @property
    def rgb(self) -> UInt8Array: ...  # noqa: D102
    @property
    def modal(self) -> BoolArray: ...  # noqa: D102
    @property
    def depth(self) -> FloatArray | None: ...  # noqa: D102


@dataclass
class Copies:
    """Copies for one object through one stream; memory is that of the windows that are open.

    Attributes:
        painted_share: what the network's painting counts where nothing is copied, beside the mean of the known colours
            nearby, in [0, 1].
        tally: pixels so far that were hidden, and how many of them are copies; one that is half a copy counts half.
    """

    painted_share: float = 1.0
    tally: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TALLY, 0.0))
    _known: dict[int, HiddenColours | None] = field(default_factory=dict)

    def look_ahead(self, start: int, frames: Sequence[SeenFrame], wholes: Sequence[BoolArray]) -> bool:
        """Take in a window of frames before any of them is painted.

        Frames that the last window had too go over from what that one showed to what this one shows.

        Args:
            start: number in the stream of the first.
            frames: in order, of one size.
            wholes: the whole object in each, bool ``[H, W]``.

        Returns:
            whether what the network paints counts anywhere in the window.
        """
        modal, amodal = np.stack([frame.modal for frame in frames]), np.stack(wholes)
        found: Sequence[HiddenColours | None] = [None] * len(frames)
        if (amodal & ~modal).any():
            maps = [frame.depth for frame in frames if frame.depth is not None]
            depth = np.stack(maps) if len(maps) == len(frames) else None
            found = colours_of_others(np.stack([frame.rgb for frame in frames]), modal, amodal, depth)
        shared = sum(start + index in self._known for index in range(len(frames)))
        for index, now in enumerate(found):
            before = self._known.get(start + index)
            if before is None or now is None:
                self._known[start + index] = before if now is None else now
            else:
                self._known[start + index] = before.faded(now, (index + 1) / (shared + 1))
        hides = bool((amodal & ~modal).any())
        return hides and (self.painted_share > 0 or any(now is None for now in found))

    def forget(self, number: int) -> None:
        """Let a frame go that is not asked for."""
        self._known.pop(number, None)

    def lay_over(self, number: int, painted: UInt8Array, hidden: BoolArray) -> UInt8Array:
        """Put the best guess in the place of a frame's hidden pixels, and let the frame go.

        Args:
            number: of the frame in the stream; it was looked at before.
            painted: by the network, uint8 ``[H, W, 3]``.
            hidden: bool ``[H, W]``, as looked at.

        Returns:
            uint8 ``[H, W, 3]``.
        """
        colours = self._known.pop(number)
        self.tally["hidden"] += float(hidden.sum())
        if colours is None:
            return painted
        guess = colours.near + self.painted_share * (painted[hidden] - colours.near)
        guess += colours.sure[:, None] * (colours.copied - guess)
        self.tally["copied"] += float(colours.sure.sum())
        result = painted.copy()
        result[hidden] = np.rint(np.clip(guess, 0, 255)).astype(np.uint8)
        return result
