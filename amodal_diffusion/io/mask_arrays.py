"""Masks in NumPy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.mask_pictures import SINGLE
from amodal_diffusion.io.numpy_files import load_arrays
from amodal_diffusion.types import BoolArray

ARRAY_SUFFIXES = (".npy", ".npz")


def read_mask_arrays(path: Path, *, what: str) -> dict[str, BoolArray]:
    """Read masks of one or several objects.

    Args:
        path: ``.npy`` of one object ``[F, H, W]`` or ``[F, 1, H, W]``, or of several ``[O, F, H, W]``, which are named
            1, 2, ...; ``.npz`` with one such array, or an array of one object under each object's name. Values are
            bool, 0 and 1, 0 and 255, or floats from 0 to 1, cut at half; other integers are labels.
        what: name of the argument for messages.

    Returns:
        bool ``[F, H, W]`` by name.

    Raises:
        InputError: if the file cannot be read, or an array has another shape or other values.
    """
    try:
        loaded = load_arrays(path)
    except ValueError as error:
        raise InputError(f"{what}: {path}: cannot be read as a NumPy file without pickled objects ({error})") from error
    arrays = {SINGLE: loaded} if isinstance(loaded, np.ndarray) else loaded
    if not arrays:
        raise InputError(f"{what}: {path}: holds no array")
    if len(arrays) == 1:
        return _objects(next(iter(arrays.values())), f"{what}: {path}")
    found = {}
    for name, array in arrays.items():
        objects = _objects(array, f"{what}: {path}: {name}")
        if len(objects) != 1:
            raise InputError(f"{what}: {path}: {name}: expected the masks of one object, got {len(objects)}")
        found[name] = next(iter(objects.values()))
    if len({masks.shape for masks in found.values()}) > 1:
        raise InputError(f"{what}: {path}: expected arrays of one shape, got {[mask.shape for mask in found.values()]}")
    return found


def _objects(array: npt.NDArray[np.generic], where: str) -> dict[str, BoolArray]:
    """The objects of one array."""
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 4:
        return {str(number): _binary(masks, where) for number, masks in enumerate(array, start=1)}
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"{where}: expected masks [F, H, W], [F, 1, H, W] or [O, F, H, W], got {list(array.shape)}")
    labels = _labels(array)
    if labels is not None:
        return {str(label): np.asarray(array == label) for label in labels}
    return {SINGLE: _binary(array, where)}


def _labels(array: npt.NDArray[np.generic]) -> list[int] | None:
    """The values of an array of labels; None if it is no such array."""
    if array.dtype.kind not in "iu":
        return None
    values = [int(value) for value in np.unique(array) if value]
    return None if values in ([], [1], [255]) or min(values) < 0 else values


def _binary(array: npt.NDArray[np.generic], where: str) -> BoolArray:
    if array.dtype == np.bool_:
        return np.asarray(array, np.bool_)
    if array.dtype.kind in "iu" and set(map(int, np.unique(array))) <= {0, 1, 255}:
        return np.asarray(array != 0)
    if array.dtype.kind == "f" and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1:
        return np.asarray(array.astype(np.float32) > 0.5)
    raise InputError(f"{where}: expected bool, 0 and 1, 0 and 255, or floats from 0 to 1, got other {array.dtype}")
