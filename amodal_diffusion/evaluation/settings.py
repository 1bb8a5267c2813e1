"""Settings of the commands `evaluate` and `score`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from jsonargparse.typing import PositiveFloat, PositiveInt

from amodal_diffusion.config import Conditioning, Preset, Scheduler
from amodal_diffusion.options import Renamed, option

PROGRAM = "amodal-diffusion"
RENAMED: Renamed = {"--solver": "--scheduler"}
"""Options of version 0.1."""
_NOT_REPEATED = ("out", "overwrite", "quiet", "yes")  # fields that change no result


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Evaluation.

    Attributes:
        benchmark: scenes (generated), sailvos, tao-amodal, movi, fishbowl, coco-amodal, or folder (own clips)
        data: file or folder of the benchmark; of scenes, the folder of cut-outs for test-v2 and composites
        images: root of the frames, if not beside the data
        depth: root of depth pictures, nearer is larger
        depth_model: small or large (Depth Anything V2), folder or hub id: estimates the depth of tracks that have none
        index_folder: folder of the index of an annotation file, if not beside it
        track_ids: TAO-Amodal: first track of each video, where the prediction file is to number the tracks of a video
            from 1
        split: of scenes: test-v1, validation or train; of cut-outs: test-v2, composites-validation or composites-train
        methods: baselines (modal, hull, temporal, temporal-hull, and with -nearer all but the first), and models: tiny,
            c2f-seg, s-amodal and sameo, which are bundled, folders and hub ids, with commas; MODEL@depth is given the
            depth
        top_k: predictions of each model: their mean, the best of them, and how well they are calibrated
        out: folder of the results
        limit: score the first N tracks only
        stages: all: score painted content as well
        lpips: safetensors of AlexNet's and LPIPS's weights: score painted content by LPIPS as well
        video_features: VideoMAE model: score painted content by a Frechet video distance as well
        on_bad_track: at a track that cannot be read or completed; skip leaves it out of every mean and says so
        export: write the predicted masks as well: coco, youtube-vis, davis, with commas
        preset: how models are sampled: fast, default (as the checkpoint says) or paper
        steps: denoising steps
        guidance: weight of classifier-free guidance
        scheduler: Euler's method, Heun's (two network passes a step), or DPM-Solver++
        conditioning: released: repeat the reference's inference, for the paper's numbers from the published checkpoints
        vae: light autoencoder (AutoencoderTiny) of methods that end in +vae, such as tiny+vae@depth
        device: auto, cpu, cuda, mps
        dtype: auto, float32, float16, bfloat16
        threads: of a process; results may depend on it
        overwrite: replace earlier results of this program in DIR
        quiet: no progress bar
        yes: download what is not in the local cache without asking
    """

    benchmark: str = option("scenes", metavar="NAME")
    data: Path | None = option(None, metavar="PATH")
    images: Path | None = option(None, metavar="DIR")
    depth: Path | None = option(None, metavar="DIR")
    depth_model: str | None = option(None, metavar="NAME")
    index_folder: Path | None = option(None, metavar="DIR")
    track_ids: Path | None = option(None, metavar="JSON")
    split: str | None = option(None, metavar="NAME")
    methods: str = option("modal,hull,hull-nearer,tiny,tiny@depth", metavar="LIST")
    top_k: PositiveInt = option(1, metavar="K")
    out: Path = option(metavar="DIR")
    limit: PositiveInt | None = option(None, metavar="N")
    stages: Literal["masks", "all"] = option("masks", choices=("masks", "all"))
    lpips: Path | None = option(None, metavar="FILE")
    video_features: Path | None = option(None, metavar="FOLDER")
    on_bad_track: Literal["stop", "skip"] = option("stop", choices=("stop", "skip"))
    export: str = option("", metavar="FORMAT,...")
    preset: Preset | None = option(None, choices=get_args(Preset))
    steps: PositiveInt | None = option(None, metavar="N")
    guidance: PositiveFloat | None = option(None, metavar="G")
    scheduler: Scheduler | None = option(None, choices=get_args(Scheduler))
    conditioning: Conditioning | None = option(None, choices=get_args(Conditioning))
    vae: str | None = option(None, metavar="NAME")
    device: str = option("auto", metavar="NAME")
    dtype: str = option("auto", metavar="NAME")
    threads: PositiveInt = option(1, metavar="N")
    overwrite: bool = option(False)
    quiet: bool = option(False, short="-q")
    yes: bool = option(False)

    @property
    def changes(self) -> Mapping[str, Any]:
        """Arguments of :meth:`AmodalCompleter.config` beside the preset."""
        return {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "scheduler": self.scheduler,
            "conditioning": self.conditioning,
        }

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
    """Scoring.

    Attributes:
        predictions: JSON: masks or boxes by "(image_id, obj_id)" as published, or a result list of COCO or YouTube-VIS;
            several files are samples of one method
        annotations: JSON in the layout of SAIL-VOS sequences or TAO-Amodal; for result lists also of KINS, COCOA, COCO
            or YouTube-VIS
        out: folder for summary.json, tracks.jsonl and exports
        export: write the first file's masks as well, modal masks added: coco, youtube-vis, davis, with commas
        track_ids: TAO-Amodal: first track of each video, where predictions number the tracks of a video from 1
        skip_missing: leave out tracks without a prediction, and say which
        overwrite: replace earlier results of this program in OUT
        quiet: no progress bar
    """

    predictions: Sequence[Path] = option(metavar="PREDICTIONS", positional=True, several=True, read=Path)
    annotations: Path = option(metavar="JSON")
    out: Path = option(metavar="OUT")
    export: str = option("", metavar="FORMAT,...")
    track_ids: Path | None = option(None, metavar="JSON")
    skip_missing: bool = option(False)
    overwrite: bool = option(False)
    quiet: bool = option(False, short="-q")
