"""`amodal-diffusion complete`: what it writes, what each option changes, and that no interruption loses anything."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.completion import clip as completion
from amodal_diffusion.completion import objects
from amodal_diffusion.io.images import read_integers
from amodal_diffusion.io.result_folder import MANIFEST
from tests.commands.folders import amodal_masks, contents, ended_by_a_signal, fail_at, kill_at, pictures
from tests.factories import tiny_depth_folder
from tests.media import moving_disc, write_frames, write_masks

FRAMES = 5
RGB, MASK = moving_disc(FRAMES, 24, 40)
OTHER = np.roll(MASK, 7, axis=1)


@pytest.fixture
def inputs(tmp_path: Path, model: Path) -> list[str]:
    """Arguments for a clip of two objects, "cup" and "2"."""
    write_masks(tmp_path / "masks" / "cup", MASK)
    write_masks(tmp_path / "masks" / "2", OTHER)
    clip = write_frames(tmp_path / "frames", RGB)
    return [str(clip), "--masks", str(tmp_path / "masks"), "--model", str(model), "--device", "cpu"]


def complete(inputs: list[str], out: Path, *options: str | Path) -> dict:
    assert main(["complete", *inputs, "--out", str(out), "-q", *map(str, options)]) == 0
    return json.loads((out / "summary.json").read_text())


def times(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*.png")}


def test_what_is_written(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    summary = complete(inputs, out, "--seed", "3")
    files = [MANIFEST, "contact_sheet.png", "objects", "order.jsonl", "overlay.mp4", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted(files)
    assert sorted(path.name for path in (out / "objects").iterdir()) == ["2", "cup"]
    for name, mask in (("cup", MASK), ("2", OTHER)):
        whole, rgba = amodal_masks(out, name), pictures(out / "objects" / name / "completed")
        assert not (mask & ~whole).any()
        np.testing.assert_array_equal(rgba[..., 3], whole * np.uint8(255))
        np.testing.assert_array_equal(rgba[mask][:, :3], RGB[mask])
        assert summary["objects"][name]["visible_area"] == mask.sum(axis=(1, 2)).tolist()
        assert summary["objects"][name]["amodal_area"] == whole.sum(axis=(1, 2)).tolist()
        assert summary["objects"][name]["seconds"]["content_completion"] > 0
    assert (summary["format"], summary["seed"]) == (2, 3)
    assert summary["settings"]["steps"] is None
    assert summary["sampling"]["amodal_segmentation"]["num_inference_steps"] == 1
    assert summary["clip"] | {"path": ""} == {"path": "", "frames": FRAMES, "fps": 8.0, "height": 24, "width": 40,
                                              "color": ""}  # fmt: skip
    assert summary["masks"] == {"cup": "binary", "2": "binary"}
    assert {"amodal-diffusion", "torch", "diffusers"} <= summary["versions"].keys()
    assert summary["depth"] == "none"
    printed = capfd.readouterr()
    assert printed.out == f"{out}\n"
    assert printed.err == ""


def test_one_object_masks_only_with_bars(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["complete", *inputs, "--out", str(out), "--object", "cup", "--stages", "masks", "--audio"]) == 0
    assert sorted(path.name for path in (out / "objects").iterdir()) == ["cup"]
    assert sorted(path.name for path in (out / "objects" / "cup").iterdir()) == ["amodal_masks", "object.json"]
    printed = capfd.readouterr()
    assert "depth: the model names no depth network, going without" in printed.err
    assert "object cup: 100%" in printed.err
    assert "overlay: 100%" in printed.err
    first, hidden, warning, sheet, last = printed.out.splitlines()
    assert first.startswith("1 object, 5 frames, ")
    assert hidden.startswith("hidden: ")
    assert "colors" not in hidden
    assert warning == f"warning: --audio: {tmp_path / 'frames'} has no sound; the videos have none"
    assert (sheet, last) == (f"open first: {out / 'contact_sheet.png'}", str(out))


def test_the_result_lies_beside_the_clip_by_default(
    tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["complete", *inputs, "--stages", "masks", "-q"]
    own = tmp_path / "frames_amodal"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    assert main(arguments) == 2
    assert f"out: {own}: not empty; choose another folder" in capfd.readouterr().err
    assert [path.name for path in own.iterdir()] == ["notes.txt"]
    (own / "notes.txt").unlink()
    assert main(arguments) == 0
    assert (own / "summary.json").is_file()
    assert not list((tmp_path / "frames").glob("*amodal*"))
    assert main([*arguments, "-o", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "contact_sheet.png").read_bytes() == (own / "contact_sheet.png").read_bytes()


def test_an_object_that_is_not_there(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["complete", *inputs, "--out", str(tmp_path / "out"), "--object", "dog"]) == 2
    assert capfd.readouterr().err == "error: --object: no object dog in the masks; there are 2, cup\n"


def test_results_inside_the_inputs(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["complete", *inputs, "--out", str(tmp_path / "masks" / "out")]) == 2
    assert "which is input; choose another folder" in capfd.readouterr().err


def test_known_whole_masks_are_painted_as_they_are(tmp_path: Path, inputs: list[str]) -> None:
    known = MASK | np.roll(MASK, 3, axis=2)
    write_masks(tmp_path / "known", known)
    summary = complete(inputs, tmp_path / "out", "--object", "cup", "--amodal-masks", tmp_path / "known")
    np.testing.assert_array_equal(amodal_masks(tmp_path / "out", "cup"), known)
    again = complete(inputs, tmp_path / "again", "--object", "cup", "--amodal-masks", tmp_path / "out" / "objects")
    assert again["objects"]["cup"]["amodal_area"] == summary["objects"]["cup"]["amodal_area"]


def test_whole_masks_of_other_objects(tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    write_masks(tmp_path / "known" / "cup", MASK)
    out = ["--out", str(tmp_path / "out"), "--amodal-masks", str(tmp_path / "known")]
    assert main(["complete", *inputs, *out]) == 2
    assert "no masks of object 2; there are cup" in capfd.readouterr().err
    assert main(["complete", *inputs, *out, "--stages", "masks"]) == 2
    assert "--stages masks" in capfd.readouterr().err


def test_depth_from_files(tmp_path: Path, inputs: list[str]) -> None:
    metres = np.linspace(1, 9, FRAMES * 24 * 40, dtype=np.float32).reshape(FRAMES, 24, 40)
    np.save(tmp_path / "metres.npy", metres)
    (tmp_path / "png").mkdir()
    for index, values in enumerate(np.rint(1 / metres * 60000).astype(np.uint16)):
        Image.fromarray(values).save(tmp_path / "png" / f"{index}.png")
    quick = ("--object", "cup", "--stages", "masks")
    inverse = complete(inputs, tmp_path / "a", *quick, "--depth", tmp_path / "metres.npy", "--depth-inverse")
    nearness = complete(inputs, tmp_path / "b", *quick, "--depth", tmp_path / "png")
    without = complete(inputs, tmp_path / "c", *quick, "--depth", "none")
    assert [summary["depth"] for summary in (inverse, nearness, without)] == ["given", "given", "none"]
    assert (amodal_masks(tmp_path / "a", "cup") != amodal_masks(tmp_path / "b", "cup")).mean() < 0.01
    assert inverse["objects"] != without["objects"]


@pytest.mark.filterwarnings("error::UserWarning")
def test_depth_from_a_network(tmp_path: Path, inputs: list[str]) -> None:
    network = tiny_depth_folder(tmp_path / "depth-network")
    quick = ("--object", "cup", "--stages", "masks", "--depth-model", network)
    assert complete(inputs, tmp_path / "out", *quick)["depth"] == "estimated"
    assert not list((tmp_path / "out").glob("*depth*"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--depth", "nosuch.npy"), "depth: nosuch.npy: no such file"),
        (("--depth-model", "./nosuch"), "depth model ./nosuch"),
        (("--depth-model", "x", "--depth", "none"), "--depth-model: nothing to estimate"),
        (("--height", "33"), "height: "),
        (("--device", "abacus"), "device: expected auto, cpu, cuda, "),
        (("--dtype", "float5"), "dtype: "),
        (("--steps", "0"), "--steps: "),
        (("--maks", "x"), "--maks: unknown; did you mean --masks?"),
    ],
)
def test_wrong_options(
    tmp_path: Path, inputs: list[str], options: tuple[str, ...], problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["complete", *inputs, "--out", str(tmp_path / "out"), "-q", *options]
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(stop.code or 0)
    error = capfd.readouterr().err
    assert status == 2
    assert error.startswith(f"error: {problem}"), error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_an_interrupted_run_goes_on(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(objects, "write_mask_png", fail_at("cup", 2, KeyboardInterrupt()))
    assert main(["complete", *inputs, "--out", str(out), "-q"]) == 130
    assert "the same command again goes on" in capfd.readouterr().err
    assert not out.exists()
    monkeypatch.undo()

    assert main(["complete", *inputs, "--out", str(out), "-q", "--seed", "9"]) == 2
    assert "begun by another command (other seed)" in capfd.readouterr().err

    finished = times(tmp_path / "out.partial" / "objects" / "2")
    assert len(finished) == 2 * FRAMES
    complete(inputs, out)
    assert list(times(out / "objects" / "2").values()) == list(finished.values())
    assert len(times(out / "objects" / "cup")) == 2 * FRAMES
    assert not (tmp_path / "out.partial").exists()


def test_a_killed_run_goes_on_and_gives_the_same(tmp_path: Path, inputs: list[str]) -> None:
    out = tmp_path / "out"
    kill = kill_at(objects, "write_mask_png", "cup", "amodal_masks", "00002.png")
    assert ended_by_a_signal(kill, ["complete", *inputs, "--out", out, "-q"]) == signal.SIGKILL
    assert not out.exists()
    complete(inputs, out)
    complete(inputs, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_results_are_replaced_only_when_asked(
    tmp_path: Path, inputs: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    out, quick = tmp_path / "out", ("--stages", "masks")
    complete(inputs, out, *quick)
    assert main(["complete", *inputs, "--out", str(out), *quick, "--object", "cup"]) == 2
    assert "not empty" in capfd.readouterr().err
    complete(inputs, out, *quick, "--object", "cup", "--overwrite")
    assert sorted(path.name for path in (out / "objects").iterdir()) == ["cup"]
    assert not list(tmp_path.glob("out.*"))


def test_a_changed_input_is_another_command(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(completion, "write_previews", interrupt)
    quick = ["complete", *inputs, "--out", str(tmp_path / "out"), "-q", "--stages", "masks"]
    assert main(quick) == 130
    os.utime(tmp_path / "masks" / "cup" / "00000.png", ns=(1, 1))
    capfd.readouterr()
    assert main(quick) == 2
    assert "other masks" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif("AMODAL_SHARED" not in os.environ, reason="AMODAL_SHARED does not name the shared material")
@pytest.mark.parametrize(("name", "size"), [("person", (800, 1280)), ("birdcage", (524, 640))])
def test_real_clips(tmp_path: Path, model: Path, name: str, size: tuple[int, int]) -> None:
    clip = Path(os.environ["AMODAL_SHARED"]) / "clips" / name
    out = tmp_path / "out"
    arguments = [str(clip / "clip.mp4"), "--masks", str(clip / "masks"), "--model", str(model)]
    complete(arguments, out)
    visible = np.stack([read_integers(file).values > 0 for file in sorted((clip / "masks").iterdir())])
    whole = amodal_masks(out, "1")
    assert whole.shape == (25, *size)
    assert not (visible & ~whole).any()
    assert pictures(out / "objects" / "1" / "completed").shape == (25, *size, 4)


def test_presets_and_what_beats_them(tmp_path: Path, inputs: list[str]) -> None:
    stages = ("--stages", "masks", "--object", "cup")
    paper = complete([*inputs, "--guidance", "1", "--preset", "paper", "--steps", "1"], tmp_path / "paper", *stages)
    sampling = paper["sampling"]["amodal_segmentation"]
    assert paper["preset"] == "paper"
    assert (sampling["num_inference_steps"], sampling["guidance_scale"], sampling["scheduler"]) == (1, 1.0, "euler")
    fast = complete([*inputs, "--preset", "fast", "--scheduler", "heun"], tmp_path / "fast", *stages)
    assert fast["settings"]["preset"] == "fast"
    assert fast["sampling"]["amodal_segmentation"]["scheduler"] == "heun"
    released = complete([*inputs, "--conditioning", "released", "--steps", "1"], tmp_path / "released", *stages)
    assert released["preset"] is None
    assert released["sampling"]["amodal_segmentation"]["guidance_scale"] == 1.5  # the paper's, as its conditioning is
