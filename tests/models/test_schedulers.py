"""Schedulers: all of diffusers' schedulers follow the same network from the same noise to the same clip."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import Scheduler
from amodal_diffusion.edm import c_in, c_noise, c_out, c_skip
from amodal_diffusion.models.schedulers import make_scheduler, set_noise_levels
from tests.factories import tiny_scheduler

SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
CPU = torch.device("cpu")
SPREAD = 0.3
"""Standard deviation of the data about its mean, for which the best denoiser and its path are known."""


def edm(kind: Any) -> Any:
    return kind(prediction_type="v_prediction", sigma_data=1.0, sigma_min=0.002, sigma_max=700.0)


def noise() -> torch.Tensor:
    return torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def mean() -> torch.Tensor:
    return torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sample(scheduler: Any, steps: int) -> torch.Tensor:
    """Follow the best denoiser of a normal distribution, as a network that is told ln(sigma) / 4 and answers v."""
    set_noise_levels(scheduler, steps, device=CPU)
    latents = noise() * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep)
        sigma = torch.exp(4 * timestep.double())  # what the network can know of it
        noisy = scaled / c_in(sigma)
        denoised = (SPREAD**2 * noisy + sigma**2 * mean()) / (SPREAD**2 + sigma**2)
        answer = (denoised - c_skip(sigma) * noisy) / c_out(sigma)
        latents = scheduler.step(answer, timestep, latents).prev_sample
    return latents


def exact(sigma_max: float = 700.0) -> torch.Tensor:
    start = noise() * (sigma_max**2 + 1) ** 0.5
    return mean() + (start - mean()) * SPREAD / (SPREAD**2 + sigma_max**2) ** 0.5


@pytest.mark.parametrize("own", [tiny_scheduler(), edm(EDMEulerScheduler), edm(EDMDPMSolverMultistepScheduler)])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_comes_to_the_same_clip(own: Any, name: Scheduler) -> None:
    scheduler = make_scheduler(own, scheduler=name)
    errors = [float((sample(scheduler, steps) - exact()).abs().max()) for steps in (25, 50, 100)]
    assert errors[2] < (0.08 if name == "euler" else 0.01)
    # Half the step: half of Euler's error, a quarter of what the others leave.
    least = 1.7 if name == "euler" else 3.0
    assert all(coarse > least * fine for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_network_is_told_the_level_of_its_input(name: Scheduler, steps: int) -> None:
    scheduler = make_scheduler(tiny_scheduler(), scheduler=name)
    set_noise_levels(scheduler, steps, device=CPU)
    assert len(scheduler.timesteps) == (2 * steps - 1 if name == "heun" else steps)
    torch.testing.assert_close(scheduler.timesteps, c_noise(scheduler.sigmas[:-1]), rtol=0, atol=1e-6)
    assert scheduler.sigmas[0] == pytest.approx(700.0, rel=1e-4)
    assert scheduler.sigmas[-1] == 0
    assert steps == 1 or scheduler.sigmas[-2] == pytest.approx(0.002, rel=1e-4)


def test_kinds() -> None:
    euler, edm_euler, dpm = tiny_scheduler(), edm(EDMEulerScheduler), edm(EDMDPMSolverMultistepScheduler)
    for own in (euler, edm_euler, dpm):
        assert make_scheduler(own) is own
        assert type(make_scheduler(own, scheduler="heun")) is HeunDiscreteScheduler
    assert make_scheduler(euler, scheduler="euler") is euler
    assert make_scheduler(edm_euler, scheduler="euler") is edm_euler
    assert make_scheduler(dpm, scheduler="dpmpp") is dpm
    assert type(make_scheduler(dpm, scheduler="euler")) is EDMEulerScheduler
    assert type(make_scheduler(euler, scheduler="dpmpp")) is EDMDPMSolverMultistepScheduler


@pytest.mark.parametrize("own", [tiny_scheduler(), edm(EDMDPMSolverMultistepScheduler)])
@pytest.mark.parametrize("name", [None, *SCHEDULERS])
def test_another_range_of_sigmas(own: Any, name: Scheduler | None) -> None:
    scheduler = make_scheduler(own, scheduler=name, sigma_min=0.02, sigma_max=80.0)
    if name is None:
        assert type(scheduler) is type(own)
    set_noise_levels(scheduler, 3, device=CPU)
    assert scheduler.sigmas[0] == pytest.approx(80.0, rel=1e-4)
    assert scheduler.sigmas[-2] == pytest.approx(0.02, rel=1e-4)
    assert float(scheduler.init_noise_sigma) == pytest.approx((80.0**2 + 1) ** 0.5)
    assert float((sample(scheduler, 100) - exact(80.0)).abs().max()) < 0.1
    set_noise_levels(own, 3, device=CPU)
    assert own.sigmas[0] == pytest.approx(700.0)  # the checkpoint's own is left as it was


def test_the_same_range_in_euler_steps_changes_nothing() -> None:
    own, same = tiny_scheduler(), make_scheduler(tiny_scheduler(), scheduler="euler", sigma_min=0.002, sigma_max=700.0)
    assert torch.equal(sample(own, 7), sample(same, 7))
    assert own is not same


def test_other_spacings_keep_their_own_scheduler() -> None:
    plain = EulerDiscreteScheduler.from_config(tiny_scheduler().config, use_karras_sigmas=False)
    assert make_scheduler(plain, scheduler="euler") is plain
    with pytest.raises(
        InputError,
        match=r"scheduler: expected euler, .* give --scheduler euler, or --preset paper$",
    ):
        make_scheduler(plain, scheduler="dpmpp")
    exponential = EDMEulerScheduler.from_config(edm(EDMEulerScheduler).config, sigma_schedule="exponential")
    with pytest.raises(InputError, match=r"scheduler: expected euler, without sigma_min and sigma_max"):
        make_scheduler(exponential, sigma_max=80.0)
    other = EDMDPMSolverMultistepScheduler.from_config(edm(EDMEulerScheduler).config, sigma_schedule="exponential")
    assert make_scheduler(other, scheduler="dpmpp") is other
    with pytest.raises(InputError, match=r"scheduler: expected dpmpp, .* give --scheduler dpmpp$"):
        make_scheduler(other, scheduler="euler")


def test_levels_out_of_order() -> None:
    with pytest.raises(InputError, match=r"sigma_min: expected less than sigma_max, 700.0, got 900"):
        make_scheduler(tiny_scheduler(), sigma_min=900.0)
