"""C2F-Seg learns a handful of clips by heart: the thresholds that show that all parts are wired as they should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch

from amodal_diffusion.models.c2f_seg import C2FSampling, C2FSeg, C2FSegConfig
from amodal_diffusion.models.c2f_seg.autoencoder import used_codes
from amodal_diffusion.models.c2f_seg.network import Prediction
from amodal_diffusion.training.c2f_seg.objectives import AutoencoderObjective, CropBatch, SegmentationObjective
from amodal_diffusion.training.c2f_seg.settings import AutoencoderLossSettings, SegmentationLossSettings
from amodal_diffusion.training.objective_trainer import parameter_groups
from tests.c2f_seg import SMALL, TINY, images_of, iou, masks_of, moving_shape


def descend(
    objective: AutoencoderObjective | SegmentationObjective, batch: CropBatch, *, steps: int, clips: int, cosine: bool
) -> list[float]:
    """Optimizer steps on random clips of a batch; the loss of each step."""
    groups = parameter_groups(objective, weight_decay=0.01 if cosine else 0.0)
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    draws, losses = torch.Generator().manual_seed(0), []
    torch.manual_seed(0)
    objective.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (0.5 * (1 + math.cos(math.pi * step / steps)) if cosine else 1)
        drawn = torch.randperm(len(batch.images), generator=draws)[:clips]
        part = CropBatch(batch.images[drawn], batch.modal[drawn], batch.seen[drawn], batch.amodal[drawn])
        loss = objective(part, draws, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    objective.eval()
    return losses


@dataclass(frozen=True)
class Learned:
    """A model that knows four clips, and what it says of them."""

    autoencoder_iou: float
    codes: int
    modal: torch.Tensor
    amodal: torch.Tensor
    prediction: Prediction


def learn(config: C2FSegConfig, *, steps: int, seeds: Sequence[int] = range(8)) -> Learned:
    """Autoencoder on the 32 masks of eight clips, then the rest on four of the clips, as in the acceptance table."""
    samples = [moving_shape(seed, size=config.size) for seed in seeds]
    masks = masks_of(samples, "amodal").flatten(0, 1)
    model = C2FSeg(config)
    single = masks[:, None]
    autoencoder = AutoencoderObjective(model.autoencoder, AutoencoderLossSettings())
    descend(autoencoder, CropBatch(single, single, single, single), steps=300, clips=8, cosine=False)
    with torch.no_grad():
        found = model.autoencoder(masks)
    model.autoencoder.requires_grad_(requires_grad=False)

    images, modal = images_of(samples[:4]), masks_of(samples[:4], "modal")
    four = CropBatch(images, modal, modal, masks_of(samples[:4], "amodal"))
    descend(SegmentationObjective(model, SegmentationLossSettings()), four, steps=steps, clips=2, cosine=True)
    prediction = model.predict(images, modal, C2FSampling(), generator=torch.Generator().manual_seed(0))
    codes = used_codes(found.ids)
    return Learned(
        iou(found.masks > 0.5, masks > 0.5), codes, modal[:, :, 0] > 0.5, four.amodal[:, :, 0] > 0.5, prediction
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("config", "steps", "autoencoder", "coarse", "refined"),
    [(SMALL, 200, 0.85, 0.85, 0.70), (TINY, 400, 0.75, 0.80, 0.80)],
    ids=["32 pixels", "64 pixels"],
)
def test_four_clips_are_learned_by_heart(
    config: C2FSegConfig,
    steps: int,
    autoencoder: float,
    coarse: float,
    refined: float,
    record_property: Callable[[str, object], None],
) -> None:
    learned = learn(config, steps=steps)
    hidden = learned.amodal & ~learned.modal
    found = learned.prediction.refined > 0.5
    figures = {
        "autoencoder": learned.autoencoder_iou,
        "codes": learned.codes,
        "coarse": iou(learned.prediction.coarse > 0.5, learned.amodal),
        "refined": iou(found, learned.amodal),
        "hidden": iou(found & ~learned.modal, hidden),
        "modal": iou(learned.modal, learned.amodal),
    }
    record_property("figures", figures)
    assert figures["modal"] < 0.7  # what copying the input would reach
    assert figures["autoencoder"] > autoencoder
    assert figures["codes"] > 16
    assert figures["coarse"] > coarse
    assert figures["refined"] > refined
    assert figures["hidden"] > 0.60


def test_a_few_steps_lower_both_losses() -> None:
    samples = [moving_shape(seed, size=32, frames=2) for seed in range(2)]
    modal, amodal = masks_of(samples, "modal"), masks_of(samples, "amodal")
    batch, model = CropBatch(images_of(samples), modal, modal, amodal), C2FSeg(SMALL)
    batch = CropBatch(*(part.repeat(1, 2, 1, 1, 1) for part in (batch.images, modal, modal, amodal)))  # whole windows
    first = AutoencoderObjective(model.autoencoder, AutoencoderLossSettings(reseed_step=0))
    losses = descend(first, batch, steps=5, clips=1, cosine=False)
    assert losses[-1] < 0.8 * losses[0]
    model.autoencoder.requires_grad_(requires_grad=False)
    losses = descend(SegmentationObjective(model, SegmentationLossSettings()), batch, steps=12, clips=1, cosine=True)
    assert losses[-1] < 0.8 * losses[0]
