"""Memory of sampling: peak of a stage by what it computes at once, from the configurations of its networks alone.

The networks are those that are going to be loaded, but on torch's fake tensors, which have shapes and no data: their
functions run as in :mod:`amodal_diffusion.pipelines.denoising`, and the storages that are live at once are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from amodal_diffusion.config import Offload, SamplingConfig
from amodal_diffusion.models.conditioning import CHUNK, CPU_CHUNK, clip_tokens
from amodal_diffusion.models.latents import decode_latents, encode_video, spatial_factor
from amodal_diffusion.models.memory import MOST_FRAMES, bytes_of, layer_bytes, peak_bytes
from amodal_diffusion.models.stages import EmptyStage
from amodal_diffusion.pipelines.denoising import LATENT_CHANNELS

_FLOAT32 = 4
_PIXELS = 3


@dataclass(frozen=True)
class Work:
    """What a stage computes at once.

    Attributes:
        clips: windows that are sampled together: objects times samples.
        guided: whether guidance doubles the rows of the UNet.
        frames: frames of a window.
        height: of the network in pixels.
        width: of the network in pixels.
        decode_chunk_size: frames that are decoded together.
        encode_chunk_size: frames that are encoded together.
        on_cpu: computed on the CPU, where inputs need no second copy and the UNet takes one clip at a time.
    """

    clips: int
    guided: bool
    frames: int
    height: int
    width: int
    decode_chunk_size: int
    encode_chunk_size: int = 1
    on_cpu: bool = False

    @classmethod
    def of(cls, sampling: SamplingConfig, *, objects: int = 1, on_cpu: bool = False) -> Work:
        """What sampling computes at once.

        Args:
            sampling: of the stage.
            objects: number of objects that are completed together.
            on_cpu: whether it runs on the CPU; elsewhere frames are encoded one at a time if memory has no room for
                more, so that encoding takes what one frame needs.
        """
        automatic = MOST_FRAMES if on_cpu else 1
        return cls(
            clips=objects * sampling.samples,
            guided=sampling.guidance_scale > 1,
            frames=sampling.num_frames,
            height=sampling.height,
            width=sampling.width,
            decode_chunk_size=sampling.decode_chunk_size,
            encode_chunk_size=sampling.encode_chunk_size or automatic,
            on_cpu=on_cpu,
        )

    @property
    def rows(self) -> int:
        """Rows of a call of the UNet."""
        return (1 if self.on_cpu else self.clips) * (2 if self.guided else 1)


@dataclass(frozen=True)
class StageMemory:
    """Bytes that a call of a stage takes beside weights, at the peak of each of its steps.

    Attributes:
        encode: VAE and noise on the conditions.
        tokens: image encoder.
        denoise: UNet.
        decode: VAE.
    """

    encode: int
    tokens: int
    denoise: int
    decode: int


def stage_memory(stage: EmptyStage, work: Work) -> StageMemory:
    """Peak memory of each step of :class:`~amodal_diffusion.pipelines.denoising.ConditionedVideoPipeline`.

    Args:
        stage: its networks, see :func:`~amodal_diffusion.models.stages.empty_stages`.
        work: what is computed at once.
    """
    factor = spatial_factor(stage.vae)
    pixels = work.clips * work.frames * work.height * work.width * _FLOAT32  # of one channel
    video, latent = _PIXELS * pixels, LATENT_CHANNELS * pixels // factor**2
    tokens = work.clips * work.frames * stage.unet.config.cross_attention_dim * _FLOAT32
    copies = 0 if work.on_cpu else 2 if work.clips > 1 else 1  # windows are joined to a batch on the GPU
    inputs = copies * (_modal_channels(stage) + 1) * pixels
    conditions = (2 * latent + tokens) * (3 if work.guided else 1)  # and both rows of guidance
    rows = 2 if work.guided else 1
    # 12 channels in the UNet's dtype; a float32 copy of the noisy latent and the prediction
    sample = 3 * rows * latent * stage.unet.dtype.itemsize // _FLOAT32 + 2 * rows * latent
    return StageMemory(
        # the noise, its product with the strength and the sum, of the guide beside those of the modal video
        encode=inputs + video + max(3 * video, video + _encode_bytes(stage, work)),
        tokens=inputs + video + 2 * latent + _tokens_bytes(stage, work),
        denoise=inputs + conditions + 2 * latent + sample + denoise_bytes(stage, work, rows=work.rows),
        decode=inputs + conditions + latent + video + decode_bytes(stage, work),
    )


def peak_memory(stages: Sequence[EmptyStage], works: Sequence[Work], offload: Offload, *, others: int = 0) -> int:
    """Peak bytes on the device of sampling stages one after the other.

    Args:
        stages: their networks; those that two stages share are one object.
        works: what each stage computes at once.
        offload: see :func:`~amodal_diffusion.models.offloading.place_networks`.
        others: bytes of other networks, which stay on the device.
    """
    networks = {id(network): network for stage in stages for network in stage.networks}
    together = sum(map(bytes_of, networks.values()))
    peak = 0
    for stage, work in zip(stages, works, strict=True):
        memory = stage_memory(stage, work)
        for network, needed in (
            (stage.vae, max(memory.encode, memory.decode)),
            (stage.image_encoder, memory.tokens),
            (stage.unet, memory.denoise),
        ):
            weights = {"none": together, "model": bytes_of(network), "sequential": layer_bytes(network)}[offload]
            peak = max(peak, weights + needed)
    return others + peak


def denoise_bytes(stage: EmptyStage, work: Work, *, rows: int) -> int:
    """Bytes that a call of the UNet takes beside weights and inputs.

    Args:
        stage: its networks.
        work: gives the frames and the size.
        rows: of the call.
    """
    factor, unet = spatial_factor(stage.vae), stage.unet
    cells = (work.height // factor, work.width // factor)

    def predict() -> None:
        sample = torch.zeros(rows, work.frames, unet.config.in_channels, *cells, dtype=unet.dtype)
        tokens = torch.zeros(rows, work.frames, unet.config.cross_attention_dim, dtype=unet.dtype)
        ids = torch.zeros(rows, 3, dtype=unet.dtype)
        unet(sample, torch.zeros(()), encoder_hidden_states=tokens, added_time_ids=ids, return_dict=False)

    return _simulated(unet, ("denoise", rows, work.frames, *cells), predict, on_cpu=work.on_cpu)


def decode_bytes(stage: EmptyStage, work: Work) -> int:
    """Bytes that decoding a clip takes beside weights: a chunk, and the frames of the chunks before it.

    Args:
        stage: its networks.
        work: gives the frames, the size and the chunk.
    """
    factor, chunk = spatial_factor(stage.vae), min(work.decode_chunk_size, work.frames)
    cells = (work.height // factor, work.width // factor)
    frame = _PIXELS * work.height * work.width * _FLOAT32

    def decode() -> None:
        decode_latents(stage.vae, torch.zeros(1, chunk, LATENT_CHANNELS, *cells), decode_chunk_size=chunk)

    decoded = _simulated(stage.vae, ("decode", chunk, *cells), decode, on_cpu=work.on_cpu)
    return max(decoded + (work.frames - chunk) * frame, 2 * work.frames * frame)


def _encode_bytes(stage: EmptyStage, work: Work) -> int:
    """Bytes that encoding a chunk of frames takes beside weights."""
    chunk = min(work.encode_chunk_size, work.frames)
    size = (chunk, work.height, work.width)

    def encode() -> None:
        encode_video(stage.vae, torch.zeros(1, chunk, _PIXELS, *size[1:]), chunk_size=chunk)

    return _simulated(stage.vae, ("encode", *size), encode, on_cpu=work.on_cpu)


def _tokens_bytes(stage: EmptyStage, work: Work) -> int:
    """Bytes that the image encoder takes beside weights; elsewhere than on a CPU it sees more frames at once."""
    frames = min(work.frames, CPU_CHUNK)
    size = (frames, _modal_channels(stage), work.height, work.width)
    found = _simulated(
        stage.image_encoder, ("tokens", *size), lambda: clip_tokens(stage.image_encoder, torch.zeros(1, *size)),
        on_cpu=work.on_cpu,
    )  # fmt: skip
    return found if work.on_cpu else found * min(work.frames, CHUNK) // frames


def _modal_channels(stage: EmptyStage) -> int:
    """Channels of the modal video: a mask for stage 1, a picture for stage 2."""
    return 1 if stage.settings.stage == "amodal_segmentation" else _PIXELS


_FOUND: dict[tuple[object, ...], int] = {}  # a simulation takes a second, and plans ask for the same ones


def _simulated(network: Any, what: tuple[object, ...], work: Callable[[], object], *, on_cpu: bool) -> int:  # noqa: ANN401
    """Peak bytes of work on fake tensors; networks of one configuration share the result of the same work."""
    key = (str(network.config), network.dtype, on_cpu, *what)
    if key not in _FOUND:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            _FOUND[key] = peak_bytes(work, unfolds=on_cpu)
    return _FOUND[key]
