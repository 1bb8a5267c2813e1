"""Writer of videos: H.264 in MP4, and ProRes 4444 in MOV or VP9 in WebM with an alpha channel."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Literal, Self

import av
import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
from av import VideoFrame, VideoStream
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.background import WriteBehind
from amodal_diffusion.io.containers import error_text, open_nowhere
from amodal_diffusion.io.sound import SoundTrack
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.types import UInt8Array

Kind = Literal["mp4", "prores", "webm"]

logger = logging.getLogger(__name__)


COLOR_REACH = 16
"""Pixels by which color goes on beyond an object's edge in a video with alpha: the block size of the codecs."""


@dataclass(frozen=True)
class _Recipe:
    """Encoder settings of a kind of video.

    Attributes:
        container: FFmpeg name of the container format.
        encoders: maps FFmpeg names of encoders, in order of preference, to their options.
        pixels: FFmpeg name of the pixel format.
        alpha: frames are RGBA.
        even: height and width must be even.
        sounds: audio codecs that are copied without re-encoding.
        sound: encoder for any other audio codec.
    """

    container: str
    encoders: dict[str, dict[str, str]]
    pixels: str
    alpha: bool
    even: bool
    sounds: tuple[str, ...]
    sound: str


_RECIPES: dict[Kind, _Recipe] = {
    "mp4": _Recipe(
        container="mp4",
        # Builds of FFmpeg without GPL parts have no libx264.
        encoders={
            # The macroblock tree makes the output bytes vary between runs.
            "libx264": {"crf": "17", "preset": "veryfast", "mbtree": "0"},
            "libopenh264": {"b": "20M"},
            "mpeg4": {"b": "20M"},
        },
        pixels="yuv420p",
        alpha=False,
        even=True,
        sounds=("aac", "mp3", "ac3", "eac3", "alac"),
        sound="aac",
    ),
    "prores": _Recipe(
        container="mov",
        encoders={"prores_ks": {"profile": "4444", "vendor": "apl0", "alpha_bits": "16"}},
        pixels="yuva444p10le",
        alpha=True,
        even=False,
        sounds=("aac", "ac3", "alac", "pcm_s16le", "pcm_s24le"),
        sound="pcm_s16le",
    ),
    "webm": _Recipe(
        container="webm",
        # No alt-ref: a hidden frame in the color or alpha stream would have no counterpart in the other stream.
        encoders={"libvpx-vp9": {"crf": "12", "b": "0", "deadline": "good", "cpu-used": "4", "auto-alt-ref": "0"}},
        pixels="yuva420p",
        alpha=True,
        even=False,
        sounds=("opus", "vorbis"),
        sound="libopus",
    ),
}


@dataclass(frozen=True)
class VideoLayout:
    """Frame size, frame times and pixel aspect ratio of a video.

    Attributes:
        height: height of a frame in pixels.
        width: width of a frame in pixels.
        timing: presentation time of each frame.
        pixel_aspect: pixel aspect ratio, width over height.
    """

    height: int
    width: int
    timing: Timing
    pixel_aspect: Fraction = Fraction(1)

    @classmethod
    def of(cls, clip: ClipReader) -> Self:
        """Layout of an existing clip."""
        return cls(clip.height, clip.width, clip.timing, clip.pixel_aspect)


def missing_encoders(kind: Kind, *, sound: bool) -> list[str]:
    """Names of the encoders that a kind of video needs and the installed FFmpeg lacks.

    Args:
        kind: kind of video.
        sound: whether audio is written too.
    """
    recipe = _RECIPES[kind]
    missing = [] if _encoder(recipe) else [next(iter(recipe.encoders))]
    return missing + ([recipe.sound] if sound and recipe.sound not in av.codecs_available else [])


@dataclass(frozen=True)
class CarriedSound:
    """Sound of a clip as the videos carry it.

    Attributes:
        path: the clip.
        kinds: kinds of videos that carry it.
        told: notices that have been given and are not repeated.
    """

    path: Path
    kinds: frozenset[Kind]
    told: frozenset[str] = frozenset()


def check_sound(path: Path, kinds: Collection[Kind], timing: Timing) -> CarriedSound:
    """Try out which kinds of videos can carry the sound of a clip; one notice tells what they cannot.

    Args:
        path: a clip with an audio track, see :func:`~amodal_diffusion.io.sound.has_sound`.
        kinds: kinds of the videos that are to be written.
        timing: times of their frames.

    Raises:
        InputError: if the clip cannot be opened.
    """
    silent: list[Kind] = []
    told: dict[str, None] = {}
    for kind in kinds:
        recipe = _RECIPES[kind]
        written = 0
        try:
            with open_nowhere(recipe.container) as output:
                track = SoundTrack(path, output, taken=recipe.sounds, fallback=recipe.sound, timing=timing)
                try:
                    track.finish()
                finally:
                    track.close()
                written = track.pieces
                told |= dict.fromkeys(track.notices)
        except (FFmpegError, ValueError) as error:
            written = 0
            told[f"cannot be written ({error_text(error)})"] = None
        if not written:
            silent.append(kind)
    if silent or told:
        reasons = "; ".join(told) or "has no part that can be written"
        without = ("the videos have" if len(silent) == len(kinds) else f"{' and '.join(silent)} has") if silent else ""
        logger.warning("%s: its sound %s%s", path, reasons, f"; {without} none" if silent else "")
    return CarriedSound(path, frozenset(kinds) - set(silent), frozenset(told))


class VideoWriter:
    """Write a video frame by frame, encoded in a thread; the output bytes are reproducible.

    MP4 needs an even height and width: an odd one is padded by repeating the last row or column. ProRes and VP9 accept
    any size.
    """

    def __init__(
        self, path: Path, kind: Kind, layout: VideoLayout, *, sound_of: Path | CarriedSound | None = None
    ) -> None:
        """Open the file.

        Args:
            path: destination, overwritten; its folder must exist.
            kind: ``"mp4"`` takes RGB frames. ``"prores"`` and ``"webm"`` take RGBA frames and store straight or
                premultiplied alpha unchanged.
            layout: size and times of the frames.
            sound_of: a video whose audio track is copied, or what :func:`check_sound` found of it; None for no audio.

        Raises:
            InputError: if FFmpeg lacks the encoder; see :func:`missing_encoders`.
        """
        recipe = _RECIPES[kind]
        encoder = _encoder(recipe)
        if encoder is None:
            raise InputError(f"{path.name}: this FFmpeg has none of {', '.join(recipe.encoders)}")
        self._path, self._recipe, self._layout, self._written = path, recipe, layout, 0
        options = {"fflags": "+bitexact"} | ({"movflags": "faststart"} if recipe.container == "mp4" else {})
        self._container = av.open(f"file:{path}", mode="w", format=recipe.container, options=options)
        stream: VideoStream = self._container.add_stream(  # type: ignore[assignment]  # by name: any kind
            encoder, rate=layout.timing.rate, options=recipe.encoders[encoder]
        )
        stream.height = layout.height + (layout.height % 2 if recipe.even else 0)
        stream.width = layout.width + (layout.width % 2 if recipe.even else 0)
        stream.pix_fmt = recipe.pixels
        context = stream.codec_context
        context.time_base = layout.timing.unit if encoder != "mpeg4" else layout.timing.unit.limit_denominator(65535)
        context.sample_aspect_ratio = layout.pixel_aspect
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if recipe.container == "webm":
            stream.metadata["alpha_mode"] = "1"
        self._stream = stream
        self._encoder = WriteBehind()
        self._sound: SoundTrack | None = None
        carried = CarriedSound(sound_of, frozenset([kind])) if isinstance(sound_of, Path) else sound_of
        self._carried = carried
        if carried is not None and kind in carried.kinds:
            self._sound = SoundTrack(
                carried.path, self._container, taken=recipe.sounds, fallback=recipe.sound, timing=layout.timing
            )

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush the encoders, unless an error was raised, and close the file."""
        try:
            # An error that is on its way stays the one that is raised, whatever the encoder finds.
            self._encoder.__exit__(kind, error, trace)
            if kind is None:
                self._container.mux(self._stream.encode(None))
                if self._sound is not None:
                    self._sound.finish()
                    self._tell_of_sound()
        finally:
            if self._sound is not None:
                self._sound.close()
            self._container.close()
        if kind is None and self._recipe.container == "webm" and self._layout.pixel_aspect != 1:
            _name_aspect(self._path, self._layout)

    def write(self, pixels: UInt8Array) -> None:
        """Append a frame. It is encoded later, so that an error of the encoder or the disk may come a few frames later.

        Args:
            pixels: uint8 ``[H, W, 3]``, or ``[H, W, 4]`` for a kind with alpha, of the layout's size; must not change
                any more.

        Raises:
            InputError: if the frame has another shape, or the layout has no time for it.
        """
        height, width = self._layout.height, self._layout.width
        channels, form = (4, "rgba") if self._recipe.alpha else (3, "rgb24")
        if pixels.shape != (height, width, channels):
            raise InputError(f"frame: expected [{height}, {width}, {channels}], got {list(pixels.shape)}")
        if self._written >= len(self._layout.timing.ticks):
            raise InputError(f"frame: expected {self._written} frames, got more")
        self._encoder.add(self._encode, pixels, form, self._written)
        self._written += 1

    def _encode(self, pixels: UInt8Array, form: str, number: int) -> None:
        """Encode a frame, and the sound up to it."""
        height, width = pixels.shape[:2]
        if self._recipe.even and (height % 2 or width % 2):
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        # One thread: FFmpeg's parallel conversion corrupts the borders between bands at odd widths.
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=form).reformat(
            format=self._recipe.pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        frame.time_base, frame.pts = self._layout.timing.unit, self._layout.timing.ticks[number]
        self._container.mux(self._stream.encode(frame))
        if self._sound is not None:
            self._sound.until(self._layout.timing.seconds(number))

    def _tell_of_sound(self) -> None:
        if self._sound is not None and self._carried is not None:
            for notice in self._sound.notices:
                if notice not in self._carried.told:
                    logger.warning("%s: its sound %s", self._carried.path, notice)


def _encoder(recipe: _Recipe) -> str | None:
    return next((name for name in recipe.encoders if name in av.codecs_available), None)


def _name_aspect(path: Path, layout: VideoLayout) -> None:
    """Remux a WebM file to store its pixel aspect ratio, which PyAV's muxer does not write."""
    shape = layout.pixel_aspect * Fraction(layout.width, layout.height)
    with TemporaryDirectory() as folder:
        square = Path(shutil.move(path, folder))
        try:
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", f"file:{square}", "-map", "0"]
            command += ["-c", "copy", "-aspect", f"{shape.numerator}:{shape.denominator}", "-fflags", "+bitexact"]
            subprocess.run([*command, f"file:{path}"], check=True, capture_output=True)
        except (RuntimeError, subprocess.CalledProcessError):  # no FFmpeg here: keep the video with square pixels
            shutil.copyfile(square, path)
