"""The routines that SAM 3 is given, through the library's functions that call them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Sam3VideoModel
from transformers.models.sam3_video import modeling_sam3_video as library

from amodal_diffusion.models.segmenters.loading import load_segmenter
from amodal_diffusion.models.segmenters.sam3 import use_routines
from tests.segmenters import tiny_sam3_folder


@pytest.fixture(autouse=True)
def routines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "cv_utils_kernel", None)
    use_routines(object.__new__(Sam3VideoModel))


def test_of_masks_that_overlap_the_surest_stays() -> None:
    masks = torch.full((4, 12, 12), -1.0)
    masks[0, :6, :6] = masks[1, :6, :5] = masks[2, 8:, 8:] = masks[3, :6, :6] = 1.0
    scores = torch.tensor([0.7, 0.9, 0.6, 0.2])
    keep = library.nms_masks(scores, masks, prob_threshold=0.5, iou_threshold=0.1)
    assert keep.tolist() == [False, True, True, False]


def test_small_holes_are_filled_and_specks_removed() -> None:
    scores = torch.full((1, 1, 17, 20), -1.0)
    scores[..., 2:12, 2:12] = 1.0
    scores[..., 5, 5:7] = -1.0  # a hole of 2 pixels
    scores[..., 15, 17], scores[..., 16, 18] = 1.0, 1.0  # two pixels that touch at a corner
    expected = torch.zeros(17, 20, dtype=torch.bool)
    expected[2:12, 2:12] = True
    filled = library.fill_holes_in_mask_scores(scores, max_area=2)[0, 0] > 0
    assert torch.equal(filled, expected)
    kept = library.fill_holes_in_mask_scores(scores, max_area=1)[0, 0] > 0
    assert kept[15, 17]
    assert not kept[5, 5]


def test_a_loaded_segmenter_uses_them_and_never_looks_for_code_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "cv_utils_kernel", None)
    monkeypatch.setattr(library, "is_kernels_available", lambda: pytest.fail("looked for code on the hub"))
    load_segmenter(str(tiny_sam3_folder(tmp_path)), device="cpu")
    test_of_masks_that_overlap_the_surest_stays()
