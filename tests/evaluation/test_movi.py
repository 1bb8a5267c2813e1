"""MOVi-style clips: which objects are tracks, the formats of pictures, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.movi import open_movi
from tests.evaluation import samples

SHAPE = samples.HEIGHT, samples.WIDTH


def _relabel(clip: Path, mode: str) -> None:
    """Save the scene's segmentation as plain gray."""
    for frame in range(samples.FRAMES):
        path = clip / f"segmentation_{frame:05d}.png"
        values = np.asarray(Image.open(path))
        Image.fromarray(values.astype(np.uint16 if mode == "16 bits" else np.uint8)).save(path)


@pytest.mark.parametrize("mode", ["8 bits", "16 bits"])
def test_segmentations_may_be_gray(tmp_path: Path, mode: str) -> None:
    data = samples.write_movi(tmp_path)
    _relabel(tmp_path / "0007", mode)
    track = open_movi(data).track(0)
    assert isinstance(track, MaskTarget)
    np.testing.assert_array_equal(track.clip.modal_mask, samples.objects()[0].modal)
    np.testing.assert_array_equal(track.amodal_mask, samples.objects()[0].amodal)


def test_an_object_that_is_never_visible_is_no_track_and_others_keep_their_names(tmp_path: Path) -> None:
    data = samples.write_movi(tmp_path)
    names = [open_movi(data).identity(index) for index in range(len(samples.objects()))]
    for path in (tmp_path / "0007").glob("segmentation_0????.png"):
        values = np.array(Image.open(path))
        values[values == 1] = 0
        Image.fromarray(values).save(path)
    benchmark = open_movi(data)
    assert [benchmark.identity(index) for index in range(len(benchmark))] == names[1:]
    np.testing.assert_array_equal(benchmark.track(0).clip.modal_mask, samples.objects()[1].modal)


def test_only_objects_that_were_rendered_alone_are_tracks(tmp_path: Path) -> None:
    data = samples.write_movi(tmp_path)
    for path in (tmp_path / "0007").glob("segmentation_0_*.png"):
        path.unlink()
    benchmark = open_movi(data)
    assert len(benchmark) == len(samples.objects()) - 1
    assert benchmark.identity(0) == "movi/0007/1"


def test_the_frame_rate_is_the_clips_or_that_of_movi(tmp_path: Path) -> None:
    data = samples.write_movi(tmp_path)
    assert open_movi(data).track(0).clip.fps == 24
    (tmp_path / "0007/metadata.json").unlink()
    assert open_movi(data).track(0).clip.fps == 12


def test_the_clip_itself_may_be_the_data(tmp_path: Path) -> None:
    benchmark = open_movi(samples.write_movi(tmp_path) / "0007")
    assert benchmark.identity(1) == "movi/1"
    np.testing.assert_array_equal(benchmark.track(1).clip.modal_mask, samples.objects()[1].modal)


def test_depth_as_16_bit_pictures_needs_its_range(tmp_path: Path) -> None:
    data = samples.write_movi(tmp_path)
    distance = 1 / samples.nearness()
    low, high = float(distance.min()), float(distance.max())
    for frame, values in enumerate(distance):
        (tmp_path / f"0007/depth_{frame:05d}.tiff").unlink()
        steps = np.rint((values - low) / (high - low) * 65535).astype(np.uint16)
        Image.fromarray(steps).save(tmp_path / f"0007/depth_{frame:05d}.png")
    benchmark = open_movi(data)
    with pytest.raises(InputError, match=r"expected depth with min and max in data_ranges\.json"):
        benchmark.track(0)
    ranges = {"depth": {"min": low, "max": high}}
    (tmp_path / "0007/data_ranges.json").write_text(json.dumps(ranges))
    depth = benchmark.track(0).depth
    assert depth is not None
    np.testing.assert_allclose(1 / depth, distance, atol=(high - low) / 65535)


def test_a_clip_without_depth_has_none_and_infinitely_far_is_0(tmp_path: Path) -> None:
    data = samples.write_movi(tmp_path)
    far = 1 / samples.nearness()[0]
    far[0] = np.inf
    Image.fromarray(far).save(tmp_path / "0007/depth_00000.tiff")
    depth = open_movi(data).track(0).depth
    assert depth is not None
    assert (depth[0, 0] == 0).all()
    assert np.isfinite(depth).all()
    for path in (tmp_path / "0007").glob("depth_*"):
        path.unlink()
    assert open_movi(data).track(0).depth is None


def test_what_does_not_belong_together_is_named(tmp_path: Path) -> None:
    data = samples.write_movi(tmp_path)
    clip = tmp_path / "0007"
    two = np.zeros(SHAPE, dtype=np.uint8)
    two[0], two[1] = 1, 3
    Image.fromarray(two).save(clip / "segmentation_0_00001.png")
    with pytest.raises(InputError, match=r"expected one object alone, got the values \[1, 3\]"):
        open_movi(data).track(0)
    Image.new("L", (10, 8)).save(clip / "segmentation_1_00002.png")
    with pytest.raises(InputError, match=r"00002\.png: 10x8 pixels for a scene of 48x32"):
        open_movi(data).track(1)
    Image.new("L", (10, 8)).save(clip / "segmentation_00003.png")
    with pytest.raises(InputError, match=r"segmentation_00003\.png: 10x8 pixels for a scene of 48x32"):
        open_movi(data).track(2)
    (clip / "segmentation_00003.png").unlink()
    (clip / "rgba_00003.png").unlink()
    with pytest.raises(InputError, match=r"segmentation: expected pictures of 4 frames, got none of frame 3"):
        open_movi(data).track(0)
    with pytest.raises(InputError, match=r"no clip here; expected folders with segmentation_00000\.png"):
        open_movi(_made(tmp_path / "empty"))
    with pytest.raises(InputError, match="no such folder"):
        open_movi(tmp_path / "none")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
