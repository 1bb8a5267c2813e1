"""The same scene read back through the format of each benchmark gives the same masks, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import Benchmark, FileBenchmark, MaskTarget, Target
from amodal_diffusion.evaluation.benchmarks.registry import open_benchmark
from amodal_diffusion.synthetic.scenes import SceneTrack
from amodal_diffusion.types import VideoClip
from tests.evaluation import samples

Write = Callable[[Path], Path]
CLIPS: dict[str, tuple[str, Write, str]] = {
    "sailvos": ("sailvos", samples.write_sailvos, "sailvos/clip/00000/{item.track_id}"),
    "kubric": ("movi", samples.write_movi, "movi/0007/{place}"),
    "kubric, full": ("movi", lambda root: samples.write_movi(root, prefix="full_"), "movi/0007/{place}"),
    "a folder an object": ("movi", samples.write_movi_objects, "movi/scene/camera_0000/{item.track_id}"),
    "fishbowl": ("fishbowl", samples.write_fishbowl, "fishbowl/00003/{item.track_id}"),
    "folder": ("folder", samples.write_folder, "folder/set/clip/thing{item.track_id}"),
}


def _tracks(benchmark: Benchmark) -> dict[str, Target]:
    """All tracks by identity, which each one has too."""
    tracks = {benchmark.identity(index): benchmark.track(index) for index in range(len(benchmark))}
    assert [track.identity for track in tracks.values()] == list(tracks)
    return tracks


def _assert_same(track: Target, item: SceneTrack, frames: slice = slice(None)) -> None:
    assert isinstance(track, MaskTarget)
    np.testing.assert_array_equal(track.clip.modal_mask, item.modal[frames])
    np.testing.assert_array_equal(track.amodal_mask, item.amodal[frames])
    assert track.clip.modal_mask.dtype == track.amodal_mask.dtype == np.bool_


@pytest.mark.parametrize(("name", "write", "identity"), CLIPS.values(), ids=CLIPS)
def test_clips_are_read_back(tmp_path: Path, name: str, write: Write, identity: str) -> None:
    data = write(tmp_path)
    depth = tmp_path / "depth" if name in ("sailvos", "fishbowl") else None
    benchmark = open_benchmark(name, data=data, depth=depth)
    assert benchmark.name == name
    assert benchmark.inputs == ({"data": data} if depth is None else {"data": data, "depth": depth})
    items = {identity.format(item=item, place=place): item for place, item in enumerate(samples.objects())}
    tracks = _tracks(benchmark)
    assert sorted(tracks) == sorted(items)
    for key, item in items.items():
        track = tracks[key]
        _assert_same(track, item)
        assert track.depth is not None
        assert track.depth.dtype == np.float32
        np.testing.assert_allclose(track.depth, samples.nearness(), rtol=1e-6)
        if name != "fishbowl":  # whose video is compressed
            np.testing.assert_array_equal(track.clip.rgb, samples.frames())
    whole = [track.amodal_rgb for track in tracks.values() if isinstance(track, MaskTarget)]
    if write in (samples.write_movi_objects, samples.write_folder):
        for picture, item in zip(whole, items.values(), strict=True):
            np.testing.assert_array_equal(picture, item.rgb)
    else:
        assert whole == [None] * len(items)


@pytest.mark.parametrize("write", [samples.write_kins, samples.write_cocoa])
def test_images_are_read_back(tmp_path: Path, write: Write) -> None:
    data = write(tmp_path)
    benchmark = open_benchmark("coco-amodal", data=data, depth=tmp_path / "depth")
    items = {
        f"coco-amodal/{10 + frame}/{place}": (frame, item)
        for frame in range(samples.FRAMES)
        for place, item in enumerate(samples.objects())
        if item.modal[frame].any()
    }
    tracks = _tracks(benchmark)
    assert list(tracks) == list(items)
    for key, (frame, item) in items.items():
        only = slice(frame, frame + 1)
        _assert_same(tracks[key], item, only)
        np.testing.assert_array_equal(tracks[key].clip.rgb, samples.frames()[only])
        np.testing.assert_array_equal(tracks[key].depth, samples.nearness()[only])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        *((name, write) for name, write, _ in CLIPS.values()),
        ("tao-amodal", samples.write_tao),
        ("coco-amodal", samples.write_kins),
    ],
)
def test_the_first_tracks_alone_are_the_same(tmp_path: Path, name: str, write: Write) -> None:
    data = write(tmp_path)
    all_tracks, first = open_benchmark(name, data=data), open_benchmark(name, data=data, limit=2)
    assert [first.identity(index) for index in range(len(first))] == [all_tracks.identity(0), all_tracks.identity(1)]
    np.testing.assert_array_equal(first.track(1).clip.modal_mask, all_tracks.track(1).clip.modal_mask)


@pytest.mark.parametrize(
    ("name", "write", "pattern"),
    [
        ("sailvos", samples.write_sailvos, "clip/00002.png"),
        ("tao-amodal", samples.write_tao, "clip/00002.png"),
        ("coco-amodal", samples.write_kins, "clip/00000.png"),
        ("movi", samples.write_movi, "0007/rgba_00002.png"),
        ("movi", samples.write_movi, "0007/segmentation_0_00002.png"),
        ("movi", samples.write_movi, "0007/depth_00002.tiff"),
        ("movi", samples.write_movi_objects, "scene/camera_0000/obj_0001/rgba_00002.png"),
        ("fishbowl", samples.write_fishbowl, "test/00003/video.mp4"),
        ("folder", samples.write_folder, "set/clip/images/00002.png"),
        ("folder", samples.write_folder, "set/clip/objects/thing1/00002.png"),
        ("folder", samples.write_folder, "set/clip/depth/00002.png"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_or_missing_file_is_an_error_of_one_line(
    tmp_path: Path, name: str, write: Write, pattern: str, damage: str
) -> None:
    data = write(tmp_path)
    benchmark = open_benchmark(name, data=data)
    path = tmp_path / pattern
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:40])
    else:
        path.unlink()
    with pytest.raises(InputError) as error:
        benchmark.track(0)
    assert "\n" not in str(error.value)
    assert str(path.parent).removesuffix("/obj_0001") in str(error.value)


def test_a_frame_of_another_size_is_an_error(tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path)
    benchmark = open_benchmark("sailvos", data=data, depth=tmp_path / "depth")
    picture = tmp_path / "depth/clip/00001.png"
    Image.new("L", (10, 8)).save(picture)
    with pytest.raises(InputError, match=r"00001\.png: depth of 10x8 pixels for masks of 48x32"):
        benchmark.track(0)


def test_identities_are_unique_and_there_is_a_track(tmp_path: Path) -> None:
    def read(_: int, identity: str) -> Target:
        mask = np.ones((1, 2, 2), dtype=np.bool_)
        clip = VideoClip(np.zeros((1, 2, 2, 3), dtype=np.uint8), mask)
        return MaskTarget(identity=identity, clip=clip, amodal_mask=mask)

    assert FileBenchmark("mine", {"data": tmp_path}, ["a", "b"], read).track(1).identity == "b"
    with pytest.raises(InputError, match="expected each track once, got a 2 times"):
        FileBenchmark("mine", {"data": tmp_path}, ["a", "b", "a"], read)
    with pytest.raises(InputError, match="expected at least one visible object"):
        FileBenchmark("mine", {"data": tmp_path}, [], read)


def test_the_same_annotation_twice_is_an_error(tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path)
    lines = data.read_text().splitlines()
    data.write_text("\n".join(["[", lines[1].rstrip(",") + ",", lines[1].rstrip(","), "]"]))
    with pytest.raises(InputError, match="expected each track once, got sailvos/clip/00000/1 2 times"):
        open_benchmark("sailvos", data=data)
