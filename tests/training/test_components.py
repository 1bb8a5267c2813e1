"""Where the networks of a run come from, and what does not fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.training.networks import build_components, build_scheduler, build_unet
from amodal_diffusion.training.settings import DataSettings, ImageEncoderSettings, TrainingSettings, UNetSettings
from tests.factories import tiny_components, tiny_scheduler, tiny_unet
from tests.training.conftest import MakeSettings


def test_from_random_weights(make_settings: MakeSettings) -> None:
    settings = make_settings()
    global_state = torch.get_rng_state()
    components = build_components(settings)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert components.unet.config.in_channels == 12
    assert components.unet.config.down_block_types == ("CrossAttnDownBlockSpatioTemporal",)
    assert components.settings.stage == "amodal_segmentation"
    again, other = build_components(settings), build_components(replace(settings, seed=1))
    same = [torch.equal(a, b) for a, b in zip(components.unet.parameters(), again.unet.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(components.unet.conv_in.weight, other.unet.conv_in.weight)
    assert not any(parameter.requires_grad for parameter in components.image_encoder.parameters())


def test_from_stable_video_diffusion(make_settings: MakeSettings, tmp_path: Path) -> None:
    components = tiny_components()
    tiny_unet(in_channels=8).save_pretrained(tmp_path / "unet")
    for part in ("vae", "image_encoder", "scheduler"):
        getattr(components, part).save_pretrained(tmp_path / part)
    settings = make_settings()
    model = replace(settings.model, svd=str(tmp_path), vae=None, trainable="paper", depth_model="depth/small")
    loaded = build_components(replace(settings, model=model))
    assert loaded.unet.config.in_channels == 12
    assert not loaded.unet.conv_in.weight[:, 8:].any()
    assert loaded.settings.depth_model == "depth/small"
    assert loaded.settings.sampling == settings.sampling


def test_the_scheduler_is_stable_video_diffusions() -> None:
    ours, theirs = (
        {name: value for name, value in scheduler.config.items() if name != "_use_default_values"}
        for scheduler in (build_scheduler(), tiny_scheduler())
    )
    assert ours == theirs


def test_what_does_not_fit_is_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings()
    tiny_components().image_encoder.save_pretrained(tmp_path)
    for change, message in (
        ({"base": "a", "svd": "b"}, "both are given"),
        ({"vae": None}, r"model\.vae: expected a folder"),
        ({"trainable": "paper"}, "expected all, got paper"),
        ({"image_encoder": tmp_path}, "makes tokens of width 32, the UNet attends to 16"),
    ):
        with pytest.raises(InputError, match=message):
            build_components(replace(settings, model=replace(settings.model, **change)))  # type: ignore[arg-type]


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="num_attention_heads: expected 2 values"):
        UNetSettings((32, 64), (1,), num_attention_heads=(1, 2, 3))
    with pytest.raises(InputError, match="attention_levels: expected levels from 0 to 1"):
        UNetSettings((32, 64), (2,), num_attention_heads=(1, 2))
    with pytest.raises(InputError, match="guide_dropout"):
        DataSettings(guide_dropout=1.5)
    with pytest.raises(InputError, match=r"data\.degraded_share: expected a share from 0 to 1, got -0\.1"):
        DataSettings(degraded_share=-0.1)
    with pytest.raises(InputError, match=r"data\.depthless_share: expected a share from 0 to 1, got 2\.0"):
        DataSettings(depthless_share=2.0)
    with pytest.raises(InputError, match="steps: expected at least 1, got 0"):
        TrainingSettings(steps=0)
    with pytest.raises(InputError, match="conditioning_dropout"):
        TrainingSettings(conditioning_dropout=0.5)


def test_the_papers_network_has_the_papers_size() -> None:
    with torch.device("meta"):
        unet = build_unet(UNetSettings(), seed=0)
    assert sum(parameter.numel() for parameter in unet.parameters()) == pytest.approx(1.525e9, rel=1e-3)
    assert ImageEncoderSettings().patch_size == 16
