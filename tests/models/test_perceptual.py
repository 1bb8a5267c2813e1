"""LPIPS and video features: weights from safetensors alone, distances that can be worked out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.perceptual import Lpips, VideoFeatures
from tests.factories import tiny_video_features


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = Lpips()
    for name, values in network.named_parameters():
        if name.startswith("lin"):
            values.data.abs_()
    path = tmp_path_factory.mktemp("lpips") / "lpips.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_keys_are_those_of_the_published_files(weights: Path) -> None:
    keys = set(Lpips.from_file(weights).state_dict())
    assert {"features.0.weight", "features.10.bias", "lin0.model.1.weight", "lin4.model.1.weight"} <= keys
    assert len(keys) == 5 * 2 + 5


def test_distance_grows_with_the_difference(weights: Path) -> None:
    lpips = Lpips.from_file(weights)
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    little, much = truth.copy(), truth.copy()
    little[:, :8], much[:, :40] = 0, 0
    assert lpips.distance(truth, truth) == 0.0
    assert 0 < lpips.distance(little, truth) < lpips.distance(much, truth)


def test_features_are_compared_at_unit_length_and_weighed() -> None:
    """With one weighed channel and constant features the distance is that channel's difference, squared."""
    network = Lpips().eval().requires_grad_(False)
    for values in network.parameters():
        values.zero_()
    first = network.features[0]
    first.weight[0, 0].fill_(1.0)  # channel 0 sees the red of a window, channel 1 is always 1
    first.bias[1] = 1.0
    network.lin0["model"][1].weight[0, 0] = 2.0
    black, red = torch.full((1, 3, 51, 51), -0.030), torch.full((1, 3, 51, 51), -0.030)
    red[:, 0] += 0.458 / 121  # of 11 x 11 pixels: channel 0 is 1 where the window lies inside the frame
    red_seen = first((red + 0.030) / 0.458)[0, 0]
    expected = (2 * (red_seen / (red_seen**2 + 1).sqrt()) ** 2).mean()
    assert red_seen.max() == pytest.approx(1.0, abs=1e-5)
    assert network(black, red).item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a safetensors file"):
        Lpips.from_file(tmp_path / "alex.pth")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"missing keys: features\.0\.bias"):
        Lpips.from_file(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"expected model\.safetensors or .*, found other\.safetensors"):
        VideoFeatures(tmp_path)


def test_small_frames_are_refused(weights: Path) -> None:
    small = np.zeros((1, 16, 64, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="at least 32 x 32 pixels for LPIPS"):
        Lpips.from_file(weights).distance(small, small)


def test_a_clip_of_any_length_and_size_has_features(tmp_path: Path) -> None:
    features = VideoFeatures(tiny_video_features(tmp_path))
    clip = np.random.default_rng(0).integers(0, 256, (7, 20, 30, 3), dtype=np.uint8)
    assert features(clip).shape == features(clip[:1]).shape == (32,)
    np.testing.assert_array_equal(features(clip), features(clip))
    assert np.abs(features(clip) - features(clip[::-1].copy())).max() > 0  # order counts
