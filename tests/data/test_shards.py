"""Shards give what the data set gives that they were written from, and refuse all that is not a sample."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.data.samples import AmodalSample
from amodal_diffusion.data.shard_members import ShardSample, decode_depth, encode_sample, read_members
from amodal_diffusion.data.shard_writer import WritingOptions, write_shards
from amodal_diffusion.data.shards import MANIFEST, ShardDataset, Shards
from amodal_diffusion.training.shard_sources import SourceOptions, open_source
from amodal_diffusion.types import FloatArray
from tests.tracks import FRAMES, write_tracks

SMALL = WritingOptions(shard_bytes=50_000, quiet=True)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks of two scenes; a frame is a JPEG, and one a PNG under the name of a JPEG."""
    path = write_tracks(tmp_path_factory.mktemp("scenes"), 2)
    for kind, file in zip(("JPEG", "PNG"), sorted(path.parent.rglob("images/*.png")), strict=False):
        with Image.open(file) as picture:
            picture.load()
        picture.save(file.with_suffix(".jpg"), format=kind)
        file.unlink()
    return path


def write(annotations: Path, out: Path | str, options: WritingOptions = SMALL, **given: Any) -> None:
    with open_source(annotations, SourceOptions(**given)) as source:
        write_shards(source, str(out), {"source": str(annotations)}, options)


@pytest.fixture(scope="module")
def shards(annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    write(annotations, out)
    return out


def assert_same(one: AmodalSample, other: AmodalSample) -> None:
    for name in ("modal", "amodal", "depth", "rgb", "whole_rgb"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)


def test_samples_are_those_of_the_annotation_file_to_the_bit(annotations: Path, shards: Path) -> None:
    assert len(list(shards.glob("*.tar"))) > 1
    assert {path.suffix for path in shards.iterdir()} == {".tar", ".jsonl"}  # nothing of the writing is left
    for settings in ({"frames": FRAMES, "with_rgb": True}, {"frames": 2, "with_rgb": False, "limit": 3}):
        packed = ShardDataset(str(shards), **settings)
        for index, sample in enumerate(SailVosDataset(annotations, **settings)):
            assert_same(packed[index], sample)
        assert len(packed) == index + 1
    kept = {name for index in range(len(Shards(str(shards)))) for name in Shards(str(shards)).members(index)}
    assert {"frame.000.jpg", "frame.001.png"} <= kept  # the file's own bytes, if they are what it says


def test_a_read_of_masks_alone_takes_no_frame(shards: Path) -> None:
    packed = ShardDataset(str(shards), frames=FRAMES, with_rgb=False)
    whole = ShardDataset(str(shards), frames=FRAMES, with_rgb=True)[0]
    assert set(packed.shards.members(0, head=True)) == {"json"}
    sample = packed[0]
    assert sample.rgb is None
    assert whole.rgb is not None
    np.testing.assert_array_equal(sample.files[1].read(), whole.rgb[1])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("depth", "stored"),
    [
        (np.array([[[0, 65535], [1, 300]]], np.float32), ["depth.000.png"]),
        (np.array([[[0.5, -2.0], [1, 300]]], np.float32), ["depth.npy"]),
        (np.array([[[0.1, -0.0], [np.inf, 1e-30]]], np.float32), ["depth.npy"]),
    ],
)
def test_depth_has_the_same_bits(depth: FloatArray, stored: list[str]) -> None:
    depth = np.concatenate([depth, depth[:, ::-1]])
    encoded = encode_sample(ShardSample({}, np.zeros((2, 2, 2, 3), np.uint8), depth), 7)
    members = read_members(encoded.head, 7)
    assert [name for name in members if name.startswith("depth")][:1] == stored
    found = decode_depth(members, (2, 2, 2))
    assert found is not None
    assert found.tobytes() == depth.tobytes()
    with pytest.raises(ValueError, match=r"depth|pixels"):
        decode_depth(members, (2, 2, 3))


def hostile(change: Callable[[tarfile.TarInfo], None], content: bytes = b"{}") -> bytes:
    info = tarfile.TarInfo("00000000.json")
    info.size = len(content)
    change(info)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def renamed(name: str) -> Callable[[tarfile.TarInfo], None]:
    return lambda info: setattr(info, "name", name)


def linked(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, "/etc/passwd"

    return change


@pytest.mark.parametrize(
    "data",
    [
        *(hostile(renamed(name)) for name in (
            "../00000000.json", "/00000000.json", "a/00000000.json", "00000000.pyd", "00000000.pickle", "00000000.cls",
            "00000000.depth.npz", "00000000.frame.000.gif", "00000001.json", "00000000.json\n", "00000000.sh",
        )),
        *(hostile(linked(kind)) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE)),
        2 * hostile(lambda _: None),
        hostile(lambda info: setattr(info, "size", 5_000)),
        hostile(lambda _: None)[:512] + b"x",
        b"x" * 1024,
    ],
)  # fmt: skip
def test_only_plain_members_of_a_sample_are_read(data: bytes) -> None:
    assert read_members(hostile(lambda _: None), 0) == {"json": b"{}"}
    with pytest.raises(ValueError, match=r"expected|cut off"):
        read_members(data, 0)


def test_no_array_is_unpickled() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[["x", None]]], dtype=object), allow_pickle=True)
    for content in (buffer.getvalue(), pickle.dumps([1])):
        with pytest.raises(ValueError, match=r"depth\.npy|magic"):
            decode_depth({"depth.npy": content}, (1, 1, 2))


def test_a_changed_byte_is_found(shards: Path, tmp_path: Path) -> None:
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tar = tmp_path / "00000.tar"
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)
    dataset = ShardDataset(str(tmp_path), frames=FRAMES, with_rgb=True)
    with pytest.raises(InputError, match=r"00000\.tar: sample 00000000: damaged: its bytes differ from the SHA-256"):
        dataset[0]
    tar.write_bytes(content[:10_000])
    with pytest.raises(InputError, match=r"00000\.tar: .*bytes from byte 0 on, expected"):
        dataset[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "expected 8 samples, got 7; it is cut off"),
        (lambda lines: [lines[0].replace(b'"version": 1', b'"version": 9'), *lines[1:]], "expected .*, version 1"),
        (lambda lines: [b"[]".ljust(1023), *lines[1:]], "expected a manifest of shards"),
        (lambda lines: [lines[0], lines[1].replace(b"00000.tar", b"../../a.tar"), *lines[2:]], "line 2: expected tar"),
        (lambda lines: [lines[0], lines[1].replace(b'"head":', b'"head":9'), *lines[2:]], "line 2: expected tar"),
        (lambda lines: [lines[0], b"{}", *lines[2:]], "line 2: expected tar"),
    ],
)
def test_a_manifest_is_checked(
    shards: Path, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    lines = (shards / MANIFEST).read_bytes().splitlines()
    (tmp_path / MANIFEST).write_bytes(b"".join(line + b"\n" for line in change(lines)))
    with pytest.raises(InputError, match=message):
        Shards(str(tmp_path))


def test_the_same_command_goes_on_and_another_is_refused(
    annotations: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with open_source(annotations, SourceOptions()) as source:
        read, calls = source.read, 0

        def interrupted(index: int) -> ShardSample:
            nonlocal calls
            calls += 1
            if calls == 6:
                raise KeyboardInterrupt
            return read(index)

        source.read = interrupted  # type: ignore[method-assign]
        identity = {"source": str(annotations)}
        with pytest.raises(KeyboardInterrupt):
            write_shards(source, str(out), identity, SMALL)
        done = len(list(out.glob("*.tar")))
        assert done > 0
        with pytest.raises(InputError, match="expected the folder or URL of finished shards"):
            Shards(str(out))
        with pytest.raises(InputError, match=r"unfinished shards of another source or other options; .* --overwrite"):
            write_shards(source, str(out), {"source": "another"}, SMALL)
        (out / f"{done:05d}.tar.{'0' * 32}.partial").touch()  # of a call that was killed while it copied the file
        calls = 10
        write_shards(source, str(out), identity, SMALL)
        assert calls - 10 == len(source) - sum(json.loads(line)["tar"] < f"{done:05d}" for line in _lines(out))
        with pytest.raises(InputError, match="holds finished shards; give another --out, or --overwrite"):
            write_shards(source, str(out), identity, SMALL)
    assert _digests(out) == _digests(shards)
    write(annotations, out, replace(SMALL, overwrite=True, shard_bytes=1 << 20))
    assert sorted(path.name for path in out.iterdir()) == ["00000.tar", MANIFEST]
    (out / "mine.txt").touch()
    assert main(["shards", str(annotations), "--out", str(out), "--overwrite", "-q"]) == 2
    assert "holds other files than shards, such as mine.txt" in capsys.readouterr().err


def _lines(out: Path) -> list[bytes]:
    return (out / MANIFEST).read_bytes().splitlines()[1:]


def _digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


def test_a_sample_that_cannot_be_read_stops_the_writing_or_is_left_out(
    annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = json.loads(annotations.read_text())
    entries[1]["image_file_names"][2] = "gone.png"
    (tmp_path / "annotations.json").write_text(json.dumps(entries))
    given = {"images": annotations.parent}
    with pytest.raises(
        InputError, match=r"track 1: .*gone\.png: no such file.*; repair it, or give --on-bad-sample skip"
    ):
        write(tmp_path / "annotations.json", tmp_path / "out", **given)
    write(tmp_path / "annotations.json", tmp_path / "out", replace(SMALL, on_bad_sample="skip"), **given)
    assert "gone.png: no such file, and none of the same name in another format; left out" in caplog.text
    found = Shards(str(tmp_path / "out"))
    assert [found.name(index)[-8:] for index in range(3)] == ["00000000", "00000002", "00000003"]
    assert len(found) == len(entries) - 1


def test_shards_in_a_bucket_are_read_by_url(annotations: Path, shards: Path) -> None:
    write(annotations, "memory://bucket/own")
    packed, other = (
        ShardDataset(place, frames=FRAMES, with_rgb=True) for place in ("memory://bucket/own", str(shards))
    )
    assert len(packed) == len(other)
    assert_same(packed[5], other[5])
