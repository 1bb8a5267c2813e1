"""The model that comes out of a run: averaged weights in place, in the package's layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusers.training_utils import EMAModel
from torch import nn

from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import save_stage
from amodal_diffusion.training.sharding import reshard, trained_parameters


@contextmanager
def averaged_weights(unet: nn.Module, ema: EMAModel | None) -> Iterator[None]:
    """Within this context the UNet has the moving average of its weights, if there is one."""
    reshard(unet)
    parameters = list(trained_parameters(unet).values())
    if ema is not None:
        ema.store(parameters)
        ema.copy_to(parameters)
    try:
        yield
    finally:
        reshard(unet)
        if ema is not None:
            ema.restore(parameters)


def export(components: StageComponents, folder: Path) -> None:
    """Write the model in the package's layout, in place of an earlier export; one process calls this.

    Args:
        components: networks and settings.
        folder: of the export; it is whole at any moment but that of two renames.
    """
    fresh, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, old):
        if leftover.exists():
            shutil.rmtree(leftover)
    save_stage(components, fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    if old.exists():
        shutil.rmtree(old)
