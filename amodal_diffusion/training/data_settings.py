"""Settings of the clips of a training run; part of `TrainingSettings`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.published import remedy


@dataclass(frozen=True)
class OccluderSettings:
    """Synthetic occluders pasted over complete objects, for stage 2 training without ground truth of hidden colors.

    Attributes:
        annotations: annotation file whose tracks serve as occluders; it may be the file of the clips.
        occlusion: range of the share of an object that is occluded.
        tries: number of occluders to try per clip; if none fits, another clip replaces it.
    """

    annotations: Path | None = None
    occlusion: tuple[float, float] = (0.3, 0.9)
    tries: int = 5


@dataclass(frozen=True)
class DatasetSettings:
    """One data set of recorded clips.

    Attributes:
        shards: folder or URL of shards, as ``amodal-diffusion shards`` writes them.
        annotations: annotation file in the layout of SAIL-VOS sequences, in place of shards.
        images: root of its frames; by default the folder of the file.
        weight: share of the clips that are of this data set, over the sum of all weights of a mixture.
    """

    shards: str | None = None
    annotations: Path | None = None
    images: Path | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check that there is one data set, with a weight.

        Raises:
            InputError: if there are two or none, or the weight is not above 0.
        """
        if (self.shards is None) == (self.annotations is None):
            given = "none" if self.shards is None else "both"
            raise InputError(f"data.mixture: expected shards or annotations for each data set, got {given}")
        if self.images is not None and self.annotations is None:
            raise InputError(f"data.mixture: images: expected annotations beside it, got none and {self.images}")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InputError(f"data.mixture: weight: expected a number above 0, got {self.weight}")


@dataclass(frozen=True)
class CompositeSettings:
    """Composites, which are made while the run trains: pictures with alpha that move and hide each other.

    Each clip's kind is drawn from its number: a composite, a track with cut-outs pasted over its whole object, or else
    a generated scene (without ``data.annotations``) or a track as it is. Validation has the kinds in the same shares,
    from the validation split of the cut-outs. Without ``data.workers``, composites are made on the accelerator, if
    there is one; the workers make them on the CPU.

    Attributes:
        folder: cut-outs, as `recipes/tiny/collect_cutouts.py` writes them; None for no composites.
        share: share of the clips that are composites.
        pasted_share: share of the clips that are complete tracks of ``data.annotations`` with pasted cut-outs.
        height: height in pixels of composites that are cropped (``sampling.fit: crop``); others have ``data.height``.
        width: width in pixels of composites that are cropped; others have ``data.width``.
        seed: number of the series of composites and pastes; different seeds share none.
        made: number of made-up cut-outs of each role, beside those of the folder.
        mask_errors: share of the training clips whose masks have the errors of a segmenter.
        depth_errors: share of the training clips whose depth has the errors of a depth network.
    """

    folder: Path | None = None
    share: float = 1.0
    pasted_share: float = 0.0
    height: int = 128
    width: int = 192
    seed: int = 0
    made: int = 32
    mask_errors: float = 0.15
    depth_errors: float = 0.6

    def __post_init__(self) -> None:
        """Check the shares and the numbers.

        Raises:
            InputError: if one is out of range, or the two kinds are more than all clips.
        """
        for name in ("share", "pasted_share", "mask_errors", "depth_errors"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"data.composites.{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        if not 0.0 < self.share + self.pasted_share <= 1.0:
            raise InputError(
                "data.composites.share, data.composites.pasted_share: expected more than 0 and at most 1 together, got "
                f"{self.share} and {self.pasted_share}; leave out data.composites.folder for no composites"
            )
        for name, least in (("height", 16), ("width", 16), ("seed", 0), ("made", 1)):
            if getattr(self, name) < least:
                raise InputError(f"data.composites.{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class DataSettings:
    """Training and validation clips: generated scenes, composites, or recorded clips of files (docs/data.md).

    Attributes:
        annotations: annotation file with the training tracks, in the layout of SAIL-VOS sequences; None trains on
            generated scenes.
        images: root of its frames; by default the folder of the file.
        shards: folder or URL of shards with the training clips, in place of an annotation file.
        mixture: several data sets with their weights, in place of ``annotations`` and ``shards``; each has its own
            epochs.
        validation_annotations: annotation file with the validation tracks, of which the first are used.
        validation_images: root of its frames; by default the folder of the file.
        validation_shards: folder or URL of shards with the validation clips, in place of an annotation file.
        index_folder: folder for the indices of annotation files; by default next to the files.
        occluders: synthetic occluders, for stage 2 with an annotation file.
        composites: clips made of cut-outs, alone or beside scenes or tracks.
        clips: number of generated training scenes; with composites, of training clips of all kinds.
        frames: number of frames ``F`` of a clip.
        height: height ``H`` of the network input in pixels.
        width: width ``W`` of the network input in pixels.
        scene_height: height in pixels of generated scenes that are cropped (``sampling.fit: crop``); others have
            ``height``.
        scene_width: width in pixels of generated scenes that are cropped; others have ``width``.
        seed: random seed of the generated scenes; different seeds share no scene.
        degraded_share: share of the generated scenes with corrupted masks (ragged borders, holes, a missing frame) and
            corrupted depth (noise, blur, another scale). Validation scenes are never corrupted.
        depthless_share: share of the generated scenes and composites without depth.
        guide_dropout: share of clips whose guide is dropped (its latents are set to zero).
        reversed_share: share of clips that are reversed in time.
        cache: folder that `train/precompute.py` has filled (docs/training.md). For tracks, missing entries are computed
            during training. For generated scenes, it must contain all. None computes everything during training.
        workers: number of processes that prefetch clips; 0 loads clips in the training process.
    """

    annotations: Path | None = None
    images: Path | None = None
    shards: str | None = None
    mixture: tuple[DatasetSettings, ...] = ()
    validation_annotations: Path | None = None
    validation_images: Path | None = None
    validation_shards: str | None = None
    index_folder: Path | None = None
    occluders: OccluderSettings = field(default_factory=OccluderSettings)
    composites: CompositeSettings = field(default_factory=CompositeSettings)
    clips: int = 20_000
    frames: int = 25
    height: int = 128
    width: int = 256
    scene_height: int = 64
    scene_width: int = 128
    seed: int = 0
    degraded_share: float = 0.0
    depthless_share: float = 0.0
    guide_dropout: float = 0.0
    reversed_share: float = 0.0
    cache: Path | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        """Check the shares, and that settings of an annotation file are given only with one.

        Raises:
            InputError: if a setting is wrong; the message names the first.
        """
        self._check_sources()
        for name in ("degraded_share", "depthless_share", "guide_dropout", "reversed_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"data.{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        for name in ("degraded_share", "depthless_share"):
            of_composites = name == "depthless_share" and self.composites.folder is not None
            if self.sources and getattr(self, name) > 0.0 and not of_composites:
                raise InputError(
                    f"data.{name}: changes generated scenes, but data.{self._given} is given; expected 0 beside it, "
                    f"got {getattr(self, name)}"
                )
        self._check_composites()

    def _check_sources(self) -> None:
        given = [name for name in ("annotations", "shards", "mixture") if getattr(self, name)]
        if len(given) > 1:
            raise InputError(f"data.{given[0]}, data.{given[1]}: both are given; a run trains on one of them")
        if self.validation_annotations is not None and self.validation_shards is not None:
            raise InputError(
                "data.validation_annotations, data.validation_shards: both are given; expected one of them"
            )
        needed = {
            "images": self.annotations is not None,
            "validation_images": self.validation_annotations is not None,
            "validation_annotations": bool(given),
            "validation_shards": bool(given),
            "occluders.annotations": bool(given),
        }
        for name, has in needed.items():
            value = self.occluders.annotations if name == "occluders.annotations" else getattr(self, name)
            if value is not None and not has:
                wanted = "validation_annotations" if given and name == "validation_images" else "annotations"
                raise InputError(f"data.{name}: expected data.{wanted} beside it, got none; name the clips too")

    def _check_composites(self) -> None:
        composites = self.composites
        if composites.folder is None:
            if composites != CompositeSettings():
                raise InputError("data.composites: expected data.composites.folder beside its other settings, got none")
            return
        if self.cache is not None:
            raise InputError(
                f"data.cache: expected none beside data.composites.folder, as every composite is a new clip; got "
                f"{self.cache}"
            )
        if self.mixture:
            raise InputError("data.mixture: expected none beside data.composites.folder, which has shares of its own")
        if composites.pasted_share > 0.0 and not self.sources:
            raise InputError(
                "data.composites.pasted_share: expected data.annotations beside it, whose objects the cut-outs hide; "
                f"got none and a share of {composites.pasted_share}"
            )

    @property
    def _given(self) -> str:
        return "annotations" if self.annotations is not None else "shards" if self.shards is not None else "mixture"

    @property
    def sources(self) -> tuple[DatasetSettings, ...]:
        """Data sets of recorded clips to train on; none for generated clips alone."""
        if self.annotations is None and self.shards is None:
            return self.mixture
        return (DatasetSettings(self.shards, self.annotations, self.images),)

    @property
    def validation_source(self) -> DatasetSettings | None:
        """Data set of recorded clips to validate on."""
        if self.validation_annotations is None and self.validation_shards is None:
            return None
        return DatasetSettings(self.validation_shards, self.validation_annotations, self.validation_images)

    def check_files(self) -> None:
        """Check that annotation files and folders of frames are there.

        Raises:
            InputError: if one is missing; the message says where the paper's come from and what makes one's own.
        """
        for setting, path in self._paths():
            if not path.exists():
                raise InputError(f"data.{setting}: {path}: no such file or folder; {remedy(path)}")

    def _paths(self) -> Iterator[tuple[str, Path]]:
        for setting in ("annotations", "images", "validation_annotations", "validation_images"):
            path = getattr(self, setting)
            if path is not None:
                yield setting, path
        for source in self.mixture:
            for setting in ("annotations", "images"):
                path = getattr(source, setting)
                if path is not None:
                    yield f"mixture.{setting}", path
        if self.occluders.annotations is not None:
            yield "occluders.annotations", self.occluders.annotations

    @property
    def plain_share(self) -> float:
        """Share of the clips that are generated scenes, or tracks as they are."""
        composites = self.composites
        if composites.folder is None:
            return 1.0
        rest = 1.0 - composites.share - composites.pasted_share
        return rest if rest > 1e-9 else 0.0

    @property
    def encoded(self) -> bool:
        """Whether clips are read as latents, that is, generated scenes from ``cache``."""
        return self.cache is not None and not self.sources
