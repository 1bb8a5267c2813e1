"""Masks in NumPy files: shapes, values, several objects, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.mask_files import read_masks
from tests.media import moving_disc

_, MASK = moving_disc(5, 24, 40)
OTHER = np.roll(MASK, 7, axis=2)


def saved(path: Path, array: NDArray[np.generic]) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    "array",
    [MASK, MASK[:, None], MASK.astype(np.uint8), MASK * np.uint8(255), MASK.astype(np.float32), MASK.astype(np.int64)],
)
def test_one_object(tmp_path: Path, array: NDArray[np.generic]) -> None:
    (track,) = read_masks(saved(tmp_path / "masks.npy", array)).values()
    assert track.name == "1"
    assert track.areas == tuple(MASK.sum(axis=(1, 2)))
    np.testing.assert_array_equal(np.stack(list(track)), MASK)


def test_several_objects(tmp_path: Path) -> None:
    stacked = read_masks(saved(tmp_path / "stacked.npy", np.stack([MASK, OTHER])))
    labels = read_masks(saved(tmp_path / "labels.npy", np.where(MASK, 3, np.where(OTHER, 5, 0))))
    np.savez(tmp_path / "named.npz", cup=MASK, dog=OTHER)
    named = read_masks(tmp_path / "named.npz")
    assert (list(stacked), list(labels), list(named)) == (["1", "2"], ["3", "5"], ["cup", "dog"])
    for tracks, name in ((stacked, "2"), (named, "dog")):
        np.testing.assert_array_equal(np.stack(list(tracks[name])), OTHER)
    np.testing.assert_array_equal(np.stack(list(labels["5"])), OTHER & ~MASK)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (MASK[0], r"expected masks \[F, H, W\], \[F, 1, H, W\] or \[O, F, H, W\], got \[24, 40\]"),
        (MASK[:0], r"got \[0, 24, 40\]"),
        (MASK * 2.5, "expected bool, 0 and 1, 0 and 255, or floats from 0 to 1, got other float64"),
        (np.where(MASK, np.nan, 0.0), "got other float64"),
        (np.array([{"a": 1}], dtype=object), "cannot be read as a NumPy file without pickled objects"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, array: NDArray[np.generic], message: str) -> None:
    np.save(tmp_path / "masks.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read_masks(tmp_path / "masks.npy")


def test_arrays_of_other_shapes_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "masks.npz", one=MASK, other=OTHER[:2])
    with pytest.raises(InputError, match="expected arrays of one shape"):
        read_masks(tmp_path / "masks.npz")
    (tmp_path / "cut.npy").write_bytes(saved(tmp_path / "whole.npy", MASK).read_bytes()[:-10])
    with pytest.raises(InputError, match=r"cut.npy: cannot be read as a NumPy file"):
        read_masks(tmp_path / "cut.npy")
