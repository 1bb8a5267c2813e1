"""Which object lies in front of which in a frame: from what their whole masks hide, and from depth."""

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
        front: place of the one in front.
        back: place of the other.
        pixels: where the one behind is hidden and the one in front is seen.
        contrary: where it is the other way round.
        by: what tells them apart: masks do wherever one of the two counts is larger, else depth does.
    """

    front: int
    back: int
    pixels: int
    contrary: int
    by: Literal["masks", "depth"]


@dataclass(frozen=True)
class FrameOrder:
    """The order of the objects of one frame, each named by its place among all objects of the clip.

    Attributes:
        front_to_back: the objects whose whole mask is not empty, the nearest first.
        relations: what the order follows from, the surest first.
        left_out: relations that the order breaks, as they would close a circle with surer ones.
        undecided: pairs that touch, of which neither masks nor depth say which is in front.
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
    """Put the objects of a frame in order.

    Two objects touch if their whole masks share a pixel or have neighboring ones. Of two that touch, the one that is
    hidden where the other is seen is behind; where that holds both ways, in more pixels than the other. Where the
    masks say nothing, the one with the larger median depth is in front, over what is seen of each where they meet, or
    over all that is seen of it. Relations are then taken in turn, those of most pixels first and those of depth last,
    each unless it contradicts the ones before; so a circle is broken where it costs the fewest pixels. Objects that no
    relation orders stay as they were in the frame before, at first in the order they are given in.

    Args:
        modal: modal mask of each object, bool ``[H, W]`` each.
        amodal: amodal mask of each object, bool ``[H, W]`` each; contains the modal mask.
        depth: of the frame, float ``[H, W]`` in any unit, nearer is larger.
        before: objects from front to back in the frame before.
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
    """Which of two objects that touch is in front; None where nothing tells."""
    hides = {}  # by object, pixels where it is seen and the other is hidden
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
    """Part relations into those that agree with all surer ones and the others, each the surest first."""
    kept: list[Relation] = []
    left_out: list[Relation] = []
    behind: dict[int, set[int]] = {}  # by object, those that kept relations put behind it, directly or not
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
    """Take the first object that has no other in front of it any more, until all are taken."""
    waiting, order = list(preferred), []
    while waiting:
        covered = {relation.back for relation in relations if relation.front in waiting}
        taken = next(index for index in waiting if index not in covered)
        waiting.remove(taken)
        order.append(taken)
    return tuple(order)


def _median_depth(modal: BoolArray, depth: FloatArray, meeting: Part) -> float | None:
    """Depth of what is seen of an object where it meets another, or anywhere; None where nothing is seen of it."""
    near = depth[meeting][modal[meeting]]
    values = near if near.size else depth[modal]
    return float(np.median(values)) if values.size else None


def _box(mask: BoolArray) -> Part | None:
    """Rows and columns around a mask and the pixels next to it; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    return slice(top, int(rows[-1]) + 2), slice(left, int(columns[-1]) + 2)


def _meeting(first: Part, second: Part) -> Part | None:
    """What two boxes share; None if they share nothing."""
    rows, columns = (
        slice(max(one.start, other.start), min(one.stop, other.stop)) for one, other in zip(first, second, strict=True)
    )
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _touch(first: BoolArray, second: BoolArray) -> bool:
    """Whether two masks share a pixel or have pixels next to each other, across an edge."""
    return bool(
        (first & second).any()
        or (first[1:] & second[:-1]).any()
        or (first[:-1] & second[1:]).any()
        or (first[:, 1:] & second[:, :-1]).any()
        or (first[:, :-1] & second[:, 1:]).any()
    )
