"""Readers of clips: a stream of frames from a video file, a folder of images or one image.

PyAV is the only video reader. decord cannot open AV1 or GIF, fails on MPEG-TS, counts frames that a truncated file has
lost, and is no faster at random access than seeking with PyAV (``benchmarks/readers.py``). imageio repeats frames to a
constant rate, which hides missing frames.
"""

from __future__ import annotations

import gc
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self, cast

import av
import numpy as np
from av import Packet, VideoFrame, VideoStream
from av.buffer import Buffer
from av.container import InputContainer
from av.error import ExitError, FFmpegError
from av.stream import Disposition

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.containers import is_entire, open_container, stall_text
from amodal_diffusion.io.images import SUFFIXES, list_pictures
from amodal_diffusion.io.picture_formats import picture_format
from amodal_diffusion.io.pictures import PICTURES_FPS, open_pictures
from amodal_diffusion.io.timing import DecodeTally, Span, Timing, describe, filled_ticks, joined_ticks, judge
from amodal_diffusion.io.video_color import source_color, to_rgb
from amodal_diffusion.types import UInt8Array

# PyAV's frame and its side data hold each other, so that decoded frames wait for Python's rare full collections.
_COLLECTED = 32  # frames
_LONGEST_PAUSE, _RESTARTING = 10, ("mpegts", "mpeg")  # seconds; a longer one is a join where clocks may start anew
_LONGEST_VIDEO = 30 * 86400  # seconds; headers that say more are wrong
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_STILL_CODECS = ("png", "mjpeg", "webp", "bmp", "gif", "tiff")

logger = logging.getLogger(__name__)


class ClipReader(Protocol):
    """A clip; each iteration yields all frames as uint8 RGB ``[H, W, 3]``, with one frame in memory at a time."""

    @property
    def path(self) -> Path:
        """Source file or folder."""

    @property
    def num_frames(self) -> int:
        """Number of frames that iteration yields, at least 1."""

    @property
    def fps(self) -> float:
        """Frames per second; the average if the rate varies."""

    @property
    def height(self) -> int:
        """Height of a frame in pixels, after the rotation that the file specifies."""

    @property
    def width(self) -> int:
        """Width of a frame in pixels, after the rotation that the file specifies."""

    @property
    def positions(self) -> tuple[int, ...] | None:
        """Index of each frame in the undamaged video; None if no frame is missing or the indices are unknown."""

    @property
    def timing(self) -> Timing:
        """Presentation time of each frame."""

    @property
    def pixel_aspect(self) -> Fraction:
        """Pixel aspect ratio, width over height, after any rotation; 1 for square pixels."""

    @property
    def source_color(self) -> str:
        """What the files say of their colors, such as the name of an ICC profile; empty if nothing."""

    def __iter__(self) -> Iterator[UInt8Array]:
        """Read all frames from the first.

        Raises:
            InputError: if the file has changed since it was opened.
        """


def open_clip(path: str | Path, *, allow_truncated: bool = False, bit_depth: int | None = None) -> ClipReader:
    """Open a clip and read it through once, so that its frames are counted and known to be sound.

    Args:
        path: a video file, a folder of pictures of one size, or a picture of one or several frames.
        allow_truncated: take the frames that decode from a video that is truncated or damaged.
        bit_depth: of the integers in pictures of 16 bits; by the files when None.

    Raises:
        InputError: if the path does not exist, is not a clip, or is damaged and ``allow_truncated`` is False.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return open_pictures(path, list_pictures(path), bit_depth=bit_depth)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    found = picture_format(path)
    if found is not None or path.suffix.lower() in SUFFIXES:
        try:
            return open_pictures(path, [path], bit_depth=bit_depth)
        except InputError:
            if found != "GIF" or not allow_truncated:  # Pillow reads no damaged GIF, FFmpeg does
                raise
    if bit_depth is not None:
        logger.warning("%s: --bit-depth %d changes nothing; it is for pictures", path, bit_depth)
    return _open_video(path, allow_truncated=allow_truncated)


def read_clip(path: str | Path, *, allow_truncated: bool = False) -> tuple[UInt8Array, float]:
    """Read a whole clip into memory.

    Args:
        path: as for :func:`open_clip`.
        allow_truncated: as for :func:`open_clip`.

    Returns:
        frames, uint8 ``[F, H, W, 3]``, and frames per second.

    Raises:
        InputError: as :func:`open_clip`.
    """
    clip = open_clip(path, allow_truncated=allow_truncated)
    frames = np.empty((clip.num_frames, clip.height, clip.width, 3), np.uint8)
    for index, frame in enumerate(clip):
        frames[index] = frame
    return frames, clip.fps


def keeps_values(path: Path) -> bool:
    """Whether the codec of a video is lossless, so that the video can store labels.

    Args:
        path: a readable video.
    """
    with _video(path, frame_threads=False) as (_, stream):
        codec = stream.codec_context.codec
        return codec.lossless and not codec.lossy


@dataclass(frozen=True)
class _VideoClip:
    """A video file that was decoded once and can be read again."""

    path: Path
    num_frames: int
    fps: float
    height: int
    width: int
    sound: bool
    positions: tuple[int, ...] | None
    timing: Timing
    pixel_aspect: Fraction
    source_color: str = ""

    def __iter__(self) -> Iterator[UInt8Array]:
        count = 0
        # FFmpeg's frame threads are faster but lose frames around damage, so a damaged video is read without them.
        with _video(self.path, frame_threads=self.sound) as (container, stream):
            for frame in _decode(container, stream, DecodeTally()):
                rgb = _orientation(frame).apply(to_rgb(frame))
                if rgb.shape[:2] != (self.height, self.width):
                    raise InputError(
                        f"{self.path}: frame {count} has {rgb.shape[1]}x{rgb.shape[0]} pixels, the first "
                        f"{self.width}x{self.height}; cut the video where its size changes"
                    )
                yield rgb
                count += 1
                if count % _COLLECTED == 0:
                    gc.collect()
        if count != self.num_frames:
            raise InputError(f"{self.path}: {count} frames now, {self.num_frames} before; changed while being read")


def _open_video(path: Path, *, allow_truncated: bool) -> ClipReader:
    tally = DecodeTally()
    with _video(path, frame_threads=False) as (container, stream):
        if len(films_of(container)) > 1:
            logger.warning("%s: holds several videos; the one with index %d is read", path, stream.index)
        height, width, aspect, color = 0, 0, Fraction(1), ""
        ticks: list[int | None] = []
        for frame in _decode(container, stream, tally):
            ticks.append(frame.pts)
            if not height:
                color = source_color(frame)
                orientation = _orientation(frame)
                height, width = orientation.size(frame.height, frame.width)
                aspect = stream.sample_aspect_ratio or Fraction(1)
                aspect = 1 / aspect if orientation.swap_sides else aspect
        unit = stream.time_base
        rate = float(stream.average_rate or stream.guessed_rate or 0) or None
        step = 1.0 / (rate * unit) if rate and unit else 0.0
        restarts = unit is not None and container.format.name in _RESTARTING
        longest = _LONGEST_PAUSE / float(unit or 1) if restarts else math.inf
        ticks, shifts = joined_ticks(ticks, longest=longest, step=step)
        if shifts and unit:
            logger.warning("%s: joined from several pieces; their times are put one after the other", path)
            tally.stored.clear()  # in the times of the pieces
        if None in ticks:
            ticks = [*filled_ticks(ticks, step=step)] or ticks
        tally.times = [float(tick * unit) for tick in ticks if tick is not None and unit]
        tally.indexed = "mp4" in container.format.name.split(",")
        tally.constant = container.format.name == "mxf"
        tally.entire = is_entire(path, read_to=tally.end, packets=tally.packets)
        tally.start = float((stream.start_time or 0) * (stream.time_base or 0))
        duration = None if shifts and restarts else _duration(container, stream, first=min(tally.times, default=0.0))
    if not tally.frames:
        raise InputError(f"{path}: not one frame decodes (read by PyAV); the file is damaged")
    verdict = judge(tally, duration=duration, rate=rate)
    if not verdict.sound:
        found = f"truncated or damaged: {describe(tally, verdict)}, read by PyAV"
        if not allow_truncated:
            raise InputError(
                f"{path}: {found}; give an undamaged file, or --allow-truncated to use the frames that decode"
            )
        logger.warning("%s: %s; continuing with those", path, found)
    if color:
        logger.warning("%s: colors are converted from %s to BT.709, those of visible pixels too", path, color)
    fps = verdict.fps or PICTURES_FPS
    return _VideoClip(
        path,
        num_frames=tally.frames,
        fps=fps,
        height=height,
        width=width,
        sound=verdict.sound,
        positions=verdict.positions,
        timing=_timing(ticks, unit, fps, shifts),
        pixel_aspect=aspect,
        source_color=color,
    )


def _timing(ticks: list[int | None], unit: Fraction | None, fps: float, shifts: list[int]) -> Timing:
    """Frame times from the file, or a constant rate if a time is missing or the times do not increase."""
    known = [tick for tick in ticks if tick is not None]
    if not unit or not known:
        return Timing.steady(len(ticks), fps)
    stored = Timing.stored(known, unit, fps) if len(known) == len(ticks) else None
    found = stored or Timing.steady(len(ticks), fps, start=known[0] * unit)
    return replace(found, shifts=tuple(shift * unit for shift in shifts))


@contextmanager
def _video(path: Path, *, frame_threads: bool) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the film of a file; PyAV keeps FFmpeg's own messages off the terminal."""
    with open_container(path) as container:
        stream = film_of(container, path)
        stream.thread_type = "AUTO" if frame_threads else "SLICE"
        yield container, stream


def film_of(container: InputContainer, path: Path) -> VideoStream:
    """The video stream that is the film.

    Covers and thumbnails are none: by their mark, or by a codec of still pictures beside one of films. Of several films
    the default one comes first, then the one with the most pixels.

    Raises:
        InputError: if the file has no video stream, covers alone, or a codec without a decoder.
    """
    streams = films_of(container)
    if not streams:
        if any(stream.codec_context is None for stream in container.streams.video):
            raise InputError(
                f"{path}: its video is damaged, or of a codec that FFmpeg cannot decode; convert it to H.264"
            )
        raise InputError(f"{path}: holds {'covers alone' if container.streams.video else 'no video stream'}")
    pixels = {stream.index: (stream.width or 0) * (stream.height or 0) for stream in streams}
    return max(streams, key=lambda one: (bool(one.disposition & Disposition.default), pixels[one.index], -one.index))


def films_of(container: InputContainer) -> list[VideoStream]:
    """All video streams that can be decoded but covers and thumbnails."""
    known = [stream for stream in container.streams.video if stream.codec_context is not None]  # else no decoder
    marked = [stream for stream in known if not stream.disposition & _STILL]
    return [stream for stream in marked if stream.codec_context.name not in _STILL_CODECS] or marked


def _decode(container: InputContainer, stream: VideoStream, tally: DecodeTally) -> Iterator[VideoFrame]:
    """Yield every frame that decodes, skipping damage, and update the statistics."""
    unit = float(stream.time_base or 0)  # seconds; frames that are flushed at the end have no time base
    for packet in _packets(container, stream, tally):
        if packet is not None and packet.pts is not None and unit and not packet.is_discard:
            tally.stored.append(packet.pts * unit)
        try:
            frames = stream.decode(packet)
        except FFmpegError:
            tally.errors += 1
            continue
        for frame in frames:
            tally.frames += 1
            tally.patched += frame.is_corrupt
            if frame.pts is not None and unit:
                tally.times.append(frame.pts * unit)
                tally.last_shown = frame.duration * unit
            yield frame


def _packets(
    container: InputContainer, stream: VideoStream, tally: DecodeTally
) -> Iterator[Packet[VideoStream] | None]:
    """Yield all packets of the video, then None, which flushes the decoder."""
    place, time = None, Fraction(0)  # of the last packet that has both
    packets, read = 0, 0  # since then
    filled_up = container.format.name in _RESTARTING  # to a constant rate, with bytes that mean nothing
    try:
        for packet in container.demux():
            tally.packets += 1
            tally.end = max(tally.end, (packet.pos or 0) + packet.size)
            if packet.stream.index != stream.index:
                read += packet.size
                continue
            if not packet.size:
                continue
            film = cast("Packet[VideoStream]", packet)
            tally.corrupt += film.is_corrupt
            if film.pos is not None and film.dts is not None:
                if place is not None:
                    seconds = float(film.dts * film.time_base - time)
                    tally.spans.append(Span(seconds, packets, 0 if filled_up else film.pos - place - read))
                place, time, packets, read = film.pos, film.dts * film.time_base, 0, 0
            packets += 1
            read += film.size
            yield film
    except ExitError as error:
        raise InputError(f"{container.name.removeprefix('file:')}: {stall_text()}") from error
    except FFmpegError:
        tally.errors += 1
    except IndexError:  # PyAV's at the end, where damage made streams appear that the beginning did not have
        tally.corrupt += 1
    yield None


def _duration(container: InputContainer, stream: VideoStream, *, first: float) -> float | None:
    """Seconds from the first frame, shown at ``first`` seconds, to the end of the video; None if unknown or absurd."""
    seconds = 0.0
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska's way
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif tag:
        seconds = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - max(first, 0.0)
    elif container.duration and len(container.streams) == 1:  # with audio, the audio may be longer than the video
        seconds = container.duration / av.time_base - max(first, 0.0)
    return seconds if 0 < seconds < _LONGEST_VIDEO else None


def _orientation(frame: VideoFrame) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation.from_display_matrix(bytes(matrix)) if isinstance(matrix, Buffer) else Orientation()


@dataclass(frozen=True)
class Orientation:
    """Display orientation of a video: a rotation by a multiple of 90 degrees, with or without a reflection.

    Attributes:
        swap_sides: transpose rows and columns, before any flip.
        flip_rows: flip vertically.
        flip_columns: flip horizontally.
    """

    swap_sides: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def from_display_matrix(cls, data: bytes) -> Self:
        """Read FFmpeg's display matrix ``[[a, b, u], [c, d, v], [x, y, w]]``: x' = a x + c y, y' = b x + d y.

        Args:
            data: nine int32 in native byte order; a rotation is rounded to the nearest multiple of 90 degrees.
        """
        (a, b), (c, d) = np.frombuffer(data, np.int32, count=9).reshape(3, 3)[:2, :2].astype(np.int64)
        if abs(b) > abs(a):
            return cls(True, bool(b < 0), bool(c < 0))
        return cls(False, bool(d < 0), bool(a < 0))

    def apply(self, rgb: UInt8Array) -> UInt8Array:
        """Rotate and flip a frame for display.

        Args:
            rgb: stored frame, uint8 ``[H, W, 3]``.

        Returns:
            displayed frame, uint8 ``[H, W, 3]``, or ``[W, H, 3]`` if the sides are swapped.
        """
        if self == Orientation():
            return rgb
        turned = rgb.swapaxes(0, 1) if self.swap_sides else rgb
        return np.ascontiguousarray(turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels after :meth:`apply`, for a stored frame of ``height`` x ``width`` pixels."""
        return (width, height) if self.swap_sides else (height, width)
