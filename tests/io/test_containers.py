"""Files that point to other files are never opened, whatever their names; covers are no films."""

from __future__ import annotations

import ast
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.io import containers, video_reader
from amodal_diffusion.io.containers import open_container
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.sound import has_sound
from amodal_diffusion.io.video_reader import read_clip
from tests.media import encode, ffmpeg, moving_disc, write_masks

RGB, MASK = moving_disc()
PACKAGE = Path(containers.__file__).parents[1]


def pointers(secret: Path) -> dict[str, str]:
    """Texts of files that name another video, in every format of this kind that FFmpeg knows by its content."""
    name = secret.name
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
        "live hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n",
        "hls after blanks": f"\n \n#EXTM3U\n#EXTINF:9,\n{name}\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{name}'\n",
        "ffconcat of itself": "ffconcat version 1.0\nfile 'clip.mp4'\nfile 'clip.mp4'\n",
        "dash": f"<?xml version='1.0'?><MPD><Period><BaseURL>{name}</BaseURL></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }


@pytest.mark.parametrize("kind", pointers(Path()))
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ts"])
def test_what_names_other_files_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    secret = encode(tmp_path / "secret.mp4", RGB)
    path = tmp_path / f"clip{suffix}"
    path.write_text(pointers(secret)[kind])
    for read in (read_clip, read_masks, has_sound):
        with pytest.raises(InputError, match=rf"clip{suffix}: (a playlist or list of files|not a video)"):
            read(path)


def test_the_command_refuses_a_playlist_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret = encode(tmp_path / "secret.mp4", RGB)
    clip = tmp_path / "clip.mp4"
    clip.write_text(pointers(secret)["hls"])
    masks = write_masks(tmp_path / "masks", MASK)
    assert main(["complete", str(clip), "--masks", str(masks), "--out", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    assert "a playlist or list of files, which is never opened" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_playlist_behind_other_bytes_is_not_probed_into(tmp_path: Path) -> None:
    """FFmpeg finds a format by its content; the list of formats holds whatever the text begins with."""
    encode(tmp_path / "secret.mp4", RGB)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"# a comment\nffconcat version 1.0\nfile 'secret.mp4'\n")
    with pytest.raises(InputError, match="not a video"):
        open_container(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(InputError, match="expected a video file, got a pipe or a device"):
        open_container(tmp_path / "clip.mp4")


@pytest.mark.parametrize("text", ["0", "-3", "soon", "inf"])
def test_a_wrong_timeout_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AMODAL_READ_TIMEOUT", text)
    with pytest.raises(InputError, match=f"AMODAL_READ_TIMEOUT: expected seconds above 0, got '{text}'"):
        open_container(encode(tmp_path / "clip.mp4", RGB))


def command(tmp_path: Path, clip: Path) -> list[str]:
    masks = write_masks(tmp_path / "masks", MASK)
    return ["complete", str(clip), "--masks", str(masks), "--out", str(tmp_path / "out"), "-q"]


STALLED = r"clip\.mkv: nothing could be read for 1e-06 s; is the disk .*or set AMODAL_READ_TIMEOUT to more seconds\n"


def test_a_file_that_does_not_open_in_time_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = encode(tmp_path / "clip.mkv", RGB)
    monkeypatch.setenv("AMODAL_READ_TIMEOUT", "0.000001")  # less than any file takes
    assert main(command(tmp_path, clip)) == 2
    assert re.fullmatch(rf"error: .*{STALLED}", capfd.readouterr().err)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("truncated", [(), ("--allow-truncated",)], ids=["", "allow-truncated"])
def test_a_file_that_stalls_while_it_is_read_is_named(
    tmp_path: Path, truncated: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)  # more than is read at once
    clip = encode(tmp_path / "clip.mkv", noise, "-c:v", "ffv1")
    monkeypatch.setenv("AMODAL_READ_TIMEOUT", "0.000001")
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *place, timeout, **rest: opened(*place, timeout=(30.0, timeout), **rest))
    assert main([*command(tmp_path, clip), *truncated]) == 2
    assert re.fullmatch(rf"error: .*{STALLED}", capfd.readouterr().err)
    assert not list(tmp_path.glob("out*"))


def test_an_interruption_while_a_video_is_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = encode(tmp_path / "clip.mp4", RGB)
    decode, seen = video_reader._decode, []

    def interrupted(*arguments: Any) -> Iterator[av.VideoFrame]:
        for frame in decode(*arguments):
            seen.append(frame.pts)
            if len(seen) == 2:
                signal.raise_signal(signal.SIGINT)
            yield frame

    monkeypatch.setattr(video_reader, "_decode", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background does not have
    try:
        assert main(command(tmp_path, clip)) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) == 2
    error = capfd.readouterr().err
    assert error.startswith("\ninterrupted")  # behind the ^C of the terminal
    assert error.strip().count("\n") == 0
    assert not list(tmp_path.glob("out*"))


def test_nothing_else_in_the_package_opens_a_container() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Attribute) and node.attr == "open" and isinstance(node.value, ast.Name)
            if named and node.value.id == "av":  # type: ignore[attr-defined]  # checked above
                found.append(path.relative_to(PACKAGE).as_posix())
    assert sorted(set(found)) == ["io/containers.py", "io/video_writer.py"]


@pytest.mark.parametrize("marked", [True, False], ids=["attached", "as a track"])
def test_a_cover_before_the_film_is_skipped(tmp_path: Path, marked: bool) -> None:
    film, clip = encode(tmp_path / "film.mp4", RGB), tmp_path / "clip.mkv"
    Image.fromarray(255 - RGB[0]).resize((640, 640)).save(tmp_path / "cover.jpg")
    disposition = ["-disposition:v:0", "attached_pic"] if marked else []
    ffmpeg("-i", tmp_path / "cover.jpg", "-i", film, "-map", "0", "-map", "1", "-c", "copy", *disposition, clip)
    found, _ = read_clip(clip)
    np.testing.assert_array_equal(found, read_clip(film)[0])


def test_of_several_films_the_largest_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = encode(tmp_path / "small.mp4", RGB[:, ::2, ::2])
    large = encode(tmp_path / "large.mp4", RGB)
    both = tmp_path / "both.mkv"
    ffmpeg("-i", small, "-i", large, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "0", both)
    assert read_clip(both)[0].shape[1:3] == RGB.shape[1:3]
    assert caplog.text.count("holds several videos; the one with index 1 is read") == 1
