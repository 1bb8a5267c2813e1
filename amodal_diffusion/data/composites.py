"""Datasets of composites: clips made of cut-outs, and real clips with occluders pasted over whole objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.occluders import OccludedTracks, whole_sample
from amodal_diffusion.data.sailvos import SailVosDataset, TrackSource
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.data.shards import ShardDataset
from amodal_diffusion.synthetic.composites import frozen
from amodal_diffusion.synthetic.composites.clips import Composer, CompositeBatch, WholeClips
from amodal_diffusion.synthetic.composites.cutouts import COMPOSITE_SPLITS, CompositeSplit, CutoutSet
from amodal_diffusion.synthetic.composites.made import made_cutouts
from amodal_diffusion.synthetic.composites.tool_errors import ErrorShares
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray, UInt8Array

SEED_STRIDE = 1 << 32
"""Series `s` starts at clip `s * SEED_STRIDE` of a split, so that different series share no clip."""
COMPOSITE_NAMES: dict[str, CompositeSplit] = {
    "composites-train": "train",
    "composites-validation": "validation",
    "test-v2": "test-v2",
}
"""Splits of composites by their names on the command line, beside those of generated scenes."""
TRAINING_ERRORS = ErrorShares(masks=0.15, depth=0.6)
_KIND_STREAM, _DEPTHLESS_STREAM = 1803, 1804  # after the keys of the splits of composites
_MOST_REPLACED = 100  # unusable tracks in a row, after which the data must be at fault


@dataclass(frozen=True)
class CompositeOptions:
    """How the clips of a split are made.

    Attributes:
        errors: shares of clips with errors of tools in masks and depth; by default those of training for ``train`` and
            none for the others.
        depthless_share: share of the clips that come without depth.
        made: number of made-up cut-outs of each role.
        device: where clips are composited; the bytes are the same on every device.
    """

    errors: ErrorShares | None = None
    depthless_share: float = 0.0
    made: int = frozen.MADE
    device: torch.device | str = "cpu"


class CompositeDataset(Dataset[AmodalSample]):
    """Clips composited from cut-outs; item i depends only on the folder's cut-outs, (split, seed, i) and the size.

    Args:
        folder: cut-outs, as recipes/tiny/collect_cutouts.py writes them.
        length: number of clips; for ``test-v2`` the first ones.
        frames: F.
        height: H in pixels.
        width: W in pixels.
        seed: number of the series of clips; different series share no clip.
        split: ``train``, ``validation`` or ``test-v2``; no category of cut-outs is in two of them.
        options: errors, depth and device; ``test-v2`` takes none.

    Raises:
        InputError: if the folder cannot be used, or `test-v2` does not have the clips.
    """

    def __init__(
        self,
        folder: Path,
        length: int,
        frames: int,
        height: int,
        width: int,
        seed: int = 0,
        split: CompositeSplit = "train",
        *,
        options: CompositeOptions | None = None,
    ) -> None:
        options = options or CompositeOptions()
        self._depthless_share = options.depthless_share
        self._prepared: dict[int, AmodalSample] = {}
        if split not in COMPOSITE_SPLITS:
            raise InputError(f"split: expected one of {', '.join(COMPOSITE_SPLITS)}, got {split!r}")
        if length < 1 or seed < 0:
            raise InputError(
                f"length, seed: expected at least 1 clip and a seed of at least 0, got {length} and {seed}"
            )
        self.split, self.length, self.seed = split, length, seed
        if split == "test-v2":
            _check_frozen(length, (frames, height, width), seed)
            self.composer = frozen.composer_of(frozen.frozen_cutouts(folder))
            return
        errors = options.errors or (TRAINING_ERRORS if split == "train" else ErrorShares())
        cutouts = CutoutSet.read(folder, split).joined(made_cutouts(split, options.made))
        size = {"frames": frames, "height": height, "width": width}
        self.composer = Composer(cutouts, split, device=options.device, errors=errors, **size)

    def __len__(self) -> int:
        return self.length

    @property
    def on_accelerator(self) -> bool:
        """Whether clips are made on another device than the CPU."""
        return self.composer.device.type != "cpu"

    def name(self, index: int) -> str:
        """Name of a clip, without making it."""
        return f"composite-{self.split}-{self._seed_of(index):06d}"

    def __getitem__(self, index: int) -> AmodalSample:
        """Make one clip.

        Raises:
            IndexError: if the index is out of range.
            InputError: if a clip of ``test-v2`` is not the frozen one.
        """
        if self.split == "test-v2":
            self._seed_of(index)  # checks the range
            return to_samples(frozen.checked(self.composer, frozen.frozen_split().clips[index]), [self.name(index)])[0]
        seed = self._seed_of(index)
        sample = self._prepared.pop(index, None)
        if sample is None:
            sample = to_samples(self.composer([seed]), [self.name(index)])[0]
        without = self._depthless_share > 0.0 and Rng(_DEPTHLESS_STREAM, seed).chance(self._depthless_share)
        return replace(sample, depth=None) if without else sample

    def prepare(self, indices: Sequence[int]) -> None:
        """Make clips all at once, which an accelerator does faster than one by one; the next read of each takes it.

        On the CPU nothing is gained, and nothing is made.
        """
        if not self.on_accelerator:
            return
        wanted = sorted(set(indices) - self._prepared.keys())
        if not wanted:
            return
        batch = self.composer([self._seed_of(index) for index in wanted])
        samples = to_samples(batch, [self.name(index) for index in wanted])
        self._prepared |= dict(zip(wanted, samples, strict=True))

    def _seed_of(self, index: int) -> int:
        if not 0 <= index < self.length:
            raise IndexError(f"index: expected 0 to {self.length - 1}, got {index}")
        if self.split == "test-v2":
            return frozen.frozen_split().clips[index].seed
        return self.seed * SEED_STRIDE + index


def _check_frozen(length: int, size: tuple[int, int, int], seed: int) -> None:
    fixed = (frozen.FRAMES, frozen.HEIGHT, frozen.WIDTH)
    if length > frozen.CLIPS:
        raise InputError(f"length: test-v2 has {frozen.CLIPS} clips, got {length}; ask for fewer or another split")
    if size != fixed or seed != 0:
        raise InputError(
            f"test-v2 is fixed: expected frames, height and width {fixed} and seed 0, got {size} and seed {seed}; "
            "leave them at these values or choose another split"
        )


def open_composites(
    name: str,
    folder: Path | None,
    *,
    length: int,
    size: tuple[int, int, int] = (frozen.FRAMES, frozen.HEIGHT, frozen.WIDTH),
    seed: int = 0,
) -> CompositeDataset:
    """Open a split by its name on the command line, without errors of tools.

    Args:
        name: one of `COMPOSITE_NAMES`.
        folder: cut-outs; None is an error that says what is needed.
        length: number of clips.
        size: F, H and W.
        seed: number of the series.

    Raises:
        InputError: if the folder is missing or lacks pictures, or the clips are not those of ``test-v2``.
    """
    if folder is None:
        needed = f" with {frozen.describe_sources()}" if name == "test-v2" else ""
        raise InputError(
            f"cutouts: expected a folder of cut-outs for {name}{needed}, got none; make it with "
            "recipes/tiny/collect_cutouts.py, see recipes/tiny/README.md"
        )
    options = CompositeOptions(errors=ErrorShares())
    return CompositeDataset(folder, length, *size, seed, COMPOSITE_NAMES[name], options=options)


class PastedOccluders(Dataset[AmodalSample]):
    """Real clips with moving cut-outs pasted over whole objects: RGB shows the paste, and what is under it is known.

    Unlike :class:`~amodal_diffusion.data.occluders.OccludedTracks`, which hides parts of masks alone, the occluders are
    in the frames and in the depth, so that neither gives the hidden part away. That serves both stages.

    Args:
        targets: tracks with RGB, of SAIL-VOS, of folders like those of DAVIS after ``amodal-diffusion prepare``, or own
            ones; those whose object is not complete are replaced by others.
        cutouts: the occluders.
        seed: number of the series; different series paste different occluders.
        split: of the cut-outs.
        length: number of clips; more than there are tracks repeat these with other occluders.
        errors: see :class:`CompositeDataset`.
    """

    def __init__(
        self,
        targets: TrackSource,
        cutouts: CutoutSet,
        *,
        seed: int = 0,
        split: CompositeSplit = "train",
        length: int | None = None,
        errors: ErrorShares | None = None,
    ) -> None:
        self.targets, self.cutouts, self.seed, self.split = targets, cutouts, seed, split
        self.length = len(targets) if length is None else length
        self.errors = errors or (TRAINING_ERRORS if split == "train" else ErrorShares())

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """Name of a clip in messages, without reading it; another track may replace its own."""
        return f"{self.targets.name(index % len(self.targets))}, paste {self.seed * SEED_STRIDE + index}"

    def __getitem__(self, index: int) -> AmodalSample:
        """Paste occluders that are the same at every call.

        Raises:
            IndexError: if the index is out of range.
            InputError: if a track is invalid or has no RGB, or too many in a row are not complete.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"index: expected 0 to {self.length - 1}, got {index}")
        for step in range(_MOST_REPLACED):
            whole = whole_sample(self.targets, (index + step) % len(self.targets))
            if whole is not None:
                return self.paste(whole, self.seed * SEED_STRIDE + index, self.name(index))
        raise InputError(
            f"{self.targets.name(0)}: {_MOST_REPLACED} tracks in a row are hidden in part or empty; use complete ones"
        )

    def paste(self, whole: AmodalSample, seed: int, name: str) -> AmodalSample:
        """Paste occluders over the object of a clip, none of which is hidden.

        Args:
            whole: clip with RGB, whose `amodal` is all visible.
            seed: decides the occluders.
            name: of the result.
        """
        if whole.rgb is None:
            raise InputError(f"{whole.name}: occluders are pasted into frames, got a clip without; load it with RGB")
        frames, height, width = whole.amodal.shape
        composer = Composer(self.cutouts, self.split, frames=frames, height=height, width=width, errors=self.errors)
        depth = np.zeros(whole.amodal.shape, np.float32) if whole.depth is None else whole.depth
        clips = WholeClips(
            rgb=rearrange(torch.from_numpy(whole.rgb), "f h w c -> 1 f c h w"),
            masks=torch.from_numpy(whole.amodal)[None],
            depth=torch.from_numpy(depth)[None],
        )
        sample = to_samples(composer.paste(clips, [seed]), [name])[0]
        if whole.depth is not None:
            return sample
        return AmodalSample(name, sample.modal, sample.amodal, None, sample.rgb, sample.whole_rgb)


ClipKind = CompositeDataset | PastedOccluders | SceneDataset | SailVosDataset | ShardDataset | OccludedTracks


class MixedClips(Dataset[AmodalSample]):
    """Clips of several kinds in given shares; a clip's number decides its kind and what it shows.

    Args:
        parts: share and clips of each kind; a kind with fewer clips than `length` repeats them.
        length: number of clips.
        seed: of the kinds.
    """

    def __init__(self, parts: Sequence[tuple[float, ClipKind]], length: int, *, seed: int = 0) -> None:
        self.parts, self.length, self.seed = tuple(parts), length, seed

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """Name of a clip in messages, without reading it."""
        part = self.part(index)
        return part.name(index % len(part))

    def __getitem__(self, index: int) -> AmodalSample:
        """Read or make a clip; a track behind other tracks is hidden anew each time that it repeats.

        Raises:
            IndexError: if the index is out of range.
            InputError: if the clip cannot be read.
        """
        part = self.part(index)
        if isinstance(part, OccludedTracks):
            return part.draw(index % len(part), generator=torch.Generator().manual_seed(index)).sample
        return part[index % len(part)]

    def prepare(self, indices: Sequence[int]) -> None:
        """Make the composites among some clips all at once, see :meth:`CompositeDataset.prepare`."""
        for _, part in self.parts:
            if isinstance(part, CompositeDataset):
                part.prepare([index % len(part) for index in indices if self.part(index) is part])

    def part(self, index: int) -> ClipKind:
        """The kind of a clip.

        Raises:
            IndexError: if the index is out of range.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"index: expected 0 to {self.length - 1}, got {index}")
        drawn = Rng(_KIND_STREAM, self.seed, index).uniform(0.0, sum(share for share, _ in self.parts))
        for share, part in self.parts[:-1]:
            if drawn < share:
                return part
            drawn -= share
        return self.parts[-1][1]


def to_samples(batch: CompositeBatch, names: Sequence[str]) -> list[AmodalSample]:
    """The clips of a batch as samples."""
    return [
        AmodalSample(
            name=name,
            modal=_mask(batch.modal[row]),
            amodal=_mask(batch.amodal[row]),
            depth=batch.depth[row].cpu().numpy(),
            rgb=_video(batch.rgb[row]),
            whole_rgb=_video(batch.whole_rgb[row]),
        )
        for row, name in enumerate(names)
    ]


def _mask(mask: Tensor) -> BoolArray:
    return np.asarray(mask.cpu().numpy(), dtype=np.bool_)


def _video(video: Tensor) -> UInt8Array:
    return np.ascontiguousarray(rearrange(video.cpu().numpy(), "f c h w -> f h w c"))
