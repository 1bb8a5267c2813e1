"""Pictures as clips: every frame with its time, the content's format, whole files alone, upright and in sRGB."""

from __future__ import annotations

import ast
import logging
import struct
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import amodal_diffusion
from amodal_diffusion.basics import InputError
from amodal_diffusion.io.images import natural_key, read_integers, read_rgba
from amodal_diffusion.io.picture_formats import check_png
from amodal_diffusion.io.pictures import read_rgb
from amodal_diffusion.io.video_reader import open_clip, read_clip
from tests.media import UInt8, encode, moving_disc, write_frames
from tests.profiles import P3_TO_D50, SRGB_TO_D50, cmyk_profile, gray_profile, matrix_profile

DURATIONS = [100, 50, 100, 200, 30]


def animation(path: Path, rgb: UInt8, **options: Any) -> Path:
    """Frames as one picture file."""
    pictures = [Image.fromarray(frame) for frame in rgb]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    return path


def few_colors(frames: int = 5) -> UInt8:
    """Frames of at most 256 colors, which GIF keeps."""
    rgb, _ = moving_disc(frames, 20, 30)
    rgb[..., 2] = 30
    return (rgb // 32 * 32).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("clip.webp", {"lossless": True}, 0),
        ("clip.png", {}, 0),
        ("clip.gif", {}, 0),
        ("clip.avif", {"quality": 95, "subsampling": "4:4:4"}, 8),
    ],
)
def test_an_animation_has_all_frames_at_their_times(
    tmp_path: Path, name: str, options: dict[str, Any], tolerance: int
) -> None:
    rgb = few_colors()
    clip = open_clip(animation(tmp_path / name, rgb, duration=DURATIONS, **options))
    frames = np.stack(list(clip))
    assert np.abs(frames.astype(int) - rgb).max() <= tolerance
    assert [clip.timing.seconds(index) for index in range(5)] == [Fraction(ms, 1000) for ms in (0, 100, 150, 250, 450)]
    assert clip.fps == pytest.approx(5 / 0.48, rel=0.1)
    np.testing.assert_array_equal(np.stack(list(clip)), frames)  # a second pass gives the same


@pytest.mark.parametrize(
    ("name", "duration", "rate"),
    [
        ("third.png", 1000 / 30, Fraction(30)),
        ("steady.webp", 100, Fraction(10)),
        ("rounded.webp", [33, 33, 34, 33, 34], Fraction(30)),  # 30 frames a second in milliseconds
        ("rounded.gif", [120, 130, 120, 130, 120], Fraction(8)),  # 8 frames a second in hundredths
        ("hurried.gif", 0, Fraction(10)),  # as browsers show it
    ],
)
def test_rounded_times_are_a_steady_rate(tmp_path: Path, name: str, duration: Any, rate: Fraction) -> None:
    clip = open_clip(animation(tmp_path / name, few_colors(), duration=duration))
    assert clip.num_frames == 5
    assert clip.timing.rate == rate
    assert clip.timing.ticks == range(5)


def test_pages_of_a_tiff_are_frames(tmp_path: Path) -> None:
    rgb, _ = moving_disc(4, 20, 30)
    frames, fps = read_clip(animation(tmp_path / "clip.tiff", rgb))
    np.testing.assert_array_equal(frames, rgb)
    assert fps == 8


def test_what_earlier_frames_leave_is_part_of_a_frame(tmp_path: Path) -> None:
    background, square = Image.new("P", (12, 8), 1), Image.new("P", (12, 8), 0)
    square.paste(2, (2, 2, 4, 4))
    other = Image.new("P", (12, 8), 0)
    other.paste(3, (8, 2, 10, 4))
    for picture in (background, square, other):
        picture.putpalette([0, 0, 0, 0, 200, 0, 255, 0, 0, 0, 0, 255])
    # 0 is transparent: each frame lies on what is there, and the first square is gone before the second comes.
    background.save(
        tmp_path / "clip.gif", save_all=True, append_images=[square, other], transparency=0, disposal=[1, 3, 1],
        duration=100, optimize=False,
    )  # fmt: skip
    frames, _ = read_clip(tmp_path / "clip.gif")
    expected = np.full((3, 8, 12, 3), (0, 200, 0), np.uint8)
    expected[1, 2:4, 2:4], expected[2, 2:4, 8:10] = (255, 0, 0), (0, 0, 255)
    np.testing.assert_array_equal(frames, expected)


def test_the_still_picture_beside_an_animation_is_no_frame(tmp_path: Path) -> None:
    rgb, _ = moving_disc(4, 20, 30)
    frames, _ = read_clip(animation(tmp_path / "clip.png", rgb, default_image=True, duration=100))
    np.testing.assert_array_equal(frames, rgb[1:])


def test_a_folder_of_one_animation_is_that_animation(tmp_path: Path) -> None:
    animation(tmp_path / "clip.webp", few_colors(), lossless=True)
    assert open_clip(tmp_path).num_frames == 5
    animation(tmp_path / "other.webp", few_colors(), lossless=True)
    with pytest.raises(InputError, match=r"clip.webp: holds 5 frames in a folder of pictures"):
        open_clip(tmp_path)
    with pytest.raises(InputError, match=r"clip.webp: holds 5 frames; expected a picture of one"):
        read_rgb(tmp_path / "clip.webp")


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    rgb, _ = moving_disc(3, 48, 64)
    Image.fromarray(rgb[0]).save(tmp_path / "photo.jpg", format="PNG")
    np.testing.assert_array_equal(read_clip(tmp_path / "photo.jpg")[0], rgb[:1])
    animation(tmp_path / "clip.mp4", few_colors(), format="WEBP", lossless=True)
    np.testing.assert_array_equal(read_clip(tmp_path / "clip.mp4")[0], few_colors())
    encode(tmp_path / "clip.mov", rgb).rename(tmp_path / "frame.png")
    with pytest.raises(InputError, match=r"frame.png: not a picture but an MP4 or MOV video, by its first bytes"):
        open_clip(tmp_path / "frame.png")


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "but PostScript"), (b"%PDF-1.4\n", "but PDF")],
)
def test_other_formats_are_refused_unopened(
    tmp_path: Path, content: bytes, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was opened"))
    path = tmp_path / "mask.png"
    path.write_bytes(content)
    for read in (open_clip, read_rgb, read_rgba, read_integers):
        with pytest.raises(InputError, match=f"mask.png: not a picture {found}"):
            read(path)


def test_formats_beyond_the_list_are_refused(tmp_path: Path) -> None:
    for kind in ("PCX", "ICO", "SGI", "QOI"):
        Image.new("RGB", (16, 16)).save(tmp_path / "frame.png", format=kind)
        with pytest.raises(InputError, match=r"not a picture; expected PNG, JPEG, WebP"):
            open_clip(tmp_path / "frame.png")


@pytest.mark.parametrize("suffix", ["tga", "jp2", "avif", "bmp", "ppm", "webp", "gif"])
def test_folders_of_every_format(tmp_path: Path, suffix: str) -> None:
    rgb = np.full((3, 32, 32, 3), 40, np.uint8)
    rgb[:, :, 16:] = (200, 60, 40)
    options: dict[str, Any] = {"avif": {"quality": 95, "subsampling": "4:4:4"}, "webp": {"lossless": True}}
    for index, frame in enumerate(rgb):
        Image.fromarray(frame).save(tmp_path / f"{index}.{suffix}", **options.get(suffix, {}))
    assert np.abs(read_clip(tmp_path)[0].astype(int) - rgb).mean() < 2


def test_one_function_opens_pictures() -> None:
    package = Path(amodal_diffusion.__file__).parent
    places = []
    for file in package.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            called = (
                isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).endswith("Image")
            )
            imported = isinstance(node, ast.ImportFrom) and node.module == "PIL.Image"
            if called or imported:
                places.append(str(file.relative_to(package)))
    assert set(places) == {"io/images.py"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.png", {}), ("clip.webp", {"lossless": True}), ("clip.gif", {}), ("clip.avif", {}), ("clip.tif", {}),
        ("clip.tiff", {"compression": "tiff_lzw"}),
    ],
)  # fmt: skip
def test_no_part_of_a_cut_off_animation_is_taken_for_all(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    whole = animation(tmp_path / f"whole_{name}", few_colors(), **options).read_bytes()
    for share in (0.3, 0.6, 0.95):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=f"{name}: damaged or unreadable picture") as caught:
            open_clip(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.gif", "a.ppm", "a.avif", "a.tga", "a.jp2"]
)
def test_half_a_picture_is_refused(tmp_path: Path, name: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.5, 0.97):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=f"{name}: damaged or unreadable picture"):
            read_rgb(tmp_path / name)


def test_a_gif_without_its_end_mark_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = animation(tmp_path / "clip.gif", few_colors())
    open_clip(path)
    assert not caplog.messages
    path.write_bytes(path.read_bytes()[:-1])
    assert open_clip(path).num_frames == 5
    assert "end mark of the GIF is missing" in caplog.text


def test_what_decodes_of_a_damaged_gif_may_be_taken(tmp_path: Path) -> None:
    path = animation(tmp_path / "clip.gif", np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    assert 1 <= open_clip(path, allow_truncated=True).num_frames < 5


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    path = write_frames(tmp_path, moving_disc(1)[0]) / "frame0.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 4 + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"wrong checksum of 'IDAT'"):
        read_rgb(path)


def test_a_circle_of_pages_ends(tmp_path: Path) -> None:
    path = animation(tmp_path / "clip.tif", few_colors(1))
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[first : first + 2], "little")
    data[first + 2 + 12 * entries : first + 6 + 12 * entries] = data[4:8]
    path.write_bytes(data)
    with pytest.raises(InputError, match="list of pages"):
        open_clip(path)


def test_pictures_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"bomb.png: .*AMODAL_MAX_PIXELS"):
        open_clip(bomb)
    path = write_frames(tmp_path / "frames", moving_disc(1)[0]) / "frame0.png"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # restored after the test
    monkeypatch.setenv("AMODAL_MAX_PIXELS", "3000")
    with pytest.raises(InputError, match=r"frame0.png: 64x48 pixels, at most 3000 .* set AMODAL_MAX_PIXELS=3072"):
        read_rgb(path)
    monkeypatch.setenv("AMODAL_MAX_PIXELS", "3072")
    assert read_rgb(path).shape == (48, 64, 3)
    monkeypatch.setenv("AMODAL_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="AMODAL_MAX_PIXELS: expected a number"):
        read_rgb(path)


def srgb_of_p3(color: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Values of sRGB that look as values of Display P3 do, by the formula."""
    value = np.array(color) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.linalg.inv(SRGB_TO_D50) @ P3_TO_D50 @ linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif"])
def test_display_p3_becomes_srgb(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    profile = matrix_profile("Display P3", P3_TO_D50)
    Image.new("RGB", (32, 32), (200, 60, 40)).save(tmp_path / name, icc_profile=profile)
    clip = open_clip(tmp_path / name)
    assert np.abs(next(iter(clip))[16, 16] - srgb_of_p3((200, 60, 40))).max() <= 3
    assert clip.source_color == "ICC profile Display P3"
    assert caplog.messages == [f"{tmp_path / name}: pixels are converted to sRGB from the ICC profile Display P3"]
    assert np.abs(srgb_of_p3((200, 60, 40)) - (200, 60, 40)).max() > 15  # unconverted pixels would not pass


def test_a_profile_of_srgb_leaves_pixels_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (1, 20, 30, 3), dtype=np.uint8)
    built_in = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (matrix_profile("sRGB of mine", SRGB_TO_D50), built_in):
        Image.fromarray(rgb[0]).save(tmp_path / "a.png", icc_profile=profile)
        np.testing.assert_array_equal(read_clip(tmp_path / "a.png")[0], rgb)
    assert not caplog.messages
    assert open_clip(tmp_path / "a.png").source_color == "ICC profile sRGB built-in"


def test_gray_and_ink_are_converted_by_their_profiles(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 55).save(tmp_path / "gray.png", icc_profile=gray_profile("linear", 1.0))
    assert np.abs(read_rgb(tmp_path / "gray.png").astype(int) - 128).max() <= 1  # sRGB of 55/255 of the light
    Image.new("CMYK", (8, 8), (0, 0, 0, 64)).save(tmp_path / "ink.tif", icc_profile=cmyk_profile("ink", (230, 30)))
    lightness = (230 + (30 - 230) * 64 / 255) / 2.55
    light = ((lightness + 16) / 116) ** 3
    assert np.abs(read_rgb(tmp_path / "ink.tif") - 255 * (1.055 * light ** (1 / 2.4) - 0.055)).max() <= 2
    Image.new("CMYK", (8, 8), (0, 0, 0, 64)).save(tmp_path / "plain.tif")
    assert (read_rgb(tmp_path / "plain.tif") == 191).all()


def test_profiles_that_do_not_fit_are_ignored_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for profile, words in (
        (b"no profile" * 20, "unreadable"),
        (gray_profile("linear", 1.0), "linear (of another color space, ignored)"),
    ):
        caplog.clear()
        Image.new("RGB", (8, 8), (200, 60, 40)).save(tmp_path / "a.png", icc_profile=profile)
        assert (read_clip(tmp_path / "a.png")[0] == (200, 60, 40)).all()
        assert words in caplog.text


def test_profiles_of_masks_and_layers_are_ignored(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 55).save(tmp_path / "mask.png", icc_profile=gray_profile("linear", 1.0))
    assert (read_integers(tmp_path / "mask.png").values == 55).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "deep.tif"])
def test_pictures_stand_upright(tmp_path: Path, name: str, orientation: int) -> None:
    rgb = np.zeros((16, 24, 3), np.uint8)
    rgb[:8, :12], rgb[8:, 12:] = 250, 100
    stored = {
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.swapaxes(0, 1), 6: np.rot90(rgb),
        7: np.rot90(rgb, 2).swapaxes(0, 1), 8: np.rot90(rgb, 3),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored))
    if name == "deep.tif":
        picture = Image.fromarray(np.ascontiguousarray(stored[..., 0]).astype(np.uint16) * 257)
    options: dict[str, Any] = {"tiffinfo": {0x0112: orientation}} if name.endswith("tif") else {"exif": exif}
    picture.save(tmp_path / name, **options, **({"lossless": True} if name == "a.webp" else {}))
    clip = open_clip(tmp_path / name)
    assert (clip.height, clip.width) == (16, 24)
    assert np.abs(next(iter(clip)).astype(int) - rgb).max() <= 8


def test_nothing_is_said_of_plain_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rgb, _ = moving_disc()
    with caplog.at_level(logging.DEBUG, "amodal_diffusion"):
        np.testing.assert_array_equal(read_clip(write_frames(tmp_path, rgb))[0], rgb)
    assert not caplog.messages
    assert open_clip(tmp_path).source_color == ""


def test_a_png_that_claims_a_chunk_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    place = data.index(b"IDAT") - 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.png").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"damaged or unreadable picture .image file is truncated"):
        check_png(tmp_path / "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_natural_order_compares_numbers_of_any_length() -> None:
    names = ["a10b", "a2b", "a002c", "b", "a", "a" + "9" * 5000, "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "a2b", "a002c", "a10b", "a" + "9" * 5000, "b"]
