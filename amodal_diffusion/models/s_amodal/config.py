"""Shape of the S-AModal networks and how they are run; the defaults are the paper's.

Where the paper and its released code differ, a field has both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.sam import SamShape

AdapterUse = Literal["trained", "frozen", "none"]
PointChoice = Literal["erosion", "random"]
TrackerName = Literal["constant_velocity", "lucas_kanade", "cotracker"]
ClampOn = Literal["centroids", "points", "none"]


@dataclass(frozen=True)
class SAModalConfig:
    """Shape of the networks, and which parts are trained.

    Attributes:
        sam: shape of SAM.
        adapter_reduction: channels of a token over channels inside the adapters.
        adapters: ``trained`` is the paper; ``frozen`` keeps them random, as the released code does, whose optimizer
            lacks them; ``none`` leaves them out.
        train_encoder: train SAM's image encoder too, for a network without pretraining. The paper freezes it.
    """

    sam: SamShape = field(default_factory=SamShape)
    adapter_reduction: int = 32
    adapters: AdapterUse = "trained"
    train_encoder: bool = False

    def __post_init__(self) -> None:
        """Check the reduction.

        Raises:
            InputError: if it leaves no channel.
        """
        if not 1 <= self.adapter_reduction <= self.sam.hidden_size:
            raise InputError(
                f"adapter_reduction: expected 1 to {self.sam.hidden_size}, the channels of a token, got "
                f"{self.adapter_reduction}"
            )


@dataclass(frozen=True)
class SAModalSampling:
    """How masks are predicted.

    Attributes:
        points: ``erosion`` draws prompt points from the eroded modal mask, ``random`` from all of it.
        num_points: prompt points per frame; more than one does not help, says the paper.
        erosion: side in pixels of the square by which the modal mask is eroded.
        tracker: finds where a hidden object went. ``constant_velocity`` continues the masks' motion and suits wholly
            hidden objects; ``lucas_kanade`` follows the pixels at the points, so it stays on what hides them;
            ``cotracker`` is the paper's, to be installed by the user (its license is non-commercial).
        tracker_weights: safetensors file of CoTracker's weights, for ``cotracker``.
        clamp: limit of the displacement of a hidden object along each axis: its mean step so far, times the hidden
            frames. Steps of the masks' ``centroids``, of the ``points`` (as released; they jitter, as they are drawn
            anew in each frame), or ``none``.
        vanish: an object that is hidden beside the left or right border has left the frame.
        vanish_margin: width of that border over the width of the frame.
        vanish_vertical: the upper and lower borders count as well.
        mask_threshold: the mask is where the probability is above this.
        union_modal: the mask always contains the modal mask.
    """

    points: PointChoice = "erosion"
    num_points: int = 1
    erosion: int = 7
    tracker: TrackerName = "constant_velocity"
    tracker_weights: str | None = None
    clamp: ClampOn = "centroids"
    vanish: bool = True
    vanish_margin: float = 0.01
    vanish_vertical: bool = False
    mask_threshold: float = 0.5
    union_modal: bool = True

    def __post_init__(self) -> None:
        """Check what files and callers set.

        Raises:
            InputError: if a value is out of range.
        """
        if self.num_points < 1 or self.erosion < 1:
            raise InputError(f"num_points, erosion: expected at least 1, got {self.num_points} and {self.erosion}")
        if not 0 <= self.vanish_margin < 0.5 or not 0 <= self.mask_threshold < 1:
            raise InputError(
                f"vanish_margin, mask_threshold: expected 0 to below 0.5 and 0 to below 1, got {self.vanish_margin} "
                f"and {self.mask_threshold}"
            )
