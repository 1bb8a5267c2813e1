"""The order of objects: by what whole masks hide, then by depth, steady where nothing tells, circles broken."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.frames.layer_order import FrameOrder, order_objects
from amodal_diffusion.types import BoolArray

HEIGHT, WIDTH = 8, 24


def bar(first: int, last: int, *, rows: slice = slice(2, 6)) -> BoolArray:
    """A mask of the columns from one to another, the last left out."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[rows, first:last] = True
    return mask


def by(order: FrameOrder) -> list[tuple[int, int, str]]:
    return [(relation.front, relation.back, relation.by) for relation in order.relations]


def test_what_is_hidden_where_another_is_seen_is_behind() -> None:
    order = order_objects([bar(0, 6), bar(6, 12)], [bar(0, 9), bar(6, 12)])
    assert order.front_to_back == (1, 0)
    (relation,) = order.relations
    assert (relation.front, relation.back, relation.pixels, relation.contrary, relation.by) == (1, 0, 12, 0, "masks")
    assert (order.left_out, order.undecided) == ((), ())


def test_of_contrary_signs_the_larger_counts() -> None:
    order = order_objects([bar(0, 6), bar(6, 12)], [bar(0, 7), bar(3, 12)])
    assert order.front_to_back == (0, 1)
    assert (order.relations[0].pixels, order.relations[0].contrary) == (12, 4)


def test_an_object_of_which_nothing_is_seen() -> None:
    order = order_objects([bar(0, 0), bar(6, 12)], [bar(7, 9), bar(6, 12)])
    assert order.front_to_back == (1, 0)


def test_objects_that_are_not_there_are_not_in_the_order() -> None:
    assert order_objects([bar(0, 0), bar(6, 12)], [bar(0, 0), bar(6, 12)]).front_to_back == (1,)
    assert order_objects([], []) == FrameOrder((), (), (), ())


@pytest.mark.parametrize(("other", "touches"), [(bar(6, 12), True), (bar(7, 12), False)])
def test_neighbors_touch_and_depth_orders_them(other: BoolArray, touches: bool) -> None:
    depth = np.tile(np.linspace(0, 1, WIDTH, dtype=np.float32), (HEIGHT, 1))
    masks = [bar(0, 6), other]
    order = order_objects(masks, masks, depth=depth)
    assert by(order) == ([(1, 0, "depth")] if touches else [])
    assert order.front_to_back == ((1, 0) if touches else (0, 1))
    assert order_objects(masks, masks).undecided == (((0, 1),) if touches else ())


def test_depth_counts_where_two_meet() -> None:
    """A long object that comes near at its far end is behind the other where they meet."""
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    depth[:, :16], depth[:, 16:] = 1, 5
    depth[:, 4:8] = 3
    order = order_objects([bar(4, 8), bar(8, 24)], [bar(4, 8), bar(8, 24)], depth=depth)
    assert by(order) == [(0, 1, "depth")]


def test_masks_beat_depth() -> None:
    depth = np.where(bar(0, 6), 1, 0).astype(np.float32)
    assert by(order_objects([bar(0, 6), bar(6, 12)], [bar(0, 9), bar(6, 12)], depth=depth)) == [(1, 0, "masks")]


def test_what_nothing_orders_stays_as_it_was() -> None:
    masks = [bar(0, 4), bar(8, 12), bar(16, 20)]
    assert order_objects(masks, masks).front_to_back == (0, 1, 2)
    assert order_objects(masks, masks, before=(2, 0, 1)).front_to_back == (2, 0, 1)
    assert order_objects(masks, masks, before=(2,)).front_to_back == (2, 0, 1)


def test_a_circle_is_broken_where_it_costs_least() -> None:
    """0 before 1 before 2 before 0, the last by the fewest pixels."""
    seen = [bar(0, 8, rows=slice(0, 2)), bar(0, 8, rows=slice(2, 4)), bar(0, 8, rows=slice(4, 6))]
    whole = [
        seen[0] | bar(0, 2, rows=slice(4, 6)),
        seen[1] | bar(0, 8, rows=slice(0, 2)),
        seen[2] | bar(0, 4, rows=slice(2, 4)),
    ]
    order = order_objects(seen, whole)
    assert order.front_to_back == (0, 1, 2)
    assert by(order) == [(0, 1, "masks"), (1, 2, "masks")]
    assert [(left.front, left.back, left.pixels) for left in order.left_out] == [(2, 0, 4)]


def test_a_longer_circle_and_what_hangs_on_it() -> None:
    """Four in a circle and a fifth behind one of them: one relation goes, and all others hold."""
    seen = [bar(4 * index, 4 * index + 4) for index in range(5)]
    whole = [mask.copy() for mask in seen]
    for back, front, width in ((1, 0, 4), (2, 1, 3), (3, 2, 2), (0, 3, 1), (4, 3, 4)):
        whole[back] |= bar(4 * front, 4 * front + width)
    order = order_objects(seen, whole)
    assert [(left.front, left.back) for left in order.left_out] == [(3, 0)]
    places = {index: place for place, index in enumerate(order.front_to_back)}
    assert len(order.relations) == 4
    assert all(places[relation.front] < places[relation.back] for relation in order.relations)
