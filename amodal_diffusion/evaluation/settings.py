"""Settings of the commands `evaluate` and `score`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

PROGRAM = "amodal-diffusion"
_NOT_REPEATED = ("out", "overwrite", "quiet")  # fields that change no result


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """One evaluation.

    Attributes:
        benchmark: scenes (generated), sailvos, tao-amodal, movi, fishbowl, coco-amodal, or folder (own clips).
        data: file or folder of the benchmark; None for scenes.
        images: root of the frames; None if they lie beside the data.
        depth: root of depth pictures, nearer is larger.
        depth_model: folder or hub id of a Depth Anything model, which estimates missing depth.
        index_folder: folder of the index of an annotation file; None for the annotation file's folder.
        split: split of scenes: test-v1, validation or train.
        methods: names of baselines and models, separated by commas; ``MODEL@depth`` is given depth.
        top_k: number of predictions of each model.
        out: folder of the results.
        limit: score the first so many tracks; None for all.
        stages: ``masks``, or ``all`` to score painted content as well.
        lpips: safetensors file with the weights of AlexNet and LPIPS.
        video_features: folder of a VideoMAE model, for a Frechet video distance.
        on_bad_track: ``stop`` at a track that cannot be read or completed, or ``skip`` it.
        export: formats in which predicted masks are written: coco, youtube-vis, davis, separated by commas.
        conditioning: ``released`` repeats the reference's inference.
        preset: name of the sampling settings; None for the default.
        steps: denoising steps; None for the preset's.
        guidance: guidance scale; None for the preset's.
        solver: scheduler; None for the preset's.
        device: auto, or torch's name of a device.
        dtype: auto, float32, float16 or bfloat16.
        threads: threads of each process; results may depend on their number.
        overwrite: replace earlier results of this program in `out`.
        quiet: show no progress bar.
    """

    benchmark: str = "scenes"
    data: Path | None = None
    images: Path | None = None
    depth: Path | None = None
    depth_model: str | None = None
    index_folder: Path | None = None
    split: str | None = None
    methods: str = "modal,hull,hull-nearer,tiny,tiny@depth"
    top_k: int = 1
    out: Path
    limit: int | None = None
    stages: Literal["masks", "all"] = "masks"
    lpips: Path | None = None
    video_features: Path | None = None
    on_bad_track: Literal["stop", "skip"] = "stop"
    export: str = ""
    conditioning: Literal["corrected", "released"] = "corrected"
    preset: Literal["fast", "default", "paper"] | None = None
    steps: int | None = None
    guidance: float | None = None
    solver: Literal["euler", "heun", "dpmpp"] | None = None
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    overwrite: bool = False
    quiet: bool = False

    @property
    def method_names(self) -> list[str]:
        """Names of the methods, in order."""
        return [name.strip() for name in self.methods.split(",") if name.strip()]

    @property
    def command(self) -> str:
        """The command that repeats the evaluation in another folder."""
        words = [PROGRAM, "evaluate"]
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name not in _NOT_REPEATED and value not in (None, ""):
                words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join([*words, "--out", "DIR"])


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """The prediction files of one method, and what they are scored against.

    Attributes:
        predictions: JSON files: masks or boxes by key as published, or a result list; several are samples.
        annotations: JSON list of tracks in the layout of SAIL-VOS sequences or of TAO-Amodal.
        out: folder of the scores.
        export: formats in which the masks of the first file are written: coco, youtube-vis, davis, separated by commas.
        track_ids: TAO-Amodal: JSON with the first track of each video, if predictions count a video's tracks from 1.
        skip_missing: leave out tracks without a prediction, instead of refusing the files.
        overwrite: replace earlier results of this program in `out`.
        quiet: show no progress bar.
    """

    predictions: list[Path]
    annotations: Path
    out: Path
    export: str = ""
    track_ids: Path | None = None
    skip_missing: bool = False
    overwrite: bool = False
    quiet: bool = False
