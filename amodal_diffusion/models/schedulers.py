"""Which of diffusers' schedulers follows the network from noise to a clip, and at which noise levels."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import SamplingConfig, Scheduler
from amodal_diffusion.edm import c_noise

RHO = 7.0  # of Karras et al. 2022; fixed in diffusers' Euler and Heun schedulers, a setting of its EDM ones


def make_scheduler(
    own: SchedulerMixin,
    *,
    scheduler: Scheduler | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> SchedulerMixin:
    """A stock scheduler with the noise levels of a checkpoint's own.

    Args:
        own: the checkpoint's, with v-prediction and sigma_data 1; it is not changed.
        scheduler: see :class:`~amodal_diffusion.config.SamplingConfig`; None keeps the kind of ``own``.
        sigma_min: lowest noise level above 0; that of ``own`` when None.
        sigma_max: highest noise level; that of ``own`` when None.

    Returns:
        ``own`` itself where nothing is asked of it.

    Raises:
        InputError: if ``own`` does not have the noise levels of Karras et al., which the others need; or the lowest
            level is not below the highest.
    """
    kind = _kind(own, scheduler)
    if isinstance(own, kind) and sigma_min is None and sigma_max is None:
        return own
    low, high = _sigma_range(own)
    low, high = (low if sigma_min is None else sigma_min), (high if sigma_max is None else sigma_max)
    if not low < high:
        raise InputError(f"sigma_min: expected less than sigma_max, {high}, got {low}")
    if kind in (EDMEulerScheduler, EDMDPMSolverMultistepScheduler):
        edm: SchedulerMixin = kind(
            sigma_min=low, sigma_max=high, sigma_data=1.0, prediction_type="v_prediction", sigma_schedule="karras",
            rho=RHO,
        )  # fmt: skip
        return edm
    discrete: dict[str, Any] = {
        "prediction_type": "v_prediction",
        "timestep_type": "continuous",
        "timestep_spacing": "leading",  # initial noise of sqrt(sigma_max^2 + 1), as the EDM schedulers have it
        "use_karras_sigmas": True,
        # Heun's has no such arguments and reads them from its configuration all the same.
        "sigma_min": low,
        "sigma_max": high,
    }
    made: SchedulerMixin = kind.from_config(discrete)
    return made


def set_noise_levels(scheduler: SchedulerMixin, steps: int, *, device: torch.device) -> None:
    """Lay out a run: ``scheduler.timesteps`` are what the network is told, ``scheduler.sigmas`` the levels and a 0.

    The levels stay on the CPU and the scheduler knows that it begins at the first, so no step of the run reads a value
    from the device or looks for its timestep there.

    Args:
        scheduler: from :func:`make_scheduler`.
        steps: at least 1. Heun's has ``2 steps - 1`` timesteps, the others one a step.
        device: of the timesteps.
    """
    scheduler.set_timesteps(steps, device="cpu")
    if isinstance(scheduler, HeunDiscreteScheduler):
        # It tells the network an index into 1,000 training steps; these networks were told ln(sigma) / 4.
        scheduler.timesteps = c_noise(scheduler.sigmas[:-1])
    scheduler.timesteps = scheduler.timesteps.to(device)
    scheduler.set_begin_index(0)


def highest_noise_level(own: SchedulerMixin, sampling: SamplingConfig) -> float:
    """The sigma from which a run of the settings starts, 700 for Stable Video Diffusion's noise levels.

    Args:
        own: the checkpoint's scheduler; it is not changed.
        sampling: kind of the scheduler and range of its levels.
    """
    scheduler = make_scheduler(
        own, scheduler=sampling.scheduler, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max
    )
    scheduler = type(scheduler).from_config(scheduler.config)
    set_noise_levels(scheduler, 1, device=torch.device("cpu"))
    return float(scheduler.sigmas[0])


def _kind(own: SchedulerMixin, scheduler: Scheduler | None) -> type[Any]:
    """Euler's method in the own family, so that nothing changes where nothing is to change."""
    if scheduler is None:
        return type(own)
    if scheduler == "euler":
        return EDMEulerScheduler if isinstance(own, EDMDPMSolverMultistepScheduler) else type(own)
    return HeunDiscreteScheduler if scheduler == "heun" else EDMDPMSolverMultistepScheduler


def _sigma_range(own: SchedulerMixin) -> tuple[float, float]:
    """Lowest and highest noise level.

    Raises:
        InputError: if they are not spaced as in Karras et al.
    """
    config = own.config
    if isinstance(own, EulerDiscreteScheduler):
        spaced = bool(config.use_karras_sigmas)
    else:
        spaced = config.sigma_schedule == "karras" and config.rho == RHO
    if not spaced or config.sigma_min is None or config.sigma_max is None or config.final_sigmas_type != "zero":
        fitting = "dpmpp" if isinstance(own, EDMDPMSolverMultistepScheduler) else "euler"
        raise InputError(
            f"scheduler: expected {fitting}, without sigma_min and sigma_max, as the noise levels of this checkpoint's "
            f"{type(own).__name__} are its own and other schedulers need those of Karras et al. with rho {RHO}, "
            f"sigma_min, sigma_max and a last sigma of zero; give --scheduler {fitting}"
            + (", or --preset paper" if fitting == "euler" else "")
        )
    return float(config.sigma_min), float(config.sigma_max)
