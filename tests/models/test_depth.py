"""DepthEstimator with the real Depth Anything classes at tiny size and random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DepthAnythingForDepthEstimation
from transformers.utils import logging

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.transforms import depth_to_unit
from amodal_diffusion.models.depth import DepthEstimator
from tests.factories import tiny_depth_folder


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> DepthEstimator:
    return DepthEstimator.from_pretrained(tiny_depth_folder(tmp_path_factory.mktemp("depth")))


def test_a_map_a_frame_at_the_frames_size_whatever_the_batch(estimator: DepthEstimator) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 30, 44, 3), dtype=np.uint8)
    depth = estimator(rgb)
    assert depth.shape == (5, 30, 44)
    assert depth.dtype == np.float32
    alone = np.concatenate([estimator(rgb[index : index + 1]) for index in range(5)])
    np.testing.assert_allclose(depth, alone, atol=1e-4)


@torch.no_grad()
def test_frames_are_taken_as_rgb(tmp_path: Path) -> None:
    folder = tiny_depth_folder(tmp_path)
    rgb = np.random.default_rng(1).integers(0, 256, (1, 56, 56, 3), dtype=np.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    pixels = (torch.from_numpy(rgb[0]).permute(2, 0, 1) / 255 - mean) / std  # red first
    expected = DepthAnythingForDepthEstimation.from_pretrained(folder)(pixels[None]).predicted_depth
    np.testing.assert_allclose(DepthEstimator.from_pretrained(folder)(rgb), expected.numpy(), atol=1e-4)


def test_constant_depth_does_not_divide_by_zero(tmp_path: Path) -> None:
    folder = tiny_depth_folder(tmp_path)
    network = DepthAnythingForDepthEstimation.from_pretrained(folder)
    torch.nn.init.zeros_(network.head.conv3.weight)  # the same depth everywhere
    network.save_pretrained(folder)
    depth = DepthEstimator.from_pretrained(folder)(np.zeros((2, 30, 44, 3), np.uint8))
    assert np.ptp(depth) == 0
    assert not depth_to_unit(depth).any()


def test_no_bar_shows_while_weights_load(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    try:
        DepthEstimator.from_pretrained(tiny_depth_folder(tmp_path))
        assert logging.is_progress_bar_enabled()  # the user's setting stays
    finally:
        if not shown:
            logging.disable_progress_bar()
    assert "Loading weights" not in capfd.readouterr().err


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"depth model .*nothing: expected small, large, a folder or a hub id"):
        DepthEstimator.from_pretrained(tmp_path / "nothing")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    folder = tiny_depth_folder(tmp_path)
    network = DepthAnythingForDepthEstimation.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        DepthEstimator.from_pretrained(folder)
