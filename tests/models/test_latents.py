"""The autoencoder's precision and its chunks of frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, AutoencoderTiny
from torch import Tensor

from amodal_diffusion.models.hub import load_vae
from amodal_diffusion.models.latents import decode_latents, encode_video, spatial_factor
from amodal_diffusion.models.saving import save_network
from tests.factories import tiny_distilled_vae, tiny_vae

VIDEO = torch.rand(1, 3, 3, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def there_and_back(vae: AutoencoderKLTemporalDecoder, *, autocast: bool) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        latents = encode_video(vae, VIDEO)
        return latents, decode_latents(vae, latents, decode_chunk_size=3)


@torch.no_grad()
def test_only_float16_harms_an_autoencoder_that_asks_for_float32_unless_the_result_is_to_be_exact() -> None:
    vae = tiny_vae()
    vae.register_to_config(force_upcast=True)
    exact = encode_video(vae, VIDEO)
    for dtype, same in ((torch.float16, True), (torch.bfloat16, False)):
        with torch.autocast("cpu", dtype):
            assert torch.equal(encode_video(vae, VIDEO, exact=False), exact) == same
            assert torch.equal(encode_video(vae, VIDEO), exact)


@pytest.mark.parametrize(("dtype", "kept"), [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_a_loaded_autoencoder_stays_float32_beside_float16_alone(
    dtype: torch.dtype, kept: torch.dtype, tmp_path: Path
) -> None:
    vae = tiny_vae()
    vae.register_to_config(force_upcast=True)
    save_network(vae, tmp_path)
    assert load_vae(tmp_path, dtype=dtype).dtype == kept


@pytest.mark.parametrize("asked", [True, False])
def test_mixed_precision_leaves_an_autoencoder_alone_that_asks_for_float32(asked: bool) -> None:
    vae = tiny_vae()
    vae.register_to_config(force_upcast=asked)
    for exact, mixed in zip(there_and_back(vae, autocast=False), there_and_back(vae, autocast=True), strict=True):
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, exact) == asked


@torch.no_grad()
def test_frames_are_encoded_each_on_its_own() -> None:
    vae = tiny_vae()
    whole, one_by_one = encode_video(vae, VIDEO), encode_video(vae, VIDEO, chunk_size=1)
    torch.testing.assert_close(whole, one_by_one)


@torch.no_grad()
def test_a_distilled_autoencoder_works_on_scaled_latents(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vae = tiny_distilled_vae()
    latents = encode_video(vae, VIDEO)
    assert latents.shape == (1, 3, 4, 16 // spatial_factor(vae), 32 // spatial_factor(vae))
    torch.testing.assert_close(latents[0] * vae.config.scaling_factor, vae.encode(VIDEO[0]).latents)
    shown = decode_latents(vae, latents * vae.config.scaling_factor, decode_chunk_size=1)
    torch.testing.assert_close(shown[0], vae.decode(vae.encode(VIDEO[0]).latents).sample)
    save_network(vae, tmp_path)
    caplog.clear()
    loaded = load_vae(tmp_path)
    assert not caplog.records  # it reads what it wrote without a word
    assert isinstance(loaded, AutoencoderTiny)
    assert torch.equal(encode_video(loaded, VIDEO), latents)
