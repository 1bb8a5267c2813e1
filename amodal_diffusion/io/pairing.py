"""Which mask belongs to which frame: by the numbers in the names of the files, else by their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from amodal_diffusion.basics import InputError


@dataclass(frozen=True)
class Pairing:
    """Frames of a clip that have a mask.

    Attributes:
        positions: index in the clip of each mask's frame, rising; None for all frames.
        notice: what a user should know; empty where it is plain.
    """

    positions: tuple[int, ...] | None = None
    notice: str = ""


def number_of(name: str) -> int | None:
    """The last run of digits in a file's name without its ending; None without digits."""
    found = re.findall(r"\d+", name.rpartition(".")[0] or name)
    return int(found[-1]) if found else None


def pair(frames: Sequence[str] | int, masks: Sequence[str | int] | int) -> Pairing:
    """Pair masks with frames.

    Frames and masks with different numbers in their names pair by these. If both count without a gap, are as many and
    begin differently, they pair in order. Frames without names count from 0, and masks of every n-th frame are known by
    their numbers, of which there must be at least three. Names without numbers pair in order.

    Args:
        frames: names of the frames' files in order, or their number.
        masks: likewise of the masks; or the number of the frame of each mask.

    Raises:
        InputError: if they do not pair; has the word "names" and the first name that is missing on each side.
    """
    count = frames if isinstance(frames, int) else len(frames)
    of_masks = range(masks) if isinstance(masks, int) else masks
    own, theirs = None if isinstance(frames, int) else _numbers(frames), _numbers(of_masks)
    by_names = not isinstance(masks, int) and own is not None
    if isinstance(masks, int) or theirs is None or (own is None and not isinstance(frames, int)):
        if len(of_masks) == count:
            return Pairing()
        raise InputError(f"{len(of_masks)} masks for {count} frames; give one mask a frame, empty where it is hidden")
    known = list(range(count)) if own is None else own
    if known == theirs:
        return Pairing()
    if len(theirs) == count and _without_gap(theirs) and (own is None or _without_gap(own)):
        shifted = by_names and f"masks count from {theirs[0]} and frames from {known[0]}: they are paired in order"
        return Pairing(notice=shifted or "")
    every = _every_nth(known, theirs)
    if every is not None:
        return every
    raise InputError(_missing(known, theirs, frames, of_masks))


def _numbers(names: Sequence[str | int]) -> list[int] | None:
    """Numbers of names; None if one has none or two have the same."""
    found = [name if isinstance(name, int) else number_of(name) for name in names]
    numbers = [number for number in found if number is not None]
    return numbers if len(numbers) == len(found) == len(set(numbers)) else None


def _without_gap(numbers: Sequence[int]) -> bool:
    return all(later == earlier + 1 for earlier, later in pairwise(numbers))


def _every_nth(frames: Sequence[int], masks: Sequence[int]) -> Pairing | None:
    """Pair masks of every n-th frame that reach to the end of the clip."""
    if len(masks) < 3:
        return None
    step = masks[1] - masks[0]
    steady = step >= 2 and all(later - earlier == step for earlier, later in pairwise(masks))
    place = {number: position for position, number in enumerate(frames)}
    if not steady or any(mask not in place for mask in masks) or frames[-1] - masks[-1] >= step:
        return None
    positions = tuple(place[mask] for mask in masks)
    return Pairing(positions, f"masks are of every {step}-th frame: only these {len(masks)} frames are completed")


def _missing(
    known: Sequence[int], theirs: Sequence[int], frames: Sequence[str] | int, masks: Sequence[str | int]
) -> str:
    """The line that says which names have no partner."""

    def shown(number: int, names: Sequence[str | int]) -> str:
        return next(str(name) for name in names if (name if isinstance(name, int) else number_of(name)) == number)

    parts = []
    named: Sequence[str | int] = known if isinstance(frames, int) else frames
    sides = ((known, theirs, named, "mask of frame"), (theirs, known, masks, "frame of mask"))
    for side, others, names, what in sides:
        lone = [number for number in side if number not in set(others)]
        if lone:
            parts.append(f"no {what} {shown(lone[0], names)}")
    found = " and ".join(parts) or "they are in another order"
    return (
        f"{len(theirs)} masks for {len(known)} frames do not pair by the numbers in their names: {found}; give one "
        "mask a frame, empty where the object is not visible"
    )
