"""Uploads: what is a clip, what are masks, and one clear line for what is neither or too much."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.app.materials import Limits, take_clip, take_masks
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.types import InputError
from tests.media import encode, moving_disc, write_frames, write_masks

FRAMES = 4
RGB, MASK = moving_disc(FRAMES, 24, 40)
LIMITS = Limits(megabytes=1, frames=6)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    folder = tmp_path / "room"
    folder.mkdir()
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> ClipReader:
    return open_clip(write_frames(tmp_path / "clip", RGB))


def pack(target: Path, folder: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, prefix + str(file.relative_to(folder)))
        archive.writestr("__MACOSX/._frame0.png", b"not a picture")
        archive.writestr("readme.txt", b"not a picture either")
    return target


@pytest.mark.parametrize("prefix", ["", "clip/"])
def test_a_zip_of_pictures_is_a_clip(tmp_path: Path, room: Path, prefix: str) -> None:
    packed = pack(tmp_path / "clip.zip", write_frames(tmp_path / "frames", RGB), prefix)
    np.testing.assert_array_equal(np.stack(list(take_clip([packed], room, LIMITS))), RGB)


def test_a_video_and_loose_pictures_are_clips(tmp_path: Path, room: Path) -> None:
    assert take_clip([encode(tmp_path / "clip.mp4", RGB)], room, LIMITS).num_frames == FRAMES
    other = tmp_path / "other"
    other.mkdir()
    files = sorted(write_frames(tmp_path / "frames", RGB).iterdir(), reverse=True)
    np.testing.assert_array_equal(np.stack(list(take_clip(files, other, LIMITS))), RGB)


def test_a_clip_that_is_too_long_says_by_how_much(tmp_path: Path, room: Path) -> None:
    frames = np.repeat(RGB, 2, axis=0)
    for upload in (
        pack(tmp_path / "clip.zip", write_frames(tmp_path / "f", frames)),
        encode(tmp_path / "c.mp4", frames),
    ):
        with pytest.raises(InputError, match=r"8 frames, this page takes at most 6.*--max-frames 8"):
            take_clip([upload], room, LIMITS)


def test_an_upload_that_is_too_large_says_by_how_much(tmp_path: Path, room: Path) -> None:
    large = tmp_path / "clip.mp4"
    large.write_bytes(bytes(2**20 + 1))
    with pytest.raises(InputError, match=r"2 MB, this page takes at most 1 MB.*--max-upload 2"):
        take_clip([large], room, LIMITS)


@pytest.mark.parametrize("honest", [True, False])
def test_a_zip_that_unpacks_to_too_much_is_refused_before_the_disk_is_full(
    tmp_path: Path, room: Path, honest: bool
) -> None:
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(30 * 2**20))
    if not honest:  # the sizes that a zip tells are whatever its maker wrote
        content = packed.read_bytes()
        packed.write_bytes(content.replace((30 * 2**20).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(InputError, match=r"at most 1 MB|cannot be unpacked|not a picture"):
        take_clip([packed], room, LIMITS)
    assert sum(file.stat().st_size for file in room.rglob("*") if file.is_file()) <= 2**20


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "C:\\evil.png"])
def test_a_zip_cannot_write_elsewhere(tmp_path: Path, room: Path, name: str) -> None:
    packed = tmp_path / "evil.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, (write_frames(tmp_path / "frames", RGB) / "frame0.png").read_bytes())
    with pytest.raises(InputError, match="points out of it"):
        take_clip([packed], room, LIMITS)
    assert not list(tmp_path.rglob("evil.png"))


def test_what_is_no_clip_is_said(tmp_path: Path, room: Path) -> None:
    text, broken, empty = tmp_path / "a.txt", tmp_path / "b.zip", tmp_path / "c.zip"
    text.write_text("no video")
    broken.write_bytes(b"PK\x03\x04 no zip")
    zipfile.ZipFile(empty, "w").close()
    for files, said in (
        ([], "nothing was uploaded"),
        ([text], "not a video"),
        ([broken], "cannot be unpacked"),
        ([empty], "no pictures in this zip"),
        ([text, text], "pictures alone"),
        ([text, empty], "expected one zip"),
    ):
        with pytest.raises(InputError, match=said):
            take_clip(files, room, LIMITS)


def test_masks_come_as_a_zip_with_a_folder_an_object_a_video_or_pictures(
    tmp_path: Path, room: Path, clip: ClipReader
) -> None:
    write_masks(tmp_path / "masks" / "cup", MASK)
    write_masks(tmp_path / "masks" / "2", MASK)
    uploads = {
        "zip": [pack(tmp_path / "masks.zip", tmp_path / "masks")],
        "video": [encode(tmp_path / "masks.mp4", np.repeat(MASK[..., None] * np.uint8(255), 3, axis=-1))],
        "pictures": sorted((tmp_path / "masks" / "2").iterdir()),
    }
    for kind, files in uploads.items():
        folder = room / kind
        folder.mkdir()
        tracks = read_masks(take_masks(files, folder, LIMITS, clip))
        assert list(tracks) == (["2", "cup"] if kind == "zip" else ["1"])
        areas = next(iter(tracks.values())).areas
        assert areas == pytest.approx([int(mask.sum()) for mask in MASK], rel=0.05)


def test_masks_that_do_not_fit_say_why(tmp_path: Path, room: Path, clip: ClipReader) -> None:
    short = sorted(write_masks(tmp_path / "short", MASK[:2]).iterdir())
    with pytest.raises(InputError, match="2 masks for 4 frames"):
        take_masks(short, room, LIMITS, clip)
    other = room / "other"
    other.mkdir()
    empty = sorted(write_masks(tmp_path / "empty", np.zeros_like(MASK)).iterdir())
    with pytest.raises(InputError, match="object 1 is empty in every frame"):
        take_masks(empty, other, LIMITS, clip)
