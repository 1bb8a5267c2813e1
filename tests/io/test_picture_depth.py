"""Pictures of more than 8 bits: the file decides which value is white, and all frames of a clip have one range."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.pictures import read_rgb
from amodal_diffusion.io.video_reader import open_clip, read_clip

UInt16 = npt.NDArray[np.uint16]
VALUES = np.random.default_rng(0).integers(0, 65536, (20, 30, 4), dtype=np.uint16)
VALUES[0, 0], VALUES[0, 1] = 0, 65535


def write_png(path: Path, values: UInt16, *, bits: int | None = None) -> Path:
    """A PNG of 16 bits a channel, with an sBIT chunk if asked; Pillow writes neither."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    significant = chunk(b"sBIT", bytes([bits] * channels)) if bits else b""
    content = chunk(b"IHDR", head) + significant + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def scaled(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.uint8]:
    """8-bit RGB by the formula: 255 v / white, rounded to the nearest."""
    gray_or_rgb = values[..., :1] if values.shape[-1] < 3 else values[..., :3]
    eight = np.floor(np.clip(gray_or_rgb.astype(np.float64) * 255 / white, 0, 255) + 0.5).astype(np.uint8)
    return np.broadcast_to(eight, (*values.shape[:2], 3))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(tmp_path: Path, channels: int, caplog: pytest.LogCaptureFixture) -> None:
    values = VALUES[..., :channels]
    frames, _ = read_clip(write_png(tmp_path / "a.png", values))
    np.testing.assert_array_equal(frames[0], scaled(values, 65535))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), frames[0])
    assert not caplog.messages


@pytest.mark.parametrize("channels", [1, 3])
def test_12_bits_without_a_tag_are_read_as_16_with_a_notice(
    tmp_path: Path, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = VALUES[..., :channels] >> 4
    path = write_png(tmp_path / "a.png", values)
    np.testing.assert_array_equal(read_clip(path)[0][0], scaled(values, 65535))
    assert "looks like 12 bit; give --bit-depth 12" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(next(iter(open_clip(path, bit_depth=12))), scaled(values, 4095))
    assert not caplog.messages


def test_one_bright_frame_decides_for_the_clip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dark = VALUES[..., :3] >> 6
    for index, values in enumerate((dark, VALUES[..., :3])):
        write_png(tmp_path / f"{index}.png", values)
    frames, _ = read_clip(tmp_path)
    np.testing.assert_array_equal(frames, [scaled(dark, 65535), scaled(VALUES[..., :3], 65535)])
    assert not caplog.messages
    for index, values in enumerate((dark, VALUES[..., :3] >> 4)):  # no frame is scaled by its own maximum
        write_png(tmp_path / f"{index}.png", values, bits=12)
    frames, _ = read_clip(tmp_path)
    np.testing.assert_array_equal(frames, [scaled(dark, 4095), scaled(VALUES[..., :3] >> 4, 4095)])


def test_significant_bits_are_the_lowest_or_the_highest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    low = write_png(tmp_path / "low.png", VALUES[..., :3] >> 4, bits=12)
    np.testing.assert_array_equal(read_clip(low)[0][0], scaled(VALUES[..., :3] >> 4, 4095))
    assert "sBIT says 12 bit" in caplog.text
    caplog.clear()
    high = write_png(tmp_path / "high.png", VALUES[..., :3] & 0xFFF0, bits=12)  # as the standard has it
    np.testing.assert_array_equal(read_clip(high)[0][0], scaled(VALUES[..., :3] & 0xFFF0, 65535))
    full = write_png(tmp_path / "full.png", VALUES[..., :3] >> 4, bits=16)
    np.testing.assert_array_equal(read_clip(full)[0][0], scaled(VALUES[..., :3] >> 4, 65535))
    assert not caplog.messages


def test_a_bit_depth_that_does_not_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_png(tmp_path / "a.png", VALUES[..., :3])
    with pytest.raises(InputError, match="--bit-depth 12: expected values up to 4095, got 65535"):
        open_clip(path, bit_depth=12)
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    open_clip(tmp_path / "b.png", bit_depth=12)
    assert "--bit-depth 12 changes nothing" in caplog.text


FLOATS = VALUES[..., :3].astype(np.float64) / 65535


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (VALUES[..., :3], {"photometric": "rgb"}),
        (VALUES[..., :3], {"photometric": "rgb", "compression": "zlib", "predictor": True}),
        (VALUES[..., :3], {"photometric": "rgb", "byteorder": ">"}),
        (VALUES[..., :3], {"photometric": "rgb", "bigtiff": True}),
        (VALUES, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (np.moveaxis(VALUES[..., :3], -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (FLOATS.astype(np.float32), {"photometric": "rgb"}),
        (FLOATS, {"photometric": "rgb"}),
    ],
)
def test_color_tiff(tmp_path: Path, values: npt.NDArray[Any], options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    np.testing.assert_array_equal(read_clip(tmp_path / "a.tif")[0][0], scaled(VALUES[..., :3], 65535))


@pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "raw"])
@pytest.mark.parametrize("pixels", ["rgb48le", "gray16le"])
def test_tiff_as_ffmpeg_writes_it(tmp_path: Path, compression: str, pixels: str) -> None:
    values = VALUES[..., :3] if pixels == "rgb48le" else VALUES[..., :1]
    write_png(tmp_path / "a.png", values)
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / "a.png"), "-pix_fmt", pixels]
    subprocess.run([*ffmpeg, "-compression_algo", compression, str(tmp_path / "a.tif")], check=True)
    np.testing.assert_array_equal(read_clip(tmp_path / "a.tif")[0][0], scaled(values, 65535))


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_pages_of_16_bit_gray(tmp_path: Path, compression: str | None, inverted: bool) -> None:
    pages = [np.roll(VALUES[..., 0], index, axis=1) for index in range(3)]
    stored = [Image.fromarray(65535 - page if inverted else page) for page in pages]
    stored[0].save(
        tmp_path / "a.tif",
        save_all=True,
        append_images=stored[1:],
        compression=compression,
        tiffinfo={262: 1 - inverted},
    )
    frames, _ = read_clip(tmp_path / "a.tif")
    np.testing.assert_array_equal(frames, [scaled(page[..., None], 65535) for page in pages])


def test_tiff_of_12_bits_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = VALUES[:, :, :1] >> 4
    pairs = values.reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=-1)
    data = packed.astype(np.uint8).tobytes()
    tags = [(256, 30), (257, 20), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 20), (279, len(data))]
    directory = b"".join(struct.pack("<HHLL", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    content = data + struct.pack("<H", len(tags)) + directory + struct.pack("<L", 0)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<L", 8 + len(data)) + content)
    np.testing.assert_array_equal(read_clip(tmp_path / "a.tif")[0][0], scaled(values, 4095))
    assert not caplog.messages


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_pgm_says_what_is_white(tmp_path: Path, white: int) -> None:
    values = (VALUES[..., :1].astype(np.int64) % (white + 1)).astype(">u2" if white > 255 else np.uint8)
    (tmp_path / "a.pgm").write_bytes(b"P5\n30 20\n%d\n" % white + values.tobytes())
    difference = read_clip(tmp_path / "a.pgm")[0][0].astype(int) - scaled(values, white)
    assert np.abs(difference).max() <= 1  # Pillow rounds to 16 bits in between


def test_floats_above_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bright = (FLOATS * 1.25).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", bright, photometric="rgb")
    np.testing.assert_array_equal(read_clip(tmp_path / "a.tif")[0][0], scaled(bright, 1.0))
    assert "values above 1 are clipped" in caplog.text
    assert "the largest is 1.25" in caplog.text
    tifffile.imwrite(tmp_path / "a.tif", (FLOATS * 255).astype(np.float32), photometric="rgb")
    with pytest.raises(InputError, match=r"expected floating-point pictures in 0..1, got values up to 255, most"):
        open_clip(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", np.where(FLOATS > 0.9, np.nan, FLOATS), photometric="rgb")
    with pytest.raises(InputError, match="holds NaN or infinity"):
        open_clip(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (VALUES[..., 0].astype(np.int16), {}, "int16 values"),
        (VALUES[..., 0].astype(np.complex64), {}, "complex64 values"),
        (
            np.stack([VALUES[..., 0]] * 6).reshape(3, 2, 20, 30),
            {"imagej": True, "metadata": {"axes": "TCYX"}},
            "ImageJ",
        ),
        (VALUES[..., :3], {"photometric": "rgb", "subfiletype": 1}, "reduced pictures alone"),
    ],
)
def test_tiff_that_is_no_frame_is_refused(
    tmp_path: Path, values: npt.NDArray[Any], options: dict[str, Any], words: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(InputError, match=words):
        open_clip(tmp_path / "a.tif")


def test_a_thumbnail_in_a_tiff_is_no_frame(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(VALUES[..., :3], photometric="rgb")
        file.write(VALUES[::2, ::2, :3], photometric="rgb", subfiletype=1)
    assert read_clip(tmp_path / "a.tif")[0].shape == (1, 20, 30, 3)


def test_a_cut_off_tiff_of_16_bits_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "whole.tif", np.stack([VALUES[..., :3]] * 4), photometric="rgb")
    whole = (tmp_path / "whole.tif").read_bytes()
    for share in (0.3, 0.6, 0.9, 0.99):
        (tmp_path / "a.tif").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match="damaged or unreadable picture"):
            open_clip(tmp_path / "a.tif")
