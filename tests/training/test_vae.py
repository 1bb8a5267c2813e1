"""The autoencoder's training: pictures, resume to the bit, figures, export."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion.data.samples import SceneDataset
from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.training.vae import (
    KINDS,
    ReconstructionLoss,
    VaeSettings,
    build_vae,
    draw_batch,
    picture,
    train_vae,
)
from amodal_diffusion.types import InputError

SETTINGS = VaeSettings(
    block_out_channels=(32, 32),
    clips=3,
    validation_clips=2,
    frames=2,
    height=32,
    width=64,
    crop=(16, 16),
    batch_size=2,
    steps=4,
    mixed_precision="no",
    save_every=2,
)


@pytest.fixture(scope="module")
def clips() -> list:
    dataset = SceneDataset("train", length=3, frames=2, height=32, width=64, with_rgb=True)
    return [dataset[index] for index in range(3)]


def test_every_kind_of_picture_is_in_range(clips: list) -> None:
    for kind in KINDS:
        video = picture(clips[0], kind)
        assert video.shape == (2, 3, 32, 64)
        assert video.abs().max() <= 1
    assert set(picture(clips[0], "mask").unique().tolist()) <= {-1.0, 1.0}
    outside = ~torch.from_numpy(clips[0].amodal)
    assert (picture(clips[0], "whole").movedim(1, -1)[outside] == 1).all()


def test_batches_are_cropped_until_the_end(clips: list) -> None:
    crops = draw_batch(clips, SETTINGS, np.random.default_rng(0), whole_frames=False)
    again = draw_batch(clips, SETTINGS, np.random.default_rng(0), whole_frames=False)
    whole = draw_batch(clips, SETTINGS, np.random.default_rng(0), whole_frames=True)
    assert crops.shape == (2, 2, 3, 16, 16)
    assert torch.equal(crops, again)
    assert whole.shape == (1, 2, 3, 32, 64)


def test_clips_without_rgb_are_refused(clips: list) -> None:
    with pytest.raises(InputError, match="one is missing"):
        picture(replace(clips[0], rgb=None), "frame")


def test_four_steps_equal_two_and_a_resume(tmp_path: Path) -> None:
    straight = replace(SETTINGS, out=tmp_path / "straight")
    figures = train_vae(straight)
    assert 0 <= figures["mask_iou"] <= 1
    assert load_vae(straight.out / "vae").config.scaling_factor == pytest.approx(figures["scaling_factor"])
    # A run that was stopped at its second step: its checkpoint is there and its later results are not.
    resumed = replace(SETTINGS, out=tmp_path / "resumed", save_every=2)
    train_vae(replace(resumed, steps=4, save_every=3))
    shutil.rmtree(resumed.out / "vae")
    train_vae(resumed)
    ours, theirs = (load_file(run.out / "vae" / "diffusion_pytorch_model.safetensors") for run in (straight, resumed))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_going_on_from_a_base_begins_with_its_weights(tmp_path: Path) -> None:
    first = replace(SETTINGS, out=tmp_path / "first", steps=1)
    train_vae(first)
    ours = build_vae(replace(SETTINGS, base=first.out / "vae")).state_dict()
    theirs = load_vae(first.out / "vae").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="step 2: the loss is"):
        train_vae(replace(SETTINGS, out=tmp_path, learning_rate=1e30))
    assert not (tmp_path / "vae").exists()


def test_colour_counts_in_the_loss() -> None:
    vae = build_vae(SETTINGS).eval()
    with torch.no_grad():
        for output in (vae.decoder.conv_out, vae.decoder.time_conv_out):
            output.weight.zero_()
            output.bias.zero_()
        grey, red = torch.zeros(1, 1, 3, 16, 16), torch.zeros(1, 1, 3, 16, 16)
        red[:, :, 0] = 1.0
        losses = {
            (weight, name): float(
                ReconstructionLoss(vae, replace(SETTINGS, kl_weight=0.0, colour_weight=weight))(video)
            )
            for weight in (0.0, 3.0)
            for name, video in (("grey", grey), ("red", red))
        }
    assert losses[0.0, "grey"] == losses[3.0, "grey"] == 0
    assert losses[0.0, "red"] == pytest.approx(2 / 3)  # |1| / 3 + 1^2 / 3
    # Off grey by 2/3, -1/3, -1/3: mean absolute 4/9, mean square 2/9.
    assert losses[3.0, "red"] == pytest.approx(2 / 3 + 3 * (4 / 9 + 2 / 9))


def test_channels_are_permuted_together(clips: list) -> None:
    settings = replace(SETTINGS, permute_channels=True, shares=(0, 0, 0, 0, 1))
    plain = draw_batch(clips, SETTINGS, np.random.default_rng(0), whole_frames=True)
    assert plain.shape[2] == 3
    drawn = draw_batch(clips[:1], settings, np.random.default_rng(0), whole_frames=True)[0]
    whole = picture(clips[0], "frame")
    options = [video[:, list(order)] for order in permutations(range(3)) for video in (whole, whole.flip(-1))]
    assert any(torch.equal(drawn, option) for option in options)


def test_swatches_are_plain_patterns_of_strong_colours(clips: list) -> None:
    settings = replace(SETTINGS, swatch_share=1.0, batch_size=30)
    drawn = draw_batch(clips, settings, np.random.default_rng(0), whole_frames=False)
    assert drawn.shape == (30, 2, 3, 16, 16)
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert {len(video[0].flatten(1).unique(dim=1).T) for video in drawn} == {1, 4, 16}
    assert 0.5 < float(drawn.abs().mean()) <= 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": (15, 16)}, "multiples of 2"),
        ({"crop": (64, 64)}, "crop: expected at most 32x64"),
    ],
)
def test_bad_settings_are_named(change: dict[str, tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SETTINGS, **change)
