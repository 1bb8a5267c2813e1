"""One source of scalings: what the loss uses is what the samplers compute."""

from __future__ import annotations

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler

from amodal_diffusion import edm
from tests.factories import tiny_scheduler


def test_denoised_clip_equals_the_euler_schedulers() -> None:
    scheduler: EulerDiscreteScheduler = tiny_scheduler()
    scheduler.set_timesteps(6)
    generator = torch.Generator().manual_seed(0)
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index]
        noisy = torch.randn(1, 2, 4, 3, 3, generator=generator) * (sigma**2 + 1).sqrt()
        output = torch.randn(noisy.shape, generator=generator)
        scaled = scheduler.scale_model_input(noisy, timestep)
        expected = scheduler.step(output, timestep, noisy).pred_original_sample
        torch.testing.assert_close(scaled, edm.c_in(sigma) * noisy)
        torch.testing.assert_close(timestep, edm.c_noise(sigma))
        torch.testing.assert_close(expected, edm.c_skip(sigma) * noisy + edm.c_out(sigma) * output)


def test_denoised_clip_equals_the_edm_schedulers() -> None:
    scheduler = EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0)
    sigma = torch.tensor(3.0)
    noisy, output = torch.randn(2, 4, generator=torch.Generator().manual_seed(1)).chunk(2)
    expected = scheduler.precondition_outputs(noisy, output, sigma)
    torch.testing.assert_close(expected, edm.c_skip(sigma) * noisy + edm.c_out(sigma) * output)


def test_weight_makes_the_target_of_the_network_a_unit_target() -> None:
    sigma = torch.tensor([0.01, 1.0, 50.0])
    torch.testing.assert_close(edm.loss_weight(sigma) * edm.c_out(sigma) ** 2, torch.ones(3))


@pytest.mark.parametrize(("log_mean", "log_std"), [(0.7, 1.6), (-3.0, 0.5)])
def test_sigma_is_log_normal(log_mean: float, log_std: float) -> None:
    draw = edm.sample_sigma(
        20_000, log_mean=log_mean, log_std=log_std, generator=torch.Generator().manual_seed(0)
    ).log()
    assert draw.mean().item() == pytest.approx(log_mean, abs=0.05)
    assert draw.std().item() == pytest.approx(log_std, rel=0.03)
