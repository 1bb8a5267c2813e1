"""Each kind of video, read back by other means than it was written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.sound import has_sound
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.io.video_writer import Kind, VideoLayout, VideoWriter, missing_encoders
from tests.media import UInt8, damage, encode, ffmpeg, moving_disc

KINDS: dict[Kind, str] = {"mp4": "clip.mp4", "prores": "clip.mov", "webm": "clip.webm"}


def written(path: Path, kind: Kind, frames: UInt8, layout: VideoLayout, *, sound_of: Path | None = None) -> Path:
    with VideoWriter(path, kind, layout, sound_of=sound_of) as video:
        for frame in frames:
            video.write(frame)
    return path


def layer(frames: int = 5, height: int = 48, width: int = 64) -> UInt8:
    """A disc of one color that is carried over its edge, so that only alpha has an edge."""
    _, mask = moving_disc(frames, height, width)
    color = np.broadcast_to(np.array((200, 40, 90), np.uint8), (*mask.shape, 3))
    return np.concatenate([color, mask[..., None] * np.uint8(255)], axis=-1)


def pixels(kind: Kind, frames: UInt8) -> UInt8:
    return frames[..., :3] if kind == "mp4" else frames


def steady(frames: int, height: int, width: int, fps: float = 8) -> VideoLayout:
    return VideoLayout(height, width, Timing.steady(frames, fps))


def decoded(path: Path) -> Iterator[av.VideoFrame]:
    """What PyAV reads, with the one decoder that gives VP9's alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else stream.codec_context
        for packet in container.demux(stream):
            yield from decoder.decode(packet if packet.size else None)


def by_ffmpeg(path: Path, height: int, width: int) -> UInt8:
    """What FFmpeg's own program reads, uint8 [F, H, W, 4]."""
    decoder = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *decoder, "-i", str(path), "-fps_mode", "passthrough"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgba", "-"], check=True, capture_output=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, height, width, 4)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
@pytest.mark.parametrize("kind", ["prores", "webm"])
def test_layers_come_back_with_their_alpha_and_size(tmp_path: Path, kind: Kind, height: int, width: int) -> None:
    frames = layer(height=height, width=width)
    path = written(tmp_path / KINDS[kind], kind, frames, steady(5, height, width))
    by_pyav = np.stack([frame.to_ndarray(format="rgba", threads=1) for frame in decoded(path)])
    for read in (by_pyav, by_ffmpeg(path, height, width)):
        assert read.shape == frames.shape
        assert np.abs(read[..., :3].astype(int) - frames[..., :3]).max() <= 6
        assert np.abs(read[..., 3].astype(int) - frames[..., 3]).mean() < 1.5
        np.testing.assert_array_equal(read[..., 3] > 127, frames[..., 3] > 127)


def test_vp9_says_that_it_has_alpha(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.webm", "webm", layer(), steady(5, 48, 64))
    with av.open(str(path)) as container:
        assert {name.lower(): value for name, value in container.streams.video[0].metadata.items()}["alpha_mode"] == "1"


@pytest.mark.parametrize(("height", "width"), [(48, 64), (37, 53)])
def test_mp4_is_padded_not_scaled(tmp_path: Path, height: int, width: int) -> None:
    rgb, _ = moving_disc(5, height, width)
    clip = open_clip(written(tmp_path / "clip.mp4", "mp4", rgb, steady(5, height, width, 29.97)))
    assert (clip.num_frames, clip.height, clip.width) == (5, height + height % 2, width + width % 2)
    assert clip.fps == pytest.approx(29.97)
    assert np.abs(np.stack(list(clip))[:, :height, :width].astype(int) - rgb).mean() < 6


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_shown_when_the_input_shows_them(tmp_path: Path, kind: Kind) -> None:
    timing = Timing((0, 3003, 6006, 30000, 31001), Fraction(1, 90000), Fraction(10))
    path = written(tmp_path / KINDS[kind], kind, pixels(kind, layer()), VideoLayout(48, 64, timing))
    times = [float(frame.pts * open_unit(path)) for frame in decoded(path) if frame.pts is not None]
    expected = [float(timing.seconds(index)) for index in range(5)]
    assert times == pytest.approx(expected, abs=0.0006 if kind == "webm" else 1e-9)  # WebM counts milliseconds


def open_unit(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        unit = container.streams.video[0].time_base
        assert unit is not None
        return unit


@pytest.mark.parametrize("fps", [1000, 30000 / 1001, 8, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_rates(tmp_path: Path, kind: Kind, fps: float) -> None:
    clip = open_clip(written(tmp_path / KINDS[kind], kind, pixels(kind, layer()), steady(5, 48, 64, fps)))
    assert (clip.num_frames, clip.fps) == (5, pytest.approx(fps, rel=0.02))


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_keep_their_shape(tmp_path: Path, kind: Kind) -> None:
    frames = layer()
    layout = replace(steady(5, 48, 64), pixel_aspect=Fraction(4, 3))
    path = written(tmp_path / KINDS[kind], kind, pixels(kind, frames), layout)
    clip = open_clip(path)
    assert float(clip.pixel_aspect) == pytest.approx(4 / 3, rel=0.01)  # WebM has whole pixels of a display
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if kind == "webm":
        np.testing.assert_array_equal(by_ffmpeg(path, 48, 64)[..., 3] > 127, frames[..., 3] > 127)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_each_time(tmp_path: Path, kind: Kind) -> None:
    source = silent_and_sounding(tmp_path, "flac.mkv", "flac")
    frames = layer(12, 47, 63)
    versions = {
        written(
            tmp_path / KINDS[kind], kind, pixels(kind, frames), steady(12, 47, 63), sound_of=source
        ).read_bytes()
        for _ in range(6)
    }  # fmt: skip
    assert len(versions) == 1


def silent_and_sounding(folder: Path, name: str, codec: str) -> Path:
    """A video of 1.5 s with a tone as long, from a silent one beside it."""
    silent = encode(folder / "silent.mkv", moving_disc(12)[0])
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1.5")
    video = ("-c:v", "libvpx-vp9") if name.endswith("webm") else ("-c:v", "copy")
    ffmpeg("-i", silent, *tone, *video, "-c:a", codec, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("kind", "name", "codec", "written_as"),
    [
        ("mp4", "in.mp4", "aac", "aac"),
        ("prores", "in.mp4", "aac", "aac"),
        ("webm", "in.mp4", "aac", "opus"),
        ("mp4", "in.mov", "pcm_s16le", "aac"),
        ("prores", "in.mov", "pcm_s16le", "pcm_s16le"),
        ("webm", "in.webm", "libopus", "opus"),
        ("prores", "in.ts", "mp2", "pcm_s16le"),
    ],
)
def test_sound_is_carried(tmp_path: Path, kind: Kind, name: str, codec: str, written_as: str) -> None:
    source = silent_and_sounding(tmp_path, name, codec)
    assert has_sound(source)
    layout = replace(VideoLayout.of(open_clip(source)), height=48, width=64)
    path = written(tmp_path / KINDS[kind], kind, pixels(kind, layer(12)), layout, sound_of=source)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == written_as
    pitch, seconds = tone_of(path)
    assert pitch == pytest.approx(440, abs=4)
    assert seconds == pytest.approx(1.5, abs=0.08)
    assert open_clip(path).timing.start == 0


def tone_of(path: Path) -> tuple[float, float]:
    """Loudest frequency in hertz, and seconds of sound, as FFmpeg's own program hears it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-ac", "1", "-ar", "8000"]
    raw = subprocess.run([*command, "-f", "s16le", "-"], check=True, capture_output=True)
    samples = np.frombuffer(raw.stdout, np.int16)
    loudest = int(np.abs(np.fft.rfft(samples)).argmax())
    return loudest * 8000 / len(samples), len(samples) / 8000


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_sound_is_left_out_where_it_is(tmp_path: Path, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    silent = encode(tmp_path / "silent.mkv", moving_disc(24)[0])
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=3")
    ffmpeg("-i", silent, *tone, "-c:v", "copy", "-c:a", "alac", tmp_path / "whole.mov")
    source = damage(tmp_path / "whole.mov", tmp_path / "hurt.mov", 0.6, 0.7)
    path = written(tmp_path / KINDS[kind], kind, pixels(kind, layer(24)), steady(24, 48, 64), sound_of=source)
    if kind == "webm":  # the others take it as it is
        assert "its sound is damaged; the damaged parts are left out" in caplog.text
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        times = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.size]
    assert max(times) == pytest.approx(2.95, abs=0.1)  # what comes after the damage is heard when it was


def test_what_has_no_sound(tmp_path: Path) -> None:
    assert not has_sound(encode(tmp_path / "silent.mkv", moving_disc(3)[0]))
    assert not has_sound(tmp_path)


def test_encoders_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_encoders("webm", sound=True) == []
    monkeypatch.setattr(av, "codecs_available", {"mpeg4", "libvpx-vp9"})
    assert missing_encoders("mp4", sound=False) == []
    assert missing_encoders("mp4", sound=True) == ["aac"]
    assert missing_encoders("prores", sound=False) == ["prores_ks"]
    with pytest.raises(InputError, match="prores_ks"):
        VideoWriter(tmp_path / "clip.mov", "prores", steady(5, 48, 64))


def test_the_encoder_of_last_resort_takes_any_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    timing = Timing((0, 3003, 6006, 30000, 31001), Fraction(1, 90000), Fraction(10))
    clip = open_clip(written(tmp_path / "clip.mp4", "mp4", layer()[..., :3], VideoLayout(48, 64, timing)))
    assert [float(clip.timing.seconds(index)) for index in range(5)] == pytest.approx(
        [float(timing.seconds(index)) for index in range(5)], abs=1e-4
    )


def test_frames_of_another_shape_or_number(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mov", "prores", steady(1, 8, 8)) as video:
        with pytest.raises(InputError, match=r"\[8, 8, 4\], got \[8, 8, 3\]"):
            video.write(np.zeros((8, 8, 3), np.uint8))
        video.write(np.zeros((8, 8, 4), np.uint8))
        with pytest.raises(InputError, match="expected 1 frames, got more"):
            video.write(np.zeros((8, 8, 4), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unnamed.avi", ("-c:a", "pcm_s16le", "-ar", "44100", "-ac", "2")),  # AVI says no layout of channels
        ("fast.mov", ("-c:a", "pcm_s24le", "-ar", "96000", "-ac", "1")),
        ("many.mov", ("-c:a", "pcm_s16le", "-ar", "48000", "-ac", "6")),
    ],
)
def test_sound_of_any_rate_and_layout_is_heard(tmp_path: Path, kind: Kind, name: str, options: tuple[str, ...]) -> None:
    source = tmp_path / name
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=24:duration=1")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=1")
    ffmpeg(*picture, *tone, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", *options, source)
    path = written(tmp_path / KINDS[kind], kind, pixels(kind, layer(24)), steady(24, 48, 64), sound_of=source)
    with av.open(str(path)) as container:
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=-1)
        rate = container.streams.audio[0].rate
    assert heard.size >= 0.8 * rate
    assert np.abs(heard.astype(float)).max() > 0


def test_sound_whose_times_go_back_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    piece = tmp_path / "piece.ts"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=24:duration=0.5")
    ffmpeg(
        *picture,
        "-f",
        "lavfi",
        "-i",
        "sine=duration=0.5",
        "-c:v",
        "libx264",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
        piece,
    )
    source = tmp_path / "joined.ts"
    source.write_bytes(piece.read_bytes() * 2)
    path = written(tmp_path / "out.mp4", "mp4", pixels("mp4", layer(24)), steady(24, 48, 64), sound_of=source)
    assert has_sound(path)
    assert "its sound has times that go back; 23 pieces are left out" in caplog.text


def test_an_error_on_its_way_stays_the_one_that_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_encode", fail)
    video = VideoWriter(tmp_path / "clip.mp4", "mp4", steady(1, 8, 8))
    video.write(np.zeros((8, 8, 3), np.uint8))
    video.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # the encoder's error does not take its place
