"""Every method without learning answers as the protocol of methods says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amodal_diffusion.evaluation.methods import _BASELINES
from amodal_diffusion.types import AmodalSegmenter, VideoClip


@pytest.mark.parametrize("method", _BASELINES.values(), ids=_BASELINES.keys())
def test_masks_probabilities_validity_and_scores_of_all_frames(method: AmodalSegmenter) -> None:
    modal = np.zeros((4, 33, 47), dtype=np.bool_)
    for frame in range(3):
        modal[frame, 8:20, 5 + frame : 25 + frame] = True
    modal[1, 8:20, 12:16] = False
    clip = VideoClip(np.zeros((*modal.shape, 3), np.uint8), modal)
    depth = np.where(modal, 0.5, 0.9).astype(np.float32)
    found, again = method(clip, depth), method(clip, depth, generator=torch.Generator().manual_seed(1))
    assert (found.mask.dtype, found.probability.dtype, found.valid.dtype, found.score.dtype) == (
        np.bool_, np.float32, np.bool_, np.float32,
    )  # fmt: skip
    assert found.mask.shape == found.probability.shape == modal.shape
    assert found.valid.shape == found.score.shape == (4,)
    assert (found.mask >= modal).all()
    assert (found.valid == found.mask.any(axis=(1, 2))).all()
    assert ((found.probability >= 0.5) == found.mask).all()
    assert (found.score[found.valid] == 1.0).all()
    np.testing.assert_array_equal(found.mask, again.mask)
