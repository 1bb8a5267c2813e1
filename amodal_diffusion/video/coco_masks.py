"""Masks as COCO-like files give them: compressed or plain run lengths, or polygons."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco

from amodal_diffusion.types import BoolArray, InputError
from amodal_diffusion.video.masks import Rle, check_rle, decode_rle, rle_area


def read_coco_mask(value: object, height: int, width: int) -> Rle | None:
    """Turn a mask of any COCO form into compressed run lengths, which are not decoded.

    Args:
        value: ``{size, counts}`` with counts as text or as a list of runs, a list of polygons ``[x1, y1, x2, y2, ...]``
            whose union is meant, or None.
        height: pixels of the frame.
        width: pixels of the frame.

    Returns:
        None for a mask without any run or polygon.

    Raises:
        InputError: if the value is none of these or is of another size.
    """
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return _from_runs(value, height, width)
    if isinstance(value, list) and all(map(_is_polygon, value)):
        return _packed(coco.merge(coco.frPyObjects(value, height, width)))
    raise InputError(f"expected run lengths {{size: [H, W], counts}} or polygons [[x1, y1, ...]], got {value!r:.60}")


def decode_coco_mask(value: object, height: int, width: int) -> BoolArray:
    """Decode a mask of any COCO form, see `read_coco_mask`.

    Returns:
        bool ``[H, W]``.

    Raises:
        InputError: as `read_coco_mask`, or if its runs do not fill its size.
    """
    rle = read_coco_mask(value, height, width)
    return np.zeros((height, width), dtype=np.bool_) if rle is None else decode_rle(rle)


def may_be_visible(value: object, height: int, width: int) -> bool:
    """Whether a mask of any COCO form has a pixel; a damaged one may, so that it is found when it is decoded."""
    try:
        rle = read_coco_mask(value, height, width)
        if rle is not None:
            check_rle(rle)
    except InputError:
        return True
    return rle is not None and rle_area(rle) > 0


def _from_runs(value: dict[str, Any], height: int, width: int) -> Rle:
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width]:
        raise InputError(f"expected run lengths of size [{height}, {width}] as the frame's, got {size!r:.40}")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts}
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise InputError(f"expected counts that are text or a list of runs, got {counts!r:.60}")
    if sum(counts) != height * width:
        raise InputError(f"expected runs that fill {height} x {width} = {height * width} pixels, got {sum(counts)}")
    return _packed(coco.frPyObjects({"size": size, "counts": counts}, height, width))


def _packed(coded: dict[str, Any]) -> Rle:
    return {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode("ascii")}


def _is_polygon(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(isinstance(number, int | float) and math.isfinite(number) for number in value)
    )
