"""The autoencoder's training: resume to the bit, figures, export, what counts in the loss."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.types import InputError
from recipes.tiny.autoencoder import ReconstructionLoss, build_vae, train_autoencoder
from tests.training.conftest import VAE_SETTINGS


@pytest.mark.slow  # the loop is that of the distilled autoencoder
def test_four_steps_equal_two_and_a_resume(tmp_path: Path) -> None:
    straight = replace(VAE_SETTINGS, out=tmp_path / "straight")
    figures = train_autoencoder(straight)
    assert 0 <= figures["mask_iou"] <= 1
    assert load_vae(straight.out / "vae").config.scaling_factor == pytest.approx(figures["scaling_factor"])
    # A run that was stopped at its second step: its checkpoint is there and its later results are not.
    resumed = replace(VAE_SETTINGS, out=tmp_path / "resumed", save_every=2)
    train_autoencoder(replace(resumed, steps=4, save_every=3))
    shutil.rmtree(resumed.out / "vae")
    train_autoencoder(resumed)
    ours, theirs = (load_file(run.out / "vae" / "diffusion_pytorch_model.safetensors") for run in (straight, resumed))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_going_on_from_a_base_begins_with_its_weights(tmp_path: Path) -> None:
    first = replace(VAE_SETTINGS, out=tmp_path / "first", steps=1)
    train_autoencoder(first)
    ours = build_vae(replace(VAE_SETTINGS, base=first.out / "vae")).state_dict()
    theirs = load_vae(first.out / "vae").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="step 2: the loss is"):
        train_autoencoder(replace(VAE_SETTINGS, out=tmp_path, learning_rate=1e30))
    assert not (tmp_path / "vae").exists()


def test_color_counts_in_the_loss() -> None:
    vae = build_vae(VAE_SETTINGS).eval()
    with torch.no_grad():
        for output in (vae.decoder.conv_out, vae.decoder.time_conv_out):
            output.weight.zero_()
            output.bias.zero_()
        gray, red = torch.zeros(1, 1, 3, 16, 16), torch.zeros(1, 1, 3, 16, 16)
        red[:, :, 0] = 1.0
        losses = {
            (weight, name): float(
                ReconstructionLoss(vae, replace(VAE_SETTINGS, kl_weight=0.0, color_weight=weight))(video)
            )
            for weight in (0.0, 3.0)
            for name, video in (("gray", gray), ("red", red))
        }
    assert losses[0.0, "gray"] == losses[3.0, "gray"] == 0
    assert losses[0.0, "red"] == pytest.approx(2 / 3)  # |1| / 3 + 1^2 / 3
    # Off gray by 2/3, -1/3, -1/3: mean absolute 4/9, mean square 2/9.
    assert losses[3.0, "red"] == pytest.approx(2 / 3 + 3 * (4 / 9 + 2 / 9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": (15, 16)}, "multiples of 2"),
        ({"crop": (64, 64)}, "crop: expected at most 32x64"),
    ],
)
def test_bad_settings_are_named(change: dict[str, tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(VAE_SETTINGS, **change)
