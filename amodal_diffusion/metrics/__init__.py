"""Scores of completed masks, boxes and appearance: pure functions on arrays (docs/method.md, section 8)."""

from amodal_diffusion.metrics.average_precision import (
    MOST_HIDDEN_TRACK,
    AveragePrecision,
    Instance,
    average_precision,
    occlusion_rate,
    track_rate,
)
from amodal_diffusion.metrics.boundary import boundary_f
from amodal_diffusion.metrics.boxes import THRESHOLDS, above, box_iou, boxes_of
from amodal_diffusion.metrics.calibration import Calibration, Reliability
from amodal_diffusion.metrics.content import flicker, frechet_distance, gradient_ratio, psnr, ssim
from amodal_diffusion.metrics.pooling import FramePool, Pooled, RatioPool, Values, pool
from amodal_diffusion.metrics.protocols import (
    PROTOCOLS,
    FrameScores,
    Protocol,
    Summary,
    SummaryPool,
    TrackScores,
    iou,
    score_frames,
    score_track,
    summarise,
    track_of,
)
from amodal_diffusion.metrics.published import PUBLISHED, Published, PublishedPool
from amodal_diffusion.metrics.samples import Agreement, best_sample, joined_samples, probability_map
from amodal_diffusion.metrics.stability import instability

__all__ = [
    "MOST_HIDDEN_TRACK",
    "PROTOCOLS",
    "PUBLISHED",
    "THRESHOLDS",
    "Agreement",
    "AveragePrecision",
    "Calibration",
    "FramePool",
    "FrameScores",
    "Instance",
    "Pooled",
    "Protocol",
    "Published",
    "PublishedPool",
    "RatioPool",
    "Reliability",
    "Summary",
    "SummaryPool",
    "TrackScores",
    "Values",
    "above",
    "average_precision",
    "best_sample",
    "boundary_f",
    "box_iou",
    "boxes_of",
    "flicker",
    "frechet_distance",
    "gradient_ratio",
    "instability",
    "iou",
    "joined_samples",
    "occlusion_rate",
    "pool",
    "probability_map",
    "psnr",
    "score_frames",
    "score_track",
    "ssim",
    "summarise",
    "track_of",
    "track_rate",
]
