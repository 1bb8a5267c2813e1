"""Make a network that answers in one step give the same answer in many (docs/method.md, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amodal_diffusion import edm
from amodal_diffusion.models.conditioning import Conditions, unconditional

HIGHEST, LOWEST = 700.0, 0.02  # the samplers' first noise level; below the lowest nothing can change any more
_SETTLED = 2.0  # below this noise level, what guidance had added is thought to fade


@dataclass(frozen=True)
class Consistency:
    """Replaces clips by the network's own answers, which it shall then keep at every noise level.

    Sampling in many steps shows the network its earlier answers under less and less noise. One that was trained on the
    truth under much noise has never seen these. Here the clean clip is what it denoises pure noise to (no gradient),
    and the target is the same: the consistency of Song et al. 2023, definition 1, with the first step's answer as the
    one to keep. Steps under guidance see answers that guidance has pushed away from the unconditional one, so the clean
    clip is pushed by a random part of that, too.

    Attributes:
        share: of the clips that are replaced, from 0 to 1.
        guidance: largest guidance scale of the push, at least 1.
    """

    share: float
    guidance: float

    def __call__(
        self,
        unet: nn.Module,
        conditions: Conditions,
        clean: Tensor,
        sigma: Tensor,
        noise: Tensor,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Replace a share of the clips; which, and how, comes from each clip's own generator.

        Args:
            unet: the network.
            conditions: of all clips, none left out.
            clean: true latents ``[B, F, 4, h, w]``.
            sigma: noise levels ``[B, 1, 1, 1, 1]``.
            noise: unit noise, as ``clean``.
            generators: one a clip.

        Returns:
            what noise is added to, what is to be predicted, the noise levels, and which clips were replaced, bool
            ``[B, 1, 1, 1, 1]``; as the arguments where they were not.
        """
        draws = torch.stack([torch.rand(3, generator=g, device=g.device) for g in generators]).to(clean)
        chosen, level, push = (column[:, None, None, None, None] for column in draws.unbind(dim=1))
        own = chosen < self.share
        with torch.no_grad():
            answer, lean = (
                denoise(unet, HIGHEST * noise, torch.full_like(sigma, HIGHEST), given)
                for given in (conditions, unconditional(conditions))
            )
        levels = torch.exp(math.log(LOWEST) + level * math.log(HIGHEST / LOWEST))
        pushed = answer + push * (self.guidance - 1) * (answer - lean) * (levels / _SETTLED).clamp(max=1.0)
        return (
            torch.where(own, pushed, clean),
            torch.where(own, answer, clean),
            torch.where(own, levels, sigma),
            own,
        )


def denoise(unet: nn.Module, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
    """``D(x) = c_skip x + c_out F(c_in x, c_noise)`` (docs/method.md, section 3).

    Args:
        unet: the network ``F``, or a wrapper that is called like it.
        noisy: ``x``, float ``[B, F, 4, h, w]``.
        sigma: noise levels ``[B, 1, 1, 1, 1]``.
        conditions: of the clips.

    Returns:
        denoised latents, float32, as ``noisy``.
    """
    output = unet(
        torch.cat([edm.c_in(sigma) * noisy, conditions.latents], dim=2),  # [B, F, 12, h, w]
        edm.c_noise(sigma).flatten(),
        encoder_hidden_states=conditions.tokens,
        added_time_ids=conditions.added_time_ids,
        return_dict=False,
    )[0]
    return edm.c_skip(sigma) * noisy + edm.c_out(sigma) * output.float()
