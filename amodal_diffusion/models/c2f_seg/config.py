"""Shape of the C2F-Seg networks and how they are sampled; the defaults are the published image model.

Where the paper and its released code differ, a field has both; the values ``released`` and ``paper`` name them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from amodal_diffusion.basics import InputError

CodebookLoss = Literal["textbook", "released"]
RefinementAttention = Literal["released", "paper"]
Upsampling = Literal["nearest", "bilinear"]
LayerType = Literal["bottleneck", "basic"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the vector-quantized mask autoencoder.

    Attributes:
        block_out_channels: channels of each level from finest to coarsest; each level but the last halves the size.
        layers_per_block: residual blocks per level of the encoder; the decoder has one more.
        latent_channels: channels of the latents and of a code.
        num_codes: size ``V`` of the codebook.
        norm_num_groups: groups of each group normalization.
        codebook_loss: ``textbook`` puts the factor 0.25 on the commitment of the encoder, ``released`` on the codebook.
    """

    block_out_channels: tuple[int, ...] = (128, 128, 256, 256, 512)
    layers_per_block: int = 2
    latent_channels: int = 256
    num_codes: int = 256
    norm_num_groups: int = 32
    codebook_loss: CodebookLoss = "textbook"

    @property
    def stride(self) -> int:
        """Pixels per token along a side."""
        return 1 << (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class BackboneConfig:
    """Shape of the ResNet that sees the image; the defaults are ResNet-50's.

    Attributes:
        embedding_size: channels of the stem.
        hidden_sizes: channels of the four stages.
        depths: layers of the four stages.
        layer_type: ``bottleneck`` or ``basic``.
    """

    embedding_size: int = 64
    hidden_sizes: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    layer_type: LayerType = "bottleneck"

    def __post_init__(self) -> None:
        """Check the number of stages.

        Raises:
            InputError: if there are not four; the refinement reads the features of each.
        """
        if len(self.hidden_sizes) != 4 or len(self.depths) != 4:
            raise InputError(
                f"backbone: expected four stages, got hidden_sizes {list(self.hidden_sizes)} and depths "
                f"{list(self.depths)}"
            )


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the mask-and-predict transformer.

    Attributes:
        width: channels ``D`` of a token: half image features, a quarter modal token, a quarter amodal token.
        layers: number of blocks; the published models have 12 (image) and 8 (video).
        heads: attention heads.
        mlp_ratio: hidden channels of a block's MLP over ``width``.
        dropout: dropout everywhere in the transformer.
        window: frames, rows and columns of the windows of temporal attention; None for the image model. Published: 24
            frames (MOViD-A) or 16 (Fishbowl), and 4 x 4 tokens.
        temporal_position: add a learned embedding of a frame's place in the window, which the published model lacks.
        mask_wrap: hide first and last frames from each other where the roll over time puts them in one window.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: int = 4
    dropout: float = 0.01
    window: tuple[int, int, int] | None = None
    temporal_position: bool = False
    mask_wrap: bool = False

    def __post_init__(self) -> None:
        """Check the width.

        Raises:
            InputError: if ``width`` cannot be divided by 4 and by the number of heads.
        """
        if self.width % 4 or self.width % self.heads:
            raise InputError(
                f"transformer.width: expected a multiple of 4 and of heads ({self.heads}), got {self.width}"
            )
        if self.window is not None:
            object.__setattr__(self, "window", tuple(self.window))


@dataclass(frozen=True)
class RefinementConfig:
    """Shape of the convolutional refinement.

    Attributes:
        widths: channels after each of the five reductions.
        attention: ``released`` is the spatial map of the released code; ``paper`` the channel gate of equation 8.
        attention_scale: factor of the released map's scores; 1 in the released code, where the softmax is close to
            one-hot. ``1 / sqrt(channels)`` is the usual choice.
        upsample: interpolation of the logits from half to full size; nearest in the released code.
    """

    widths: tuple[int, ...] = (256, 128, 64, 32, 16)
    attention: RefinementAttention = "released"
    attention_scale: float = 1.0
    upsample: Upsampling = "nearest"

    def __post_init__(self) -> None:
        """Check the number of widths.

        Raises:
            InputError: if there are not five.
        """
        if len(self.widths) != 5:
            raise InputError(f"refinement.widths: expected five, got {list(self.widths)}")


@dataclass(frozen=True)
class C2FSampling:
    """How masks are predicted.

    Attributes:
        steps: rounds ``K`` of decoding.
        top_k: each token is drawn from this many most likely codes; 1 is deterministic.
        temperature: weight of the noise in the choice of the tokens that a round keeps, at the first round; it falls
            linearly.
        crop_scale: side of a crop over the side of the visible part.
        frames_at_once: longer shots of a video model are cut into windows of this many frames, overlapping by half an
            attention window; None passes a shot at once. A multiple of the attention window's frames.
        merge_coarse: add the coarse mask to the refined probability, as the released video inference does; it comes
            close to a union.
        mask_threshold: the mask is where the probability is above this.
        union_modal: the mask always contains the modal mask.

    Raises:
        InputError: if a value is out of range.
    """

    steps: int = 3
    top_k: int = 3
    temperature: float = 4.5
    crop_scale: float = 2.0
    frames_at_once: int | None = None
    merge_coarse: bool = False
    mask_threshold: float = 0.5
    union_modal: bool = True

    def __post_init__(self) -> None:
        """Check what files and callers set."""
        if self.steps < 1 or self.top_k < 1:
            raise InputError(f"steps, top_k: expected at least 1, got {self.steps} and {self.top_k}")
        if self.temperature < 0 or not self.crop_scale > 0:
            raise InputError(
                f"temperature, crop_scale: expected at least 0 and above 0, got {self.temperature}, {self.crop_scale}"
            )
        if not 0 <= self.mask_threshold < 1:
            raise InputError(f"mask_threshold: expected 0 to below 1, got {self.mask_threshold}")


@dataclass(frozen=True)
class C2FSegConfig:
    """Shape of all networks.

    Attributes:
        size: side in pixels of the square crops.
        autoencoder: mask autoencoder, whose tokens the transformer predicts.
        backbone: image features.
        transformer: predicts tokens; its window makes it a video model.
        refinement: refines the decoded tokens.

    Raises:
        InputError: if the size cannot be divided into tokens, or the tokens into windows.
    """

    size: int = 256
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    refinement: RefinementConfig = field(default_factory=RefinementConfig)

    def __post_init__(self) -> None:
        """Check that the networks fit each other."""
        stride = self.autoencoder.stride
        if self.size % stride or stride < 4:
            raise InputError(
                f"size: expected a multiple of {stride}, the autoencoder's stride, which is at least 4 (three levels); "
                f"got {self.size}"
            )
        window = self.transformer.window
        if window is not None and (self.grid % window[1] or self.grid % window[2]):
            raise InputError(
                f"transformer.window: expected divisors of the grid of {self.grid} x {self.grid} tokens, got "
                f"{window[1]} x {window[2]}"
            )

    @property
    def grid(self) -> int:
        """Tokens along a side of the crop."""
        return self.size // self.autoencoder.stride

    @property
    def is_video(self) -> bool:
        """Whether frames see each other."""
        return self.transformer.window is not None

    @property
    def window_frames(self) -> int:
        """Frames of an attention window; 1 for the image model."""
        return 1 if self.transformer.window is None else self.transformer.window[0]
