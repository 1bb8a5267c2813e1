"""Stages of a model: one VAE and one image encoder where both have the same, and networks without weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from amodal_diffusion.basics import STAGES, Stage
from amodal_diffusion.models import hub
from amodal_diffusion.models.hub import bundled_models
from amodal_diffusion.models.memory import bytes_of
from amodal_diffusion.models.stages import empty_stages, load_stages, svd_config
from amodal_diffusion.training.networks import build_image_encoder, build_unet
from amodal_diffusion.training.settings import ImageEncoderSettings, UNetSettings
from tests.factories import tiny_completer_folder, tiny_released_folder

FIRST, SECOND = STAGES


@pytest.fixture
def released(tmp_path: Path) -> dict[Stage, Path]:
    """Two repositories in the released layout, with copies of one VAE and one image encoder."""
    folders = {stage: tiny_released_folder(tmp_path / stage, stage) for stage in STAGES}
    for part in ("vae", "image_encoder"):
        shutil.rmtree(folders[SECOND] / part)
        shutil.copytree(folders[FIRST] / part, folders[SECOND] / part)
    return folders


def shared_parts(folders: dict[Stage, Path]) -> list[str]:
    """Names of the parts that are one object, the same for loaded networks and for those without weights."""
    loaded, empty = load_stages(folders), empty_stages(folders, dtype=torch.float32)
    parts = ("unet", "vae", "image_encoder")
    found = [name for name in parts if getattr(loaded[FIRST], name) is getattr(loaded[SECOND], name)]
    assert [name for name in parts if getattr(empty[FIRST], name) is getattr(empty[SECOND], name)] == found
    for stage in STAGES:
        for name in parts:
            assert bytes_of(getattr(loaded[stage], name)) == bytes_of(getattr(empty[stage], name))
    return found


def test_equal_weights_of_two_repositories_are_loaded_once(
    released: dict[Stage, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, load = [], hub._from_pretrained

    def noted(cls: type, folder: Path, variant: str | None, **dtype: torch.dtype) -> object:
        read.append(folder)
        return load(cls, folder, variant, **dtype)

    monkeypatch.setattr(hub, "_from_pretrained", noted)
    assert shared_parts(released) == ["vae", "image_encoder"]
    assert read == [released[FIRST] / "vae", released[FIRST] / "image_encoder"]
    first, second = load_stages(released, share=False).values()
    assert first.vae is not second.vae


def test_other_weights_or_settings_are_not_shared(tmp_path: Path, released: dict[Stage, Path]) -> None:
    config = released[SECOND] / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 0.25, "_name_or_path": "x"}))
    assert shared_parts(released) == ["image_encoder"]
    other = tiny_released_folder(tmp_path / "other", SECOND)
    assert shared_parts({**released, SECOND: other}) == []


@pytest.mark.slow
def test_a_model_of_both_stages_shares_what_lies_beside_them(tmp_path: Path) -> None:
    folder = tiny_completer_folder(tmp_path / "model")
    assert shared_parts(dict.fromkeys(STAGES, folder)) == ["vae", "image_encoder"]
    bundled = empty_stages(dict.fromkeys(STAGES, bundled_models()["tiny"]), dtype=torch.float32)
    assert bundled[FIRST].image_encoder is bundled[SECOND].image_encoder
    assert bundled[FIRST].vae is bundled[SECOND].vae


@pytest.mark.slow
def test_models_that_are_not_here_have_the_networks_of_stable_video_diffusion() -> None:
    built = empty_stages(dict.fromkeys(STAGES), dtype=torch.bfloat16)[FIRST]
    with torch.device("meta"):
        unet = build_unet(UNetSettings(), seed=0)
        encoder = build_image_encoder(ImageEncoderSettings(224, 14, 1280, 32, 16), tokens=1024)
        vae = AutoencoderKLTemporalDecoder.from_config(svd_config("vae"))
    for network, found in zip((unet, vae, encoder), built.networks, strict=True):
        shapes = {name: value.shape for name, value in network.state_dict().items()}
        assert {name: value.shape for name, value in found.state_dict().items()} == shapes
        assert 2 * bytes_of(found) == pytest.approx(bytes_of(network), rel=1e-4)
