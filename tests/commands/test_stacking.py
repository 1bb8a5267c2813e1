"""`complete` says which object lies in front of which, and that the layers in this order give the input again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.io.images import write_rgba_png
from tests.media import Bool, write_frames, write_masks

FRAMES, HEIGHT, WIDTH = 3, 24, 40
RGB = np.random.default_rng(0).integers(1, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


def square(left: int) -> Bool:
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=np.bool_)
    for frame in range(FRAMES):
        masks[frame, 6:18, left + frame : left + frame + 12] = True
    return masks


WALL = square(16)
BEHIND = square(8)  # four columns of it are hidden


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objects of known whole masks: the one named first lies behind."""
    folder = tmp_path_factory.mktemp("clip")
    write_masks(folder / "masks" / "a", BEHIND & ~WALL)
    write_masks(folder / "masks" / "b", WALL)
    write_masks(folder / "whole" / "a", BEHIND)
    write_masks(folder / "whole" / "b", WALL)
    write_frames(folder / "frames", RGB)
    return folder


@pytest.fixture(scope="module")
def command(folder: Path, model: Path) -> list[str]:
    """Paint these two."""
    known = ["--masks", str(folder / "masks"), "--amodal-masks", str(folder / "whole")]
    options = ["--model", str(model), "--device", "cpu", "--depth", "none", "-q"]
    return ["complete", str(folder / "frames"), *known, *options]


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory, command: list[str]) -> Path:
    """What becomes of them."""
    out = tmp_path_factory.mktemp("painted") / "out"
    assert main([*command, "--out", str(out)]) == 0
    return out


def read(out: Path) -> tuple[list[dict], dict]:
    lines = [json.loads(line) for line in (out / "order.jsonl").read_text().splitlines()]
    return lines, json.loads((out / "summary.json").read_text())


def test_order_and_recomposition(painted: Path) -> None:
    lines, summary = read(painted)
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    for line in lines:
        assert line["front_to_back"] == ["b", "a"]
        assert line["relations"] == [{"front": "b", "back": "a", "pixels": 48, "contrary": 0, "by": "masks"}]
        assert line["left_out"] == line["undecided"] == []
        assert line["recomposition"] == {"pixels": 240, "differing": 0, "largest": 0, "total": 0}
    runs = [{"first": 0, "last": FRAMES - 1, "front_to_back": ["b", "a"]}]
    assert summary["order"] == {"runs": runs, "frames_with_circles": 0, "frames_with_undecided_pairs": 0}
    assert summary["recomposition"] == {
        "pixels": 240 * FRAMES,
        "max_abs_difference": 0,
        "mean_abs_difference": 0.0,
        "differing_share": 0.0,
        "differing_frames": 0,
    }


def test_a_layer_that_lost_visible_pixels_is_found(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(path: Path, rgba: np.ndarray) -> None:
        spoilt = rgba.copy()
        if path.parts[-3] == "b" and path.stem == "00001":
            spoilt[6, 17:27] = 0
        write_rgba_png(path, spoilt)

    monkeypatch.setattr("amodal_diffusion.completion.objects.write_rgba_png", damage)
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 0
    lines, summary = read(out)
    assert [line["recomposition"]["differing"] > 0 for line in lines] == [False, True, False]
    found = summary["recomposition"]
    assert found["differing_frames"] == 1
    assert found["differing_share"] == lines[1]["recomposition"]["differing"] / (240 * FRAMES)
    assert found["max_abs_difference"] > 0
    assert found["mean_abs_difference"] == pytest.approx(lines[1]["recomposition"]["total"] / (3 * 240 * FRAMES))


def test_depth_orders_neighbors_that_hide_nothing_of_each_other(tmp_path: Path, command: list[str]) -> None:
    write_masks(tmp_path / "apart" / "a", BEHIND & ~WALL)
    write_masks(tmp_path / "apart" / "b", WALL)
    np.save(tmp_path / "distance.npy", np.where(WALL, 4.0, 3.0).astype(np.float32))
    out = tmp_path / "out"
    depth = ["--depth", str(tmp_path / "distance.npy"), "--depth-inverse"]
    assert main([*command, "--amodal-masks", str(tmp_path / "apart"), *depth, "--out", str(out)]) == 0
    lines, summary = read(out)
    assert [[relation["by"] for relation in line["relations"]] for line in lines] == [["depth"]] * FRAMES
    assert summary["order"]["runs"][0]["front_to_back"] == ["a", "b"]


def test_the_layers_in_this_order_are_the_input_with_another_reader(painted: Path) -> None:
    lines, _ = read(painted)
    for index, line in enumerate(lines):
        picture = Image.fromarray(RGB[index]).convert("RGBA")
        picture.paste((0, 0, 0, 255), mask=Image.fromarray((BEHIND | WALL)[index]))
        for name in reversed(line["front_to_back"]):
            with Image.open(painted / "objects" / name / "completed" / f"{index:05d}.png") as layer:
                picture.alpha_composite(layer)
        np.testing.assert_array_equal(np.asarray(picture)[..., :3], RGB[index])
