"""`amodal-diffusion complete --formats`: each format is written, read back by another library, and resumed."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from scipy import ndimage

from amodal_diffusion.cli import main
from amodal_diffusion.completion import clip, formats
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import open_clip
from tests.commands.folders import amodal_masks, contents, ended_by_a_signal, kill_at, pictures
from tests.media import H264, Bool, UInt8, encode, ffmpeg, moving_disc, write_frames, write_masks

FRAMES, HEIGHT, WIDTH = 5, 25, 41
RGB, MASK = moving_disc(FRAMES, HEIGHT, WIDTH)
OTHER = np.roll(MASK, 7, axis=1)
ALL = "png,prores,webm,mp4,gif,psd,ora,masks-mp4,davis,coco,youtube-vis,scores"


@pytest.fixture
def inputs(tmp_path: Path, model: Path) -> list[str]:
    """Arguments for a clip of two objects, "cup" and "2"."""
    write_masks(tmp_path / "masks" / "cup", MASK)
    write_masks(tmp_path / "masks" / "2", OTHER)
    return [str(write_frames(tmp_path / "frames", RGB)), "--masks", str(tmp_path / "masks"), *quick(model)]


def quick(model: Path) -> list[str]:
    return ["--model", str(model), "--device", "cpu", "-q"]


def complete(inputs: list[str], out: Path, *options: str) -> Path:
    assert main(["complete", *inputs, "--out", str(out), *options]) == 0
    return out


def decoded(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else stream.codec_context
        for packet in container.demux(stream):
            yield from decoder.decode(packet if packet.size else None)


def layers(path: Path) -> UInt8:
    """As PyAV reads a video with alpha, uint8 [F, H, W, 4]."""
    return np.stack([frame.to_ndarray(format="rgba", threads=1) for frame in decoded(path)])


def over_gray(layers: UInt8) -> UInt8:
    """Layers with straight alpha as Pillow lays them over gray, uint8 [F, H, W, 3]."""
    pictures = [Image.fromarray(layer) for layer in layers]
    gray = Image.new("RGBA", pictures[0].size, (128, 128, 128, 255))
    return np.stack([np.asarray(Image.alpha_composite(gray, picture).convert("RGB")) for picture in pictures])


def assert_same_over_gray(video: UInt8, png: UInt8, *, mean: float) -> None:
    """A video over gray is the pictures over gray: what it adds is no box, rim or black ground around the object."""
    apart = np.abs(over_gray(video).astype(np.int16) - over_gray(png))
    near = ndimage.binary_dilation(png[..., 3] > 0, np.ones((1, 9, 9)))  # where codecs with loss blur the edge
    assert apart.mean() < mean
    assert apart[~near].max(initial=0) <= 4


def test_every_format_holds_the_same_objects(tmp_path: Path, inputs: list[str]) -> None:
    out = complete(inputs, tmp_path / "out", "--formats", ALL)
    coco = COCO(str(out / "coco.json"))
    vis = json.loads((out / "youtube_vis.json").read_text())
    assert vis["videos"][0]["file_names"][1] == "frames/frame1.png"
    for number, name in enumerate(("2", "cup"), start=1):
        folder, whole = out / "objects" / name, amodal_masks(out, name)
        png = pictures(folder / "completed")
        np.testing.assert_array_equal(png[..., 3] > 0, whole)
        for video in ("completed.mov", "completed.webm"):
            layer = layers(folder / video)
            assert layer.shape == (FRAMES, HEIGHT, WIDTH, 4)
            np.testing.assert_array_equal(layer[..., 3] > 127, whole)
            assert np.abs(layer[whole].astype(int) - png[whole])[:, :3].mean() < 8
            assert_same_over_gray(layer, png, mean=2)
        np.testing.assert_array_equal(
            read_masks(folder / "amodal_masks.mp4")["1"].areas, stacked(folder / "amodal_masks.mp4").sum(axis=(1, 2))
        )
        assert (stacked(folder / "amodal_masks.mp4")[:, :HEIGHT, :WIDTH] != whole).mean() < 0.02
        labels = pictures(out / "davis" / name)
        assert Image.open(out / "davis" / name / "00000.png").mode == "P"
        np.testing.assert_array_equal(labels, whole * number)
        found = [entry for entry in coco.loadAnns(coco.getAnnIds()) if entry["track_id"] == number]
        np.testing.assert_array_equal(
            np.stack([coco.annToMask(entry) for entry in found]) > 0, whole[whole.any((1, 2))]
        )
        for file in ("coco.json", "youtube_vis.json"):
            np.testing.assert_array_equal(np.stack(list(read_masks(out / file)[name])), whole)


def stacked(path: Path) -> Bool:
    return np.stack(list(read_masks(path)["1"]))


def test_only_what_is_asked_for_is_left(tmp_path: Path, inputs: list[str]) -> None:
    out = complete(inputs, tmp_path / "out", "--formats", "webm,coco", "--object", "cup")
    assert sorted(path.name for path in out.iterdir() if path.suffix not in (".jsonl",)) == [
        "coco.json", "contact_sheet.png", "manifest.json", "objects", "overlay.mp4", "summary.json"
    ]  # fmt: skip
    assert sorted(path.name for path in (out / "objects" / "cup").iterdir()) == [
        "amodal_masks", "completed.webm", "object.json"
    ]  # fmt: skip
    complete(inputs, tmp_path / "out", "--formats", "davis", "--object", "cup", "--overwrite")  # all of it is ours
    assert not (out / "coco.json").exists()


def test_a_soft_edge_leaves_the_visible_pixels(tmp_path: Path, inputs: list[str]) -> None:
    options = ("--object", "cup", "--formats", "png,prores", "--soft-edge", "3")
    soft = complete(inputs, tmp_path / "soft", *options) / "objects" / "cup"
    multiplied = complete(inputs, tmp_path / "multiplied", *options, "--alpha", "premultiplied") / "objects" / "cup"
    assert not (soft / "completed").exists()
    straight, ready = pictures(soft / "layers"), pictures(multiplied / "layers")
    for layer in (straight, ready):
        np.testing.assert_array_equal(layer[MASK][:, :3], RGB[MASK])
        assert (layer[MASK][:, 3] == 255).all()
        assert ((layer[..., 3] > 0) & (layer[..., 3] < 255)).any()
    np.testing.assert_array_equal(straight[..., 3], ready[..., 3])
    edge = (straight[..., 3] > 0) & (straight[..., 3] < 255)
    np.testing.assert_array_equal(ready[edge][:, 0], (straight[edge][:, 0] * (straight[edge][:, 3] / 255)).round())
    video = layers(multiplied / "completed.mov")
    assert np.abs(video.astype(int) - ready).mean() < 3
    assert np.abs(layers(soft / "completed.mov")[..., 3].astype(int) - straight[..., 3]).mean() < 1


def test_times_shape_and_sound_of_the_clip_are_kept(tmp_path: Path, model: Path) -> None:
    rgb, mask = moving_disc(9, 32, 48)
    uneven = ("-vf", "select='not(eq(mod(n,3),1))',setsar=4/3", "-fps_mode", "vfr")
    encode(tmp_path / "silent.mp4", rgb, *H264, *uneven, fps=10)
    clip = tmp_path / "clip.mp4"
    ffmpeg("-i", tmp_path / "silent.mp4", "-f", "lavfi", "-i", "sine=duration=0.9", "-c:v", "copy", "-c:a", "aac", clip)
    masks = write_masks(tmp_path / "masks", mask[np.arange(9) % 3 != 1])
    arguments = [str(clip), "--masks", str(masks), *quick(model)]
    out = complete(arguments, tmp_path / "out", "--formats", "prores,webm,masks-mp4", "--audio")
    expected = [float(open_clip(clip).timing.seconds(index)) for index in range(6)]
    assert expected == [0, 0.2, 0.3, 0.5, 0.6, 0.8]
    sounds = {}
    for path in (out / "overlay.mp4", *(out / "objects" / "1").glob("*.*")):
        if path.suffix == ".json":
            continue
        read = open_clip(path)
        assert [float(read.timing.seconds(index)) for index in range(6)] == pytest.approx(expected, abs=0.0006)
        assert float(read.pixel_aspect) == pytest.approx(4 / 3, rel=0.02)
        with av.open(str(path)) as container:
            sounds[path.name] = container.streams.audio[0].codec_context.codec.canonical_name
    assert sounds == {
        "overlay.mp4": "aac", "completed.mov": "aac", "completed.webm": "opus", "amodal_masks.mp4": "aac"
    }  # fmt: skip


def test_a_clip_without_sound_says_so(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    complete(inputs, tmp_path / "out", "--audio", "--stages", "masks", "--object", "cup")
    assert capfd.readouterr().err == f"warning: --audio: {tmp_path / 'frames'} has no sound; the videos have none\n"


def test_sound_that_cannot_be_carried_is_said_before_the_work(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rgb, mask = moving_disc(4, 32, 48)
    sounding = tmp_path / "clip.mkv"
    encode(tmp_path / "silent.mkv", rgb)
    tone = ("-f", "lavfi", "-i", "sine=duration=0.5", "-c:a", "ac3")
    ffmpeg("-i", tmp_path / "silent.mkv", *tone, "-c:v", "copy", sounding)
    sounding.write_bytes(sounding.read_bytes().replace(b"A_AC3", b"A_XYZ"))
    arguments = [str(sounding), "--masks", str(write_masks(tmp_path / "masks", mask)), *quick(model), "--audio"]
    reason = "cannot be read or written (this FFmpeg has no decoder for it)"
    begun = []
    work = clip.complete_objects

    def complete_objects(*given: Any) -> None:
        begun.append(capfd.readouterr().err)
        work(*given)

    monkeypatch.setattr(clip, "complete_objects", complete_objects)
    out = complete(arguments, tmp_path / "out", "--formats", "prores,webm,masks-mp4")
    assert begun == [f"warning: {sounding}: its sound {reason}; the videos have none\n"]
    assert "sound" not in capfd.readouterr().err
    with av.open(str(out / "overlay.mp4")) as container:
        assert not container.streams.audio


KINDS = {
    "10-bit": ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none"),
    "gray": ("-c:v", "ffv1", "-pix_fmt", "gray"),
    "alpha": ("-c:v", "ffv1", "-pix_fmt", "bgra"),
    "1000 fps": (*H264, "-r", "1000"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_clips_of_all_kinds(tmp_path: Path, model: Path, kind: str) -> None:
    rgb, mask = moving_disc(3, 48, 64)
    fps = 1000 if kind == "1000 fps" else 8
    clip = encode(tmp_path / "clip.mkv", rgb, *KINDS[kind], fps=fps)
    arguments = [str(clip), "--masks", str(write_masks(tmp_path / "masks", mask)), *quick(model)]
    out = complete(arguments, tmp_path / "out", "--formats", "prores,webm")
    seen = np.stack(list(open_clip(clip)))[mask].astype(int)
    for path in (out / "objects" / "1").glob("completed.*"):
        read = open_clip(path)
        assert (read.num_frames, read.height, read.width) == (3, 48, 64)
        assert read.timing.seconds(2) == pytest.approx(Fraction(2, fps), abs=0.0006)
        assert np.abs(layers(path)[mask][:, :3] - seen).mean() < 6


def test_a_clip_that_is_turned_by_its_metadata(tmp_path: Path, model: Path) -> None:
    rgb, mask = moving_disc(3)
    encode(tmp_path / "plain.mp4", rgb)
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "clip.mp4")
    upright = np.ascontiguousarray(np.rot90(mask, axes=(1, 2)))
    arguments = [str(tmp_path / "clip.mp4"), "--masks", str(write_masks(tmp_path / "masks", upright)), *quick(model)]
    out = complete(arguments, tmp_path / "out", "--formats", "prores")
    layer = layers(out / "objects" / "1" / "completed.mov")
    assert layer.shape == (3, 64, 48, 4)
    assert np.abs(layer[upright][:, :3].astype(int) - np.rot90(rgb, axes=(1, 2))[upright]).mean() < 6


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--formats", "png,mov"), f"--formats: expected some of {ALL}, got mov; did you mean prores?"),
        (("--formats", "TIFF"), "got tiff; did you mean png?"),
        (("--formats", "photoshop"), "got photoshop; did you mean psd?"),
        (("--formats", "youtubevis"), "got youtubevis; did you mean youtube-vis?"),
        (("--formats", "psd", "--stages", "masks"), "--formats: psd holds layers, which --stages masks leaves out"),
        (("--layer-frames", "1,x"), "--layer-frames: expected auto, all, or frames such as 1,5,9, got 1,x"),
        (("--layer-frames", "0,5"), "--layer-frames: expected frames from 0 to 4, got 5"),
        (("--over-color", "mud"), "--over-color: expected a CSS color name or #rrggbb, got mud"),
        (("--shrink-mask", "2", "--stages", "masks"), "--shrink-mask: needs stage 2"),
        (("--formats", ","), f"--formats: expected some of {ALL}, got none"),
        (("--formats", "webm", "--stages", "masks"), "--formats: webm holds layers, which --stages masks leaves out"),
        (("--alpha", "none"), "alpha: "),
        (("--soft-edge", "-1"), "--soft-edge: expected a whole number, at least 0, got '-1'"),
    ],
)
def test_wrong_options(
    tmp_path: Path, inputs: list[str], options: tuple[str, ...], problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["complete", *inputs, "--out", str(tmp_path / "out"), *options])
    except SystemExit as stop:
        status = int(stop.code or 0)
    error = capfd.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert problem in error
    assert not list(tmp_path.glob("out*"))


def test_an_encoder_that_is_missing_is_known_before_any_network(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    arguments = ["complete", *inputs, "--out", str(tmp_path / "out"), "--formats", "webm", "--model", "nosuch"]
    assert main(arguments) == 2
    assert capfd.readouterr().err.startswith("error: --formats: webm needs FFmpeg's libvpx-vp9, which this build of")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow  # test_resuming.py kills a run in png alone
def test_a_killed_run_goes_on_and_gives_the_same_files(tmp_path: Path, inputs: list[str]) -> None:
    out = tmp_path / "out"
    options = ["--formats", ALL.removeprefix("png,"), "--soft-edge", "2"]
    kill = kill_at(formats, "read_rgba", "cup", "completed", "00003.png")
    assert ended_by_a_signal(kill, ["complete", *inputs, "--out", out, *options]) == signal.SIGKILL
    part = tmp_path / "out.partial" / "objects"
    finished = (part / "2" / "completed.mov").stat().st_mtime_ns
    assert (part / "cup" / "completed.mov").is_file()
    complete(inputs, out, *options)
    assert (out / "objects" / "2" / "completed.mov").stat().st_mtime_ns == finished
    assert contents(out) == contents(complete(inputs, tmp_path / "whole", *options))


def test_a_run_that_is_stopped_while_layers_are_removed_goes_on(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    unlink = Path.unlink

    def interrupt(path: Path, missing_ok: bool = False) -> None:
        if path.parts[-3:] == ("cup", "completed", "00003.png"):
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupt)
    assert main(["complete", *inputs, "--out", str(out), "--formats", "webm"]) == 130
    monkeypatch.undo()
    record = (tmp_path / "out.partial" / "objects" / "cup" / "object.json").stat().st_mtime_ns
    complete(inputs, out, "--formats", "webm")
    assert (out / "objects" / "cup" / "object.json").stat().st_mtime_ns == record
    assert not list(out.glob("objects/*/completed"))


def test_a_full_disk_stops_with_one_line_and_what_is_finished_stays(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rgb, mask, other = (array.repeat(4, axis=1).repeat(4, axis=2) for array in (RGB, MASK, OTHER))
    write_masks(tmp_path / "masks" / "cup", mask)
    write_masks(tmp_path / "masks" / "2", other)
    inputs = [str(write_frames(tmp_path / "frames", rgb)), "--masks", str(tmp_path / "masks"), *quick(model)]
    out, options = tmp_path / "out", ("--formats", "prores,coco")
    whole = complete(inputs, tmp_path / "whole", *options)
    largest = (whole / "objects" / "2" / "completed.mov").stat().st_size
    others = [path for path in whole.rglob("*") if path.is_file() and path.suffix != ".mov"]
    assert all(path.stat().st_size < largest - 512 for path in others)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 512, limits[1]))  # the system refuses larger files
    try:
        assert main(["complete", *inputs, "--out", str(out), *options]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "out.partial: no room left to write" in error
    assert "the same command resumes" in error
    record = (tmp_path / "out.partial" / "objects" / "cup" / "object.json").stat().st_mtime_ns
    complete(inputs, out, *options)
    assert (out / "objects" / "cup" / "object.json").stat().st_mtime_ns == record
    assert contents(out) == contents(whole)


def test_a_full_disk_while_pictures_are_written(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(formats, "write_label_png", full)
    assert main(["complete", *inputs, "--out", str(tmp_path / "out"), "--formats", "davis"]) == 2
    assert "no room left to write (No space left on device)" in capfd.readouterr().err
    monkeypatch.undo()
    complete(inputs, tmp_path / "out", "--formats", "davis")


def test_labels_of_more_objects_than_asked_that_vanish_and_return(tmp_path: Path, model: Path) -> None:
    labels = np.zeros(MASK.shape, np.uint8)
    labels[:, 2:9, 3:12] = 4
    labels[:, 12:20, 20:35] = 9
    labels[2] = 0
    labels[3:, 0:2] = 200
    masks = write_masks(tmp_path / "masks", labels, mode="P")
    arguments = [str(write_frames(tmp_path / "frames", RGB)), "--masks", str(masks), *quick(model)]
    out = complete(arguments, tmp_path / "out", "--object", "9", "--formats", "davis,youtube-vis", "--stages", "masks")
    assert [path.name for path in (out / "objects").iterdir()] == ["9"]
    assert json.loads((out / "objects" / "9" / "object.json").read_text())["visible_area"] == [120, 120, 0, 120, 120]
    assert json.loads((out / "youtube_vis.json").read_text())["annotations"][0]["track_id"] == 9
    again = [arguments[0], "--masks", str(out / "youtube_vis.json"), *quick(model)]
    complete(again, tmp_path / "again", "--stages", "masks")
    assert [path.name for path in (tmp_path / "again" / "objects").iterdir()] == ["9"]


@pytest.mark.slow
@pytest.mark.skipif("AMODAL_SHARED" not in os.environ, reason="AMODAL_SHARED does not name the shared material")
@pytest.mark.parametrize("name", ["person", "birdcage"])
def test_real_clips_open_elsewhere(tmp_path: Path, model: Path, name: str) -> None:
    clip = Path(os.environ["AMODAL_SHARED"]) / "clips" / name
    arguments = [str(clip / "clip.mp4"), "--masks", str(clip / "masks"), *quick(model)]
    out = complete(arguments, tmp_path / "out", "--formats", "png,prores,webm") / "objects" / "1"
    png = pictures(out / "completed")
    for video, color in (("completed.mov", 1), ("completed.webm", 4)):
        layer = layers(out / video)
        np.testing.assert_array_equal(layer[..., 3] > 127, png[..., 3] > 127)
        inside = png[..., 3] > 0
        assert np.abs(layer[inside][:, :3].astype(np.int16) - png[inside][:, :3]).mean() < color
        assert_same_over_gray(layer[::8], png[::8], mean=color / 2)
