"""Copying of a clip's audio track into an output video, with re-encoding where the container requires it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path

from av import AudioFrame, AudioStream, Packet
from av.audio.resampler import AudioResampler
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError

from amodal_diffusion.io.containers import open_container

logger = logging.getLogger(__name__)


def has_sound(path: Path) -> bool:
    """Whether a clip has an audio track.

    Args:
        path: a readable video, a folder of images, or one image.
    """
    if path.is_dir():
        return False
    with open_container(path) as container:
        return any(stream.codec_context is not None for stream in container.streams.audio)


class SoundTrack:
    """Writes the first audio track of a source video into an output video, in step with its frames."""

    def __init__(
        self, source: Path, output: OutputContainer, *, taken: Collection[str], fallback: str, start: Fraction
    ) -> None:
        """Open the source and add an audio stream to the output.

        Args:
            source: a video with an audio track, see :func:`has_sound`.
            output: container to which nothing has been written yet.
            taken: FFmpeg names of the codecs that are copied without re-encoding.
            fallback: FFmpeg name of the encoder for any other codec.
            start: time in the source, in seconds, of the output's first frame; earlier audio is dropped.
        """
        self._path, self._output, self._start = source, output, start
        self._source = open_container(source)
        self._in: AudioStream = self._source.streams.audio[0]
        self._copy = self._in.codec_context.codec.canonical_name in taken
        if self._copy:
            self._out: AudioStream = output.add_stream_from_template(self._in)
        else:
            # Layouts of more than two channels, and those that files leave out, are not for every encoder; of the usual
            # rates Opus has one, and players know none above 48 kHz.
            layout = "mono" if self._in.channels == 1 else "stereo"
            rate = 48000 if fallback == "libopus" or self._in.rate > 48000 else self._in.rate
            self._out = output.add_stream(fallback, rate=rate, layout=layout)  # type: ignore[assignment]
            self._out.codec_context.flags |= Flags.bitexact
            self._resampler = AudioResampler(format=self._out.format, layout=layout, rate=rate)
        self._pieces = self._write()
        self._shown = Fraction(-1)  # seconds of audio written so far

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
        if not self._copy:
            for frame in self._resampler.resample(None):
                self._output.mux(self._out.encode(frame))
            self._output.mux(self._out.encode(None))

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _write(self) -> Iterator[Fraction]:
        """Write piece by piece, and yield the time of each; pieces whose times go back are left out."""
        last, dropped = Fraction(-1), 0
        for piece in self._read():
            if piece.pts is None or piece.time_base is None:
                continue
            time = piece.pts * piece.time_base - self._start
            if time < 0:
                continue
            if time <= last:
                dropped += 1
                continue
            last = time
            piece.pts -= round(self._start / piece.time_base)
            try:
                self._put(piece)
            except (FFmpegError, ValueError) as error:
                logger.warning("%s: its sound cannot be written on from %.1f s (%s)", self._path, float(time), error)
                return
            yield time
        if dropped:
            logger.warning("%s: %d pieces of its sound, whose times go back, are left out", self._path, dropped)

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
        except FFmpegError:
            damaged = True
        if damaged:
            logger.warning("%s: its audio is damaged; the damaged parts are left out", self._path)
