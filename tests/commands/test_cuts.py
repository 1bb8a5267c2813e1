"""`complete` and `batch` with hard cuts: found or given, told, nothing crosses them, and interrupted runs go on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.cli import main
from amodal_diffusion.completion import objects
from amodal_diffusion.evaluation.methods import ModelOptions, build_methods
from amodal_diffusion.io.images import write_mask_png
from amodal_diffusion.io.video_reader import read_clip
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.types import VideoClip
from tests.commands.folders import BAR, amodal_masks, contents, fail_at, pictures
from tests.media import Bool, UInt8, encode, moving_disc, write_frames, write_masks

CUT, FRAMES = 5, 10  # windows of 4 frames that share one
NOTICE = f"warning: cuts: new shots begin at frame {CUT}; each shot is completed by itself"
BEYOND = ("--color-propagation", "--mask-filters=all", "--fit=crop")


def shot(number: int) -> tuple[UInt8, Bool]:
    """A disc behind a bar; shots differ in colors, and odd ones run backwards."""
    rgb, mask = moving_disc(CUT, 24, 40)
    mask[BAR] = False
    tint = np.asarray([[0, 0, 0], [150, 90, 200], [60, 200, 20]], np.uint8)[number]
    order = slice(None, None, -1 if number % 2 else 1)
    return (rgb // 2 + tint // 2 + np.uint8(10 * number))[order], mask[order]


def inputs(folder: Path, model: Path, *numbers: int, video: bool = False) -> list[str]:
    """Write a clip of shots with depth, whose range is another in each; arguments of the command."""
    rgb, mask = (np.concatenate(parts) for parts in zip(*map(shot, numbers), strict=True))
    depth = np.where(mask, 0.5, 0.0).astype(np.float32)
    depth[BAR] = 1.0
    for place, number in enumerate(numbers):
        depth[place * CUT : (place + 1) * CUT] *= number + 1
    folder.mkdir(exist_ok=True)
    np.save(folder / "depth.npy", depth)
    clip = encode(folder / "clip.mp4", rgb) if video else write_frames(folder / "frames", rgb)
    given = {"masks": write_masks(folder / "masks", mask), "depth": folder / "depth.npy", "model": model}
    return [str(clip), *(f"--{name}={value}" for name, value in given.items()), "--device=cpu"]


def complete(out: Path, arguments: list[str], *options: str) -> Path:
    assert main(["complete", *arguments, "--out", str(out), "-q", *options]) == 0
    return out


def files(out: Path, frames: range) -> list[bytes]:
    """Pictures of the object in some frames."""
    folders = (out / "objects/1/amodal_masks", out / "objects/1/completed")
    return [(folder / f"{frame:05d}.png").read_bytes() for folder in folders for frame in frames]


FIRST, SECOND = range(CUT), range(CUT, FRAMES)


@pytest.mark.parametrize(
    "options", [pytest.param((), marks=pytest.mark.slow), ("--margin=0.25", "--skip-unoccluded", *BEYOND)]
)
def test_nothing_crosses_a_cut(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    both = complete(tmp_path / "both", inputs(tmp_path / "a", model, 0, 1), *options)
    error = capfd.readouterr().err
    assert error.startswith(NOTICE)
    assert error.count("\n") == 1
    assert json.loads((both / "summary.json").read_text())["cuts"] == [CUT]
    assert (pictures(both / "objects/1/completed")[..., 3] > 0).sum() > amodal_masks(both, "1").sum() * 0.9
    alone = complete(tmp_path / "alone", inputs(tmp_path / "b", model, 0), *options)
    other = complete(tmp_path / "other", inputs(tmp_path / "c", model, 2, 1), *options)
    assert files(both, FIRST) == files(alone, FIRST)
    assert files(both, SECOND) == files(other, SECOND)
    capfd.readouterr()
    one = complete(tmp_path / "none", inputs(tmp_path / "a", model, 0, 1), *options, "--cuts=none")
    assert capfd.readouterr().err == ""
    assert json.loads((one / "summary.json").read_text())["cuts"] == []
    assert files(one, FIRST) != files(both, FIRST)


def test_cuts_that_are_given_and_a_clip_without_any(tmp_path: Path, model: Path) -> None:
    given = inputs(tmp_path / "a", model, 0, 1)
    found, listed = complete(tmp_path / "found", given), complete(tmp_path / "listed", given, f"--cuts={CUT}")
    assert files(found, range(FRAMES)) == files(listed, range(FRAMES))
    settings = json.loads((listed / "summary.json").read_text())["settings"]["cuts"]
    assert settings == [CUT]
    plain = inputs(tmp_path / "b", model, 0)
    auto, none = (complete(tmp_path / cuts, plain, f"--cuts={cuts}") for cuts in ("auto", "none"))
    assert files(auto, FIRST) == files(none, FIRST)


@pytest.mark.parametrize(
    ("value", "words"),
    [("0", "got 0;"), ("5,5", "got 5, 5;"), ("7,3", "got 7, 3;"), (f"{FRAMES}", f"ascending from 1 to {FRAMES - 1}"),
     ("soon", "got soon"), ("2.5", "got 2.5"), ("", "got nothing")],
)  # fmt: skip
def test_cuts_that_are_none(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str], value: str, words: str
) -> None:
    out = tmp_path / "out"
    given = ["complete", *inputs(tmp_path / "a", model, 0, 1), "--out", str(out), f"--cuts={value}"]
    try:
        status = main(given)
    except SystemExit as stop:  # of the parser
        status = int(str(stop.code))
    assert status == 2
    error = capfd.readouterr().err
    assert error.startswith("error: --cuts: expected auto, none")
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_every_way_finds_the_same_shots(tmp_path: Path, model: Path) -> None:
    arguments = inputs(tmp_path / "a", model, 0, 1, video=True)
    out = complete(tmp_path / "out", arguments)
    assert json.loads((out / "summary.json").read_text())["cuts"] == [CUT]
    rgb, fps = read_clip(arguments[0])
    modal = np.concatenate([shot(0)[1], shot(1)[1]])
    clip, depth = VideoClip(rgb, modal, fps), np.load(tmp_path / "a/depth.npy")
    result = AmodalCompleter.from_pretrained(model, device="cpu")(clip, depth=depth)
    assert np.array_equal(result.amodal_mask, amodal_masks(out, "1"))
    assert result.rgba is not None
    assert np.array_equal(result.rgba, pictures(out / "objects/1/completed"))
    target: Any = SimpleNamespace(clip=clip, depth=depth, seed=lambda _: 0)
    (method,) = build_methods([f"{model}@depth"], ModelOptions(device="cpu"))
    assert np.array_equal(method.predict(target), result.amodal_mask)


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        pytest.param(CUT + 2, (*BEYOND, "--samples=2"), marks=pytest.mark.slow),
        (FRAMES - 1, ("--skip-unoccluded", f"--cuts={CUT}")),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, frame: int, options: tuple[str, ...]
) -> None:
    arguments, out = inputs(tmp_path / "a", model, 0, 1), tmp_path / "out"
    whole = complete(tmp_path / "whole", arguments, *options)
    monkeypatch.setattr(objects, "write_mask_png", fail_at("1", frame, KeyboardInterrupt()))
    assert main(["complete", *arguments, "--out", str(out), *options]) == 130
    monkeypatch.setattr(objects, "write_mask_png", write_mask_png)
    assert main(["complete", *arguments, "--out", str(out), *options, "--cuts=2"]) == 2  # another command
    assert contents(complete(out, arguments, *options)) == contents(whole)


def test_a_shot_without_the_object_stays_empty(tmp_path: Path, model: Path) -> None:
    arguments = inputs(tmp_path / "a", model, 0, 1)
    for frame in SECOND:
        write_mask_png(tmp_path / f"a/masks/{frame:05d}.png", np.zeros((24, 40), np.bool_))
    out = complete(tmp_path / "out", arguments)
    assert not amodal_masks(out, "1")[CUT:].any()
    assert files(out, FIRST) == files(complete(tmp_path / "alone", inputs(tmp_path / "b", model, 0)), FIRST)
    assert json.loads((out / "objects/1/object.json").read_text())["occlusion_intervals"] is None


def test_the_order_of_layers_begins_anew(tmp_path: Path, model: Path) -> None:
    rgb = np.concatenate([shot(0)[0], shot(1)[0]])
    near, far = np.zeros((2, FRAMES, 24, 40), np.bool_)
    near[:CUT, 8:16, 10:18] = far[:CUT, 8:16, 18:26] = True
    near[CUT:, 8:16, 2:6] = far[CUT:, 8:16, 30:34] = True
    for name, mask in (("a", far), ("b", near)):
        write_masks(tmp_path / "masks" / name, mask)
        whole = mask.copy()
        if name == "a":
            whole[:CUT, 8:16, 14:26] = True  # goes on behind the other
        write_masks(tmp_path / "whole" / name, whole)
    clip = [str(write_frames(tmp_path / "frames", rgb)), f"--masks={tmp_path / 'masks'}", "--depth=none"]
    arguments = [*clip, f"--amodal-masks={tmp_path / 'whole'}", f"--model={model}", "--device=cpu"]
    orders = {}
    for cuts in ("auto", "none"):
        lines = (complete(tmp_path / cuts, arguments, f"--cuts={cuts}") / "order.jsonl").read_text().splitlines()
        orders[cuts] = [json.loads(line)["front_to_back"] for line in lines]
    assert orders["none"] == [["b", "a"]] * FRAMES
    assert orders["auto"] == [["b", "a"]] * CUT + [["a", "b"]] * CUT


@pytest.mark.slow
def test_clips_of_a_list(tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = inputs(tmp_path / "a", model, 0, 1)
    rows = [{"clip": arguments[0], "masks": str(tmp_path / "a/masks"), "name": "clip"}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = ["--input", str(tmp_path / "list.jsonl"), "--model", str(model), "--device=cpu", "-q", "--depth=none"]
    for cuts, found in (("auto", [CUT]), ("none", []), ("2,7", [2, 7])):
        assert main(["batch", *how, "--out", str(tmp_path / cuts), "--cuts", cuts]) == 0
        assert json.loads((tmp_path / cuts / "clip/summary.json").read_text())["cuts"] == found
        assert (NOTICE.replace("warning: ", "warning: clip: ") in capfd.readouterr().err) == (cuts == "auto")
    assert main(["batch", *how, "--out", str(tmp_path / "far"), "--cuts", "70"]) == 1
    assert "--cuts: expected auto, none or the first frames of new shots" in capfd.readouterr().err
