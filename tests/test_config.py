"""The one object that says how a stage is sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import BeyondPaper, SamplingConfig
from amodal_diffusion.parsing import load_settings, save_settings


def test_sampling_is_changed_by_name_also_in_its_group() -> None:
    config = SamplingConfig()
    changed = config.changed({"guidance_scale": 1.0, "tta": 2, "mask_filters": ["area", "depth"]})
    assert changed == SamplingConfig(guidance_scale=1.0, beyond=BeyondPaper(tta=2, mask_filters=("depth", "area")))
    assert config == SamplingConfig()
    assert changed.changed({}) == changed
    assert type(config.changed({"samples": np.int64(3)}).samples) is int  # JSON takes none of numpy's


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidence_scale": 1.0}, "guidence_scale: no setting of sampling has this name; did you mean guidance_scale?"),
        ({"ttaa": 2}, "ttaa: no setting of sampling has this name; did you mean tta?"),
        ({"tta": 3}, "tta: expected 1, 2 or 4 passes, got 3"),
        ({"height": 0}, "height: expected at least 1, got 0"),
        ({"samples": "3"}, "samples: expected an integer, got '3'"),
        ({"num_frames": True}, "num_frames: expected an integer, got True"),
        ({"expected_iou_weight": 0.1}, "mask_threshold: expected above 0 and at most 0.5 beside expected_iou_weight"),
    ],
)
def test_a_wrong_change_of_sampling_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        SamplingConfig().changed(changes)
    assert str(error.value).startswith(message)


def test_windows_overlap_by_a_quarter_and_heun_takes_two_passes_a_step() -> None:
    assert [SamplingConfig(num_frames=frames).overlap for frames in (1, 4, 16, 25)] == [0, 1, 4, 6]
    assert SamplingConfig(num_inference_steps=5).network_passes == 5
    assert SamplingConfig(num_inference_steps=5, scheduler="heun").network_passes == 9


def test_sampling_survives_yaml(tmp_path: Path) -> None:
    beyond = BeyondPaper(crop_scale=3.0, temporal_prior=True, mask_filters=("depth", "components"), tta=4)
    config = SamplingConfig(guidance_interval=(0.5, 20.0), scheduler="dpmpp", fit="crop", beyond=beyond)
    save_settings(config, tmp_path / "sampling.yaml")
    assert load_settings(SamplingConfig, tmp_path / "sampling.yaml") == config
