"""The baseline that follows the object through the clip and fills in what other frames have shown of it."""

from __future__ import annotations

from amodal_diffusion.types import BoolArray, FloatArray, VideoClip
from amodal_diffusion.video.tracking.following import elsewhere_of, follow_object
from amodal_diffusion.video.tracking.merging import ELSEWHERE_WEIGHT, merged_votes


class TemporalSegmenter:
    """Places the object in every frame by shift, turn and scale, and adds what most of the other frames show of it.

    With depth it knows where the object is not (farther pixels that are not its own) and where it may be hidden
    (nearer ones); without, it cannot tell these apart.
    """

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:
        """See `AmodalSegmenter`."""
        elsewhere = elsewhere_of(clip.modal_mask, depth)
        path = follow_object(clip.rgb, clip.modal_mask, elsewhere)
        votes = merged_votes(clip.modal_mask, elsewhere, path)
        whole: BoolArray = clip.modal_mask | (votes[:, 0] > ELSEWHERE_WEIGHT * votes[:, 1])
        return whole
