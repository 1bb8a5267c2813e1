"""The threshold of a frame, by hand and against all others."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.models.checkpoint import MOST
from amodal_diffusion.pipelines.postprocessing import best_threshold


def expected_iou(likely: np.ndarray, threshold: float, known: float) -> float:
    taken = likely > threshold
    return float((likely[taken].sum() + known) / (taken.sum() + likely[~taken].sum() + known))


def test_a_sure_network_is_cut_at_a_half() -> None:
    likely = np.asarray([0.99] * 20 + [0.01] * 80, dtype=np.float32)
    assert (likely > best_threshold(likely, 0, weight=0.0, least=0.2)).sum() == 20


def test_of_a_vague_shape_more_is_taken_unless_the_visible_part_counts() -> None:
    likely = np.full(50, 0.35, dtype=np.float32)
    assert (likely > best_threshold(likely, 1000, weight=0.0, least=0.2)).all()  # 0.35 is more than nothing
    assert not (likely > best_threshold(likely, 1000, weight=1.0, least=0.2)).any()  # adding costs more than it gives


def test_nothing_likely_is_nothing_taken() -> None:
    assert best_threshold(np.full(9, 0.1, dtype=np.float32), 5, weight=0.0, least=0.2) == MOST
    assert best_threshold(np.zeros(0, dtype=np.float32), 5, weight=0.0, least=0.2) == MOST


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_no_other_threshold_is_better(weight: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        likely = (rng.random(60) ** rng.uniform(0.5, 4)).astype(np.float32)
        visible = int(rng.integers(0, 60))
        found = best_threshold(likely, visible, weight=weight, least=0.2)
        assert 0.2 <= found <= MOST
        others = [expected_iou(likely, level, weight * visible) for level in np.linspace(0.2, MOST, 31)]
        assert expected_iou(likely, found, weight * visible) >= max(others) - 1e-6
