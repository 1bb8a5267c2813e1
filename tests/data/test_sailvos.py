"""Tracks of an annotation file with their frames; what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.records import read_records, write_records
from amodal_diffusion.data.sailvos import SailVosDataset, find_frame
from amodal_diffusion.synthetic import make_scene
from tests.tracks import FRAMES, HEIGHT, WIDTH, write_tracks


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tracks(tmp_path_factory.mktemp("scenes"))


def _dataset(annotations: Path, **changes: object) -> SailVosDataset:
    settings = {"frames": FRAMES, "with_rgb": True, **changes}
    return SailVosDataset(annotations, **settings)  # type: ignore[arg-type]


def test_it_has_every_track_of_the_scenes(annotations: Path) -> None:
    dataset = _dataset(annotations)
    tracks = [
        (scene, track)
        for scene in (make_scene(seed, split="train", frames=FRAMES, height=HEIGHT, width=WIDTH) for seed in range(3))
        for track in scene.tracks
        if track.modal.any()
    ]
    assert len(dataset) == len(tracks)
    for sample, (scene, track) in zip((dataset[index] for index in range(len(dataset))), tracks, strict=True):
        np.testing.assert_array_equal(sample.modal, track.modal)
        np.testing.assert_array_equal(sample.amodal, track.amodal)
        assert sample.rgb is not None
        np.testing.assert_array_equal(sample.rgb, scene.rgb)
        assert sample.depth is None
        assert sample.whole_rgb is None
    assert len({dataset.name(index) for index in range(len(dataset))}) == len(tracks)
    assert dataset[2].name == dataset.name(2)
    assert len(_dataset(annotations, limit=2)) == len(list(_dataset(annotations, limit=2))) == 2
    assert any(not sample.modal[frame].any() for sample in dataset for frame in range(FRAMES))  # hidden: as good


def test_masks_alone_need_no_frames(annotations: Path, tmp_path: Path) -> None:
    with_rgb, without = _dataset(annotations)[1], _dataset(annotations, images=tmp_path, with_rgb=False)[1]
    np.testing.assert_array_equal(without.modal, with_rgb.modal)
    assert without.rgb is None
    assert with_rgb.rgb is not None


def test_longer_tracks_give_their_first_frames_and_shorter_ones_are_refused(annotations: Path) -> None:
    whole, part = _dataset(annotations)[0], _dataset(annotations, frames=2)[0]
    np.testing.assert_array_equal(part.amodal, whole.amodal[:2])
    assert part.rgb is not None
    assert len(part.rgb) == 2
    with pytest.raises(InputError, match=r"annotations.json: track 0: expected at least 9 frames, got 4; .*--frames 9"):
        _dataset(annotations, frames=9)[0]


def test_visible_pixels_outside_of_the_whole_are_added_to_it(annotations: Path, tmp_path: Path) -> None:
    record = read_records(annotations)[0]
    write_records(tmp_path / "swapped.json", [replace(record, segmentation=record.visible_mask[::-1])])
    sample = _dataset(tmp_path / "swapped.json", with_rgb=False)[0]
    assert not (sample.modal & ~sample.amodal).any()


def test_a_frame_is_found_under_another_ending(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    picture = Image.new("RGB", (4, 3))
    for name, stored in (("a.bmp", "a.png"), ("b.bmp", "b.JPG"), ("c.bmp", "c.bmp"), ("d.png", "d.jpeg")):
        picture.save(tmp_path / "clip" / stored)
        assert find_frame(tmp_path, f"clip/{name}") == tmp_path / "clip" / stored
    assert find_frame(tmp_path, "clip/e.bmp") is None


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "00002.png: no such file, and none of the same name in another format"),
        (lambda path: path.write_bytes(b"no picture"), "00002.png: not a picture"),
        (lambda path: Image.new("RGB", (9, 7)).save(path), "00002.png: 9x7 pixels for masks of 48x32"),
    ],
    ids=["missing", "damaged", "other size"],
)
def test_a_bad_frame_is_named_with_its_track(tmp_path: Path, harm: object, message: str) -> None:
    annotations = write_tracks(tmp_path, 1)
    harm(tmp_path / "train-000000/images/00002.png")  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"annotations.json: track 0: .*{message}"):
        _dataset(annotations)[0]


def test_damaged_run_lengths_are_named_with_their_track(annotations: Path, tmp_path: Path) -> None:
    entry = json.loads(json.dumps(vars(read_records(annotations)[0])))
    entry["visible_mask"][1]["counts"] = "???"
    (tmp_path / "damaged.json").write_text(json.dumps([entry]))
    with pytest.raises(InputError, match=r"damaged.json: track 0: rle: expected runs that fill"):
        _dataset(tmp_path / "damaged.json", with_rgb=False)[0]
