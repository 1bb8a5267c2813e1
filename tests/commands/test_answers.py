"""`complete --samples`, `--guards` and `--copies`: answers and their consensus, what was removed, what was copied."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.io.images import read_integers
from tests.factories import tiny_completer_folder
from tests.media import Bool, moving_disc, write_frames, write_masks
from tests.propagation.moving import moving

FRAMES = 5
RGB, MASK = moving_disc(FRAMES, 24, 40)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("inputs")
    write_masks(folder / "masks" / "cup", MASK)
    depth = np.zeros(MASK.shape, np.float32)
    depth[:, :, :20] = 1.0
    depth[MASK] = 0.5
    np.save(folder / "depth.npy", depth)
    clip, model = write_frames(folder / "frames", RGB), tiny_completer_folder(folder / "model")
    given = {"masks": folder / "masks", "model": model, "depth": folder / "depth.npy", "device": "cpu", "steps": 1}
    return [str(clip), "-q", *(f"--{name}={value}" for name, value in given.items())]


def complete(inputs: list[str], out: Path, *options: str) -> dict:
    assert main(["complete", *inputs, "--out", str(out), *options]) == 0
    return json.loads((out / "summary.json").read_text())["objects"]["cup"]


def masks(folder: Path) -> Bool:
    return np.stack([read_integers(file).values > 0 for file in sorted(folder.iterdir())])


def test_answers_lie_beside_their_consensus(inputs: list[str], tmp_path: Path) -> None:
    said = complete(inputs, tmp_path / "three", "--samples", "3")
    folder = tmp_path / "three" / "objects" / "cup"
    answers = np.stack([masks(folder / "answers" / name) for name in ("1", "2", "3")])
    assert np.array_equal(masks(folder / "amodal_masks"), answers.mean(axis=0) > 0.5)
    assert sorted(entry["answer"] for entry in said["answers"]) == [1, 2, 3]
    agreement = [entry["agreement"] for entry in said["answers"]]
    assert agreement == sorted(agreement, reverse=True)
    with av.open(str(folder / "uncertainty.mp4")) as video:
        frames = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    assert len(frames) == FRAMES
    even = np.isin(answers.sum(axis=0), (0, 3))
    assert np.stack(frames)[~even].mean() > np.stack(frames)[even].mean() + 50

    said = complete(inputs, tmp_path / "one", "--stages", "masks")
    assert "answers" not in said
    assert {file.name for file in (tmp_path / "one" / "objects" / "cup").iterdir()} == {"amodal_masks", "object.json"}
    assert np.array_equal(masks(tmp_path / "one" / "objects" / "cup" / "amodal_masks"), answers[0])


def test_guards_say_what_they_removed(inputs: list[str], tmp_path: Path) -> None:
    guarded = complete(inputs, tmp_path / "all", "--stages", "masks")
    free = complete(inputs, tmp_path / "none", "--stages", "masks", "--guards", "none")
    behind = complete(inputs, tmp_path / "behind", "--stages", "masks", "--guards", "behind")
    assert guarded["removed_by_guards"]["behind"] == behind["removed_by_guards"]["behind"] > 0
    assert set(free["removed_by_guards"].values()) == {0}
    for said in (guarded, behind):
        assert sum(said["amodal_area"]) + sum(said["removed_by_guards"].values()) == sum(free["amodal_area"])


def test_copies_say_their_share(inputs: list[str], tmp_path: Path) -> None:
    scene = moving()
    clip, model = write_frames(tmp_path / "frames", scene.rgb), next(text for text in inputs if text[:7] == "--model")
    write_masks(tmp_path / "modal" / "cup", scene.modal)
    write_masks(tmp_path / "amodal" / "cup", scene.amodal)
    given = [f"--masks={tmp_path / 'modal'}", f"--amodal-masks={tmp_path / 'amodal'}", "--depth=none", "--steps=1"]
    wanted = [str(clip), "-q", model, *given, "--device=cpu"]
    assert complete(wanted, tmp_path / "on", "--copies", "on")["copied_share"] > 0.5
    assert "copied_share" not in complete(wanted, tmp_path / "off", "--copies", "off")
    layers = [tmp_path / name / "objects" / "cup" / "completed" / "00003.png" for name in ("on", "off")]
    shown = [np.asarray(Image.open(layer)) for layer in layers]
    differs = (shown[0] != shown[1]).any(axis=-1)
    assert differs.any()
    assert not (differs & ~scene.hidden[3]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--guards", "behind,often"], "guards: expected all, none or some of behind, attached, growth, got often"),
        (["--samples", "2", "--amodal-masks", "MASKS"], "--samples: are of the stage that --amodal-masks skips"),
    ],
)
def test_options_that_do_not_fit(
    inputs: list[str], tmp_path: Path, options: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["complete", *inputs, "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_spans_and_their_reasons_are_in_the_summary(inputs: list[str], tmp_path: Path) -> None:
    found = complete(inputs, tmp_path / "auto", "--stages", "masks", "--guards", "none")
    asked = complete(inputs, tmp_path / "all", "--stages", "masks", "--guards", "none", "--spans", "all")
    assert asked["spans"] == [{"start": 0, "stop": FRAMES, "reasons": ["all frames asked for"]}]
    doubtful = {frame for run in found["spans"] for frame in range(run["start"], run["stop"])}
    assert {reason for run in found["spans"] for reason in run["reasons"]} == {"nearer neighbour"}
    assert doubtful
    assert doubtful < set(range(FRAMES))
    for frame, (visible, whole) in enumerate(zip(found["visible_area"], found["amodal_area"], strict=True)):
        assert (whole > visible) == (frame in doubtful)
    everywhere = zip(asked["visible_area"], asked["amodal_area"], strict=True)
    assert all(whole > visible for visible, whole in everywhere)
