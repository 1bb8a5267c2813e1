"""The segmenter without weights, on tiny clips with known masks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.prompts import Box, MaskPrompt, Point, Prompts, Stroke
from amodal_diffusion.io.video_reader import read_clip
from amodal_diffusion.models.segmenters.classical import ClassicalSegmenter
from amodal_diffusion.models.segmenters.protocol import segment_frames
from amodal_diffusion.types import BoolArray
from tests.media import moving_disc

RGB, MASK = moving_disc()


def segment(prompts: Prompts) -> dict[str, BoolArray]:
    return segment_frames(RGB, prompts, ClassicalSegmenter())


def overlaps(found: BoolArray) -> list[float]:
    return [(one & other).sum() / (one | other).sum() for one, other in zip(found, MASK, strict=True)]


def stroke(rows: slice, columns: slice) -> Stroke:
    pixels = np.zeros(MASK.shape[1:], np.bool_)
    pixels[rows, columns] = True
    return Stroke(encode_rle(pixels), frame=2)


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts(points=(Point(19, 24),)),
        Prompts(boxes=(Box(6, 11, 32, 37),)),
        Prompts(strokes=(stroke(slice(20, 28), slice(28, 30)),)),  # both ways
        Prompts(masks=(MaskPrompt(encode_rle(MASK[0])), MaskPrompt(encode_rle(MASK[5]), 5))),
    ],
    ids=["click", "box", "stroke", "two masks"],
)
def test_one_prompt_finds_the_object_in_every_frame(prompts: Prompts) -> None:
    assert min(overlaps(segment(prompts)["1"])) > 0.85


def test_a_painted_mask_is_kept_and_corrects_its_neighbors() -> None:
    half = MASK[3].copy()
    half[:24] = False
    found = segment(Prompts(points=(Point(19, 24),), masks=(MaskPrompt(encode_rle(half), 3),)))["1"]
    assert (found[3] & half).sum() / (found[3] | half).sum() > 0.9
    assert overlaps(found)[0] > 0.85


def test_what_a_negative_stroke_covers_is_left_out() -> None:
    out = Stroke(encode_rle(MASK[0] & (np.arange(MASK.shape[1]) < 18)[:, None]), inside=False)
    found = segment(Prompts(points=(Point(19, 28),), strokes=(out,)))["1"][0]
    assert found[28, 19]
    assert not found[12:17].any()


def test_objects_do_not_overlap_and_masks_are_the_same_each_time() -> None:
    prompts = Prompts(points=(Point(19, 24), Point(60, 4, object_name="sky")))
    found, again = segment(prompts), segment(prompts)
    assert not (found["1"] & found["sky"]).any()
    for name, masks in found.items():
        np.testing.assert_array_equal(masks, again[name])


def test_an_object_that_is_gone_has_empty_masks() -> None:
    rgb = RGB[[0, 1, 2, 3]].copy()
    rgb[2:] = np.where(MASK[2:4, ..., None], np.uint8(60), rgb[2:])
    found = segment_frames(rgb, Prompts(points=(Point(19, 24),)), ClassicalSegmenter())["1"]
    assert found[:2].any(axis=(1, 2)).all()
    assert not found[2:].any()


@pytest.mark.parametrize("size", [(48, 64), (3, 5), (1, 1)])
def test_a_frame_of_one_color_is_one_region(size: tuple[int, int]) -> None:
    rgb = np.full((2, *size, 3), 90, np.uint8)
    assert segment_frames(rgb, Prompts(points=(Point(0, 0),)), ClassicalSegmenter())["1"].all()


def test_texts_are_refused() -> None:
    with pytest.raises(InputError, match=r"text: the segmenter without weights knows points and boxes alone"):
        segment(Prompts(texts=("disc",)))


@pytest.mark.slow
@pytest.mark.skipif("AMODAL_SHARED" not in os.environ, reason="AMODAL_SHARED is not set")
def test_a_box_around_a_real_object() -> None:
    folder = Path(os.environ["AMODAL_SHARED"]) / "clips/birdcage"
    rgb, _ = read_clip(folder / "clip.mp4")
    (track,) = read_masks(folder / "masks").values()
    truth = np.stack(list(track))
    rows, columns = np.nonzero(truth[0])
    box = Box(float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    found = segment_frames(rgb, Prompts(boxes=(box,)), ClassicalSegmenter())["1"]
    assert (found & truth).sum() / (found | truth).sum() > 0.65
