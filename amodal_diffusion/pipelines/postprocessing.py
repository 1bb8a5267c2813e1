"""From how likely each pixel is the object's to a mask: the one whose overlap with the truth should be largest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from scipy import ndimage

from amodal_diffusion.models.checkpoint import MOST, SamplingDefaults
from amodal_diffusion.types import BoolArray, FloatArray, InputError


def hidden_part(free: FloatArray, modal: BoolArray, sampling: SamplingDefaults) -> BoolArray:
    """What of a frame is taken for the hidden part of the object.

    Args:
        free: how surely the object goes on beyond what is visible, float32 ``[H, W]``, 1 for certain.
        modal: visible part, bool ``[H, W]``.
        sampling: says above which score, see its ``mask_threshold`` and ``visible_weight``.

    Returns:
        bool ``[H, W]``, nothing of it visible.
    """
    threshold = sampling.mask_threshold
    if sampling.visible_weight is not None:
        likely = np.clip(free[~modal], 0.0, 1.0)
        threshold = best_threshold(likely, int(modal.sum()), weight=sampling.visible_weight, least=threshold)
    hidden: BoolArray = (free > threshold) & ~modal
    return hidden


def best_threshold(likely: FloatArray, visible: int, *, weight: float, least: float) -> float:
    """The threshold whose mask has the largest expected IoU.

    Of a mask ``S`` beside the visible part, ``(sum of p in S + w v) / (|S| + sum of p outside of S + w v)`` is about
    its expected IoU, where ``v`` is the visible area: that of the whole object for ``w = 1``, that of the hidden part
    alone for ``w = 0``. Where the network is sure, the best threshold is near one half; of a vague shape more is taken,
    as missing half of it costs more than adding as much beside it; and where next to nothing is likely, next to nothing
    is taken as long as the visible part counts.

    Args:
        likely: how likely each pixel is a hidden one of the object, float32 ``[N]`` in [0, 1].
        visible: pixels of the visible part, at least 0.
        weight: ``w``, at least 0.
        least: no threshold is below this, above 0 and at most `MOST`.

    Returns:
        from ``least`` to `MOST`; pixels above it are taken.
    """
    levels = np.sort(likely[likely > least])[::-1]
    counts = np.append(np.flatnonzero(np.diff(levels)) + 1, len(levels))  # equal values are taken together or not
    sure = int((levels > MOST).sum())
    counts = np.append(sure, counts[counts > sure])
    sums = np.append(0.0, np.cumsum(levels, dtype=np.float64))[counts]
    known = weight * visible
    expected = (sums + known) / np.maximum(counts + float(likely.sum()) - sums + known, 1e-9)
    best = int(counts[expected.argmax()])
    return MOST if best == sure else float(np.nextafter(levels[best - 1], np.float32(0)))


FARTHEST_SHARE = 0.25
"""The object is taken to be where this share of its visible pixels is no nearer: objects lean and depth is noisy."""
NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


class GuardedFrame(Protocol):
    """What guards look at of a frame: the object's visible part, bool ``[H, W]``, and depth, float32 or None."""

    @property
    def modal(self) -> BoolArray:
        """Visible part."""

    @property
    def depth(self) -> FloatArray | None:
        """Nearer is larger, on one scale for the whole clip."""


@dataclass(frozen=True)
class Guards:
    """Which guards are on.

    Attributes:
        behind: something nearer than the object must be where it is said to be hidden; needs depth.
        attached: what is hidden hangs together with what is visible; in a frame that shows nothing it is one piece.
        growth: nothing hides more in one frame than `largest_growth` times what some frame shows.
        largest_growth: see `growth`.
    """

    behind: bool = True
    attached: bool = True
    growth: bool = True
    largest_growth: float = 4.0

    @classmethod
    def of(cls, names: Iterable[str]) -> Guards:
        """Turn on guards by name, and no others.

        Args:
            names: of `GUARDS`; or ``all`` or ``none`` alone.

        Raises:
            InputError: if a name is none of these.
        """
        chosen = list(names)
        if chosen in (["all"], ["none"]):
            chosen = list(GUARDS) if chosen == ["all"] else []
        wrong = sorted(set(chosen) - set(GUARDS))
        if wrong:
            raise InputError(f"guards: expected all, none or some of {', '.join(GUARDS)}, got {', '.join(wrong)}")
        return cls(**{name: name in chosen for name in GUARDS})


GUARDS: tuple[str, ...] = tuple(entry.name for entry in fields(Guards) if isinstance(entry.default, bool))


@dataclass
class Guardian:
    """Guards one object through one stream; remembers where it last was and how much of it was seen.

    Attributes:
        guards: which are on.
    """

    guards: Guards
    _removed: dict[int, dict[str, int]] = field(default_factory=dict)
    _place: float | None = None
    _places: dict[int, float | None] = field(default_factory=dict)
    _shown: int = 0

    def look_ahead(self, start: int, frames: Sequence[GuardedFrame]) -> None:
        """Take in a window of frames before any of them is guarded.

        Args:
            start: number in the stream of the first.
            frames: in order.
        """
        self._shown = max(self._shown, *(int(frame.modal.sum()) for frame in frames))
        own = [_place_of(frame) for frame in frames]
        known = [index for index, place in enumerate(own) if place is not None]
        for index in range(len(frames)):
            nearest = min(known, key=lambda other: abs(other - index), default=None)
            self._places[start + index] = self._place if nearest is None else own[nearest]
        if known:
            self._place = own[known[-1]]

    def guard(self, number: int, frame: GuardedFrame, hidden: BoolArray, score: FloatArray, *, reach: int) -> BoolArray:
        """Remove from a frame's hidden part what the guards do not allow.

        Args:
            number: of the frame in the stream; it was looked at before.
            frame: the frame.
            hidden: where the object is said to be hidden, bool ``[H, W]``, nowhere visible.
            score: how sure that is, float32 ``[H, W]``; what is least sure goes first.
            reach: pixels over which parts still hang together.

        Returns:
            what is left of it, bool ``[H, W]``.
        """
        place = self._places.get(number)
        if self.guards.behind and frame.depth is not None and place is not None:
            hidden = self._keep(number, "behind", hidden, frame.depth > place)
        if self.guards.attached:
            hidden = self._keep(number, "attached", hidden, _attached(hidden, frame.modal, reach))
        limit = int(self.guards.largest_growth * self._shown)
        if self.guards.growth and hidden.sum() > limit:
            least = np.sort(score[hidden])[-limit] if limit else np.inf
            hidden = self._keep(number, "growth", hidden, score >= least)
        return hidden

    def forget(self, number: int) -> None:
        """Let a frame go, with all its answers guarded."""
        self._places.pop(number, None)

    def take_removed(self, number: int) -> dict[str, int]:
        """Pixels that each guard has removed from a frame, in all of its answers; told once, when it is finished."""
        return self._removed.pop(number, dict.fromkeys(GUARDS, 0))

    def _keep(self, number: int, guard: str, hidden: BoolArray, allowed: BoolArray) -> BoolArray:
        kept: BoolArray = hidden & allowed
        removed = self._removed.setdefault(number, dict.fromkeys(GUARDS, 0))
        removed[guard] += int(hidden.sum()) - int(kept.sum())
        return kept


def _place_of(frame: GuardedFrame) -> float | None:
    """Depth of the object in a frame; None where it shows nothing of it or has no depth."""
    if frame.depth is None or not frame.modal.any():
        return None
    return float(np.quantile(frame.depth[frame.modal], FARTHEST_SHARE))


def _attached(hidden: BoolArray, modal: BoolArray, reach: int) -> BoolArray:
    """The pieces of the hidden part that touch the visible one; where nothing is visible, the largest."""
    whole = hidden | modal
    if not hidden.any():
        return hidden
    joined = ndimage.binary_dilation(whole, NEIGHBOURS, iterations=reach) if reach else whole
    pieces, _ = ndimage.label(joined, NEIGHBOURS)
    if modal.any():
        return np.isin(pieces, np.unique(pieces[modal]))
    return np.asarray(pieces == np.bincount(pieces[hidden]).argmax())
