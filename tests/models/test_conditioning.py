"""Conditions: the same for training and inference, and dropped as often as they should be."""

from __future__ import annotations

import pytest
import torch

from amodal_diffusion.models.conditioning import (
    Conditions,
    add_condition_noise,
    build_conditions,
    clip_tokens,
    conditions_from_latents,
    drop_conditions,
    unconditional,
)
from amodal_diffusion.models.latents import encode_video
from tests.factories import TOKEN_WIDTH, tiny_image_encoder, tiny_vae


def _video(seed: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, 3, channels, 16, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def test_what_training_caches_makes_the_conditions_that_inference_builds() -> None:
    vae, encoder = tiny_vae(), tiny_image_encoder()
    modal, guide = _video(0, 1), _video(1, 1)
    strength = torch.tensor([0.0, 0.0])
    built = build_conditions(modal, guide, vae=vae, image_encoder=encoder, noise_aug_strength=strength)
    cached = conditions_from_latents(
        encode_video(vae, modal), encode_video(vae, guide), clip_tokens(encoder, modal), noise_aug_strength=strength
    )
    for name in ("latents", "tokens", "added_time_ids"):
        torch.testing.assert_close(getattr(built, name), getattr(cached, name))
    assert built.latents.shape == (2, 3, 8, 8, 16)
    assert built.tokens.shape == (2, 3, TOKEN_WIDTH)
    torch.testing.assert_close(built.added_time_ids, torch.tensor([[8.0, 127.0, 0.0]] * 2))


@torch.no_grad()
def test_no_guide_is_a_guide_of_zero_latents() -> None:
    built = build_conditions(
        _video(0), None, vae=tiny_vae(), image_encoder=tiny_image_encoder(), noise_aug_strength=torch.zeros(2)
    )
    assert not built.latents[:, :, 4:].any()
    assert built.latents[:, :, :4].any()


def test_noise_has_the_strength_of_its_clip() -> None:
    strength = torch.tensor([0.0, 0.5])
    noisy = add_condition_noise(torch.zeros(2, 4, 1, 32, 32), strength, generator=torch.Generator().manual_seed(0))
    assert noisy.shape == (2, 4, 3, 32, 32)
    assert not noisy[0].any()
    assert noisy[1].std().item() == pytest.approx(0.5, rel=0.03)


def test_one_generator_a_clip_makes_noise_independent_of_the_batch() -> None:
    video, strength = torch.zeros(2, 2, 3, 8, 8), torch.full((2,), 0.3)
    both = add_condition_noise(video, strength, generator=[torch.Generator().manual_seed(s) for s in (5, 6)])
    alone = add_condition_noise(video[1:], strength[1:], generator=[torch.Generator().manual_seed(6)])
    torch.testing.assert_close(both[1:], alone)


def test_dropout_follows_one_draw_a_clip() -> None:
    count, probability = 30_000, 0.1
    conditions = Conditions(torch.ones(count, 1, 1, 1, 1), torch.ones(count, 1, 1), torch.ones(count, 3))
    dropped = drop_conditions(conditions, probability, generator=torch.Generator().manual_seed(0))
    no_tokens, no_latents = dropped.tokens.flatten() == 0, dropped.latents.flatten() == 0
    for share, expected in (
        (no_tokens & no_latents, probability),
        (no_tokens & ~no_latents, probability),
        (no_latents & ~no_tokens, probability),
    ):
        assert share.float().mean().item() == pytest.approx(expected, abs=0.01)
    assert torch.equal(dropped.added_time_ids, conditions.added_time_ids)


def test_unconditional_keeps_the_time_ids() -> None:
    conditions = Conditions(torch.ones(1, 2, 8, 2, 2), torch.ones(1, 2, 4), torch.ones(1, 3))
    zero = unconditional(conditions)
    assert not zero.latents.any()
    assert not zero.tokens.any()
    assert torch.equal(zero.added_time_ids, conditions.added_time_ids)
