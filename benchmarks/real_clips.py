"""Hidden parts of real clips under pasted occluders: `python benchmarks/real_clips.py --cutouts runs/cutouts`.

A check on two scenes, not a benchmark of real video. `--clips` (or AMODAL_SHARED/clips) has folders with `clip.mp4`
and `masks`. For each clip and each of the seeds 0 to 5, the seed's generator draws an occluder and its path again until
25 to 60 % of the visible mask is covered on average over the frames. Nothing is drawn again because of a result.
Occluders are the cut-outs of test-v2, whose categories `recipes/tiny` never trains on. The bundled weights began with
another split of the pictures and have seen most of them; their card has the numbers.

What the paste covers of the visible mask is the truth. Per clip:

- IoU of hidden parts: under the paste, of what is predicted there and the covered part of the mask; mean over the
  frames in which something is covered.
- Invented area: what is predicted outside the clip's own mask, over the area of that mask. Parts that something in the
  real clip hides count as invented too, as nobody knows them; they do for all methods alike.
- PSNR of hidden pixels in dB, the true mask given, of the clip's mean squared error: the network alone, with seam
  blending, and with color propagation too, which is not the network's painting.

Below the table: how much of the holes in the visible mask is filled in the clips as they are, without a paste. A hole
is what the visible mask of a frame encloses, of at least 100 pixels. Every hole in the cage hides a part of it; between
a person's limbs there may be background, so that a share below 1 can be right there.

The model runs as a user runs it: default settings, no depth, and the clip's seed, for the holes seed 0.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.baselines import HullSegmenter, TemporalSegmenter, copy_best_seen, fill_with_mean_color
from amodal_diffusion.basics import InputError
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.video_reader import read_clip
from amodal_diffusion.metrics import psnr
from amodal_diffusion.synthetic.composites import frozen
from amodal_diffusion.synthetic.composites.cutouts import CONTENT, SIDE, Cutout, read_index, read_pictures, split_of
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray, UInt8Array

COVERED = (0.25, 0.6)
"""Least and largest share of the visible mask that a paste covers, mean over frames."""
SEEDS = 6
WINS = 9
"""Clips of 12 on which the model has to beat the better baseline."""
SMALLEST_HOLE = 100
"""Pixels of the smallest hole that counts."""
_STREAM = 1810
_MOST_DRAWN = 10_000


@dataclass(frozen=True)
class Pasted:
    """A real clip with an occluder over its object.

    Attributes:
        rgb: frames with the paste, uint8 ``[F, H, W, 3]``.
        paste: where the occluder is, bool ``[F, H, W]``.
        occluder: name of the cut-out.
        covered: share of the visible mask that it covers, mean over frames.
        drawn: number of occluders drawn.
        seed: of the generator.
    """

    rgb: UInt8Array
    paste: BoolArray
    occluder: str
    covered: float
    drawn: int
    seed: int


@dataclass(frozen=True)
class Row:
    """Figures of one clip and seed; those of the methods by name."""

    clip: str
    seed: int
    occluder: str
    covered: float
    drawn: int
    iou: dict[str, float]
    invented: dict[str, float]
    psnr: dict[str, float]


class Occluders:
    """The cut-outs of test-v2's categories; a category is drawn first, so that many pictures of one count once.

    Args:
        folder: as recipes/tiny/collect_cutouts.py writes it.
        own: take what the folder has of the categories, for a trial; else exactly the cut-outs of test-v2.

    Raises:
        InputError: if the folder cannot be used or lacks some of them.
    """

    def __init__(self, folder: Path, *, own: bool = False) -> None:
        self.folder = folder
        found = [cutout for cutout in read_index(folder)[0] if split_of(cutout.category) == "test-v2"]
        if not own:
            missing = frozen.missing_sources(folder)
            if missing:
                raise InputError(
                    f"{folder}: lacks {len(missing)} of test-v2's cut-outs, such as {missing[0]}; collect all packages "
                    "(recipes/tiny/README.md), or give --own-cutouts for a trial"
                )
            known = set(frozen.frozen_split().cutouts)
            found = [cutout for cutout in found if (cutout.source, cutout.name, cutout.sha256) in known]
        self.by_category: dict[str, list[Cutout]] = {}
        for cutout in sorted(found, key=lambda cutout: (cutout.source, cutout.name)):
            self.by_category.setdefault(cutout.category, []).append(cutout)
        if not found:
            raise InputError(f"{folder}: no cut-out of test-v2's categories; collect more packages")

    def draw(self, rng: Rng) -> tuple[Cutout, list[UInt8Array]]:
        """One cut-out and its pictures, uint8 ``[128, 128, 4]`` each."""
        cutout = rng.choice(self.by_category[rng.choice(sorted(self.by_category))])
        return cutout, read_pictures(self.folder, cutout)


def paste_occluder(rgb: UInt8Array, mask: BoolArray, occluders: Occluders, seed: int) -> Pasted:
    """Draw occluders and paths until one covers the object as `COVERED` says.

    Args:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        mask: visible mask, bool ``[F, H, W]``; not empty in every frame.
        occluders: to draw from.
        seed: of the generator.

    Raises:
        InputError: if none of ten thousand does.
    """
    rng = Rng(_STREAM, seed)
    there = mask.any(axis=(1, 2))
    area = mask.sum(axis=(1, 2))[there]
    for drawn in range(1, _MOST_DRAWN + 1):
        cutout, pictures = occluders.draw(rng)
        layer = _layer(pictures, mask, rng)
        paste = layer[..., 3] >= 128
        covered = float(((paste & mask).sum(axis=(1, 2))[there] / area).mean())
        if COVERED[0] <= covered <= COVERED[1]:
            alpha = layer[..., 3:].astype(np.float32) / 255
            blended = np.rint(layer[..., :3] * alpha + rgb * (1 - alpha)).astype(np.uint8)
            return Pasted(blended, paste, f"{cutout.source}: {cutout.name}", covered, drawn, seed)
    raise InputError(f"seed {seed}: none of {_MOST_DRAWN} occluders covers 25 to 60 % of the mask")


def _layer(pictures: list[UInt8Array], mask: BoolArray, rng: Rng) -> UInt8Array:
    """An occluder on its way over the object, uint8 ``[F, H, W, 4]``.

    It is 0.5 to 1.4 times as large as the object's largest extent, meets the object in a random frame, and moves by up
    to 1.5 extents a clip; three of ten go with the object beside that.
    """
    frames, height, width = mask.shape
    boxes = {frame: _box(mask[frame]) for frame in range(frames) if mask[frame].any()}
    extent = max(max(bottom - top, right - left) for top, bottom, left, right in boxes.values())
    size = extent * rng.uniform(0.5, 1.4)
    met = rng.choice(sorted(boxes))
    offset = extent * rng.array(2, -0.3, 0.3)
    speed = extent * rng.array(2, -1.5, 1.5) * np.array([0.3, 1.0])  # rows, columns
    follows, mirrored, phase = rng.chance(0.3), rng.chance(0.5), rng.uniform(0.0, 1.0)
    centers = _centers(boxes, frames)
    side = max(1, round(size * SIDE / CONTENT))
    scaled = [_scaled(picture, side, mirrored=mirrored) for picture in pictures]
    layer = np.zeros((frames, height, width, 4), np.uint8)
    for frame in range(frames):
        place = centers[met] + offset + speed * (frame - met) / max(1, frames - 1)
        if follows:
            place = place + centers[frame] - centers[met]
        top, left = np.rint(place - side / 2).astype(int)
        picture = scaled[int((phase + frame / 12) * len(scaled)) % len(scaled)]
        rows, columns = slice(max(0, top), min(height, top + side)), slice(max(0, left), min(width, left + side))
        if rows.start < rows.stop and columns.start < columns.stop:
            part = picture[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            layer[frame, rows, columns] = part
    return layer


def _box(mask: BoolArray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _centers(boxes: dict[int, tuple[int, int, int, int]], frames: int) -> np.ndarray:
    """Row and column of the boxes' centers, between frames where the object is not visible; ``[F, 2]``."""
    known = sorted(boxes)
    places = np.array([[(boxes[k][0] + boxes[k][1]) / 2, (boxes[k][2] + boxes[k][3]) / 2] for k in known])
    return np.stack([np.interp(np.arange(frames), known, places[:, axis]) for axis in range(2)], axis=1)


def _scaled(picture: UInt8Array, side: int, *, mirrored: bool) -> UInt8Array:
    if mirrored:
        picture = picture[:, ::-1]
    channels = (Image.fromarray(np.ascontiguousarray(picture[..., k])) for k in range(4))  # colors are not weighted
    return np.stack([np.asarray(c.resize((side, side), Image.Resampling.BICUBIC)) for c in channels], axis=-1)


def hidden_iou(predicted: BoolArray, mask: BoolArray, paste: BoolArray) -> float:
    """IoU of hidden parts as the page's head says, all bool ``[F, H, W]``."""
    hidden, found = mask & paste, predicted & paste
    some = hidden.any(axis=(1, 2))
    overlap, union = (found & hidden).sum(axis=(1, 2))[some], (found | hidden).sum(axis=(1, 2))[some]
    return float((overlap / union).mean())


def score(
    completer: AmodalCompleter, pasted: Pasted, mask: BoolArray, original: UInt8Array, fps: float
) -> dict[str, dict[str, float]]:
    """Figures of all methods on one pasted clip: ``iou``, ``invented`` and ``psnr`` by method.

    Args:
        completer: the model, both stages.
        pasted: the clip with its occluder.
        mask: visible mask of the clip as it was, bool ``[F, H, W]``.
        original: frames as they were, uint8 ``[F, H, W, 3]``.
        fps: of the clip.
    """
    clip = VideoClip(pasted.rgb, mask & ~pasted.paste, fps)
    result = completer(clip, seed=pasted.seed)
    masks = {
        "hull": HullSegmenter()(clip).mask,
        "temporal": TemporalSegmenter()(clip).mask,
        "model": result.amodal_mask,
    }
    ways = {
        "network alone": completer.config(seam_blending=False, color_propagation=False),
        "with seam blending": completer.config(color_propagation=False),
        "and color propagation": completer.config(),
    }
    colors = {
        "mean color": fill_with_mean_color(clip.rgb, clip.modal_mask),
        "best seen": copy_best_seen(clip, mask, None),
        **{name: completer(clip, way, amodal_mask=mask, seed=pasted.seed).amodal_rgb for name, way in ways.items()},
    }
    hidden = mask & pasted.paste
    return {
        "iou": {name: hidden_iou(found, mask, pasted.paste) for name, found in masks.items()},
        "invented": {name: float((found & ~mask).sum() / mask.sum()) for name, found in masks.items()},
        "psnr": {name: psnr(painted, original, hidden) for name, painted in colors.items()},
    }


def folders_of(clips: Path) -> list[Path]:
    """Folders of the real clips, in order of their names."""
    folders = sorted(path.parent for path in clips.glob("*/clip.mp4"))
    if not folders:
        raise InputError(f"{clips}: expected folders with clip.mp4 and masks, got none")
    return folders


def read_real(folder: Path) -> tuple[UInt8Array, BoolArray, float]:
    """Frames, visible masks of the object, and frames a second."""
    frames, fps = read_clip(folder / "clip.mp4")
    (track,) = read_masks(folder / "masks").values()
    return frames, np.stack(list(track)), fps


def rows_of(clips: Path, occluders: Occluders, completer: AmodalCompleter, seeds: int) -> Iterator[Row]:
    """Figures of each clip and seed, in order."""
    for folder in folders_of(clips):
        original, mask, fps = read_real(folder)
        for seed in range(seeds):
            pasted = paste_occluder(original, mask, occluders, seed)
            figures = score(completer, pasted, mask, original, fps)
            yield Row(folder.name, seed, pasted.occluder, pasted.covered, pasted.drawn, **figures)


def holes_filled(clips: Path, completer: AmodalCompleter) -> Iterator[str]:
    """Lines with the share of the holes that each method fills: least, mean and largest over the frames with holes."""
    for folder in folders_of(clips):
        frames, visible, fps = read_real(folder)
        holes = np.stack([enclosed(mask) for mask in visible])
        has = holes.any(axis=(1, 2))
        clip = VideoClip(frames, visible, fps)
        masks = {"temporal": TemporalSegmenter()(clip).mask, "model": completer(clip).amodal_mask}
        for name, found in masks.items():
            share = (found & holes)[has].sum(axis=(1, 2)) / holes[has].sum(axis=(1, 2))
            figures = f"{share.min():.2f} to {share.max():.2f}, mean {share.mean():.3f}" if has.any() else "no holes"
            yield f"{folder.name}, holes filled by {name}: {figures}, {int(has.sum())} frames"


def enclosed(mask: BoolArray) -> BoolArray:
    """What a mask ``[H, W]`` encloses, without what is smaller than `SMALLEST_HOLE`."""
    labels, _ = ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)
    large = np.bincount(labels.ravel()) >= SMALLEST_HOLE
    large[0] = False
    return large[labels]


def verdicts(rows: list[Row]) -> list[str]:
    """What the two bars say, with PASS or FAIL."""
    mean = {name: float(np.mean([row.iou[name] for row in rows])) for name in rows[0].iou}
    ours, better = mean["model"], max(mean["hull"], mean["temporal"])
    wins = sum(row.iou["model"] > max(row.iou["hull"], row.iou["temporal"]) for row in rows)
    wanted = math.ceil(WINS / 12 * len(rows))
    return [
        f"{_passed(ours > better)}: mean IoU of hidden parts {ours:.3f}, better baseline {better:.3f}",
        f"{_passed(wins >= wanted)}: above the better of the two on {wins} of {len(rows)} clips, {wanted} wanted",
    ]


def _passed(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def table(rows: list[Row]) -> str:
    """All figures as Markdown: IoU of hidden parts with the invented area, then PSNR; the last row is the mean."""
    masks, colors = list(rows[0].iou), list(rows[0].psnr)
    lines = [
        "| " + " | ".join(["clip", "covered", "drawn", *masks, *(f"{name}, dB" for name in colors)]) + " |",
        "| --- " * (3 + len(masks) + len(colors)) + "|",
    ]
    for row in rows:
        cells = [f"{row.clip} {row.seed}, {row.occluder}", f"{row.covered:.2f}", str(row.drawn)]
        cells += [f"{row.iou[name]:.3f} ({row.invented[name]:.3f})" for name in masks]
        lines.append("| " + " | ".join([*cells, *(f"{row.psnr[name]:.1f}" for name in colors)]) + " |")
    means = [f"{np.mean([r.iou[n] for r in rows]):.3f} ({np.mean([r.invented[n] for r in rows]):.3f})" for n in masks]
    means += [f"{np.mean([row.psnr[name] for row in rows]):.1f}" for name in colors]
    return "\n".join([*lines, "| " + " | ".join(["mean", "", "", *means]) + " |"])


def main() -> None:
    """Score all clips, print the table and the verdicts, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("AMODAL_SHARED")
    parser.add_argument("--clips", type=Path, default=Path(shared) / "clips" if shared else None)
    parser.add_argument("--cutouts", type=Path, required=True, help="cut-outs, see recipes/tiny/README.md")
    parser.add_argument("--own-cutouts", action="store_true", help="for a trial: whatever cut-outs the folder has")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each clip, from 0")
    parser.add_argument("--out", type=Path, help="JSON file with all figures")
    given = parser.parse_args()
    if given.clips is None:
        parser.error("expected --clips FOLDER, as AMODAL_SHARED is not set")
    occluders = Occluders(given.cutouts, own=given.own_cutouts)
    completer = AmodalCompleter.from_pretrained(given.model)
    rows = list(rows_of(given.clips, occluders, completer, given.seeds))
    print(table(rows))
    holes = list(holes_filled(given.clips, completer))
    print("\n".join([*verdicts(rows), *holes]))
    if given.out is not None:
        kept = {
            "model": given.model,
            "own_cutouts": given.own_cutouts,
            "rows": [asdict(row) for row in rows],
            "verdicts": verdicts(rows),
            "holes": holes,
        }
        given.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
