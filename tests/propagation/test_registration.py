"""An object without symmetry is found where it was put."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.propagation.placement import Placement, look_up, to_object
from amodal_diffusion.propagation.registration import Aligner, Search
from amodal_diffusion.types import BoolArray

SEARCH = Search(reach=0.3, turns=(-0.4, -0.2, 0.0, 0.2, 0.4), scales=(-0.2, 0.0, 0.2))


def put(placement: Placement, *, height: int = 100, width: int = 140) -> BoolArray:
    """A shape of a hook with a foot, placed in a frame."""
    shape = np.zeros((1, 81, 81), dtype=np.float32)
    shape[0, 10:70, 30:44] = shape[0, 56:70, 30:65] = shape[0, 10:20, 8:44] = 1
    rows, columns = to_object(placement, np.arange(height)[:, None] * 1.0, np.arange(width) * 1.0)
    return look_up(shape, rows + 40, columns + 40)[0] > 0


@pytest.mark.parametrize("cells", [20, 64])
@pytest.mark.parametrize("change", [(0, 0, 0.0, 0.0), (7, -9, 0.0, 0.0), (-4, 6, 0.2, 0.2), (5, 3, -0.2, -0.4)])
def test_a_placement_is_found_again(change: tuple[float, ...], cells: int) -> None:
    first = np.asarray([50.0, 70.0, 0.0, 0.0])
    second = first + change
    modal = np.stack([put(first), put(second)])
    aligner = Aligner(np.zeros((*modal.shape, 3), np.uint8), modal, (~modal).astype(np.float32), side=60, cells=cells)
    found = aligner.align(1, aligner.view(0, first), first, SEARCH)
    assert found[2:] == pytest.approx(second[2:])
    assert np.abs(found - second)[:2].max() <= 60 / cells  # a cell


def test_colors_decide_where_shapes_do_not() -> None:
    rows, columns = np.mgrid[0:51, 0:51] - 25.0
    modal = np.repeat((np.hypot(rows, columns) < 18)[None], 2, axis=0)  # any turn of a disc fits
    rgb = np.zeros((2, 51, 51, 3), dtype=np.uint8)
    placement = np.asarray([25.0, 25.0, 0.0, 0.4])
    rgb[0, rows > 0, 0] = rgb[1, to_object(placement, rows + 25, columns + 25)[0] > 0, 0] = 255
    aligner = Aligner(rgb, modal, (~modal).astype(np.float32), side=35, cells=40)
    here = np.asarray([25.0, 25.0, 0.0, 0.0])
    found = aligner.align(1, aligner.view(0, here), here, Search(reach=0.1, turns=(-0.4, 0.0, 0.4), scales=(0.0,)))
    assert found == pytest.approx(placement)
