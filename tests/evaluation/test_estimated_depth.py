"""Depth of a benchmark that has none: estimated where the frame is, nearest around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.evaluation.benchmarks.base import WithEstimatedDepth, pad_depth
from amodal_diffusion.evaluation.benchmarks.sailvos import open_sailvos
from amodal_diffusion.evaluation.benchmarks.tao_amodal import open_tao_amodal
from amodal_diffusion.models.depth import DepthEstimator
from tests.evaluation import samples
from tests.factories import tiny_depth_folder

DOWN, RIGHT = samples.HEIGHT // 4, samples.WIDTH // 4


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> DepthEstimator:
    return DepthEstimator.from_pretrained(tiny_depth_folder(tmp_path_factory.mktemp("depth")))


def test_depth_is_estimated_where_there_is_none(estimator: DepthEstimator, tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path)
    plain = open_sailvos(data)
    benchmark = WithEstimatedDepth(plain, estimator)
    assert (benchmark.name, len(benchmark), benchmark.inputs) == (plain.name, len(plain), plain.inputs)
    assert benchmark.identity(0) == plain.identity(0)
    assert plain.track(0).depth is None
    np.testing.assert_array_equal(benchmark.track(0).depth, estimator(samples.frames()))


def test_what_was_put_around_the_frame_is_not_looked_at(estimator: DepthEstimator, tmp_path: Path) -> None:
    data = samples.write_tao(tmp_path)
    estimated = WithEstimatedDepth(open_tao_amodal(data), estimator).track(0).depth
    np.testing.assert_array_equal(estimated, pad_depth(estimator(samples.frames()), (DOWN, RIGHT)))
    given = open_tao_amodal(data, depth=tmp_path / "depth")
    np.testing.assert_array_equal(WithEstimatedDepth(given, estimator).track(0).depth, given.track(0).depth)
