"""Sound is carried in step, and what cannot be carried is said once, before the videos are written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import pytest
from av.error import FFmpegError

from amodal_diffusion.io.sound import SoundTrack
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.io.video_writer import CarriedSound, Kind, VideoLayout, VideoWriter, check_sound
from tests.media import ffmpeg

SUFFIXES: dict[Kind, str] = {"mp4": ".mp4", "prores": ".mov", "webm": ".webm"}
PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=25:duration=0.8")
BEEP = ("-f", "lavfi", "-i", "sine=frequency=440:duration=0.3,apad=whole_dur=0.8")
FILM = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def sounding(path: Path, *options: str) -> Path:
    """A clip of 0.8 s that sounds for its first 0.3 s."""
    ffmpeg(*PICTURE, *BEEP, *FILM, *options, path)
    return path


def unheard(path: Path) -> Path:
    """A clip whose sound says of itself that it has a codec that nobody knows."""
    sounding(path, "-c:a", "ac3")
    path.write_bytes(path.read_bytes().replace(b"A_AC3", b"A_XYZ"))
    return path


def misnamed(path: Path) -> Path:
    """A clip whose sound has another codec than it says."""
    sounding(path, "-c:a", "ac3")
    path.write_bytes(path.read_bytes().replace(b"A_AC3", b"A_DTS"))
    return path


def written(path: Path, kind: Kind, source: Path, sound: Path | CarriedSound) -> Path:
    clip = open_clip(source)
    with VideoWriter(path, kind, VideoLayout.of(clip), sound_of=sound) as video:
        for frame in clip:
            video.write(frame if kind == "mp4" else np.concatenate([frame, frame[..., :1]], axis=-1))
    return path


def heard(path: Path) -> list[tuple[float, float]]:
    """Begin and end in seconds of each time that it sounds, as FFmpeg's own program hears it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-ac", "1", "-ar", "8000"]
    raw = subprocess.run([*command, "-af", "aresample=async=1", "-f", "s16le", "-"], check=True, capture_output=True)
    loud = np.abs(np.frombuffer(raw.stdout, np.int16).astype(int)).reshape(-1) > 200
    places = np.flatnonzero(loud) / 8000
    starts = np.flatnonzero(np.diff(places, prepend=-1.0) > 0.1)
    return [(float(part[0]), float(part[-1])) for part in np.split(places, starts[1:])]


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "aac"), (".vob", "mp2")])
def test_joined_recordings_sound_in_step(
    tmp_path: Path, kind: Kind, suffix: str, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    piece = sounding(tmp_path / f"piece{suffix}", "-c:a", codec)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(piece.read_bytes() * 3)
    beeps = heard(written(tmp_path / f"out{SUFFIXES[kind]}", kind, joined, joined))
    assert [start for start, _ in beeps] == pytest.approx([0.0, 0.8, 1.6], abs=0.06)
    assert [end for _, end in beeps] == pytest.approx([0.3, 1.1, 1.9], abs=0.06)
    assert "its sound" not in caplog.text


def test_sound_of_a_clock_that_jumps_ahead_is_in_step(tmp_path: Path) -> None:
    first = sounding(tmp_path / "first.ts", "-c:a", "aac")
    second = sounding(tmp_path / "second.ts", "-c:a", "aac", "-output_ts_offset", "40000")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    beeps = heard(written(tmp_path / "out.mp4", "mp4", joined, joined))
    assert [start for start, _ in beeps] == pytest.approx([0.0, 0.8], abs=0.06)


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("short.mkv", ("-c:a", "truehd", "-strict", "-2")),  # pieces shorter than the milliseconds that times have
        ("low.mkv", ("-c:a", "libmp3lame", "-ar", "8000")),  # a codec that MP4 takes, though not at this rate
        ("eight.mov", ("-c:a", "pcm_s16le", "-ac", "8")),
        ("old.avi", ("-c:v", "mpeg4", "-c:a", "adpcm_ms")),
    ],
)
def test_unusual_sound_is_carried_whole(
    tmp_path: Path, kind: Kind, name: str, options: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    source = sounding(tmp_path / name, *options)
    sound = check_sound(source, [kind], open_clip(source).timing)
    ((start, end),) = heard(written(tmp_path / f"out{SUFFIXES[kind]}", kind, source, sound))
    assert (start, end) == pytest.approx((0.0, 0.3), abs=0.09)
    assert caplog.text == ""


def test_sound_that_no_decoder_knows_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = unheard(tmp_path / "clip.mkv")
    sound = check_sound(source, SUFFIXES, open_clip(source).timing)
    assert sound.kinds == frozenset()
    assert [record.getMessage() for record in caplog.records] == [
        f"{source}: its sound cannot be read or written (this FFmpeg has no decoder for it); the videos have none"
    ]
    with av.open(str(written(tmp_path / "out.mp4", "mp4", source, sound))) as container:
        assert not container.streams.audio
    assert len(caplog.records) == 1


def test_sound_that_is_all_damage_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = misnamed(tmp_path / "clip.mkv")
    sound = check_sound(source, ["mp4", "webm"], open_clip(source).timing)
    assert [record.getMessage() for record in caplog.records] == [
        f"{source}: its sound is damaged; the damaged parts are left out; the videos have none"
    ]
    for kind in ("mp4", "webm"):
        with av.open(str(written(tmp_path / f"out{SUFFIXES[kind]}", kind, source, sound))) as container:
            assert not container.streams.audio
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("method", ["_put", "_open"])
def test_sound_that_fails_while_it_is_written_is_a_notice(
    tmp_path: Path, kind: Kind, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = sounding(tmp_path / "clip.mkv", "-c:a", "flac")
    sound = check_sound(source, [kind], open_clip(source).timing)
    assert sound.kinds == {kind}
    assert caplog.text == ""

    def fail(*_: object) -> None:
        raise FFmpegError(22, "no more")

    monkeypatch.setattr(SoundTrack, method, fail)
    path = written(tmp_path / f"out{SUFFIXES[kind]}", kind, source, sound)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{source}: its sound cannot be")
    assert record.getMessage().endswith("(no more)")
    assert open_clip(path).num_frames == 20
