"""Figures and the picture of validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.data.samples import SceneDataset
from amodal_diffusion.training.components import build_components
from amodal_diffusion.training.processes import make_accelerator
from amodal_diffusion.training.settings import DataSettings, ValidationSettings
from amodal_diffusion.training.stopping import Termination
from amodal_diffusion.training.validation import Validator
from amodal_diffusion.types import InputError, Stage
from tests.training.conftest import MakeSettings

GREY, GAP = 128, 2


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        (
            "amodal_segmentation",
            {"miou", "miou_occ", "miou_without_guide", "miou_occ_without_guide"},
        ),
        ("content_completion", {"psnr_hidden", "psnr_hidden_without_guide"}),
    ],
)
def test_figures_and_picture(make_settings: MakeSettings, stage: Stage, names: set[str]) -> None:
    settings = make_settings(stage=stage, validation=ValidationSettings(every=1, clips=3, pictures=2))
    validator = Validator(settings, make_accelerator("no"), Termination())
    components = build_components(settings)
    first, again = validator(components, 7), validator(components, 8)
    assert first is not None
    assert again is not None
    assert names <= first.figures.keys()
    assert again.figures == first.figures  # the same noise each time
    picture = np.asarray(Image.open(settings.output / "validation/00000007.png"))
    assert picture.shape == (4 * 16 + 3 * GAP, 4 * 32 + 3 * GAP, 3)
    assert np.array_equal(picture, first.picture)
    assert (picture[:, 32 : 32 + GAP] == GREY).all()


def test_both_protocols_are_measured(make_settings: MakeSettings) -> None:
    settings = make_settings(data=DataSettings(clips=6, frames=4, height=64, width=128))
    settings = replace(settings, sampling=replace(settings.sampling, mask_threshold=0.0))  # all is predicted
    validator = Validator(settings, make_accelerator("no"), Termination())
    found = validator(build_components(settings), 1)
    assert found is not None
    # On this many pixels something of the hidden parts is left after the erosion of the released protocol.
    assert {"miou", "miou_occ", "miou_occ_released"} <= found.figures.keys()
    assert found.figures["miou_occ_released"] != found.figures["miou_occ"]


def test_a_request_to_end_breaks_off(make_settings: MakeSettings) -> None:
    settings = make_settings()
    termination = Termination()
    termination.requested = True
    assert Validator(settings, make_accelerator("no"), termination)(build_components(settings), 1) is None


def test_a_clip_that_cannot_be_read_is_named(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings()
    monkeypatch.setattr(SceneDataset, "__getitem__", lambda *_: 1 / 0)
    with pytest.raises(InputError, match=r"validation: validation-000000 cannot be read \(ZeroDivisionError: "):
        Validator(settings, make_accelerator("no"), Termination())(build_components(settings), 1)


def test_no_clips_to_show_is_no_picture(make_settings: MakeSettings) -> None:
    settings = make_settings(validation=ValidationSettings(every=1, clips=1, pictures=0))
    found = Validator(settings, make_accelerator("no"), Termination())(build_components(settings), 1)
    assert found is not None
    assert found.picture is None
    assert not (settings.output / "validation").exists()
