"""Every data set that can be read can be written as shards, and gives the same samples from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.data.shard_members import decode_frames, decode_record
from amodal_diffusion.data.shards import ShardDataset, Shards
from amodal_diffusion.data.tao_amodal import parse_tao_record
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.folder import open_folder
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.pictures import read_rgb
from amodal_diffusion.parsing import save_settings
from amodal_diffusion.training.clip_sources import training_clips
from amodal_diffusion.training.data_files import check_data_files, resized_as_tracks
from amodal_diffusion.training.data_settings import CompositeSettings, DataSettings
from amodal_diffusion.training.object_clips import AmodalImages, FileSettings, object_clips
from amodal_diffusion.training.s_amodal.images import _read
from amodal_diffusion.training.settings import TrainingSettings
from tests.data.test_shards import assert_same
from tests.factories import tiny_cutouts_folder
from tests.s3_server import BUCKET, environment, s3_server
from tests.tracks import FRAMES, HEIGHT, WIDTH, write_tracks
from tests.training.conftest import MakeSettings

pytestmark = pytest.mark.slow


def shards(source: Path, out: Path | str, *options: str) -> str:
    assert main(["shards", str(source), "--out", str(out), "-q", *options]) == 0
    return str(out)


def samples_of(location: str, *, frames: int = FRAMES) -> list[AmodalSample]:
    return list(_all(ShardDataset(location, frames=frames, with_rgb=True)))


def _all(dataset: Any) -> Iterator[AmodalSample]:
    return (dataset[index] for index in range(len(dataset)))


def test_the_package_webdataset_reads_shards(tmp_path: Path) -> None:
    import webdataset

    location = shards(write_tracks(tmp_path, 1), tmp_path / "out")
    read = webdataset.WebDataset(f"{location}/00000.tar", shardshuffle=False, empty_check=False)
    for mine, theirs in zip(samples_of(location), read.decode("rgb8"), strict=True):
        assert mine.rgb is not None
        assert len(theirs["json"]["image_file_names"]) == FRAMES
        for frame in range(FRAMES):
            np.testing.assert_array_equal(theirs[f"frame.{frame:03d}.png"], mine.rgb[frame])


@pytest.mark.parametrize("share", [0.0, 1.0, 0.5])
def test_generated_clips_are_those_of_the_settings(make_settings: MakeSettings, tmp_path: Path, share: float) -> None:
    composites = CompositeSettings()
    if share:
        composites = CompositeSettings(tiny_cutouts_folder(tmp_path / "cutouts"), share, height=16, width=32, made=1)
    size = {"frames": 4, "height": 16, "width": 32}
    settings = make_settings(
        stage="content_completion", data=DataSettings(composites=composites, clips=6, depthless_share=0.3, **size)
    )
    save_settings(settings, tmp_path / "run.yaml")
    location = shards(tmp_path / "run.yaml", tmp_path / "out", "--workers", "1")
    packed = DataSettings(shards=location, **size)
    check_data_files(packed, "content_completion")
    assert not resized_as_tracks(packed)
    clips = training_clips(settings).samples
    found = samples_of(location)
    assert len(found) == 6
    for mine, other in zip(_all(clips), found, strict=True):
        assert_same(mine, other)
        assert other.files == ()
    assert len({sample.depth is None for sample in found}) == 2


def test_tracks_of_an_annotation_file_with_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = write_tracks(tmp_path, 1)
    depth = tmp_path / "depth"
    names = json.loads(annotations.read_text())[0]["image_file_names"]
    for place, name in enumerate(names):
        (depth / name).parent.mkdir(parents=True, exist_ok=True)
        levels = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) + np.uint16(place)
        Image.fromarray(levels).save((depth / name).with_suffix(".png"))
    location = shards(annotations, tmp_path / "out", "--depth", str(depth), "--frames", "3")
    assert resized_as_tracks(DataSettings(shards=location, frames=3))
    sample = samples_of(location, frames=3)[0]
    assert sample.depth is not None
    np.testing.assert_array_equal(sample.depth[2, 0], np.arange(WIDTH) + 2)
    assert Shards(location).header.depth
    assert "depth.000.png" in Shards(location).members(0, head=True)
    assert main(["shards", str(annotations), "--out", str(tmp_path / "no"), "--depth", str(tmp_path / "gone")]) == 2
    assert "--depth: " in capsys.readouterr().err


def test_folders_of_clips_with_their_depth(tmp_path: Path) -> None:
    size = ("--frames", "4", "--height", "32", "--width", "48")
    assert main(["scenes", str(tmp_path / "scenes"), "--count", "2", *size, "--masks", "-q"]) == 0
    (tmp_path / "scenes/annotations.json").unlink()
    location = shards(tmp_path / "scenes", tmp_path / "out", "--frames", "2", "--depth", "clips")
    found = samples_of(location, frames=2)
    assert found
    benchmark = open_folder(tmp_path / "scenes")
    tracks = {index: benchmark.track(index) for index in range(len(benchmark))}
    matched = 0
    for sample in found:  # each is the first or the second half of a track of four frames
        for track in tracks.values():
            assert isinstance(track, MaskTarget)
            for start in (0, 2):
                part = slice(start, start + 2)
                if np.array_equal(track.clip.rgb[part], sample.rgb) and np.array_equal(
                    track.amodal_mask[part], sample.amodal
                ):
                    np.testing.assert_array_equal(track.clip.modal_mask[part], sample.modal)
                    assert track.depth is not None
                    assert sample.depth is not None
                    np.testing.assert_array_equal(track.depth[part], sample.depth)
                    matched += 1
    assert matched == len(found)


def test_tracks_of_tao_amodal_have_boxes_and_are_not_trained_on(tmp_path: Path) -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 3:9] = True
    (tmp_path / "frames").mkdir()
    for name in ("1.png", "2.jpg"):
        pixels = np.random.default_rng(0).integers(0, 255, (10, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "frames" / name)
    entry = {
        "track_id": 21, "category_id": 1, "video_id": 5, "file_names": ["1.png", "2.jpg"], "height": 10, "width": 20,
        "rles": [encode_rle(mask)["counts"], encode_rle(~mask)["counts"]],
        "amodal_bboxes": [[-4, 0, 12.5, 6], [0, 0, 2, 2]],
    }  # fmt: skip
    (tmp_path / "tao.json").write_text(json.dumps([entry]))
    location = shards(tmp_path / "tao.json", tmp_path / "out", "--images", str(tmp_path / "frames"))
    members = Shards(location).members(0)
    assert parse_tao_record(decode_record(members), where="0") == parse_tao_record(entry, where="0")
    rgb = decode_frames(members, "frame", (2, 10, 20))
    for frame, name in zip(rgb, entry["file_names"], strict=True):
        np.testing.assert_array_equal(frame, read_rgb(tmp_path / "frames" / name))
    with pytest.raises(InputError, match=r"data\.shards: expected shards with amodal masks, got tracks of TAO-Amodal"):
        check_data_files(DataSettings(shards=location, frames=1), "amodal_segmentation")
    with pytest.raises(InputError, match="shards of TAO-Amodal have boxes"):
        ShardDataset(location, frames=1, with_rgb=False)


def test_objects_in_images_and_the_other_methods(tmp_path: Path) -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 3:9] = True
    Image.fromarray(np.full((10, 20, 3), 77, np.uint8)).save(tmp_path / "0.jpg")
    content = {
        "images": [{"id": 3, "file_name": "0.jpg", "height": 10, "width": 20}],
        "annotations": [
            {"image_id": 3, "category_id": 1, "segmentation": encode_rle(mask), "visible_mask": encode_rle(mask)}
        ],
    }
    (tmp_path / "kins.json").write_text(json.dumps(content))
    location = shards(tmp_path / "kins.json", tmp_path / "out")
    assert "frame.000.jpg" in Shards(location).members(0)
    (mine,), other = samples_of(location, frames=1), AmodalImages(tmp_path / "kins.json")[0]
    assert_same(mine, other)
    packed = object_clips(FileSettings(shards=location, frames=1), with_rgb=True, read_tracks=False)[0]
    assert packed.rgb is None
    np.testing.assert_array_equal(_read(packed, np.array([0])), other.rgb)
    with pytest.raises(InputError, match=r"data\.amodal_images, data\.shards: both are given"):
        FileSettings(shards=location, amodal_images=tmp_path / "kins.json")


class _Areas(Dataset[int]):
    """Number of visible pixels of each sample; the connection is opened before processes are forked."""

    def __init__(self, location: str) -> None:
        self.samples = ShardDataset(location, frames=FRAMES, with_rgb=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return int(self.samples[index].modal.sum())


def test_shards_in_s3_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    annotations = write_tracks(tmp_path, 1)
    with s3_server() as port:
        for name, value in environment(port).items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        location = shards(annotations, f"s3://{BUCKET}/own", "--shard-size", "0.04")
        assert main(["shards", str(annotations), "--out", location, "--overwrite", "-q", "--shard-size", "0.04"]) == 0
        local = samples_of(shards(annotations, tmp_path / "out"))
        assert Shards(location).header.tars > 1
        forked = DataLoader(_Areas(location), batch_size=None, num_workers=2)
        assert list(forked) == [int(sample.modal.sum()) for sample in local]
        for mine, other in zip(samples_of(location), local, strict=True):
            assert_same(mine, other)
        assert main(["shards", str(annotations), "--out", location, "-q"]) == 2
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("gone.json", (), "gone.json: no such file or folder"),
        ("run.yaml", ("--frames", "3"), "--frames: expected none for settings"),
        ("clips", ("--images", "x"), "--images: expected none for a folder of clips"),
        ("clips", (), "no clip here"),
    ],
)
def test_what_is_no_source_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "clips").mkdir()
    save_settings(TrainingSettings(), tmp_path / "run.yaml")
    assert main(["shards", str(tmp_path / source), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
