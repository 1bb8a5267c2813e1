"""A light autoencoder takes the place of a checkpoint's own, on the same scaled latents."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.completion.request import CompletionRequest, ModelChoice, Output, Source
from amodal_diffusion.evaluation.methods import ModelOptions, build_methods
from amodal_diffusion.models.downloads import Wanted
from amodal_diffusion.models.latents import decode_latents, encode_video
from amodal_diffusion.models.light_vae import load_light_vae, locate_vae
from tests.factories import moving_square, tiny_completer_folder, tiny_distilled_vae, tiny_vae


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As on the hub: scaled latents, and a scaling factor of 1 whatever latents it was trained for."""
    folder = tmp_path_factory.mktemp("light")
    vae = tiny_distilled_vae(seed=4)
    vae.register_to_config(scaling_factor=1.0)
    vae.save_pretrained(folder)
    return folder


def test_scaled_latents_are_its_own(model: Path, light: Path) -> None:
    vae = load_light_vae(light, replaced=model / "vae", dtype=torch.float32)
    assert vae.config.scaling_factor == tiny_vae().config.scaling_factor == 0.5
    video = torch.rand(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        scaled = vae.encode(video[0]).latents
        assert torch.allclose(encode_video(vae, video)[0] * 0.5, scaled)  # conditions are not scaled
        assert torch.equal(decode_latents(vae, scaled[None], decode_chunk_size=8)[0], vae.decode(scaled).sample)


def test_it_replaces_a_light_one_too(light: Path, tmp_path: Path) -> None:
    own = tiny_distilled_vae(seed=5)
    own.register_to_config(scaling_factor=0.25)
    own.save_pretrained(tmp_path)
    assert load_light_vae(light, replaced=tmp_path, dtype=torch.float32).config.scaling_factor == 0.25


def test_both_stages_share_it_and_the_masks_change(model: Path, light: Path) -> None:
    completer = AmodalCompleter.from_pretrained(model, vae=light)
    pipelines = [completer._pipelines[stage] for stage in STAGES]
    assert pipelines[0].vae is pipelines[1].vae
    own = AmodalCompleter.from_pretrained(model)
    assert completer.fingerprints() != own.fingerprints()
    clip = moving_square(3)
    one, other = (each(clip).score for each in (completer, own))
    assert one is not None
    assert other is not None
    assert not np.array_equal(one, other)


def test_a_resumed_command_notices_other_weights(model: Path, light: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(light, tmp_path / "light")
    source = Source(clip=folder / "config.json")  # any file: it is recorded, not opened
    request = CompletionRequest(source, Output(out=tmp_path / "out"), model=ModelChoice(str(model), vae=str(folder)))
    before = request.inputs()["vae"]
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert request.inputs()["vae"] != before
    assert request.settings()["vae"] == str(folder)


def test_a_report_measures_it_beside_the_own(model: Path, light: Path) -> None:
    names = [str(model), f"{model}+vae@depth"]
    own, replaced = build_methods(names, ModelOptions(vae=str(light), stages=STAGES[:1]))
    assert (own.name, replaced.name, replaced.uses_depth) == (*names, True)
    told = [method.describe(paints=False)["amodal_segmentation"]["fingerprint"] for method in (own, replaced)]
    assert told[0] != told[1]
    with pytest.raises(InputError, match=r"expected --vae NAME beside a method that ends in \+vae"):
        build_methods(names, ModelOptions(stages=STAGES[:1]))
    with pytest.raises(InputError, match=r"expected a method that ends in \+vae, such as tiny\+vae"):
        build_methods(["modal", str(model)], ModelOptions(vae=str(light), stages=STAGES[:1]))


def test_what_does_not_fit_is_one_line(model: Path, light: Path, tmp_path: Path) -> None:
    known = locate_vae("tiny")
    assert isinstance(known, Wanted)
    assert (known.hub_id.repository, known.license) == ("madebyollin/taesd", "MIT")
    assert isinstance(locate_vae("owner/name@v2"), Wanted)
    with pytest.raises(InputError, match="vae nothing: expected tiny, a folder or a hub id"):
        locate_vae("nothing")
    with pytest.raises(InputError, match="expected an AutoencoderTiny, got another kind"):
        load_light_vae(model / "vae", replaced=model / "vae", dtype=torch.float32)
    deeper = tmp_path / "deeper"
    tiny_vae().save_config(deeper)
    text = (deeper / "config.json").read_text().replace("32,\n    32", "32,\n    32,\n    32")
    (deeper / "config.json").write_text(text)
    with pytest.raises(InputError, match="expected latents of 4 channels at 1/4 of the size"):
        load_light_vae(light, replaced=deeper, dtype=torch.float32)
