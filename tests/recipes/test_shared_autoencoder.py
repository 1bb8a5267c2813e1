"""The shared autoencoder: color from the first step, what it is shown, what counts, resume to the bit, figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

from amodal_diffusion.models.hub import load_vae
from recipes.tiny.color_start import COLOR_AXES, color_anchor, rotate_hue, swatches
from recipes.tiny.shared_autoencoder import (
    HUE_BINS,
    PictureSteps,
    SharedAutoencoderSettings,
    SharedLoss,
    build_autoencoder,
    hue_bins,
    measure,
    train_shared_autoencoder,
)
from tests.factories import tiny_cutouts_folder


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> SharedAutoencoderSettings:
    return SharedAutoencoderSettings(
        cutouts=tiny_cutouts_folder(tmp_path_factory.mktemp("cutouts")),
        channels=8,
        encoder_blocks=(0, 0, 1),
        decoder_blocks=(1, 0, 0),
        clips=1,
        frames=3,
        frame_height=32,
        frame_width=48,
        size=32,
        temporal_prior=False,
        made=1,
        validation_clips=2,
        steps=4,
        mixed_precision="no",
        save_every=2,
    )


def test_colors_pass_through_the_first_weights(settings: SharedAutoencoderSettings) -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(settings).eval()
    pixels, inside = swatches(6, 32, np.random.default_rng(0))
    with torch.no_grad():
        latents = vae.encode(pixels).latents
        decoded = vae.decode(latents).sample
    assert (latents[:, :3] - color_anchor(pixels, COLOR_AXES)).abs().mean() < 0.05
    middle = decoded[:, :, 14:18, 14:18].mean(dim=(2, 3)), pixels[:, :, 14:18, 14:18].mean(dim=(2, 3))
    torch.testing.assert_close(middle[0], middle[1], atol=0.4, rtol=0)  # strong latents are softly limited
    assert (middle[0] - middle[1]).abs().mean() < 0.15
    assert inside[:, 0, 16, 16].all()
    assert (pixels[:, :, 0, 0] == 1).all()


def test_hues_are_turned_and_found() -> None:
    bins = [0, 2, 4, 6, 8, 10]
    pure = np.array([[1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, 1, 1], [-1, -1, 1], [1, -1, 1], [0.2, 0.2, 0.2]])
    assert hue_bins(pure).tolist() == [*bins, -1]
    muted = torch.tensor([0.4, -0.3, -0.3]).reshape(1, 3, 1, 1)
    turned = [int(hue_bins(rotate_hue(muted, 2 * np.pi * k / 12).numpy().reshape(1, 3))[0]) for k in range(12)]
    assert len(set(turned)) >= 10
    gray = torch.full((1, 3, 2, 2), 0.3)
    torch.testing.assert_close(rotate_hue(gray, 1.0), gray, atol=1e-3, rtol=0)


def test_a_step_has_five_kinds_and_swatches_and_follows_from_its_number(settings: SharedAutoencoderSettings) -> None:
    steps = PictureSteps(settings)
    pixels, inside, kind = steps[2]
    assert torch.bincount(kind).tolist() == [3, 3, 3, 3, 3, 1]
    assert pixels.shape == (16, 3, 32, 32)
    assert set(pixels[kind == 0].unique().tolist()) <= {-1.0, 1.0}
    assert not inside[kind <= 2].any()
    assert inside[kind == 3].sum() >= inside[kind == 4].sum() > 0
    torch.testing.assert_close(pixels, steps[2][0], atol=0, rtol=0)
    assert not torch.equal(pixels, steps[3][0])


def test_held_latents_and_wrong_hues_cost(settings: SharedAutoencoderSettings) -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(settings).eval()
    loss, batch = SharedLoss(vae, noise=False), PictureSteps(settings)[0]

    def value(hold: float) -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(loss(*batch, torch.tensor(hold)))

    before = value(2.0) - value(0.0)
    assert 0 <= before < 0.1  # the first weights are at the anchors
    with torch.no_grad():
        vae.encoder.layers[-1].bias[1] += 1.0  # off the red-blue axis
    assert value(2.0) - value(0.0) > before + 0.5


@pytest.mark.slow
def test_two_pieces_equal_one(settings: SharedAutoencoderSettings, tmp_path: Path) -> None:
    straight = replace(settings, out=tmp_path / "straight")
    straight.out.mkdir()
    assert train_shared_autoencoder(straight)
    figures = json.loads((straight.out / "figures.json").read_text())
    assert 0 < figures["mask_iou"] <= 1
    assert len(figures["hue_psnr"]) == HUE_BINS
    vae = load_vae(straight.out / "vae")
    assert measure(vae, straight)["mask_iou"] == figures["mask_iou"]
    pieces = replace(settings, out=tmp_path / "pieces")
    pieces.out.mkdir()
    assert not train_shared_autoencoder(replace(pieces, max_minutes=1e-9))
    assert not (pieces.out / "vae").exists()
    assert train_shared_autoencoder(pieces)
    lines = [json.loads(line) for line in (pieces.out / "pieces.jsonl").read_text().splitlines()]
    assert [(line["from"], line["to"]) for line in lines] == [(0, 1), (1, 4)]
    one, two = (load_file(run.out / "vae/diffusion_pytorch_model.safetensors") for run in (straight, pieces))
    assert all(torch.equal(one[name], two[name]) for name in one)
    shutil.rmtree(pieces.out)
