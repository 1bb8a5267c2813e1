"""`complete --samples`, `--mask-filters`, `--color-propagation`, `--skip-unoccluded`: what they leave in the record."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from amodal_diffusion.cli import main
from tests.commands.folders import amodal_masks, pictures
from tests.media import moving_disc, write_frames, write_masks
from tests.propagation.moving import moving

FRAMES = 5
RGB, MASK = moving_disc(FRAMES, 24, 40)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("inputs")
    write_masks(folder / "masks" / "cup", MASK)
    depth = np.zeros(MASK.shape, np.float32)
    depth[:, :, :20] = 1.0
    depth[MASK] = 0.5
    np.save(folder / "depth.npy", depth)
    clip = write_frames(folder / "frames", RGB)
    given = {"masks": folder / "masks", "model": model, "depth": folder / "depth.npy", "device": "cpu"}
    return [str(clip), "-q", *(f"--{name}={value}" for name, value in given.items())]


def complete(inputs: list[str], out: Path, *options: str) -> dict:
    assert main(["complete", *inputs, "--out", str(out), *options]) == 0
    return json.loads((out / "summary.json").read_text())["objects"]["cup"]


def test_samples_lie_beside_their_consensus(inputs: list[str], tmp_path: Path) -> None:
    said = complete(inputs, tmp_path / "three", "--samples", "3")
    folder = tmp_path / "three" / "objects" / "cup"
    samples = np.stack([pictures(folder / "answers" / name) > 0 for name in ("1", "2", "3")])
    assert np.array_equal(amodal_masks(tmp_path / "three", "cup"), samples.mean(axis=0) > 0.5)
    assert sorted(entry["sample"] for entry in said["samples"]) == [1, 2, 3]
    agreement = [entry["agreement"] for entry in said["samples"]]
    assert agreement == sorted(agreement, reverse=True)
    with av.open(str(folder / "uncertainty.mp4")) as video:
        frames = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    assert len(frames) == FRAMES
    even = np.isin(samples.sum(axis=0), (0, 3))
    assert np.stack(frames)[~even].mean() > np.stack(frames)[even].mean() + 50

    said = complete(inputs, tmp_path / "one", "--stages", "masks")
    assert "samples" not in said
    assert {file.name for file in (tmp_path / "one" / "objects" / "cup").iterdir()} == {"amodal_masks", "object.json"}
    assert np.array_equal(amodal_masks(tmp_path / "one", "cup"), samples[0])


def test_mask_filters_say_what_they_removed(inputs: list[str], tmp_path: Path) -> None:
    masks = ("--stages", "masks", "--mask-filters")
    every, none, depth = (complete(inputs, tmp_path / name, *masks, name) for name in ("all", "none", "depth"))
    assert every["removed_by_filters"]["depth"] == depth["removed_by_filters"]["depth"] > 0
    assert set(none["removed_by_filters"].values()) == {0}
    for found in (every, depth):
        assert sum(found["amodal_area"]) + sum(found["removed_by_filters"].values()) == sum(none["amodal_area"])


def test_color_propagation_says_its_share(inputs: list[str], tmp_path: Path) -> None:
    scene = moving()
    clip, model = write_frames(tmp_path / "frames", scene.rgb), next(text for text in inputs if text[:7] == "--model")
    write_masks(tmp_path / "modal" / "cup", scene.modal)
    write_masks(tmp_path / "amodal" / "cup", scene.amodal)
    given = [f"--masks={tmp_path / 'modal'}", f"--amodal-masks={tmp_path / 'amodal'}", "--depth=none"]
    wanted = [str(clip), "-q", model, *given, "--device=cpu"]
    found = complete(wanted, tmp_path / "on", "--color-propagation")
    assert found["hidden_pixels"]["hidden"] == scene.hidden.sum() > found["hidden_pixels"]["propagated"]
    share = found["hidden_pixels"]["propagated"] / found["hidden_pixels"]["hidden"]
    assert found["propagated_share"] == round(share, 4) > 0.5
    without = complete(wanted, tmp_path / "off", "--no-color-propagation")
    assert not {"hidden_pixels", "propagated_share"} & without.keys()
    layers = [pictures(tmp_path / name / "objects" / "cup" / "completed")[3] for name in ("on", "off")]
    differs = (layers[0] != layers[1]).any(axis=-1)
    assert differs.any()
    assert not (differs & ~scene.hidden[3]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--mask-filters", "depth,often"],
            "--mask-filters: expected all, none or some of depth, components, area, got often",
        ),
        (["--samples", "2", "--amodal-masks", "MASKS"], "--samples: needs stage 1, which --amodal-masks replaces"),
    ],
)
def test_options_that_do_not_fit(
    inputs: list[str], tmp_path: Path, options: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["complete", *inputs, "--out", str(tmp_path / "out"), *options])
    except SystemExit as stop:
        status = int(stop.code or 0)
    error = capfd.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert message in error
    assert not list(tmp_path.iterdir())


def test_occlusion_intervals_and_their_reasons_are_in_the_record(inputs: list[str], tmp_path: Path) -> None:
    found = complete(inputs, tmp_path / "some", "--stages", "masks", "--skip-unoccluded")
    every = complete(inputs, tmp_path / "all", "--stages", "masks", "--no-skip-unoccluded")
    assert every["format"] == found["format"] == 2
    assert every["occlusion_intervals"] is None
    candidates = {frame for run in found["occlusion_intervals"] for frame in range(run["start"], run["stop"])}
    assert {reason for run in found["occlusion_intervals"] for reason in run["reasons"]} == {"nearer neighbor"}
    assert candidates
    assert candidates < set(range(FRAMES))
    for frame, (visible, amodal) in enumerate(zip(found["visible_area"], found["amodal_area"], strict=True)):
        assert (amodal > visible) == (frame in candidates)
    everywhere = zip(every["visible_area"], every["amodal_area"], strict=True)
    assert all(amodal > visible for visible, amodal in everywhere)
