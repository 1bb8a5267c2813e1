"""Depth files of both kinds, metric depth, and estimates kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.depth_files import (
    SmallDepthFile,
    fit_depth,
    open_depth,
    read_depth,
)
from amodal_diffusion.io.video_reader import open_clip
from tests.media import moving_disc, write_frames

DEPTH = np.random.default_rng(0).integers(1, 60000, (6, 48, 64)).astype(np.uint16)


def write_pngs(folder: Path, depth: np.ndarray) -> Path:
    folder.mkdir()
    for index, values in enumerate(depth):
        Image.fromarray(values).save(folder / f"{index}.png")
    return folder


def test_pictures_and_arrays_agree(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", DEPTH.astype(np.float32))
    from_pictures = read_depth(write_pngs(tmp_path / "depth", DEPTH))
    assert from_pictures.dtype == np.float32
    np.testing.assert_array_equal(from_pictures, DEPTH)
    np.testing.assert_array_equal(read_depth(tmp_path / "depth.npy"), DEPTH)
    track = open_depth(tmp_path / "depth")
    assert track.limits == (DEPTH.min(), DEPTH.max())


def test_metric_depth_is_inverted_and_zero_is_far(tmp_path: Path) -> None:
    metres = np.array([[[0.0, 1.0], [4.0, np.inf]]], np.float32)
    np.save(tmp_path / "depth.npy", metres)
    np.testing.assert_allclose(read_depth(tmp_path / "depth.npy", inverse=True), [[[0.0, 1.0], [0.25, 0.0]]])


@pytest.mark.parametrize(
    ("values", "inverse", "problem"),
    [
        (np.full((2, 3, 3), np.nan, np.float32), False, "NaN or infinity"),
        (np.full((2, 3, 3), -1.0, np.float32), True, "negative"),
        (np.zeros((2, 3, 3, 3), np.float32), False, r"\[F, H, W\], got float32 \[2, 3, 3, 3\]"),
        (np.zeros((0, 3, 3), np.float32), False, r"\[F, H, W\]"),
        (np.zeros((2, 3, 3), np.bool_), False, r"\[F, H, W\]"),
    ],
)
def test_values_that_are_no_depth_are_refused(tmp_path: Path, values: np.ndarray, inverse: bool, problem: str) -> None:
    np.save(tmp_path / "depth.npy", values)
    with pytest.raises(InputError, match=problem):
        open_depth(tmp_path / "depth.npy", inverse=inverse)


def test_what_holds_no_depth_is_named(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "several.npz", a=DEPTH)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("absent", "nothing", "text.npy", "several.npz", "objects.npy"):
        with pytest.raises(InputError, match=name):
            open_depth(tmp_path / name)


def test_both_numbers_are_told_where_depth_does_not_fit(tmp_path: Path) -> None:
    clip = open_clip(write_frames(tmp_path / "frames", moving_disc()[0]))
    with pytest.raises(InputError, match="5 maps for 6 frames"):
        fit_depth(open_depth(write_pngs(tmp_path / "short", DEPTH[:5])), clip)
    with pytest.raises(InputError, match="64x40 pixels for frames of 64x48"):
        fit_depth(open_depth(write_pngs(tmp_path / "low", DEPTH[:, :40])), clip)
    assert fit_depth(open_depth(write_pngs(tmp_path / "right", DEPTH)), clip).num_frames == 6


def test_estimates_wait_on_disk_at_a_smaller_size(tmp_path: Path) -> None:
    ramp = np.linspace(0, 5, 400, dtype=np.float32) + np.zeros((4, 600, 400), np.float32)
    file = SmallDepthFile(tmp_path / "d.npy", 4, 600, 400)
    file.write(iter([ramp[:3], ramp[3:]]))
    assert (tmp_path / "d.npy").stat().st_size < 4 * 336 * 336 * 4
    track = file.open()
    assert (track.num_frames, track.height, track.width) == (4, 600, 400)
    assert np.abs(np.stack(list(track)) - ramp).max() < 0.02
    assert track.limits == pytest.approx((0, 5), abs=0.02)


def test_estimates_go_on_after_those_that_are_whole(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((5, 20, 30), dtype=np.float32)
    whole, file = SmallDepthFile(tmp_path / "whole.npy", 5, 20, 30), SmallDepthFile(tmp_path / "d.npy", 5, 20, 30)
    assert file.count() == 0
    whole.write([maps])
    data = whole.path.read_bytes()
    assert whole.count() == 5
    for cut, kept in ((1, 0), (20 * 30 * 4 * 2 + 700, 2), (20 * 30 * 4 * 2 + 700, 1)):
        file.path.write_bytes(data[: 60 + cut])
        assert file.count() >= kept
        file.write([maps[kept:]], kept=kept)
        assert file.path.read_bytes() == data


def test_the_digest_of_a_batch_is_that_of_its_maps_on_the_disk(tmp_path: Path) -> None:
    maps, noted = np.random.default_rng(0).random((5, 20, 30), dtype=np.float32), dict[int, str]()
    file = SmallDepthFile(tmp_path / "d.npy", 5, 20, 30)
    file.write([maps[:2], maps[2:4], maps[4:]], on_batch=noted.__setitem__)
    assert [file.digest(first, count) for first, count in ((0, 2), (2, 2), (4, 1))] == [noted[0], noted[2], noted[4]]
    data = bytearray(file.path.read_bytes())
    data[-1 - 20 * 30 * 4] ^= 1  # the last byte of map 3
    file.path.write_bytes(data)
    assert [file.digest(first, count) == noted[first] for first, count in ((0, 2), (2, 2), (4, 1))] == [
        True,
        False,
        True,
    ]


def test_maps_of_two_ranges_or_with_a_palette_are_refused(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "0.png")
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"expected one range for all maps, got 1.png up to 255 and 0.png up to 65535"):
        open_depth(tmp_path)
    colored = Image.fromarray(values.astype(np.uint8)).convert("P")
    colored.putpalette([channel for value in range(256) for channel in (value, 0, 255 - value)])
    (tmp_path / "1.png").unlink()
    colored.save(tmp_path / "0.png")
    with pytest.raises(InputError, match="has a palette"):
        open_depth(tmp_path)


def test_limits_of_a_shot_are_those_of_its_frames(tmp_path: Path) -> None:
    values = (
        np.random.default_rng(0).random((5, 3, 4), dtype=np.float32) * np.arange(1, 6, dtype=np.float32)[:, None, None]
    )
    np.save(tmp_path / "depth.npy", values)
    track = open_depth(tmp_path / "depth.npy")
    first, second = ((float(part.min()), float(part.max())) for part in (values[:2], values[2:]))
    assert track.shot_limits([]) == [track.limits] * 5
    assert track.limits == (float(values.min()), float(values.max()))
    assert track.shot_limits([2]) == [first] * 2 + [second] * 3
