"""Consistency: which clips are replaced, by what, and that training on it makes many steps agree with one."""

from __future__ import annotations

import torch

from amodal_diffusion import edm
from amodal_diffusion.models.conditioning import Conditions, conditions_from_latents
from amodal_diffusion.training.consistency import HIGHEST, LOWEST, Consistency, denoise
from amodal_diffusion.training.latents import LatentBatch
from amodal_diffusion.training.objective import training_loss
from amodal_diffusion.training.order import seeded_generator
from amodal_diffusion.training.settings import NoiseSettings
from tests.factories import TOKEN_WIDTH, tiny_unet

FRAMES, SIZE = 2, 8


def batch_of(number: int) -> LatentBatch:
    source = torch.Generator().manual_seed(1)
    video = [torch.randn(number, FRAMES, 4, SIZE, SIZE, generator=source) for _ in range(3)]
    return LatentBatch(*video, torch.randn(number, FRAMES, TOKEN_WIDTH, generator=source), torch.full((number,), 0.05))


def generators(*counts: int) -> list[torch.Generator]:
    return [seeded_generator("training", 0, count) for count in counts]


def conditions_of(batch: LatentBatch) -> Conditions:
    return conditions_from_latents(batch.modal, batch.guide, batch.tokens, noise_aug_strength=batch.noise_aug_strength)


def test_replaced_clips_are_the_answers_to_pure_noise() -> None:
    batch, unet = batch_of(4), tiny_unet()
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(2))
    sigma = torch.full((4, 1, 1, 1, 1), 50.0)
    conditions = conditions_of(batch)
    clean, target, levels, own = Consistency(0.5, 1.0)(
        unet, conditions, batch.target, sigma, noise, generators(0, 1, 2, 3)
    )
    chosen = own.flatten()
    assert 0 < int(chosen.sum()) < 4, "choose other generators: both kinds must be there"
    with torch.no_grad():
        answer = denoise(unet, HIGHEST * noise, torch.full_like(sigma, HIGHEST), conditions)
    assert not target.requires_grad
    torch.testing.assert_close(target[chosen], answer[chosen])
    torch.testing.assert_close(clean[chosen], answer[chosen])  # a guidance of 1 pushes nothing
    assert torch.equal(target[~chosen], batch.target[~chosen])
    assert torch.equal(clean[~chosen], batch.target[~chosen])
    assert bool((levels.flatten()[~chosen] == 50.0).all())
    assert bool(((levels[chosen] >= LOWEST) & (levels[chosen] <= HIGHEST)).all())


def test_guidance_pushes_what_is_shown_and_not_what_is_wanted() -> None:
    batch, unet = batch_of(2), tiny_unet()
    noise, sigma = torch.randn_like(batch.target), torch.full((2, 1, 1, 1, 1), 50.0)
    given = (unet, conditions_of(batch), batch.target, sigma, noise)
    plain = Consistency(1.0, 1.0)(*given, generators(0, 1))
    pushed = Consistency(1.0, 2.0)(*given, generators(0, 1))
    assert torch.equal(plain[1], pushed[1])
    assert not torch.equal(plain[0], pushed[0])


def test_a_clip_does_not_depend_on_its_batch() -> None:
    batch, unet = batch_of(2), tiny_unet()
    noise, sigma = torch.randn_like(batch.target), torch.full((2, 1, 1, 1, 1), 50.0)
    both = Consistency(1.0, 1.5)(unet, conditions_of(batch), batch.target, sigma, noise, generators(5, 6))
    second = LatentBatch(
        *(tensor[1:] for tensor in (batch.target, batch.modal, batch.guide, batch.tokens)), batch.noise_aug_strength[1:]
    )
    alone = Consistency(1.0, 1.5)(unet, conditions_of(second), second.target, sigma[1:], noise[1:], generators(6))
    for together, single in zip(both, alone, strict=True):
        torch.testing.assert_close(together[1:], single, rtol=1e-4, atol=1e-5)


def test_loss_of_replaced_clips_is_how_far_a_later_answer_is_from_the_first() -> None:
    batch, unet = batch_of(3), tiny_unet()
    noise = NoiseSettings(sigma_log_mean=4.6, sigma_log_std=1.0)
    consistency = Consistency(1.0, 1.5)
    loss = training_loss(
        unet, batch, noise=noise, conditioning_dropout=0.0, generators=generators(0, 1, 2), consistency=consistency
    )
    again = generators(0, 1, 2)
    sigma = torch.cat([edm.sample_sigma(1, log_mean=4.6, log_std=1.0, generator=g) for g in again])
    unit = torch.stack([torch.randn(batch.target.shape[1:], generator=g) for g in again])
    conditions = conditions_of(batch)
    with torch.no_grad():
        clean, target, levels, _ = consistency(
            unet, conditions, batch.target, sigma[:, None, None, None, None], unit, again
        )
        later = denoise(unet, clean + levels * unit, levels, conditions)
    torch.testing.assert_close(loss, (edm.loss_weight(levels) * (later - target).square()).mean())
    loss.backward()
    assert any(bool(weight.grad.abs().sum() > 0) for weight in unet.parameters() if weight.grad is not None)
