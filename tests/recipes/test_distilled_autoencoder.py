"""A distilled autoencoder learns a big one's latents; what it learns from, resume to the bit, export, figures."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file

from amodal_diffusion.data.samples import SceneDataset
from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.types import InputError
from recipes.tiny.distilled_autoencoder import (
    DistillationSettings,
    Examples,
    build_student,
    distill_autoencoder,
    draw_examples,
    pictures_of,
    prepare_examples,
)
from tests.factories import tiny_vae


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> DistillationSettings:
    teacher = tmp_path_factory.mktemp("teacher")
    tiny_vae().save_pretrained(teacher)
    return DistillationSettings(
        teacher=teacher,
        channels=8,
        encoder_blocks=(0, 1),
        decoder_blocks=(1, 0),
        clips=2,
        validation_clips=1,
        frames=3,
        height=16,
        width=16,
        batch_size=4,
        steps=4,
        mixed_precision="no",
        save_every=2,
    )


def test_what_is_encoded_is_what_stage_1_encodes(settings: DistillationSettings) -> None:
    sample = SceneDataset("train", length=1, frames=3, height=32, width=64, with_rgb=True)[0]
    pictures = pictures_of(sample, settings)
    assert pictures.shape == (3, 4, 1, 16, 16)
    assert pictures.abs().max() <= 1
    assert torch.equal(pictures[:, 1] > 0, pictures[:, 2] > 0)  # the prior stays below 0 beside the visible part
    assert bool((pictures[:, 0] >= pictures[:, 1]).all())
    with pytest.raises(InputError, match="one is missing"):
        pictures_of(replace(sample, depth=None), settings)


def test_the_mean_of_two_latents_is_taught_to_show_the_mean_of_their_masks(settings: DistillationSettings) -> None:
    examples = prepare_examples(load_vae(settings.teacher), settings, range(2))
    assert examples.latents.shape == (6, 4, 4, 8, 8)
    pictures, latents, mixed, targets = draw_examples(examples, 64, np.random.default_rng(0), "cpu")
    assert pictures.shape == (64, 3, 16, 16)
    assert latents.shape == mixed.shape == (64, 4, 8, 8)
    plain = (targets.abs() == 1).flatten(1).all(dim=1)
    assert 0.2 < float(plain.float().mean()) < 1
    assert all(any(torch.equal(row, other.float()) for other in examples.latents[:, 0]) for row in mixed[:4][plain[:4]])


def test_means_are_of_frames_of_one_clip() -> None:
    clips, frames = 4, 3
    latents = torch.arange(clips).repeat_interleave(frames).half()[:, None, None, None, None].expand(-1, 4, 4, 2, 2)
    masks = torch.zeros(clips * frames, 4, 4, dtype=torch.bool)
    examples = Examples(masks[:, None, None].expand(-1, 4, -1, -1, -1).half(), latents, masks, frames)
    _, _, mixed, _ = draw_examples(examples, 400, np.random.default_rng(0), "cpu")
    torch.testing.assert_close(mixed, mixed.round())  # a mean of two clips' would lie between
    assert set(mixed.round().flatten().tolist()) == {0.0, 1.0, 2.0, 3.0}


def test_four_steps_equal_two_and_a_resume(settings: DistillationSettings, tmp_path: Path) -> None:
    straight = replace(settings, out=tmp_path / "straight")
    figures = distill_autoencoder(straight)
    assert 0 <= figures["mask_iou"] <= 1
    assert figures["latent_error"] > 0
    student = load_vae(straight.out / "vae")
    assert isinstance(student, AutoencoderTiny)
    assert student.config.scaling_factor == tiny_vae().config.scaling_factor
    resumed = replace(settings, out=tmp_path / "resumed")
    distill_autoencoder(replace(resumed, save_every=3))  # leaves a checkpoint of its third step alone
    shutil.rmtree(resumed.out / "vae")
    distill_autoencoder(resumed)
    ours, theirs = (load_file(run.out / "vae" / "diffusion_pytorch_model.safetensors") for run in (straight, resumed))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_it_learns_the_latents(settings: DistillationSettings, tmp_path: Path) -> None:
    errors = [
        distill_autoencoder(replace(settings, out=tmp_path / str(steps), steps=steps, learning_rate=5e-3))[
            "latent_error"
        ]
        for steps in (1, 60)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_another_number_of_levels_is_refused(settings: DistillationSettings) -> None:
    with pytest.raises(InputError, match="encoder_blocks: expected 2 entries"):
        build_student(replace(settings, encoder_blocks=(1, 1, 1)), tiny_vae())


def test_a_loss_that_is_not_finite_stops_the_run(settings: DistillationSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss is"):
        distill_autoencoder(replace(settings, out=tmp_path, learning_rate=1e30))
    assert not (tmp_path / "vae").exists()
