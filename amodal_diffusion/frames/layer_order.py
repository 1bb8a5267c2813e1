"""Depth order of the objects in a frame, from their masks and from depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from amodal_diffusion.types import BoolArray, FloatArray

Part = tuple[slice, slice]


@dataclass(frozen=True)
class Relation:
    """Two objects that touch, and which of them is in front.

    Attributes:
        front: index of the object in front.
        back: index of the object behind.
        pixels: number of pixels where `back` is hidden and `front` is visible.
        contrary: number of pixels where `front` is hidden and `back` is visible.
        by: what decides: masks if the two counts differ, else depth.
    """

    front: int
    back: int
    pixels: int
    contrary: int
    by: Literal["masks", "depth"]


@dataclass(frozen=True)
class FrameOrder:
    """Order of the objects of one frame, each given by its index in the clip.

    Attributes:
        front_to_back: objects whose amodal mask is not empty, nearest first.
        relations: relations that the order satisfies, most certain first.
        left_out: relations that the order violates, because they form a cycle with more certain ones.
        undecided: pairs that touch, but that neither masks nor depth can order.
    """

    front_to_back: tuple[int, ...]
    relations: tuple[Relation, ...]
    left_out: tuple[Relation, ...]
    undecided: tuple[tuple[int, int], ...]


def order_objects(
    modal: Sequence[BoolArray],
    amodal: Sequence[BoolArray],
    *,
    depth: FloatArray | None = None,
    before: Sequence[int] = (),
) -> FrameOrder:
    """Order the objects of a frame by depth.

    Two objects touch if their amodal masks share a pixel or have neighboring ones. Masks decide first: the object that
    is hidden where the other is visible is behind. If each hides the other somewhere, the larger number of pixels
    decides. Otherwise depth decides: the object with the larger median depth is in front. The median is over its
    visible pixels near the other object, or over all its visible pixels if none is near.

    Relations are then accepted one by one, those with the largest difference in pixels first and those from depth last,
    unless they contradict accepted ones. A cycle is therefore broken where this costs the fewest pixels. Objects that
    no relation orders keep the order of the previous frame, or the given order in the first frame.

    Args:
        modal: modal mask of each object, bool ``[H, W]`` each.
        amodal: amodal mask of each object, bool ``[H, W]`` each; contains the modal mask.
        depth: depth of the frame, float ``[H, W]`` in any unit, nearer is larger.
        before: objects from front to back in the previous frame.
    """
    boxes = {index: box for index, mask in enumerate(amodal) if (box := _box(mask)) is not None}
    relations: list[Relation] = []
    undecided: list[tuple[int, int]] = []
    for (first, box), (second, other) in combinations(boxes.items(), 2):
        meeting = _meeting(box, other)
        if meeting is None or not _touch(amodal[first][meeting], amodal[second][meeting]):
            continue
        relation = _relate(first, second, modal, amodal, depth, meeting)
        if relation is None:
            undecided.append((first, second))
        else:
            relations.append(relation)
    kept, left_out = _without_circles(relations)
    places = {index: place for place, index in enumerate(before)}
    preferred = sorted(boxes, key=lambda index: (places.get(index, len(places)), index))
    return FrameOrder(_sorted(preferred, kept), tuple(kept), tuple(left_out), tuple(undecided))


def _relate(
    first: int,
    second: int,
    modal: Sequence[BoolArray],
    amodal: Sequence[BoolArray],
    depth: FloatArray | None,
    meeting: Part,
) -> Relation | None:
    """Which of two touching objects is in front; None if neither masks nor depth decide."""
    hides = {}  # by object, number of pixels where it is visible and the other is hidden
    for front, back in ((first, second), (second, first)):
        hidden = amodal[back][meeting] & ~modal[back][meeting]
        hides[front] = int((hidden & modal[front][meeting]).sum())
    if hides[first] != hides[second]:
        front, back = (first, second) if hides[first] > hides[second] else (second, first)
        return Relation(front, back, hides[front], hides[back], "masks")
    if depth is None:
        return None
    near, far = (_median_depth(modal[index], depth, meeting) for index in (first, second))
    if near is None or far is None or near == far:
        return None
    front, back = (first, second) if near > far else (second, first)
    return Relation(front, back, hides[front], hides[back], "depth")


def _without_circles(relations: Sequence[Relation]) -> tuple[list[Relation], list[Relation]]:
    """Split relations into those that agree with all more certain ones, and the others; both most certain first."""
    kept: list[Relation] = []
    left_out: list[Relation] = []
    behind: dict[int, set[int]] = {}  # objects behind each object, directly or transitively
    for relation in sorted(relations, key=lambda found: (found.contrary - found.pixels, found.front, found.back)):
        front, back = relation.front, relation.back
        if front in behind.get(back, ()):
            left_out.append(relation)
            continue
        kept.append(relation)
        further = {back} | behind.get(back, set())
        behind[front] = behind.get(front, set()) | further
        for others in behind.values():
            if front in others:
                others.update(further)
    return kept, left_out


def _sorted(preferred: Sequence[int], relations: Sequence[Relation]) -> tuple[int, ...]:
    """Topological order: take the first object that no remaining object covers, until all are taken."""
    waiting, order = list(preferred), []
    while waiting:
        covered = {relation.back for relation in relations if relation.front in waiting}
        taken = next(index for index in waiting if index not in covered)
        waiting.remove(taken)
        order.append(taken)
    return tuple(order)


def _median_depth(modal: BoolArray, depth: FloatArray, meeting: Part) -> float | None:
    """Median depth of an object's visible pixels in ``meeting``, or of all of them; None if none is visible."""
    near = depth[meeting][modal[meeting]]
    values = near if near.size else depth[modal]
    return float(np.median(values)) if values.size else None


def _box(mask: BoolArray) -> Part | None:
    """Bounding box of a mask with a margin of one pixel; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    return slice(top, int(rows[-1]) + 2), slice(left, int(columns[-1]) + 2)


def _meeting(first: Part, second: Part) -> Part | None:
    """Intersection of two boxes; None if it is empty."""
    rows, columns = (
        slice(max(one.start, other.start), min(one.stop, other.stop)) for one, other in zip(first, second, strict=True)
    )
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _touch(first: BoolArray, second: BoolArray) -> bool:
    """Whether two masks share a pixel or have pixels that are neighbors along a row or column."""
    return bool(
        (first & second).any()
        or (first[1:] & second[:-1]).any()
        or (first[:-1] & second[1:]).any()
        or (first[:, 1:] & second[:, :-1]).any()
        or (first[:, :-1] & second[:, 1:]).any()
    )
