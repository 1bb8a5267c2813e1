"""Masking of tokens in training, and decoding of tokens in K rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from diffusers.schedulers import AmusedScheduler
from torch import Tensor

from amodal_diffusion.models.c2f_seg.config import C2FSampling

MaskSchedule = Literal["cosine_clamped", "uniform"]


def mask_ratio(schedule: MaskSchedule, *, generator: torch.Generator) -> float:
    """Draw the share of tokens to mask in a training step.

    Args:
        schedule: ``cosine_clamped`` is ``max(cos(pi u / 2), 0.5)`` for uniform u, as released; ``uniform`` is drawn
            from 0.5 to 1, as in the paper.
        generator: of the step, on the CPU.
    """
    u = float(torch.rand((), generator=generator))
    return max(math.cos(math.pi * u / 2), 0.5) if schedule == "cosine_clamped" else 0.5 + u / 2


def random_masking(count: int, length: int, ratio: float, *, generator: torch.Generator) -> Tensor:
    """Choose ``floor(ratio * length)`` positions of each sequence.

    Args:
        count: number of sequences.
        length: tokens of a sequence.
        ratio: share to mask.
        generator: on the CPU.

    Returns:
        True where a token is masked, bool ``[count, length]``.
    """
    rank = torch.rand(count, length, generator=generator).argsort(dim=1).argsort(dim=1)
    return rank < math.floor(ratio * length)


def keep_likeliest(logits: Tensor, count: int) -> Tensor:
    """Set all but the ``count`` largest logits ``[..., V]`` of each position to minus infinity."""
    if count >= logits.shape[-1]:
        return logits
    least = logits.topk(count, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def sample_once(logits: Tensor, count: int, *, generator: torch.Generator | None) -> Tensor:
    """Draw every token from its ``count`` most likely codes.

    Args:
        logits: float ``[N, L, V]``.
        count: number of codes.
        generator: on any device; None for torch's own.

    Returns:
        int64 ``[N, L]``.
    """
    probabilities = keep_likeliest(logits.float(), count).softmax(dim=-1).flatten(0, 1)
    device = probabilities.device if generator is None else generator.device
    drawn = torch.multinomial(probabilities.to(device), 1, generator=generator)
    return drawn.to(logits.device).reshape(logits.shape[:2])


def decode_in_rounds(
    predict: Callable[[Tensor], Tensor],
    start: Tensor,
    sampling: C2FSampling,
    *,
    generator: torch.Generator | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Decode masked tokens; each round keeps the most certain ones, and the last keeps all (section 3.2 of the paper).

    After round t of K, ``floor(L cos(pi t / 2K))`` tokens stay masked: those with the lowest log probability plus
    ``temperature * (1 - t / K)`` times Gumbel noise.

    Args:
        predict: logits of all tokens without the column of the mask token, float ``[N, L, V]``, from tokens
            ``[N, L]``.
        start: tokens, int64 ``[N, L]``; ``V``, the mask token, where a token is to be decoded.
        sampling: gives ``steps``, ``top_k`` and ``temperature``.
        generator: on any device; None for torch's own.
        watch: is told the tokens after each round.

    Returns:
        int64 ``[N, L]`` in 0..V-1.
    """
    ids, scheduler = start, None
    for step in range(sampling.steps):
        logits = keep_likeliest(predict(ids).float(), sampling.top_k)
        if scheduler is None:  # the number of codes is the mask token
            scheduler = AmusedScheduler(mask_token_id=logits.shape[-1])
            first = sampling.temperature * (1 - 1 / sampling.steps)
            scheduler.set_timesteps(sampling.steps, temperature=(first, 0.0), device=logits.device)
        ids = scheduler.step(logits, scheduler.timesteps[step], ids, generator=generator).prev_sample
        if watch is not None:
            watch(ids)
    return ids
