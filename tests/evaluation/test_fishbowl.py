"""Fishbowl-style mask videos: where masks and frames may lie, which objects are tracks, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.fishbowl import open_fishbowl
from tests.evaluation import samples
from tests.media import write_frames


def _change(path: Path, change: dict[str, Any], *, number: int = 0) -> None:
    """Change keys of an object of a file of masks."""
    content = json.loads(path.read_text())
    content[number] |= change
    path.write_text(json.dumps(content))


def test_the_video_is_decoded_at_its_rate(tmp_path: Path) -> None:
    clip = open_fishbowl(samples.write_fishbowl(tmp_path)).track(0).clip
    assert clip.fps == 8
    error = clip.rgb.astype(np.int16) - samples.frames()
    assert np.abs(error).mean() < 12  # compressed


def test_frames_may_be_pictures_beside_the_videos(tmp_path: Path) -> None:
    data = samples.write_fishbowl(tmp_path)
    (data / "00003/video.mp4").unlink()
    write_frames(tmp_path / "test_frames/00003", samples.frames())
    np.testing.assert_array_equal(open_fishbowl(data).track(0).clip.rgb, samples.frames())


def test_whole_masks_may_lie_beside_the_video(tmp_path: Path) -> None:
    data = samples.write_fishbowl(tmp_path)
    for folder in (tmp_path / "test_objects").iterdir():
        folder.rename(data / folder.name)
    benchmark = open_fishbowl(data)
    assert len(benchmark) == len(samples.objects())
    track = benchmark.track(0)
    assert isinstance(track, MaskTarget)
    np.testing.assert_array_equal(track.amodal_mask, samples.objects()[0].amodal)


def test_objects_that_are_never_visible_or_have_no_whole_masks_are_no_tracks(tmp_path: Path) -> None:
    data = samples.write_fishbowl(tmp_path)
    items = samples.objects()
    empty = [None] * samples.FRAMES
    _change(data / "00003/objects.json", {"masks": empty})
    (tmp_path / f"test_objects/00003_object{items[1].track_id:03d}/objects.json").unlink()
    benchmark = open_fishbowl(data)
    found = [benchmark.identity(index) for index in range(len(benchmark))]
    assert found == sorted(f"fishbowl/00003/{item.track_id}" for item in items[2:])


def test_depth_may_be_an_array(tmp_path: Path) -> None:
    data = samples.write_fishbowl(tmp_path)
    np.save(tmp_path / "00003.npy", samples.nearness())
    np.testing.assert_array_equal(open_fishbowl(data, depth=tmp_path).track(0).depth, samples.nearness())
    np.save(tmp_path / "00003.npy", samples.nearness()[:2])
    with pytest.raises(InputError, match=r"expected depth \[F, H, W\] of \[4, 32, 48\], got \[2"):
        open_fishbowl(data, depth=tmp_path).track(0)


def test_what_does_not_belong_together_is_named(tmp_path: Path) -> None:
    data = samples.write_fishbowl(tmp_path)
    visible, whole = data / "00003/objects.json", tmp_path / "test_objects/00003_object001/objects.json"
    masks = json.loads(whole.read_text())[0]["masks"]
    _change(whole, {"masks": masks[:3]})
    with pytest.raises(InputError, match=r"3 masks for 4 in .*00003/objects\.json"):
        open_fishbowl(data).track(0)
    _change(whole, {"masks": [*masks[:3], {"size": [32, 48], "counts": "x"}]})
    with pytest.raises(InputError, match=r"objects\.json: 1: frame 3: rle: expected runs that fill"):
        open_fishbowl(data).track(0)
    _change(visible, {"masks": json.loads(visible.read_text())[0]["masks"][:3]})
    _change(whole, {"masks": masks[:3]})
    with pytest.raises(InputError, match=r"modal_mask: expected bool \[4, 32, 48\] to match rgb, got bool \[3"):
        open_fishbowl(data).track(0)
    _change(visible, {"id": "one"})
    with pytest.raises(InputError, match="expected a list of objects with id and masks"):
        open_fishbowl(data)
    visible.write_text("[")
    with pytest.raises(InputError, match=r"objects\.json: expected JSON in UTF-8"):
        open_fishbowl(data)
    visible.unlink()
    with pytest.raises(InputError, match=r"no video here; expected folders that hold video\.mp4 and objects\.json"):
        open_fishbowl(data)
    with pytest.raises(InputError, match="no such folder"):
        open_fishbowl(tmp_path / "none")
