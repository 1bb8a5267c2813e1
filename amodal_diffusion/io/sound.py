"""The sound of a clip, carried into a video that is being written: as it is where that works, else encoded anew."""

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
    """Whether a clip has sound.

    Args:
        path: a video that opens, a folder of pictures, or one picture.
    """
    if path.is_dir():
        return False
    with open_container(path) as container:
        return any(stream.codec_context is not None for stream in container.streams.audio)


class SoundTrack:
    """The first sound of a video, written in step with the frames of another."""

    def __init__(
        self, source: Path, output: OutputContainer, *, taken: Collection[str], fallback: str, start: Fraction
    ) -> None:
        """Open the source and add a stream to the output.

        Args:
            source: a video with sound, see :func:`has_sound`.
            output: nothing was written to it yet.
            taken: FFmpeg's names of the sounds that the output takes as they are.
            fallback: encoder of any other.
            start: seconds of the source that are the output's first frame; sound before them is left out.
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
        self._shown = Fraction(-1)  # seconds of the output that sound has been written for

    def until(self, seconds: Fraction) -> None:
        """Write what is heard up to a time.

        Args:
            seconds: of the output.
        """
        while self._shown < seconds:
            reached = next(self._pieces, None)
            if reached is None:
                return
            self._shown = reached

    def finish(self) -> None:
        """Write the rest."""
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
        """Packets, or frames if sound is encoded anew; what is damaged is left out."""
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
            logger.warning("%s: its sound is damaged, and left out where it is", self._path)
