"""`complete --preset paper` gives the masks of an implementation that shares nothing with the package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from PIL import Image, ImageFilter
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from amodal_diffusion.cli import main
from amodal_diffusion.synthetic import make_scene
from tests.commands.folders import amodal_masks
from tests.media import Bool, UInt8, write_frames, write_masks

FRAMES, CHUNK, CUT = 9, 8, 600
AROUND_CUT = 1e-3 * 765  # how far a sum of three 8-bit levels may lie from the cut between 600 and 601 and flip
Floats = npt.NDArray[np.floating[Any]]


def random(shape: tuple[int, ...], *keys: int) -> Tensor:
    """Noise of seed 0, of its own for each use and frame."""
    seed = int(np.random.SeedSequence((0, 0, *keys)).generate_state(1)[0])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def released_sums(folder: Path, modal: UInt8, depth: Floats, *, steps: int, size: tuple[int, int]) -> Floats:
    """The released inference of stage 1 in stock classes; sums of the 8-bit levels, float64 ``[F, *size]``."""
    # Networks; the UNet of the released layout has the convolution in use under another name
    state = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    state = {name: value for name, value in state.items() if not name.startswith("conv_in.")}
    config = json.loads((folder / "unet/config.json").read_text())
    unet = UNetSpatioTemporalConditionModel.from_config({**config, "in_channels": 12}).eval()
    unet.load_state_dict({name.replace("conv_in2.", "conv_in."): value for name, value in state.items()})
    vae = AutoencoderKLTemporalDecoder.from_pretrained(folder / "vae").eval()
    clip = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").eval()
    scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler")

    # Frames: stretched; masks are pictures of 0 and 255
    def stretch(frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR))

    masks = np.stack([stretch((frame >= 128).astype(np.uint8) * np.uint8(255)) for frame in modal]) / 127.5 - 1
    near = ((depth - depth.min()) / (depth.max() - depth.min()) * 2 - 1).astype(np.float32)
    videos = [np.float32(masks), np.stack([stretch(frame) for frame in near])]
    pixels, guide = (torch.from_numpy(video)[:, None].repeat(1, 3, 1, 1) for video in videos)  # [F, 3, H, W]

    # Conditions: noise on the pixels, one token a frame; rows of the second half meet zero and token in turn
    noise = random((2 * len(modal), 3, *size), 0, 1).split(len(modal))
    noisy = (pixels + 0.02 * noise[0], guide + 0.02 * noise[1])
    latents = [vae.encode(video).latent_dist.mode() for video in noisy]
    small = (_resize_with_antialiasing(pixels, (clip.config.image_size,) * 2) + 1) / 2
    scales = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])
    mean, std = scales[..., None, None]
    tokens = clip((small - mean) / std).image_embeds  # [F, D]
    mixed = torch.stack([torch.zeros_like(tokens), tokens], dim=1).flatten(0, 1)[:, None]  # [2F, 1, D]
    for module in unet.modules():
        if isinstance(module, TransformerSpatioTemporalModel):
            module.register_forward_pre_hook(
                lambda _, args, kwargs: (args, {**kwargs, "encoder_hidden_states": mixed}), with_kwargs=True
            )
    conditions = torch.cat(latents, dim=1)[None]  # [1, F, 8, h, w]
    conditions = torch.cat([torch.zeros_like(conditions), conditions])
    ids = torch.tensor([[7.0, 127.0, 0.02]] * 2)

    # Euler's method with guidance, and decoding 8 frames at a time
    scheduler.set_timesteps(steps)
    shape = conditions.shape[-2:]
    sample = torch.stack([random((4, *shape), frame) for frame in range(len(modal))])[None] * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        rows = torch.cat([scheduler.scale_model_input(sample, time).repeat(2, 1, 1, 1, 1), conditions], dim=2)
        without, conditioned = unet(rows, time, mixed[:2], ids, return_dict=False)[0].chunk(2)
        sample = scheduler.step(without + 1.5 * (conditioned - without), time, sample).prev_sample
    chunks = (sample[0] / vae.config.scaling_factor).split(CHUNK)
    video = torch.cat([vae.decode(chunk, num_frames=len(chunk)).sample for chunk in chunks])
    return ((video + 1) * 127.5).clamp(0, 255).round().sum(dim=1).double().numpy()


def resized(inside: Bool, height: int, width: int) -> Bool:
    """Bilinear, then at least one half."""
    values = inside.astype(np.float64)
    for axis, target in ((1, height), (2, width)):
        source = values.shape[axis]
        at = np.clip(((2 * np.arange(target) + 1) * source / target - 1) / 2, 0, source - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if place == axis else 1 for place in range(3)])
        following = np.minimum(low + 1, source - 1)
        values = values.take(low, axis) * (1 - share) + values.take(following, axis) * share
    return values >= 0.5


@pytest.mark.skipif("AMODAL_SHARED" not in os.environ, reason="AMODAL_SHARED is not set: the checkpoint is there")
@pytest.mark.parametrize(
    ("height", "width", "options"),
    [
        pytest.param(800, 1280, (), id="as released", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(100, 160, ("--steps", "2", "--height", "64", "--width", "128"), id="small"),
    ],
)
def test_the_paper_preset_equals_an_independent_implementation(
    tmp_path: Path, height: int, width: int, options: tuple[str, ...]
) -> None:
    folder = Path(os.environ["AMODAL_SHARED"]) / "golden/official_layout_checkpoint"
    scene = make_scene(3, split="train", frames=FRAMES, height=height, width=width)
    assert scene.rgb is not None
    soft = [Image.fromarray(mask.astype(np.uint8) * np.uint8(255)) for mask in scene.target.modal]
    modal = np.stack([np.asarray(mask.filter(ImageFilter.GaussianBlur(1.5))) for mask in soft])
    np.save(tmp_path / "depth.npy", scene.depth)
    given = ["--masks", write_masks(tmp_path / "masks", modal), "--depth", tmp_path / "depth.npy", "--stages", "masks"]
    chosen = ["--model", folder, "--device", "cpu", "--preset", "paper", *options]
    command = [write_frames(tmp_path / "frames", scene.rgb), *given, *chosen, "--out", tmp_path / "out", "-q"]
    assert main(["complete", *map(str, command)]) == 0
    found = amodal_masks(tmp_path / "out", "1")

    sampling = json.loads((tmp_path / "out/summary.json").read_text())["sampling"]["amodal_segmentation"]
    assert (sampling["num_frames"], sampling["decode_chunk_size"], sampling["fit"]) == (25, CHUNK, "stretch")
    assert sampling["mask_threshold"] * 765 == pytest.approx(CUT)
    size = sampling["height"], sampling["width"]
    assert options or (size, sampling["num_inference_steps"]) == ((256, 512), 25)

    sums = released_sums(folder, modal, scene.depth, steps=sampling["num_inference_steps"], size=size)
    visible = modal >= 128
    low, high = (resized(sums > CUT + 0.5 + off, height, width) | visible for off in (AROUND_CUT, -AROUND_CUT))
    assert (low == high).mean() > 0.99
    assert not (low & ~found).any()
    assert not (found & ~high).any()
    predicted = (low & ~visible).mean()
    assert 0.01 < predicted < 0.5
