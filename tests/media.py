"""Small clips, masks and video files of every kind for tests; no torch, so that tests of files start at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from PIL import Image

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
H264 = ("-pix_fmt", "yuv420p", "-crf", "10", "-preset", "ultrafast")


def moving_disc(frames: int = 6, height: int = 48, width: int = 64) -> tuple[UInt8, Bool]:
    """A bright disc that moves over a gradient that no turning or mirroring maps to itself; and its mask."""
    rows, columns = np.mgrid[:height, :width]
    ramp = np.stack([rows * 100 // height, columns * 150 // width, np.full_like(rows, 30)], axis=-1)
    rgb = np.repeat(ramp[None].astype(np.uint8), frames, axis=0)
    centers = np.linspace(0.3, 0.7, frames) * width
    mask = (rows - height / 2) ** 2 + (columns - centers[:, None, None]) ** 2 < (min(height, width) / 4) ** 2
    rgb[mask] = (230, 220, 120)
    return rgb, np.asarray(mask)


def ffmpeg(*arguments: str | Path, stdin: bytes | None = None) -> None:
    """Run the FFmpeg that comes with imageio."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, input=stdin, check=True, capture_output=True)


def encode(path: Path, rgb: UInt8, *options: str, fps: float = 8) -> Path:
    """Encode frames with FFmpeg; H.264 4:2:0 of high quality unless the options say otherwise."""
    height, width = rgb.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    ffmpeg(*source, *(options or H264), path, stdin=rgb.tobytes())
    return path


def encode_whole_first(path: Path, rgb: UInt8) -> Path:
    """Encode an MP4 whose index stands first, so that a truncated copy still opens; a key frame every 4."""
    return encode(path, rgb, *H264, "-g", "4", "-movflags", "+faststart")


def truncate(source: Path, target: Path, share: float) -> Path:
    """Copy the first part of a file."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def damage(source: Path, target: Path, start: float, end: float) -> Path:
    """Copy a file with a part of it overwritten by noise."""
    data = bytearray(source.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    target.write_bytes(data)
    return target


def write_masks(folder: Path, masks: npt.NDArray[np.generic], *, mode: str | None = None) -> Path:
    """Write masks as numbered PNG: bool as 0/255, other integers as they are, in palette mode if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    values = masks.astype(np.uint8) * np.uint8(255) if masks.dtype == np.bool_ else masks
    for index, value in enumerate(values):
        picture = Image.fromarray(value)
        if mode == "P":
            picture.putpalette([channel for entry in range(256) for channel in (entry, 255 - entry, entry // 2)])
        elif mode is not None:
            picture = picture.convert(mode)
        picture.save(folder / f"{index:05d}.png")
    return folder


def write_frames(folder: Path, rgb: UInt8) -> Path:
    """Write frames as PNG numbered without leading zeros, so that their order by name is not their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(rgb):
        Image.fromarray(frame).save(folder / f"frame{index}.png")
    return folder


def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `amodal-diffusion` in a process of its own."""
    command: Sequence[str] = [sys.executable, "-m", "amodal_diffusion.cli", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=250)
