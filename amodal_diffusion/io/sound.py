"""Copying of a clip's audio track into an output video, with re-encoding where the container requires it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path

from av import AudioFrame, AudioStream, Packet
from av.audio.resampler import AudioResampler
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import ExitError, FFmpegError

from amodal_diffusion.io.containers import error_text, open_container, open_nowhere, stall_text
from amodal_diffusion.io.timing import Timing

_JITTER = Fraction(1, 50)  # seconds by which a decoded piece may be early or late; files round times
_ROUNDING = Fraction(1, 1000)  # seconds


def has_sound(path: Path) -> bool:
    """Whether a clip has an audio track, be it one that no decoder knows.

    Args:
        path: a readable video, a folder of images, or one image.
    """
    if path.is_dir():
        return False
    with open_container(path) as container:
        return bool(container.streams.audio)


class SoundTrack:
    """Writes the first audio track of a source video into an output video, in step with its frames.

    Sound that cannot be written is left out, and told of in `notices`.

    Attributes:
        notices: what was left out, and why, as the end of a sentence on the sound; complete after :meth:`finish`.
        pieces: number of packets or frames that were written.
    """

    def __init__(
        self, source: Path, output: OutputContainer, *, taken: Collection[str], fallback: str, timing: Timing
    ) -> None:
        """Open the source and add an audio stream to the output.

        Args:
            source: a video with an audio track, see :func:`has_sound`.
            output: container to which nothing has been written yet.
            taken: FFmpeg names of the codecs that are copied without re-encoding.
            fallback: FFmpeg name of the encoder for any other codec.
            timing: times of the output's frames; audio before the first is dropped.
        """
        self.notices: list[str] = []
        self.pieces = 0
        self._path, self._output, self._start = source, output, timing.start
        self._shifts, self._joined = (Fraction(0), *timing.shifts), bool(timing.shifts)
        self._shown = Fraction(-1)  # seconds of audio written so far
        self._pieces: Iterator[Fraction] = iter(())
        self._copy = True
        self._source = open_container(source)
        try:
            self._open(taken, fallback)
        except (FFmpegError, ValueError) as error:
            self._tell(f"cannot be read or written ({error_text(error)})")
            return
        self._pieces = self._write()

    def _open(self, taken: Collection[str], fallback: str) -> None:
        self._in: AudioStream = self._source.streams.audio[0]
        if self._in.codec_context is None:
            raise ValueError("this FFmpeg has no decoder for it")
        name = self._in.codec_context.codec.canonical_name
        self._copy = name in taken and _is_copied(self._path, self._output.format.name)
        if self._copy:
            self._out: AudioStream = self._output.add_stream_from_template(self._in)
        else:
            # Layouts of more than two channels, and those that files leave out, are not for every encoder; of the usual
            # rates Opus has one, and players know none above 48 kHz.
            layout = "mono" if self._in.channels == 1 else "stereo"
            rate = 48000 if fallback == "libopus" or not 0 < self._in.rate <= 48000 else self._in.rate
            self._out = self._output.add_stream(fallback, rate=rate, layout=layout)  # type: ignore[assignment]
            self._out.codec_context.flags |= Flags.bitexact
            self._resampler = AudioResampler(format=self._out.format, layout=layout, rate=rate)

    def until(self, seconds: Fraction) -> None:
        """Write the audio up to a time of the output, in seconds."""
        while self._shown < seconds:
            reached = next(self._pieces, None)
            if reached is None:
                return
            self._shown = reached

    def finish(self) -> None:
        """Write the remaining audio and flush the encoder."""
        for _ in self._pieces:
            pass
        if self._copy or not self.pieces:
            return
        try:
            for frame in self._resampler.resample(None):
                self._output.mux(self._out.encode(frame))
            self._output.mux(self._out.encode(None))
        except (FFmpegError, ValueError) as error:
            self._tell(f"ends before its last part ({error_text(error)})")

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _tell(self, notice: str) -> None:
        self.notices.append(notice)

    def _write(self) -> Iterator[Fraction]:
        """Write piece by piece, and yield the time of each; pieces whose times go back are left out."""
        last, end, dropped = Fraction(-1), None, 0
        for piece in self._read():
            if piece.pts is None or piece.time_base is None:
                continue
            time = self._placed(piece.pts * piece.time_base - self._start, end)
            if end is not None and isinstance(piece, AudioFrame) and abs(time - end) <= _JITTER:
                time = end
            end = time + _seconds(piece)
            if time < -_ROUNDING:
                continue
            time = max(time, Fraction(0))
            if time <= last:
                dropped += not self._joined  # joined recordings may overlap
                continue
            last = time
            if isinstance(piece, AudioFrame):
                piece.time_base = Fraction(1, piece.sample_rate)
            piece.pts = round(time / piece.time_base)
            try:
                self._put(piece)
            except (FFmpegError, ValueError) as error:
                self._tell(f"cannot be written on from {float(time):.1f} s ({error_text(error)})")
                return
            self.pieces += 1
            yield time
        if dropped:
            self._tell(f"has times that go back; {dropped} pieces are left out")

    def _placed(self, time: Fraction, end: Fraction | None) -> Fraction:
        """Time in the output of a piece, which goes on after ``end`` where recordings were joined."""
        if end is None:
            return time + self._shifts[0]
        nearest = min(range(len(self._shifts)), key=lambda index: abs(time + self._shifts[index] - end))
        self._shifts = self._shifts[nearest:]
        return time + self._shifts[0]

    def _put(self, piece: Packet[AudioStream] | AudioFrame) -> None:
        """Write one piece."""
        if isinstance(piece, Packet):
            piece.dts, piece.stream = piece.pts, self._out
            self._output.mux(piece)
            return
        for frame in self._resampler.resample(piece):
            self._output.mux(self._out.encode(frame))

    def _read(self) -> Iterator[Packet[AudioStream] | AudioFrame]:
        """Yield packets, or decoded frames if the audio is re-encoded; damaged parts are skipped."""
        damaged = False
        try:
            for packet in self._source.demux(self._in):
                if self._copy:
                    if packet.size:
                        yield packet
                    continue
                try:
                    frames = packet.decode()
                except FFmpegError:
                    damaged = True
                    continue
                yield from frames
        except ExitError:
            self._tell(f"ends early: {stall_text()}")
        except (FFmpegError, IndexError):  # the latter is PyAV's where damage made streams appear
            damaged = True
        if damaged:
            self._tell("is damaged; the damaged parts are left out")


def _seconds(piece: Packet[AudioStream] | AudioFrame) -> Fraction:
    if isinstance(piece, AudioFrame):
        return Fraction(piece.samples, piece.sample_rate)
    return (piece.duration or 0) * (piece.time_base or Fraction(0))


def _is_copied(source: Path, container: str) -> bool:
    """Whether a kind of container takes the first packet of a source's first audio track as it is."""
    try:
        with open_container(source) as read, open_nowhere(container) as written:
            stream = written.add_stream_from_template(read.streams.audio[0])
            for packet in read.demux(read.streams.audio[0]):
                if packet.size:
                    packet.dts = packet.pts = 0
                    packet.stream = stream
                    written.mux(packet)
                    return True
    except (FFmpegError, ValueError):
        return False
    return True
