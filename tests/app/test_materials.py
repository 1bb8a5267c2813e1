"""Uploads: what is a clip, what are masks, and one clear line for what is neither or too much."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.app import unpacking
from amodal_diffusion.app.materials import FILE_TYPES, Limits, take_clip, take_masks
from amodal_diffusion.basics import InputError
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from tests.media import encode, ffmpeg, moving_disc, write_frames, write_masks

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
    with pytest.raises(InputError, match=r"2 MiB, this page takes at most 1 MiB.*--max-upload 2"):
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
    with pytest.raises(InputError, match=r"at most 1 MiB|cannot be unpacked|not a picture"):
        take_clip([packed], room, LIMITS)
    assert sum(file.stat().st_size for file in room.rglob("*") if file.is_file()) <= 2**20


@pytest.mark.parametrize(
    "name", ["../evil.png", "..\\evil.png", "/evil.png", "\\evil.png", "a/../../evil.png", "C:\\evil.png"]
)
def test_a_zip_cannot_write_elsewhere(tmp_path: Path, room: Path, name: str) -> None:
    packed = tmp_path / "evil.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, (write_frames(tmp_path / "frames", RGB) / "frame0.png").read_bytes())
    with pytest.raises(InputError, match="points out of it"):
        take_clip([packed], room, LIMITS)
    assert not list(tmp_path.rglob("evil.png"))


def test_a_zip_of_windows_and_of_a_network_storage(tmp_path: Path, room: Path) -> None:
    packed = tmp_path / "clip.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(write_frames(tmp_path / "frames", RGB).iterdir()):
            # `writestr` of a name turns backslashes of Windows; a `ZipInfo` that is changed afterwards keeps them.
            entry = zipfile.ZipInfo("x")
            entry.filename = f"clip\\frames\\{file.name}"
            archive.writestr(entry, file.read_bytes())
            archive.writestr(f"clip/frames/@eaDir/{file.name}", b"a thumbnail")
        archive.writestr("clip/Thumbs.db", b"thumbnails")
        archive.writestr("clip/frames/.DS_Store", b"of a Mac")
    clip = take_clip([packed], room, LIMITS)
    assert clip.num_frames == len(RGB)
    assert np.array_equal(np.stack(list(clip)), RGB)


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


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were decoded."""
    found: list[Path] = []

    def note(real: Callable[..., ClipReader]) -> Callable[..., ClipReader]:
        def wrapped(path: Path, **options: bool) -> ClipReader:
            found.append(path)
            return real(path, **options)

        return wrapped

    monkeypatch.setattr("amodal_diffusion.app.materials.open_clip", note(open_clip))
    monkeypatch.setattr("amodal_diffusion.app.materials.read_masks", note(read_masks))  # type: ignore[arg-type]
    return found


LONG = np.zeros((13, 24, 40, 3), np.uint8)
WIDE = np.random.default_rng(0).integers(0, 256, (4, 64, 160, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.webm", "a.ts", "a.flv", "a.ogv", "a.y4m"])
@pytest.mark.parametrize("what", ["frames", "pixels", "seconds"])
def test_videos_are_measured_before_they_are_decoded(
    tmp_path: Path, room: Path, clip: ClipReader, decoded: list[Path], name: str, what: str
) -> None:
    """Thirteen frames are more than twice the limit, so that packets tell where the container counts none."""
    rgb, fps = {"frames": (LONG, 8.0), "pixels": (WIDE, 8.0), "seconds": (WIDE, 0.1)}[what]
    path = encode_plain(tmp_path / name, rgb, fps)
    limits = Limits(megabytes=1, frames=6, pixels=10_239 if what == "pixels" else 10_240, seconds=9)
    said = {
        "frames": r"frames, this page takes at most 6",
        "pixels": r"160x64 pixels",
        "seconds": r"seconds, .*at most 9",
    }
    with pytest.raises(InputError, match=rf"clip: .*{said[what]}"):
        take_clip([path], room, limits)
    other = room / "masks"
    other.mkdir()
    if what != "frames":  # masks of several objects may be in one upload
        with pytest.raises(InputError, match=rf"masks: .*{said[what]}"):
            take_masks([path], other, limits, clip)
    assert decoded == []


def encode_plain(path: Path, rgb: np.ndarray, fps: float) -> Path:
    """Encode with what FFmpeg takes for a container."""
    height, width = rgb.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    ffmpeg(*source, *(["-pix_fmt", "yuv420p"] if path.suffix == ".y4m" else []), path, stdin=rgb.tobytes())
    return path


def test_pictures_are_measured_before_they_are_decoded(tmp_path: Path, room: Path, decoded: list[Path]) -> None:
    limits = Limits(megabytes=1, frames=6, pixels=10_239)
    loose = sorted(write_frames(tmp_path / "wide", WIDE).iterdir())
    for index, files in enumerate(([loose[0]], loose, [pack(tmp_path / "wide.zip", tmp_path / "wide")])):
        folder = room / str(index)
        folder.mkdir()
        with pytest.raises(InputError, match=r"160x64 pixels, this page takes at most 0\.010239 million"):
            take_clip(files, folder, limits)
    assert decoded == []


def test_a_picture_that_claims_to_be_huge_is_not_decoded(tmp_path: Path, room: Path, decoded: list[Path]) -> None:
    """The sizes in a PNG's header are whatever its maker wrote."""
    file = write_frames(tmp_path / "frames", RGB) / "frame0.png"
    content = bytearray(file.read_bytes())
    content[16:24] = struct.pack(">LL", 60_000, 60_000)
    content[29:33] = struct.pack(">L", zlib.crc32(bytes(content[12:29])))
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"frame0.png: .*(60000x60000 pixels|decompression bomb)"):
        take_clip([file], room, Limits(megabytes=1, frames=6))
    assert decoded == []


def test_a_zip_is_judged_before_anything_comes_out(tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(megabytes=200, frames=6)
    bomb = tmp_path / "ratio.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("0.png", bytes(65 * 2**20))
    with pytest.raises(InputError, match=r"unpacks to \d+ times its size"):
        take_clip([bomb], room, limits)
    many = pack(tmp_path / "many.zip", write_frames(tmp_path / "frames", RGB))
    monkeypatch.setattr(unpacking, "_MOST_ENTRIES", 5)  # of 4 frames and 2 others
    with pytest.raises(InputError, match=r"6 files, this page unpacks at most 5"):
        take_clip([many], room, limits)
    monkeypatch.setattr(unpacking, "_DIRECTORY", 100)
    with pytest.raises(InputError, match=r"its list of files has"):
        take_clip([many], room, limits)
    assert not any(room.iterdir())


def test_the_list_of_a_large_zip_is_found_where_zipfile_looks(tmp_path: Path, room: Path) -> None:
    """A record for zips above 4 GiB may claim another length than the one for small zips, and counts."""
    packed = pack(tmp_path / "clip.zip", write_frames(tmp_path / "frames", RGB))
    content = packed.read_bytes()
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 6, 6, 2**40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(content) - 22, 1)
    packed.write_bytes(content[:-22] + record + locator + content[-22:])
    with pytest.raises(InputError, match=r"its list of files has 1048576 MiB"):
        take_clip([packed], room, LIMITS)


def test_masks_of_more_objects_than_anyone_marks_are_refused(tmp_path: Path, room: Path, clip: ClipReader) -> None:
    files = sorted(write_masks(tmp_path / "masks", np.zeros((33, 4, 4), np.uint8)).iterdir())
    with pytest.raises(InputError, match=r"masks: 33 frames, this page takes at most 32"):
        take_masks(files, room, Limits(megabytes=1, frames=1), clip)


def test_the_page_offers_what_it_takes() -> None:
    assert {".mp4", ".png", ".zip", ".gif"} <= set(FILE_TYPES)
    assert not {".m3u8", ".txt", ".json", ".ffconcat", ".sdp"} & set(FILE_TYPES)


def test_damage_of_any_kind_in_a_zip_is_one_line(tmp_path: Path, room: Path) -> None:
    packed, odd = tmp_path / "lzma.zip", tmp_path / "name.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("0.png", bytes(1000))
    content = bytearray(packed.read_bytes())
    content[39] = 0xFF  # its settings
    packed.write_bytes(content)
    with zipfile.ZipFile(odd, "w") as archive:
        archive.writestr("\u00e9.png", bytes(10))  # whose name is marked as UTF-8
    odd.write_bytes(odd.read_bytes().replace("\u00e9".encode(), b"\xff\xfe"))
    for upload in (packed, odd):
        with pytest.raises(InputError, match="cannot be unpacked"):
            take_clip([upload], room, LIMITS)
