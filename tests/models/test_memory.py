"""What is free, what a computation takes, and how many frames fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amodal_diffusion.models import memory
from amodal_diffusion.models.latents import decode_latents, encode_video
from amodal_diffusion.models.memory import MOST_FRAMES, frame_bytes, frames_that_fit, layer_bytes, peak_bytes
from tests.factories import tiny_distilled_vae, tiny_vae

CPU = torch.device("cpu")


@torch.no_grad()
def test_what_is_live_at_once_counts() -> None:
    values = torch.zeros(250)

    def work() -> None:
        first = values + 1  # 1000 bytes
        second = first * 2
        del first
        second.add_(1)
        _ = second.view(5, 50) - 1

    assert peak_bytes(work) == 2000
    layer = nn.Linear(100, 50)
    assert peak_bytes(lambda: layer(torch.zeros(1, 100))) == 400 + 200  # a view of the weights allocates nothing
    assert layer_bytes(nn.Sequential(nn.Linear(2, 2), layer)) == (100 + 1) * 50 * 4


@torch.no_grad()
def test_a_frame_takes_about_what_is_estimated() -> None:
    vae = tiny_vae()
    found = peak_bytes(lambda: encode_video(vae, torch.zeros(1, 1, 3, 64, 128)))
    assert found == pytest.approx(frame_bytes(vae, height=64, width=128), rel=0.2)


@pytest.mark.parametrize(("frames", "expected"), [(0, 1), (3, 3), (1000, MOST_FRAMES)])
def test_frames_fit_into_half_of_what_is_free(frames: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = tiny_vae()
    assert frames_that_fit(vae, height=16, width=32, device=CPU) == MOST_FRAMES
    free = 2 * frames * frame_bytes(vae, height=16, width=32)
    monkeypatch.setattr(memory, "free_memory", lambda _: free)
    assert frames_that_fit(vae, height=16, width=32, device=CPU) == expected


def test_the_chunk_of_a_temporal_decoder_is_not_chosen_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    video, latents = torch.rand(1, 4, 3, 16, 32), torch.rand(1, 4, 4, 8, 16)
    sizes: dict[type, list[int]] = {}
    monkeypatch.setattr(memory, "free_memory", lambda _: 0)
    for vae in (tiny_vae(), tiny_distilled_vae()):
        seen = sizes.setdefault(type(vae), [])
        for part in (vae.encoder, vae.decoder):
            part.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(len(args[0])))
        with torch.no_grad():
            encode_video(vae, video, chunk_size=None)
            decode_latents(vae, latents, decode_chunk_size=2)
    assert list(sizes.values()) == [[1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 1, 1, 1, 1]]
