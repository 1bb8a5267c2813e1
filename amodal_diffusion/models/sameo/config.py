"""Shape of the SAMEO networks and how they are sampled; the defaults are SAM ViT-B and EfficientSAM-Ti as published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from amodal_diffusion.basics import InputError

Backend = Literal["sam", "efficient_sam"]
BoxSource = Literal["modal", "amodal_hint"]
Gap = Literal["none", "interpolate"]


@dataclass(frozen=True)
class SamShape:
    """Shape of a `transformers.SamModel`; the defaults are ViT-B's.

    Attributes:
        image_size: side in pixels of the square that the encoder sees.
        patch_size: side of a patch in pixels.
        vision_width: channels of a token of the image encoder.
        vision_layers: blocks of the image encoder.
        vision_heads: attention heads of a block.
        mlp_ratio: hidden channels of a block's MLP over ``vision_width``.
        window: side in tokens of the windows of local attention.
        global_layers: numbers of the blocks with global attention, from 0.
        width: channels of image embeddings, prompts and decoder.
        decoder_mlp: hidden channels of the decoder's MLPs.
        decoder_layers: two-way blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        iou_hidden: hidden channels of the head that predicts the IoU.
        mask_input_channels: channels that embed a mask prompt, which SAMEO does not use.
    """

    image_size: int = 1024
    patch_size: int = 16
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    mlp_ratio: float = 4.0
    window: int = 14
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    width: int = 256
    decoder_mlp: int = 2048
    decoder_layers: int = 2
    decoder_heads: int = 8
    iou_hidden: int = 256
    mask_input_channels: int = 16

    def __post_init__(self) -> None:
        """Check what would make a network that cannot be built.

        Raises:
            InputError: if sizes do not divide.
        """
        if self.image_size % self.patch_size or self.width % 2 or self.width % self.decoder_heads:
            raise InputError(
                f"sam: expected image_size ({self.image_size}) a multiple of patch_size ({self.patch_size}) and width "
                f"({self.width}) even and a multiple of decoder_heads ({self.decoder_heads})"
            )

    @property
    def mask_size(self) -> int:
        """Side in pixels of the masks that the decoder predicts."""
        return 4 * (self.image_size // self.patch_size)

    def config(self) -> SamConfig:
        """The configuration that transformers takes."""
        vision = SamVisionConfig(
            hidden_size=self.vision_width,
            output_channels=self.width,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=self.vision_heads,
            image_size=self.image_size,
            patch_size=self.patch_size,
            mlp_ratio=float(self.mlp_ratio),
            window_size=self.window,
            global_attn_indexes=list(self.global_layers),
            num_pos_feats=self.width // 2,
        )
        prompt = SamPromptEncoderConfig(
            hidden_size=self.width,
            image_size=self.image_size,
            patch_size=self.patch_size,
            mask_input_channels=self.mask_input_channels,
        )
        decoder = SamMaskDecoderConfig(
            hidden_size=self.width,
            mlp_dim=self.decoder_mlp,
            num_hidden_layers=self.decoder_layers,
            num_attention_heads=self.decoder_heads,
            iou_head_hidden_dim=self.iou_hidden,
        )
        # Given as dictionaries, as some versions of transformers take nothing else.
        return SamConfig(
            vision_config=vision.to_dict(),
            prompt_encoder_config=prompt.to_dict(),
            mask_decoder_config=decoder.to_dict(),
        )


@dataclass(frozen=True)
class EfficientSamShape:
    """Shape of EfficientSAM; the defaults are those of the variant Ti, and ``S`` has width 384 and 6 heads.

    Attributes:
        image_size: side in pixels of the square to which a frame is stretched.
        patch_size: side of a patch in pixels.
        pretrained_size: side in pixels of the images that the table of positions was trained for.
        vision_width: channels of a token of the image encoder.
        vision_layers: blocks of the image encoder, all with global attention.
        vision_heads: attention heads of a block.
        width: channels of image embeddings, prompts and decoder.
        decoder_mlp: hidden channels of the decoder's MLPs.
        decoder_layers: two-way blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        iou_hidden: hidden channels of the head that predicts the IoU.
        points: number of points of a prompt; a box has two, the rest are padding.
    """

    image_size: int = 1024
    patch_size: int = 16
    pretrained_size: int = 224
    vision_width: int = 192
    vision_layers: int = 12
    vision_heads: int = 3
    width: int = 256
    decoder_mlp: int = 2048
    decoder_layers: int = 2
    decoder_heads: int = 8
    iou_hidden: int = 256
    points: int = 6

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            InputError: if they do not divide, or a prompt has no room for a box.
        """
        if (
            self.image_size % self.patch_size
            or self.pretrained_size % self.patch_size
            or self.vision_width % self.vision_heads
            or self.width % (2 * self.decoder_heads)
            or self.points < 2
        ):
            raise InputError(
                "efficient_sam: expected image_size and pretrained_size multiples of patch_size, vision_width of "
                f"vision_heads, width of twice decoder_heads, and at least 2 points, got {self}"
            )

    @property
    def mask_size(self) -> int:
        """Side in pixels of the masks that the decoder predicts."""
        return 4 * (self.image_size // self.patch_size)


@dataclass(frozen=True)
class SameoConfig:
    """Which network, and its shape.

    Attributes:
        backend: ``sam`` (`transformers.SamModel`), or ``efficient_sam``, the paper's.
        sam: shape of the backend ``sam``.
        efficient_sam: shape of the backend ``efficient_sam``.
    """

    backend: Backend = "sam"
    sam: SamShape = field(default_factory=SamShape)
    efficient_sam: EfficientSamShape = field(default_factory=EfficientSamShape)

    @property
    def shape(self) -> SamShape | EfficientSamShape:
        """The shape of the chosen backend."""
        return self.sam if self.backend == "sam" else self.efficient_sam


@dataclass(frozen=True)
class SameoSampling:
    """How masks are predicted. SAMEO's paper leaves all of it open.

    Attributes:
        mask_threshold: a pixel whose probability is above this belongs to the object.
        union_modal: the mask contains the modal mask.
        box_source: the prompt is the box of the modal mask, or of another method's amodal mask where there is one.
        gap: ``none`` predicts nothing where no box is known; ``interpolate`` takes a box between those of the
            neighboring frames of the shot.
        boxes_at_once: number of boxes that the decoder takes together; bounds its memory.
        frames_at_once: number of frames that the encoder takes together; bounds its memory.
    """

    mask_threshold: float = 0.5
    union_modal: bool = True
    box_source: BoxSource = "modal"
    gap: Gap = "none"
    boxes_at_once: int = 32
    frames_at_once: int = 1

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: if one is out of range.
        """
        if not 0 < self.mask_threshold < 1 or self.boxes_at_once < 1 or self.frames_at_once < 1:
            raise InputError(
                "sampling: expected 0 < mask_threshold < 1 and boxes_at_once and frames_at_once of at least 1, got "
                f"{self.mask_threshold}, {self.boxes_at_once} and {self.frames_at_once}"
            )
