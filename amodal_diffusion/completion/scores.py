"""Scores of stage 1 that an earlier run kept: `complete --from-scores` cuts masks from them without the network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.canvas import Canvas
from amodal_diffusion.completion.layout import SCORES, SUMMARY, record_path, score_path
from amodal_diffusion.config import BeyondPaper, SamplingConfig
from amodal_diffusion.io.images import read_integers
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.pipelines.methods import DIFFUSION
from amodal_diffusion.types import FloatArray

_TOP = 65535  # of a picture of 16 bits


@dataclass(frozen=True)
class KeptScores:
    """A finished result folder with scores.

    Attributes:
        folder: the folder.
        summary: content of its ``summary.json``.
        sampling: how stage 1 was sampled.
    """

    folder: Path
    summary: Mapping[str, Any]
    sampling: SamplingConfig

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read what a result says of itself.

        Args:
            folder: result folder of a run with ``--formats scores``.

        Raises:
            InputError: if it is no such folder.
        """
        try:
            summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
            method = summary.get("method", DIFFUSION)
            if method != DIFFUSION:
                raise InputError(
                    f"--from-scores: {folder}: made with {method}; masks are cut anew from scores of diffusion alone; "
                    "leave it out"
                )
            values = summary["sampling"]["amodal_segmentation"]
            sampling = SamplingConfig(**{**values, "beyond": BeyondPaper(**values["beyond"])})
            kept = cls(folder, summary, sampling)
            _ = kept._facts(), summary["objects"]
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"--from-scores: {folder}: no result with stage 1 that this version of `complete` wrote ({SUMMARY}: "
                f"{type(error).__name__}); give the folder that --out named"
            ) from error
        if not any((folder / "objects").glob(f"*/{SCORES}/*.png")):
            raise InputError(f"--from-scores: {folder}: holds no scores; make it again with --formats scores")
        return kept

    def check(self, tracks: Sequence[MaskTrack], canvas: Canvas, cuts: Sequence[int]) -> None:
        """Refuse inputs for which masks that are cut from the scores would be wrong.

        Args:
            tracks: modal masks of the objects, at the frame's size.
            canvas: the frame with its margins.
            cuts: first frames of new shots.

        Raises:
            InputError: if the scores are of another clip, other shots, other objects or other masks.
        """
        frames, size, shots = self._facts()
        wanted = (tracks[0].num_frames, (canvas.height, canvas.width))
        if wanted != (frames, size):
            raise InputError(
                f"--from-scores: {self.folder}: scores of {frames} frames of {size[0]}x{size[1]} pixels, the clip has "
                f"{wanted[0]} of {canvas.height}x{canvas.width}, margins included; give the clip and --margin of that "
                "run"
            )
        if shots != tuple(cuts):
            there, here = (", ".join(map(str, found)) or "none" for found in (shots, cuts))
            raise InputError(f"--from-scores: {self.folder}: made with the cuts {there}, here are {here}; see --cuts")
        for track in tracks:
            self._check_object(track)

    def _check_object(self, track: MaskTrack) -> None:
        objects: Mapping[str, Any] = self.summary["objects"]
        if track.name not in objects:
            raise InputError(
                f"--from-scores: {self.folder}: no scores of object {track.name}; there are {', '.join(objects)}"
            )
        if objects[track.name].get("visible_area") != list(track.areas):
            raise InputError(
                f"--from-scores: {self.folder}: object {track.name} had other masks of its visible part; give those of "
                f"that run, see {record_path(track)}"
            )
        for index in range(track.num_frames):
            if not (self.folder / score_path(track, index)).is_file():
                raise InputError(
                    f"--from-scores: {self.folder}: holds no score of object {track.name} in frame {index}; make it "
                    "again with --formats scores"
                )

    def check_depth(self, source: str, depth_model: str | None) -> None:
        """Refuse another depth than that of the earlier run, with which mask filters and order would differ.

        Args:
            source: value of ``--depth``.
            depth_model: value of ``--depth-model``.

        Raises:
            InputError: if it is another kind of depth.
        """
        kind = str(self.summary.get("depth"))
        fits = {
            "none": source in ("auto", "none") and depth_model is None,
            "given": source not in ("auto", "none"),
            "estimated": source == "auto" and depth_model in (None, self.depth_model),
        }
        if not fits.get(kind, False):
            found = source if depth_model is None else f"{source} with --depth-model {depth_model}"
            raise InputError(f"--depth: the depth of {self.folder} was {kind}, got {found}; give the depth of that run")

    @property
    def depth_model(self) -> str | None:
        """The network that estimated the depth of the earlier run."""
        name: str | None = self.summary.get("depth_model")
        return name

    @property
    def origin(self) -> dict[str, Any]:
        """What the summary says of the networks and the seed, which holds for masks that are cut anew."""
        return {name: self.summary.get(name) for name in ("model", "method", "seed", "preset", "device", "dtype")}

    def of(self, track: MaskTrack) -> Iterator[FloatArray]:
        """Read the scores of an object, float32 ``[h, w]`` in [0, 1] for each frame.

        Args:
            track: modal masks of the object.

        Raises:
            InputError: if a file is missing, damaged or of another size.
        """
        from amodal_diffusion.pipelines.postprocessing import score_of_levels

        size = self.sampling.height, self.sampling.width
        for index in range(track.num_frames):
            path = self.folder / score_path(track, index)
            picture = read_integers(path)
            if picture.top != _TOP or picture.values.shape != size:
                height, width = picture.values.shape
                raise InputError(
                    f"{path}: expected a score of 16 bits and {size[1]}x{size[0]} pixels, got {width}x{height} with "
                    f"values up to {picture.top}; make the scores again with --formats scores"
                )
            yield score_of_levels(picture.values)

    def _facts(self) -> tuple[int, tuple[int, int], tuple[int, ...]]:
        """Number of frames, height and width of the canvas, and cuts of the earlier run."""
        canvas, cuts = self.summary["canvas"], self.summary["cuts"]
        return int(self.summary["clip"]["frames"]), (int(canvas["height"]), int(canvas["width"])), tuple(cuts)
