"""Every kind of file is read right, and a damaged one is known for what it is."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.video_reader import open_clip, read_clip
from tests.media import (
    H264,
    damage,
    encode,
    encode_whole_first,
    ffmpeg,
    moving_disc,
    truncate,
    write_frames,
)

CODECS = {
    "h264.mp4": ("-pix_fmt", "yuv420p", "-crf", "10"),
    "h265_10bit.mp4": ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none:crf=10"),
    "av1.mp4": ("-c:v", "libsvtav1", "-pix_fmt", "yuv420p", "-crf", "15"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-crf", "15", "-b:v", "0"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-q:v", "2"),
    "h264.mkv": ("-pix_fmt", "yuv444p", "-crf", "10"),
    "h264.ts": ("-pix_fmt", "yuv420p", "-crf", "10"),
    "colon: %d.mp4": ("-pix_fmt", "yuv420p", "-crf", "10"),
}


@pytest.mark.parametrize("name", CODECS)
def test_reads_every_codec(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    rgb, _ = moving_disc(height=64, width=96)
    encoded = encode(tmp_path / f"clip{Path(name).suffix}", rgb, *CODECS[name])  # FFmpeg would expand %d itself
    clip = open_clip(encoded.rename(tmp_path / name))
    assert (clip.num_frames, clip.height, clip.width, clip.positions) == (6, 64, 96, None)
    assert clip.fps == pytest.approx(8.0, rel=0.01)
    decoded = np.stack(list(clip))
    assert np.abs(decoded.astype(int) - rgb).mean() < 6
    np.testing.assert_array_equal(np.stack(list(clip)), decoded)  # a second pass gives the same
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("height", "width"), [(37, 53), (2, 2), (1, 1)])
def test_reads_odd_sizes(tmp_path: Path, height: int, width: int) -> None:
    rgb, _ = moving_disc(3, height, width)
    frames, _ = read_clip(encode(tmp_path / "clip.mkv", rgb, "-c:v", "ffv1", "-pix_fmt", "bgr0"))
    np.testing.assert_array_equal(frames, rgb)


@pytest.mark.parametrize(
    "display",
    [
        ("-display_rotation", "90"),
        ("-display_rotation", "180"),
        ("-display_rotation", "270"),
        ("-display_hflip",),
        ("-display_rotation", "90", "-display_hflip"),
    ],
)
def test_turns_and_mirrors_as_ffmpeg_does(tmp_path: Path, display: tuple[str, ...]) -> None:
    rgb, _ = moving_disc(3, 48, 80)
    encode(tmp_path / "plain.mp4", rgb)
    ffmpeg(*display, "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "turned.mp4")
    ffmpeg("-i", tmp_path / "turned.mp4", "-frames:v", "1", tmp_path / "first.png")
    expected = np.asarray(Image.open(tmp_path / "first.png").convert("RGB"))
    clip = open_clip(tmp_path / "turned.mp4")
    assert (clip.height, clip.width) == expected.shape[:2]
    np.testing.assert_array_equal(next(iter(clip)), expected)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi", "gif", "ts"])
def test_a_variable_frame_rate_is_no_damage(tmp_path: Path, suffix: str) -> None:
    rgb, _ = moving_disc(30, 32, 32)
    uneven = ("-vf", "select='not(eq(mod(n,3),1))'", "-fps_mode", "vfr")
    pixels = () if suffix == "gif" else ("-pix_fmt", "yuv420p")
    clip = open_clip(encode(tmp_path / f"clip.{suffix}", rgb, *uneven, *pixels, fps=10))
    assert clip.num_frames == len(list(clip)) == 20
    assert clip.fps == pytest.approx(6.67, rel=0.03)


def test_sound_that_lasts_longer_is_no_damage(tmp_path: Path) -> None:
    rgb, _ = moving_disc(8, 32, 32)
    encode(tmp_path / "silent.mkv", rgb)
    tone = ("-f", "lavfi", "-i", "sine=duration=3")
    ffmpeg("-i", tmp_path / "silent.mkv", *tone, "-c:v", "copy", tmp_path / "clip.mkv")
    assert open_clip(tmp_path / "clip.mkv").num_frames == 8


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm"])
def test_a_truncated_video_is_refused_and_counted(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    rgb, _ = moving_disc(24, 64, 96)
    whole = encode(tmp_path / f"whole_{name}", rgb, "-pix_fmt", "yuv420p", "-g", "4", "-movflags", "+faststart")
    cut = truncate(whole, tmp_path / name, 0.7)
    with pytest.raises(InputError, match=r"\d+ of 24 frames decode .*3 s x 8 frames a second.*read by PyAV"):
        open_clip(cut)
    clip = open_clip(cut, allow_truncated=True)
    assert clip.positions is not None
    assert clip.positions[:8] == tuple(range(8))
    assert 8 <= clip.num_frames < 24
    assert len(list(clip)) == clip.num_frames
    np.testing.assert_allclose(next(iter(clip)), next(iter(open_clip(whole))))
    assert capfd.readouterr().err == ""


def test_a_damaged_video_is_refused_though_decoders_hide_it(tmp_path: Path) -> None:
    rgb, _ = moving_disc(24, 64, 96)
    whole = encode_whole_first(tmp_path / "whole.mp4", rgb)
    hurt = damage(whole, tmp_path / "hurt.mp4", 0.5, 0.6)
    with pytest.raises(InputError, match=r"of 24 frames decode"):
        open_clip(hurt)
    clip = open_clip(hurt, allow_truncated=True)
    assert clip.positions is not None
    assert clip.positions[0] == 0
    assert clip.positions[-1] == 23
    for position, frame in zip(clip.positions, clip, strict=True):
        if position < 8:  # before the damage
            assert np.abs(frame.astype(int) - rgb[position]).mean() < 6


def test_an_mp4_without_its_index_is_named_so(tmp_path: Path) -> None:
    rgb, _ = moving_disc(24, 64, 96)
    cut = truncate(encode(tmp_path / "whole.mp4", rgb), tmp_path / "cut.mp4", 0.7)
    with pytest.raises(InputError, match=r"0 frames decode.*index \(moov\) is missing"):
        open_clip(cut, allow_truncated=True)


def test_what_is_no_clip_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    (tmp_path / "nothing").mkdir()
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "sound.wav")
    for name, problem in {
        "absent.mp4": "no such file",
        "empty.mp4": "empty",
        "text.mp4": "not a video",
        "broken.png": "picture",
        "nothing": "no pictures",
        "sound.wav": "not a video file, or of a kind that is not read",
    }.items():
        with pytest.raises(InputError, match=problem) as error:
            open_clip(tmp_path / name)
        assert name in str(error.value)


def test_pictures_come_in_natural_order(tmp_path: Path) -> None:
    rgb, _ = moving_disc(12)
    frames, fps = read_clip(write_frames(tmp_path / "frames", rgb))
    np.testing.assert_array_equal(frames, rgb)
    assert fps == 8.0


def test_pictures_of_mixed_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", moving_disc(3)[0])
    Image.new("RGB", (10, 20)).save(folder / "frame1.png")
    with pytest.raises(InputError, match=r"frame1\.png: 10x20 pixels, frame0\.png has 64x48"):
        open_clip(folder)


def test_a_picture_is_a_clip_of_one_frame_and_stands_upright(tmp_path: Path) -> None:
    frame = moving_disc(1)[0][0]
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(np.ascontiguousarray(np.rot90(frame))).save(tmp_path / "photo.png", exif=exif)
    frames, _ = read_clip(tmp_path / "photo.png")
    np.testing.assert_array_equal(frames, frame[None])


def test_16_bit_pictures_keep_their_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "gray.png")
    assert read_clip(tmp_path / "gray.png")[0].max() == 128


def test_each_frame_has_its_time(tmp_path: Path) -> None:
    rgb, _ = moving_disc(9, 32, 32)
    steady = open_clip(encode(tmp_path / "steady.mkv", rgb, fps=30000 / 1001))  # Matroska rounds to milliseconds
    assert [steady.timing.seconds(index) for index in range(3)] == [0, Fraction(1001, 30000), Fraction(2002, 30000)]
    uneven = ("-vf", "select='not(eq(mod(n,3),1))'", "-fps_mode", "vfr")
    varying = open_clip(encode(tmp_path / "uneven.mp4", rgb, *H264, *uneven, fps=10))
    assert [float(varying.timing.seconds(index)) for index in range(6)] == [0, 0.2, 0.3, 0.5, 0.6, 0.8]
    pictures = open_clip(write_frames(tmp_path / "frames", rgb))
    assert pictures.timing.seconds(8) == 1


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    rgb, _ = moving_disc(3, 48, 80)
    wide = encode(tmp_path / "wide.mp4", rgb, *H264, "-vf", "setsar=4/3")
    ffmpeg("-display_rotation", "90", "-i", wide, "-c", "copy", tmp_path / "turned.mp4")
    assert open_clip(wide).pixel_aspect == Fraction(4, 3)
    assert open_clip(tmp_path / "turned.mp4").pixel_aspect == Fraction(3, 4)
    assert open_clip(write_frames(tmp_path / "frames", rgb)).pixel_aspect == 1


UNEVEN = ("-vf", "select='not(eq(mod(n,3),1))'", "-fps_mode", "vfr", "-g", "4")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_the_beginning_of_a_varying_video_keeps_its_places(tmp_path: Path, name: str) -> None:
    rgb, _ = moving_disc(36, 64, 96)
    whole = encode(tmp_path / f"whole_{name}", rgb, *H264, *UNEVEN, "-movflags", "+faststart")
    cut = truncate(whole, tmp_path / name, 0.7)
    clip = open_clip(cut, allow_truncated=True)
    assert clip.positions is not None
    assert 8 <= clip.num_frames < 24
    assert clip.positions[:8] == tuple(range(8))
    np.testing.assert_allclose(next(iter(clip)), next(iter(open_clip(whole))))


def test_a_hole_in_a_varying_video_is_placed_by_its_index(tmp_path: Path) -> None:
    rgb, _ = moving_disc(36, 64, 96)
    whole = encode(tmp_path / "whole.mp4", rgb, *H264, *UNEVEN, "-movflags", "+faststart")
    hurt = damage(whole, tmp_path / "hurt.mp4", 0.5, 0.6)
    clip = open_clip(hurt, allow_truncated=True)
    assert clip.positions is not None
    assert (clip.positions[0], clip.positions[-1]) == (0, 23)
    frames = np.stack(list(open_clip(whole)))
    for position, frame in zip(clip.positions, clip, strict=True):
        if position < 8:  # before the damage
            np.testing.assert_allclose(frame, frames[position])


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".vob", "_few_times.vob"])
def test_joined_recordings_play_at_their_speed(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    codec = (
        "-c:v",
        "libx264" if suffix in {".ts", "_few_times.vob"} else "mpeg2video",
        "-pix_fmt",
        "yuv420p",
        "-bf",
        "0",
    )
    piece = tmp_path / f"piece{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.4", *codec, piece)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(piece.read_bytes() * 3)
    clip = open_clip(joined)
    assert clip.fps == pytest.approx(25)
    assert float(clip.timing.seconds(clip.num_frames - 1)) == pytest.approx((clip.num_frames - 1) / 25, abs=0.05)
    assert clip.num_frames == 30
    assert "joined from several pieces" in caplog.text


SCREEN = "testsrc2=size=32x32:rate=60:duration=2"  # a screen that is recorded at 60 frames a second
DROPS = {  # frames that are kept, and how many
    "one in six": ("not(mod(n,6))", 20),
    "a long pause": ("lt(n,30)+gt(n,100)", 49),
    "some left out": ("mod(n,16)", 112),
    "seldom, with a long pause": ("not(mod(n,6))*(lt(n,30)+gt(n,90))", 9),
}


def screen(path: Path, kept: str, *options: str) -> Path:
    """A recording of a screen; frames that are not kept leave nothing in the file."""
    codecs = {".webm": ("libvpx-vp9", "-deadline", "realtime"), ".mpg": ("mpeg2video",)}
    codec = codecs.get(path.suffix, ("libx264", "-preset", "veryfast"))
    chosen = ("-vf", f"select='{kept}'", "-fps_mode", "passthrough", "-c:v", *codec, "-pix_fmt", "yuv420p", "-g", "10")
    ffmpeg("-f", "lavfi", "-i", SCREEN, *chosen, *options, path)
    return path


@pytest.mark.parametrize(
    ("suffix", "drops"),
    [*product([".mkv", ".mp4", ".webm", ".avi", ".ts", ".flv"], DROPS), (".mpg", "a long pause")],
)
def test_frames_that_were_never_recorded_are_no_damage(tmp_path: Path, suffix: str, drops: str) -> None:
    kept, count = DROPS[drops]
    clip = open_clip(screen(tmp_path / f"clip{suffix}", kept))
    assert (clip.num_frames, clip.positions) == (count, None)
    last = float(clip.timing.seconds(count - 1))
    assert last == pytest.approx(1.95, abs=0.15)
    assert clip.fps == pytest.approx((count - 1) / last, rel=0.06)


@pytest.mark.parametrize("drops", DROPS)
def test_a_recording_without_a_duration_is_whole(tmp_path: Path, drops: str) -> None:
    kept, count = DROPS[drops]
    clip = open_clip(screen(tmp_path / "clip.mkv", kept, "-live", "1"))
    assert clip.num_frames == count
    assert clip.fps == pytest.approx((count - 1) / float(clip.timing.seconds(count - 1)), rel=0.06)


@pytest.mark.parametrize("drops", DROPS)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm", ".avi", ".flv"])
def test_a_recording_with_left_out_frames_that_was_cut_is_refused(tmp_path: Path, suffix: str, drops: str) -> None:
    whole = screen(tmp_path / f"whole{suffix}", DROPS[drops][0], "-movflags", "+faststart")
    with pytest.raises(InputError, match=r"frames? decode"):
        open_clip(truncate(whole, tmp_path / f"cut{suffix}", 0.6))


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi", ".mxf", ".mpg"])
def test_a_hole_in_the_bytes_is_damage(tmp_path: Path, suffix: str) -> None:
    codec = ("-c:v", "mpeg2video") if suffix in {".mxf", ".mpg"} else ()
    whole = screen(tmp_path / f"whole{suffix}", "1", *codec)
    with pytest.raises(InputError, match="truncated or damaged"):
        open_clip(damage(whole, tmp_path / f"hurt{suffix}", 0.5, 0.6))


RAW = {
    "clip.dv": ("-s", "720x576", "-pix_fmt", "yuv420p", "-f", "dv"),
    "clip.h264": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "clip.264": ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "0", "-f", "h264"),
    "clip.hevc": ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p"),
    "clip.h265": ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p", "-f", "hevc"),
    "clip.obu": ("-c:v", "libsvtav1", "-s", "64x64", "-pix_fmt", "yuv420p"),
    "av1.ivf": ("-c:v", "libsvtav1", "-s", "64x64", "-pix_fmt", "yuv420p"),
    "vp8.ivf": ("-c:v", "libvpx", "-pix_fmt", "yuv420p"),
    "clip.y4m": ("-pix_fmt", "yuv420p"),
    "clip.m2v": ("-c:v", "mpeg2video"),
    "clip.mxf": ("-c:v", "mpeg2video"),
}


@pytest.mark.parametrize("name", RAW)
def test_streams_without_a_container(tmp_path: Path, name: str) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=25:duration=0.4", *RAW[name], tmp_path / name)
    clip = open_clip(tmp_path / name)
    assert (clip.num_frames, clip.positions) == (len(list(clip)), None)
    assert clip.num_frames == 10
    assert clip.fps == pytest.approx(25)
    assert float(clip.timing.seconds(9)) == pytest.approx(0.36, abs=0.002)


SIBLINGS = {  # options before and behind the input, frames, seconds of the first
    "shifted.mov": ((), ("-output_ts_offset", "5"), 20, 5.0),
    "shifted.mp4": ((), ("-output_ts_offset", "5"), 20, 5.0),
    "shifted.mkv": ((), ("-output_ts_offset", "5"), 20, 5.0),
    "edited.mov": (("-ss", "0.3"), (), 12, 0.0),
    "edited.mp4": (("-ss", "0.3"), (), 12, 0.0),
    "pieces.mp4": ((), ("-movflags", "frag_keyframe+empty_moov"), 20, 0.08),
    "each.mp4": ((), ("-movflags", "frag_every_frame+empty_moov"), 20, 0.08),
    "ticks.avi": ((), (), 20, 0.04),
}


@pytest.mark.parametrize("name", SIBLINGS)
def test_files_with_times_of_their_own(tmp_path: Path, name: str) -> None:
    before, behind, count, start = SIBLINGS[name]
    film = ("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=25:duration=0.8", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    ffmpeg(*film, "-g", "10", "-bf", "2", tmp_path / "film.mp4")
    ffmpeg(*before, "-i", tmp_path / "film.mp4", "-c", "copy", *behind, tmp_path / name)
    clip = open_clip(tmp_path / name)
    assert (clip.num_frames, float(clip.timing.start)) == (count, pytest.approx(start))
    assert clip.fps == pytest.approx(25, rel=0.03)
    assert float(clip.timing.seconds(count - 1)) == pytest.approx((count - 1) / 25, abs=0.05)


def test_joined_avi_plays_at_its_speed(tmp_path: Path) -> None:
    rgb, _ = moving_disc(6, 32, 32)
    piece = encode(tmp_path / "piece.avi", rgb, "-c:v", "mpeg4")
    (tmp_path / "joined.avi").write_bytes(piece.read_bytes() * 3)
    clip = open_clip(tmp_path / "joined.avi")
    assert (clip.num_frames, clip.fps, clip.timing.seconds(17)) == (18, 8.0, Fraction(17, 8))


def test_a_clock_that_jumps_ahead_is_a_join(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=25:duration=0.4", "-c:v", "mpeg2video", "-bf", "0")
    for name, offset in (("first", "0"), ("second", "40000")):
        ffmpeg(*picture, "-output_ts_offset", offset, tmp_path / f"{name}.ts")
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "first.ts").read_bytes() + (tmp_path / "second.ts").read_bytes())
    clip = open_clip(joined)
    assert (clip.num_frames, clip.fps) == (20, pytest.approx(25))
    assert float(clip.timing.seconds(19)) == pytest.approx(19 / 25)
    assert "joined from several pieces" in caplog.text


def renamed(path: Path, old: bytes, new: bytes) -> Path:
    """Replace bytes of a file by as many others."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


def with_duration(path: Path, milliseconds: float) -> Path:
    """Change the duration that a Matroska file says, and take away the one of its track."""
    data = bytearray(path.read_bytes())
    place = data.index(b"\x44\x89\x88")
    data[place + 3 : place + 11] = struct.pack(">d", milliseconds)
    path.write_bytes(data)
    return renamed(path, b"DURATION", b"NOTHINGS")


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_last_frame_that_is_shown_for_long_is_no_damage(tmp_path: Path, suffix: str) -> None:
    whole = with_duration(screen(tmp_path / f"whole{suffix}", "1"), 60000.0)
    assert open_clip(whole).num_frames == 120
    with pytest.raises(InputError, match=r"of 3600 frames decode \(60 s x 60 frames a second\)"):
        open_clip(truncate(whole, tmp_path / f"cut{suffix}", 0.6))
    half_zero = bytearray(whole.read_bytes())
    half_zero[len(half_zero) // 2 :] = bytes(len(half_zero) - len(half_zero) // 2)
    (tmp_path / f"loaded_by_half{suffix}").write_bytes(half_zero)
    with pytest.raises(InputError, match="truncated or damaged"):
        open_clip(tmp_path / f"loaded_by_half{suffix}")


@pytest.mark.parametrize("milliseconds", [1e18, -5.0, float("nan"), float("inf")])
def test_an_absurd_duration_is_not_believed(tmp_path: Path, milliseconds: float) -> None:
    clip = with_duration(screen(tmp_path / "clip.mkv", "1"), milliseconds)
    assert (open_clip(clip).num_frames, open_clip(clip).fps) == (120, pytest.approx(60))


def test_an_absurd_duration_of_a_track_is_not_believed(tmp_path: Path) -> None:
    for index, text in enumerate((b"00:00:02.0.0000000", b"99999999999:00:00.", b"-1:00:00.000000000")):
        clip = renamed(screen(tmp_path / f"{index}.mkv", "1"), b"00:00:02.000000000", text)
        assert open_clip(clip).num_frames == 120


def test_a_codec_that_nobody_decodes_is_one_line(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", moving_disc(3, 32, 32)[0])
    path.write_bytes(path.read_bytes().replace(b"avc1", b"abcd"))
    with pytest.raises(InputError, match="its video is damaged, or of a codec that FFmpeg cannot decode"):
        open_clip(path)
