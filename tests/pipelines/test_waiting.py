"""The denoising loop never makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amodal_diffusion.config import Conditioning, Scheduler
from amodal_diffusion.models.conditioning import Conditions
from amodal_diffusion.models.schedulers import make_scheduler, set_noise_levels
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline, _with_unconditional_rows
from tests.factories import SAMPLING, TOKEN_WIDTH, tiny_components

META = torch.device("meta")


class Waits(TorchDispatchMode):
    """Records operations that make the host wait for a device that is not the CPU.

    Attributes:
        found: reads of a value, and operations that take or give tensors of both devices; numbers of the CPU without
            dimensions go along with a launch, and so are none.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, and look at its tensors."""
        name = str(func)
        before = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        reads = any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select", "unique"))
        if reads and any(value.device == META for value in before):
            self.found.append(name)
        result = func(*args, **(kwargs or {}))
        after = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        devices = {value.device.type for value in (*before, *after) if value.ndim > 0 or value.device == META}
        if len(devices) > 1:
            self.found.append(name)
        return result


@pytest.fixture(scope="module")
def pipeline() -> ConditionedVideoPipeline:
    made = ConditionedVideoPipeline.from_components(tiny_components())
    made.set_progress_bar_config(disable=True)
    made.unet.to(META)
    return made


@pytest.mark.parametrize(
    ("scheduler", "conditioning"),
    [(None, "corrected"), ("euler", "released"), ("heun", "corrected"), ("dpmpp", "corrected")],
)
def test_no_step_reads_from_the_device_or_copies_to_it(
    pipeline: ConditionedVideoPipeline, scheduler: Scheduler | None, conditioning: Conditioning
) -> None:
    sampling = replace(
        SAMPLING, num_inference_steps=3, guidance_scale=1.5, guidance_interval=(1.0, 100.0), conditioning=conditioning
    )
    conditions = Conditions(
        torch.zeros(2, 3, 8, 4, 8, device=META), torch.zeros(2, 3, TOKEN_WIDTH, device=META),
        torch.zeros(2, 3, device=META),
    )  # fmt: skip
    both = _with_unconditional_rows(conditions, sampling)
    levels = make_scheduler(pipeline.scheduler, scheduler=scheduler)
    set_noise_levels(levels, sampling.num_inference_steps, device=META)
    latents = torch.zeros(2, 3, 4, 4, 8, device=META)
    with Waits() as waits:
        latents = pipeline._denoise(latents, levels, conditions, both, sampling)
    assert latents.device == META
    assert waits.found == []


def test_waiting_is_noticed() -> None:
    with Waits() as waits:
        torch.zeros(3, device=META)[torch.arange(2)]
        torch.arange(2).to(META)
        with pytest.raises(RuntimeError, match="meta"):
            torch.zeros((), device=META).item()
    assert [name.split(".")[1] for name in waits.found] == ["index", "_to_copy", "_local_scalar_dense"]
