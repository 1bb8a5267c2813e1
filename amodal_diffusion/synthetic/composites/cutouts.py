"""Cut-outs: a folder of RGBA pictures with an index, held-out by category."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.images import open_picture
from amodal_diffusion.io.picture_formats import decoding
from amodal_diffusion.types import UInt8Array

SIDE = 128
"""Pixels of a stored cut-out's side. A power of two, so that sampling a picture is exact (`compositing`)."""
CONTENT = 124
"""Pixels of the longer side of what the picture shows; the rest is a transparent border."""
INDEX = "index.json"
CompositeSplit = Literal["train", "validation", "test-v2"]
COMPOSITE_SPLITS: tuple[CompositeSplit, ...] = get_args(CompositeSplit)
_HELD_OUT = 0.08  # share of the categories in each of validation and test-v2
_OPAQUE = 128


@dataclass(frozen=True)
class Cutout:
    """One thing of the folder: a picture, or the frames of one that moves.

    Attributes:
        name: unique in its folder.
        category: word for what it shows; all cut-outs of a category are in one split.
        source: package that the picture is from, with its version, such as ``openclipart-png 0.18``.
        licence: SPDX name, or the words of the package.
        sha256: of the source's file, or of the pixels if a program rendered them.
        files: pictures of the folder, in the order of a cycle; one for a thing that does not move.
        kind: ``thing``, or ``person`` for what stands upright and keeps its colors.
        facing: -1 to 1, how far it looks to the left or right; 0 if that does not matter.
        weight: how often it is drawn, relative to others of its source.
    """

    name: str
    category: str
    source: str
    licence: str
    sha256: str
    files: tuple[str, ...]
    kind: Literal["thing", "person"] = "thing"
    facing: float = 0.0
    weight: float = 1.0


def split_of(category: str) -> CompositeSplit:
    """The split of a category, from the SHA-256 of its name: about 84 % train, 8 % validation, 8 % test-v2."""
    share = int.from_bytes(hashlib.sha256(category.encode()).digest()[:4], "big") / 2**32
    return "test-v2" if share < _HELD_OUT else "validation" if share < 2 * _HELD_OUT else "train"


def prepare_pictures(pictures: Sequence[UInt8Array]) -> list[UInt8Array]:
    """Crop, scale and center the frames of a cut-out, and bleed their colors outward.

    All frames share one crop and scale, so that a walker does not jump. Transparent pixels get the color of the nearest
    opaque one: an edge that is interpolated never mixes in the color of a background.

    Args:
        pictures: uint8 ``[h, w, 4]`` each, of one size.

    Returns:
        uint8 ``[128, 128, 4]`` each.

    Raises:
        InputError: if no pixel is opaque.
    """
    shown = np.max([picture[..., 3] for picture in pictures], axis=0) >= _OPAQUE
    if not shown.any():
        raise InputError("picture: expected opaque pixels, got none; leave it out")
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    height, width = shown[part].shape
    scale = CONTENT / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    prepared = []
    for picture in pictures:
        whole = _bled(np.ascontiguousarray(picture[part]))
        scaled = np.stack(  # channel by channel: Pillow would weight colors by alpha
            [
                np.asarray(
                    Image.fromarray(whole[..., k]).resize(
                        size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
                    )
                )
                for k in range(4)
            ],
            axis=-1,
        )
        full = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
        full[top : top + size[1], left : left + size[0]] = scaled
        prepared.append(_bled(full))
    return prepared


def _bled(picture: UInt8Array) -> UInt8Array:
    hidden = picture[..., 3] < _OPAQUE
    if hidden.all():
        return picture
    rows, columns = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    return np.concatenate([picture[rows, columns, :3], picture[..., 3:]], axis=-1)


def pixel_digest(pictures: Iterable[UInt8Array]) -> str:
    """SHA-256 of the pixels of a cut-out's pictures, uint8 ``[128, 128, 4]`` each."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()


def write_cutouts(folder: Path, cutouts: Sequence[Cutout], versions: dict[str, str]) -> None:
    """Write the index of a folder, whose pictures exist already.

    Args:
        folder: where the pictures are.
        cutouts: what they show.
        versions: version of each package that took part, by name.
    """
    content = {"format": 1, "versions": versions, "cutouts": [asdict(cutout) for cutout in cutouts]}
    (folder / INDEX).write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def read_index(folder: Path) -> tuple[list[Cutout], dict[str, str]]:
    """The cut-outs of a folder and the versions of the packages that they are from.

    Raises:
        InputError: if the folder has no index, or the index is not one.
    """
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"{path}: no such file; make the folder with recipes/tiny/collect_cutouts.py")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cutouts = [Cutout(**{**entry, "files": tuple(entry["files"])}) for entry in content["cutouts"]]
        return cutouts, dict(content["versions"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected an index of cut-outs, got {error!r}; collect the folder again") from error


def read_pictures(folder: Path, cutout: Cutout) -> list[UInt8Array]:
    """The pictures of a cut-out, uint8 ``[128, 128, 4]`` each.

    Raises:
        InputError: if a file is missing or is not such a picture.
    """
    pictures = []
    for name in cutout.files:
        try:
            with open_picture(folder / name) as picture, decoding(folder / name):
                pixels = np.asarray(picture)
        except OSError as error:
            raise InputError(f"{folder / name}: {error}; collect the folder again") from error
        if pixels.shape != (SIDE, SIDE, 4) or pixels.dtype != np.uint8:
            raise InputError(
                f"{folder / name}: expected 8-bit RGBA of {SIDE} x {SIDE} pixels, got {list(pixels.shape)} "
                f"{pixels.dtype}; collect the folder again"
            )
        pictures.append(pixels)
    return pictures


@dataclass(frozen=True)
class CutoutSet:
    """The cut-outs of one split with their pixels.

    Attributes:
        cutouts: what can be drawn.
        roles: role of each in a clip: the kind of a cut-out that was read, the family of one that was made up.
        first: index of each one's first picture, int64 ``[C]``.
        extent: width and height of the content over the picture's side, float64 ``[C, 2]``.
        pixels: all pictures, uint8 ``[P, 4, 128, 128]``.
        small: their alpha at a quarter of the size, uint8 ``[P, 1, 32, 32]``, for trial layouts.
        versions: version of each package that the pictures are from.
    """

    cutouts: tuple[Cutout, ...]
    roles: tuple[str, ...]
    first: np.ndarray
    extent: np.ndarray
    pixels: Tensor
    small: Tensor
    versions: dict[str, str]

    @classmethod
    def of(
        cls, parts: Sequence[tuple[str, Cutout, Sequence[UInt8Array]]], versions: dict[str, str] | None = None
    ) -> CutoutSet:
        """Join cut-outs with their pictures.

        Args:
            parts: role, cut-out and pictures (uint8 ``[128, 128, 4]``) of each.
            versions: of the packages that they are from.
        """
        counts = np.array([len(pictures) for _, _, pictures in parts])
        pixels = torch.empty(int(counts.sum()), 4, SIDE, SIDE, dtype=torch.uint8)
        for row, picture in zip(pixels.numpy(), (p for _, _, pictures in parts for p in pictures), strict=True):
            row[:] = picture.transpose(2, 0, 1)
        blocks = pixels[:, 3:].reshape(-1, 1, 32, 4, 32, 4).float().mean(dim=(3, 5))
        return cls(
            cutouts=tuple(cutout for _, cutout, _ in parts),
            roles=tuple(role for role, _, _ in parts),
            first=np.cumsum(counts) - counts,
            extent=np.array([_extent(pictures) for _, _, pictures in parts]),
            pixels=pixels,
            small=blocks.to(torch.uint8),
            versions=versions or {},
        )

    @classmethod
    def read(cls, folder: Path, split: CompositeSplit) -> CutoutSet:
        """Read the cut-outs of a split from a folder.

        Raises:
            InputError: if the folder cannot be used or has nothing of the split.
        """
        cutouts, versions = read_index(folder)
        chosen = [cutout for cutout in cutouts if split_of(cutout.category) == split]
        if not chosen:
            raise InputError(f"{folder}: no cut-out of the split {split}; collect more categories")
        return cls.of([(cutout.kind, cutout, read_pictures(folder, cutout)) for cutout in chosen], versions)

    def joined(self, other: CutoutSet) -> CutoutSet:
        """Both sets, this one first."""
        return CutoutSet(
            cutouts=self.cutouts + other.cutouts,
            roles=self.roles + other.roles,
            first=np.concatenate([self.first, other.first + len(self.pixels)]),
            extent=np.concatenate([self.extent, other.extent]),
            pixels=torch.cat([self.pixels, other.pixels]),
            small=torch.cat([self.small, other.small]),
            versions={**self.versions, **other.versions},
        )


def _extent(pictures: Sequence[UInt8Array]) -> tuple[float, float]:
    shown = functools.reduce(np.maximum, (picture[..., 3] for picture in pictures)) >= _OPAQUE
    return float(shown.any(axis=0).sum()) / SIDE, float(shown.any(axis=1).sum()) / SIDE
