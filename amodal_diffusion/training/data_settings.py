"""The settings of a run's clips: generated scenes, or the tracks of an annotation file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from amodal_diffusion.types import InputError


@dataclass(frozen=True)
class OccluderSettings:
    """What complete objects are hidden behind, to train stage 2 on clips that show no hidden colours.

    Attributes:
        annotations: annotation file whose tracks are the occluders; may be that of the clips.
        occlusion: least and largest share of an object that is hidden.
        tries: occluders that are drawn for one clip; a clip that takes more is replaced by another.
    """

    annotations: Path | None = None
    occlusion: tuple[float, float] = (0.3, 0.9)
    tries: int = 5


@dataclass(frozen=True)
class DataSettings:
    """The clips: generated scenes, or the tracks of an annotation file (docs/data.md).

    Attributes:
        annotations: annotation file in the layout of SAIL-VOS sequences, all of whose tracks are trained on; None
            trains on generated scenes.
        images: root of its frames; its own folder by default.
        validation_annotations: annotation file of the clips that validation looks at, the first of them.
        validation_images: root of its frames; its own folder by default.
        index_folder: where the indices of annotation files are kept; beside the files by default.
        occluders: for stage 2 on an annotation file.
        clips: number of generated scenes of the training split.
        frames: frames ``F`` of a clip.
        height: pixels ``H`` that the model sees.
        width: pixels ``W`` that the model sees.
        zoom: look at close-ups of the object, as ``sampling.zoom`` does; None at whole frames.
        scene_height: pixels of the scenes that close-ups are cut from; whole frames are made at ``height``.
        scene_width: likewise.
        seed: of the generated scenes.
        degraded_share: share of the generated scenes whose masks and depth are made like what tools give: ragged
            borders, holes, a missed frame; noisy, blurred depth on another scale. Validation's stay exact.
        depthless_share: share of the generated scenes that come without depth.
        guide_dropout: share of clips whose guide is left out (its latents are zero).
        reversed_share: share of clips that are played backwards.
        latents: folder that `train/precompute.py` filled with generated scenes; None encodes the clips in the training
            step.
        cache: folder that `train/precompute.py` filled of an annotation file; what it does not hold is computed, and
            so is all without it (docs/caches.md).
        workers: processes that load clips ahead; 0 loads them in the training process.
    """

    annotations: Path | None = None
    images: Path | None = None
    validation_annotations: Path | None = None
    validation_images: Path | None = None
    index_folder: Path | None = None
    occluders: OccluderSettings = field(default_factory=OccluderSettings)
    clips: int = 20_000
    frames: int = 25
    height: int = 128
    width: int = 256
    zoom: float | None = None
    scene_height: int = 64
    scene_width: int = 128
    seed: int = 0
    degraded_share: float = 0.0
    depthless_share: float = 0.0
    guide_dropout: float = 0.0
    reversed_share: float = 0.0
    latents: Path | None = None
    cache: Path | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        """Check the shares, and that what belongs to an annotation file comes with one.

        Raises:
            InputError: names the first mistake.
        """
        if self.annotations is None:
            files = {
                "images": self.images,
                "validation_annotations": self.validation_annotations,
                "validation_images": self.validation_images,
                "occluders.annotations": self.occluders.annotations,
                "cache": self.cache,
            }
            given = [name for name, path in files.items() if path is not None]
            if given:
                raise InputError(f"data.{given[0]}: expected data.annotations beside it, got none; name the clips too")
        elif self.latents is not None:
            raise InputError("data.latents: holds generated scenes, but data.annotations is given; give data.cache")
        for name in ("degraded_share", "depthless_share", "guide_dropout", "reversed_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"data.{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        for name in ("degraded_share", "depthless_share"):
            if self.annotations is not None and getattr(self, name) > 0.0:
                raise InputError(
                    f"data.{name}: changes generated scenes, but data.annotations is given; expected 0 beside it, got "
                    f"{getattr(self, name)}"
                )
