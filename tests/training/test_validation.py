"""Figures and the picture of validation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.training.components import build_components
from amodal_diffusion.training.processes import make_accelerator
from amodal_diffusion.training.settings import ValidationSettings
from amodal_diffusion.training.validation import Validator
from amodal_diffusion.types import Stage
from tests.training.conftest import MakeSettings

GREY, GAP = 128, 2


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("amodal_segmentation", {"miou", "miou_occ", "miou_without_guide", "miou_occ_without_guide"}),
        ("content_completion", {"psnr_hidden", "psnr_hidden_without_guide"}),
    ],
)
def test_figures_and_picture(make_settings: MakeSettings, stage: Stage, names: set[str]) -> None:
    settings = make_settings(stage=stage, validation=ValidationSettings(every=1, clips=3, pictures=2))
    validator = Validator(settings, make_accelerator("no"))
    components = build_components(settings)
    figures = validator(components, 7)
    assert names <= figures.keys()
    assert validator(components, 8) == figures  # the same noise each time
    picture = np.asarray(Image.open(settings.output / "validation/00000007.png"))
    assert picture.shape == (4 * 16 + 3 * GAP, 4 * 32 + 3 * GAP, 3)
    assert (picture[:, 32 : 32 + GAP] == GREY).all()


def test_no_clips_to_show_is_no_picture(make_settings: MakeSettings) -> None:
    settings = make_settings(validation=ValidationSettings(every=1, clips=1, pictures=0))
    Validator(settings, make_accelerator("no"))(build_components(settings), 1)
    assert list((settings.output / "validation").iterdir()) == []
