"""Segmenters of one's own: what they are held to, and how they plug in, by the example of docs/segmenters.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.prompts import Point, Prompts
from amodal_diffusion.models.segmenters.protocol import ObjectMask, Segmenter, segment_frames
from tests.documents import ROOT
from tests.media import moving_disc, write_frames

RGB, MASK = moving_disc()
GUIDE = ROOT / "docs" / "segmenters.md"
CLICK = Prompts(points=(Point(20, 24, 0),))


class Scripted:
    """Gives what it was told to."""

    def __init__(self, *masks: ObjectMask) -> None:
        self.masks = masks

    def segment(self, frames: object, prompts: Prompts) -> Iterator[ObjectMask]:  # noqa: ARG002
        return iter(self.masks)


def test_frames_without_a_mask_are_empty_and_the_order_is_free() -> None:
    masks = segment_frames(RGB, CLICK, Scripted(ObjectMask("1", 4, MASK[4]), ObjectMask("1", 0, MASK[0])))["1"]
    assert [bool(mask.any()) for mask in masks] == [True, False, False, False, True, False]
    np.testing.assert_array_equal(masks[4], MASK[4])


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ObjectMask("1", 0, MASK[0][:20]), r"expected masks of bool \[48, 64\], got bool \[20, 64\]"),
        (ObjectMask("1", 0, MASK[0].astype(np.uint8)), "got uint8"),  # type: ignore[arg-type]
        (ObjectMask("1", 6, MASK[0]), "not asked for, of object 1 in frame 6"),
        (ObjectMask("2", 0, MASK[0]), "not asked for, of object 2 in frame 0"),
    ],
)
def test_masks_that_break_the_protocol_are_noticed(entry: ObjectMask, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        segment_frames(RGB, CLICK, Scripted(entry))


def test_a_mask_twice_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="not asked for"):
        segment_frames(RGB, CLICK, Scripted(*[ObjectMask("1", 0, MASK[0])] * 2))


def test_an_object_that_is_nowhere_is_named() -> None:
    with pytest.raises(InputError, match=r"prompt: 1: nothing found in any of 6 frames"):
        segment_frames(RGB, CLICK, Scripted())
    with pytest.raises(InputError, match=r"prompt: a cat: nothing found in any of 6 frames"):
        segment_frames(RGB, Prompts(texts=("a cat",)), Scripted(ObjectMask("cat-1", 0, np.zeros_like(MASK[0]))))


# The example of docs/segmenters.md


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The guide's module and its entry point, as an installed package has them."""
    guide = GUIDE.read_text(encoding="utf-8")
    (module,) = re.findall(r"^```python\n(# like_color\.py\n.*?)^```", guide, flags=re.DOTALL | re.MULTILINE)
    (entry,) = re.findall(r"^```toml\n(.*?)^```", guide, flags=re.DOTALL | re.MULTILINE)
    group, name, target = re.findall(r'\[project\.entry-points\."(.*?)"\]\n(\S+) = "(.*?)"', entry)[0]
    installed = tmp_path / "site"
    (installed / "like_color-1.0.dist-info").mkdir(parents=True)
    (installed / "like_color.py").write_text(module)
    (installed / "like_color-1.0.dist-info" / "METADATA").write_text("Name: like-color\nVersion: 1.0\n")
    (installed / "like_color-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(str(installed))
    yield __import__("like_color")
    del sys.modules["like_color"]


def test_the_guides_segmenter_works_in_python(example: ModuleType) -> None:
    segmenter: Segmenter = example.LikeColor()
    masks = segment_frames(RGB, CLICK, segmenter)["1"]
    np.testing.assert_array_equal(masks, MASK)


def test_the_guides_way_from_a_click_to_a_whole_object(example: ModuleType) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if f"from {example.__name__} import" in block)
    names: dict[str, Any] = {"rgb": moving_disc(2, 160, 240)[0]}
    exec(code, names)
    assert names["masks"]["1"].any(axis=(1, 2)).all()
    assert (names["result"].amodal_mask >= names["masks"]["1"]).all()


def test_the_guides_segmenter_plugs_into_the_command(
    tmp_path: Path,
    example: ModuleType,  # noqa: ARG001
) -> None:
    clip, out = write_frames(tmp_path / "frames", RGB), tmp_path / "masks"
    command = ["segment", str(clip), "--point", "disc:20,24@0", "--segmenter", "like-color", "--out", str(out), "-q"]
    assert main(command) == 0
    np.testing.assert_array_equal(np.stack(list(read_masks(out)["disc"])), MASK)
