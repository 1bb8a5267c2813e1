"""Preprocessing of segmenters against the library's: its recorded values, its constants and its formulae."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.models.sam2_video.processing_sam2_video import Sam2VideoProcessor

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.segmenters.preprocessing import Preprocessing, masks_from_logits

IMAGENET = (tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD))
# Sam2VideoVideoProcessor() of transformers 5.23 with torchvision 0.28 on the first of the frames below, at (y, x).
RECORDED = {
    (0, 0): (-0.4910523593425751, 0.240196093916893, 1.5768191814422607),
    (511, 700): (-0.3026800751686096, -0.8277310132980347, -0.04409584030508995),
    (1023, 1023): (-1.998030662536621, 1.2731091976165771, -0.6541176438331604),
    (300, 12): (0.8446784019470215, 0.4852941036224365, -0.8109803795814514),
}


def test_frames_are_what_the_librarys_processor_makes_of_them() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 37, 61, 3), dtype=np.uint8)[0]
    preprocessing = Preprocessing(1024, *IMAGENET)
    pixels = preprocessing.normalise(preprocessing.shrink(rgb))
    assert pixels.shape == (3, 1024, 1024)
    for (y, x), values in RECORDED.items():
        np.testing.assert_allclose(pixels[:, y, x], values, atol=1e-5)


@pytest.mark.parametrize("box", [False, True])
def test_points_are_scaled_as_by_the_librarys_processor(box: bool) -> None:
    places = [(3.0, 7.5), (119.0, 66.0)]
    processor = object.__new__(Sam2VideoProcessor)  # its own constructor asks for torchvision
    given = torch.tensor(places).reshape(1, 4) if box else torch.tensor(places)
    expected = processor._normalize_coordinates(1024, given, (68, 120), is_bounding_box=box)
    scaled = Preprocessing(1024, *IMAGENET).scale(places, height=68, width=120)
    torch.testing.assert_close(scaled, expected.reshape(2, 2))


def test_masks_are_resized_before_they_are_cut() -> None:
    logits = torch.tensor([[[4.0, -1.0]]])
    assert masks_from_logits(logits, height=1, width=8)[0, 0].tolist() == [True] * 5 + [False] * 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("video_preprocessor_config.json", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}),
        ("preprocessor_config.json", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}),
        (
            "processor_config.json",
            {"target_size": 8, "video_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}},
        ),
    ],
)
def test_a_checkpoints_own_numbers_are_read(tmp_path: Path, name: str, content: dict[str, object]) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    assert Preprocessing.read(tmp_path, size=8, default=IMAGENET) == Preprocessing(8, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_checkpoint_without_numbers_has_those_of_its_kind(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text('{"target_size": 1024}')
    assert Preprocessing.read(tmp_path, size=1024, default=IMAGENET) == Preprocessing(1024, *IMAGENET)


@pytest.mark.parametrize("mean", [[0.5], [0.5, 0.5, "x"], 0.5])
def test_numbers_that_are_none_are_refused(tmp_path: Path, mean: object) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean}))
    with pytest.raises(InputError, match="expected image_mean and image_std of 3 numbers"):
        Preprocessing.read(tmp_path, size=1024, default=IMAGENET)
