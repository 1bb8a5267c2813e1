"""The commands that are disturbed, at a size at which one takes a second or two, and what counts as their result."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder

from amodal_diffusion.app.actions import Actions
from amodal_diffusion.app.completer import Choices, PageCompleter
from amodal_diffusion.app.materials import Limits
from amodal_diffusion.app.sessions import Sessions
from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.cli import main as amodal_diffusion
from amodal_diffusion.completion.request import ModelChoice
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_reader import read_clip
from amodal_diffusion.io.video_writer import VideoLayout, VideoWriter
from amodal_diffusion.parsing import save_settings
from amodal_diffusion.training.data_settings import DataSettings, OccluderSettings
from amodal_diffusion.training.precompute import precompute_main
from amodal_diffusion.training.settings import (
    ImageEncoderSettings,
    ModelSettings,
    OptimizerSettings,
    TrainingSettings,
    UNetSettings,
    ValidationSettings,
)
from amodal_diffusion.training.setup import train_main

HEIGHT, WIDTH, FRAMES = 32, 64, 6
CLIP = "scenes/train-000000"
NOT_COMPARED = (
    "seconds", "created", "started", "finished", "time", "libraries", "peak_memory", "clip", "masks", "driver",
)  # fmt: skip
"""Parts of keys of JSON files that tell when and from where, not what came of it."""


@dataclass(frozen=True)
class Command:
    """A command that is disturbed.

    Attributes:
        name: as the table shows it.
        run: runs it in the current folder, which holds the inputs; returns its exit status.
        result: files and folders that are its result.
        inputs: patterns of the files that it reads.
        masks: pattern of the files that are masks or name masks.
        overwrites: whether the command replaces an earlier result.
        entries: whether the result is made of parts that appear one by one, each whole.
    """

    name: str
    run: Callable[[int], int]
    result: tuple[str, ...]
    inputs: tuple[str, ...]
    masks: str
    overwrites: bool = False
    entries: bool = False


def make_inputs(folder: Path) -> None:
    """Write clips, masks, depth, annotations, settings and networks with random weights, into an empty folder.

    Runs in a process of its own: it trains.
    """
    scenes = ["scenes", "scenes", "--count", "2", "--frames", str(FRAMES), "--height", str(HEIGHT), "--width",
              str(WIDTH), "--masks", "-q"]  # fmt: skip
    _run(amodal_diffusion(scenes))
    _run(amodal_diffusion(["prepare", "scenes", "--frames", "4", "--out", "own"]))
    torch.manual_seed(0)
    AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=0.5,
    ).save_pretrained("vae")
    save_settings(_training("amodal_segmentation"), folder / "stage1.yaml")
    save_settings(_training("content_completion"), folder / "stage2.yaml")
    for stage in ("amodal_segmentation", "content_completion"):
        number = 1 if stage == "amodal_segmentation" else 2
        command = ["--config", f"stage{number}.yaml", "--output", f"models/run{number}", "--steps", "1"]
        _run(train_main(command, stage=stage))  # type: ignore[arg-type]  # one of the two stages
        shutil.move(f"models/run{number}/model", f"models/stage{number}")
        shutil.rmtree(f"models/run{number}")
    frames, fps = read_clip("scenes/train-000001/images")
    layout = VideoLayout(HEIGHT, WIDTH, Timing.steady(len(frames), fps))
    (folder / "lists").mkdir()
    with VideoWriter(folder / "lists/clip.mp4", "mp4", layout) as video:
        for frame in frames:
            video.write(frame)
    entries = [
        {"clip": f"../{CLIP}/images", "masks": f"../{CLIP}/modal", "name": "pictures"},
        {"clip": "clip.mp4", "masks": "../scenes/train-000001/modal", "name": "video"},
    ]
    (folder / "lists/clips.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def _training(stage: str) -> TrainingSettings:
    occluders = OccluderSettings(annotations=Path("own/annotations.json"))
    painting = stage == "content_completion"
    return TrainingSettings(
        stage=stage,  # type: ignore[arg-type]  # one of the two stages
        output=Path("run"),
        steps=4,
        batch_size=1,
        checkpoint_every=1,
        keep_checkpoints=1,
        log_every=1,
        tracker="none",
        cpu=True,
        model=ModelSettings(
            unet=UNetSettings((32,), (0,), 1, 1, (1,), 16, 8),
            new_image_encoder=ImageEncoderSettings(32, 16, 16, 1, 2),
            vae=Path("vae"),
            trainable="all",
        ),
        data=DataSettings(
            annotations=Path("own/complete_objects.json" if painting else "own/annotations.json"),
            images=Path("scenes"),
            frames=4,
            height=16,
            width=32,
            **({"occluders": occluders} if painting else {}),
        ),
        optimizer=OptimizerSettings(learning_rate=1e-3),
        validation=ValidationSettings(every=0),
        sampling=SamplingConfig(
            num_inference_steps=1, guidance_scale=1.0, height=16, width=32, num_frames=4, mask_threshold=0.5
        ),
    )


def _run(status: int) -> None:
    if status:
        raise SystemExit(status)


def _complete(seed: int) -> int:
    return amodal_diffusion(
        ["complete", f"{CLIP}/images", "--masks", f"{CLIP}/modal", "--depth", f"{CLIP}/depth", "--out", "out",
         "--model", "models/stage1", "--content-model", "models/stage2", "--seed", str(seed), "--overwrite", "-q",
         "--device", "cpu"]
    )  # fmt: skip


def _batch(seed: int) -> int:
    return amodal_diffusion(
        ["batch", "--input", "lists/clips.jsonl", "--out", "out", "--model", "models/stage1", "--stages", "masks",
         "--seed", str(seed), "-q", "--device", "cpu"]
    )  # fmt: skip


def _train(_: int) -> int:
    return train_main(["--config", "stage1.yaml"])


def _precompute(_: int) -> int:
    return precompute_main(["--config", "stage1.yaml", "--out", "cache"])


def _evaluate(seed: int) -> int:
    return amodal_diffusion(
        ["evaluate", "--benchmark", "folder", "--data", "scenes", "--methods", "modal,models/stage1", "--limit",
         str(4 + seed), "--out", "out", "--overwrite", "-q", "--device", "cpu"]
    )  # fmt: skip


def _page(seed: int) -> int:
    """A visitor uploads a clip and masks and completes them; the server's part, without the browser's."""
    folder = Path(f"visitor{os.getpid()}")
    folder.mkdir()
    sessions = Sessions(folder)
    try:
        completer = PageCompleter(ModelChoice(model="models/stage1", content_model="models/stage2", device="cpu"))
        actions = Actions(sessions, completer, Limits(megabytes=10, frames=40))
        session = sessions.get("visitor", "page")
        actions.load_clip(session, sorted(Path(f"{CLIP}/images").iterdir()))
        first = sorted(Path(f"{CLIP}/modal").iterdir())[0]
        actions.load_masks(session, sorted(first.iterdir()))
        actions.complete(session, lambda _: None, Choices(seed=seed))
        (found,) = {path.parent for path in folder.rglob("results/summary.json")}
        if not Path("shown").exists():
            found.rename("shown")
    except (InputError, OSError) as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


_PICTURES = (f"{CLIP}/images/*", f"{CLIP}/modal/*/*")
_MODELS = ("models/*/*/*", "models/*/*.json")
_DATA = ("own/*.json", "scenes/*/images/*", "vae/*", "stage1.yaml")
COMMANDS = (
    Command("complete", _complete, ("out",), (*_PICTURES, f"{CLIP}/depth/*", *_MODELS), f"{CLIP}/modal/*/*", True),
    Command("batch", _batch, ("out",), ("lists/*", *_PICTURES, "models/stage1/*/*"), f"{CLIP}/modal/*/*", entries=True),
    Command("train", _train, ("run/model",), _DATA, "own/annotations.json"),
    Command("precompute", _precompute, ("cache",), _DATA, "own/annotations.json", entries=True),
    Command("evaluate", _evaluate, ("out",), ("scenes/*/*/*/*", "scenes/*/images/*", "models/stage1/*/*"),
            "scenes/*/amodal/*/*", True),
    Command("page", _page, ("shown",), (*_PICTURES, *_MODELS), f"{CLIP}/modal/*/*"),
)  # fmt: skip


def contents(folder: Path, parts: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a result by name; those that tell times are left out, or lose the times."""
    files = {}
    for part in parts:
        for path in sorted((folder / part).rglob("*")):
            name = str(path.relative_to(folder))
            unfinished = ".partial" in name or path.name == ".lock"
            if path.is_file() and not unfinished and path.name not in ("manifest.json", "evaluation.html"):
                files[name] = _without_times(path)
    return files


def _without_times(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix not in (".json", ".jsonl"):
        return data
    try:
        lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
        return json.dumps([_strip(json.loads(line)) for line in lines]).encode()
    except ValueError:
        return data


def _strip(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _strip(entry) for key, entry in value.items() if not any(word in key for word in NOT_COMPARED)}
    return [_strip(entry) for entry in value] if isinstance(value, list) else value
