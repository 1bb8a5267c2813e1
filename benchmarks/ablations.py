"""What each choice of stage 1's training is worth at a fixed small budget: one setting changed a row, as Markdown.

A row trains the bundled model's network from random weights by the package's own training, on the same latents as the
others where its data are the same, then completes the first validation scenes without and with their depth, at each of
some numbers of Euler steps. Only the network is scored: no test-time augmentation, no mask filters, no temporal mask
prior in the scores. A row is printed when it is done and kept in `--out`, from which the same command goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from _once import Once

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.scenes import scene_track
from amodal_diffusion.metrics import score_track, summarise
from amodal_diffusion.models.hub import find_model
from amodal_diffusion.parsing import load_settings, parse_settings
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.training.precompute import PrecomputeSettings, precompute
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.training.setup import train

SPLIT = "validation"
CONFIG = Path(__file__).resolve().parents[1] / "recipes/tiny/amodal_segmentation.yaml"
TINY = find_model("tiny")


@dataclass(frozen=True)
class Row:
    """One change.

    Attributes:
        training: settings by dotted name.
        sampling: fields of the sampling settings.
        weights: of this row, where the row changes how these are sampled alone.
    """

    training: Mapping[str, object] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None


ROWS = {
    "base": Row(),
    "ln sigma 0.7 ± 1.6, the paper's": Row({"noise.sigma_log_mean": 0.7, "noise.sigma_log_std": 1.6}),
    "ln sigma 2.0 ± 1.0": Row({"noise.sigma_log_mean": 2.0}),
    "ln sigma 3.5 ± 1.0": Row({"noise.sigma_log_mean": 3.5}),
    "depth in all clips": Row({"data.depthless_share": 0.0}),
    "depth in no clip": Row({"data.depthless_share": 1.0}),
    "widths 32, 32, 64": Row(
        {"model.unet.block_out_channels": (32, 32, 64), "model.unet.num_attention_heads": (1, 1, 2)}
    ),
    "widths 64, 96, 128": Row(
        {"model.unet.block_out_channels": (64, 96, 128), "model.unet.num_attention_heads": (2, 3, 4)}
    ),
    "stage 2's autoencoder": Row({"model.vae": TINY / "content_completion" / "vae"}),
    "conditions dropped, 0.1": Row({"conditioning_dropout": 0.1}),
    "conditions dropped, 0.1, guidance 1.5": Row({}, {"guidance_scale": 1.5}, "conditions dropped, 0.1"),
    "no pixel loss": Row({"pixel_weight": 0.0}),
    "no temporal mask prior": Row(
        {"sampling.beyond.temporal_prior": False, "sampling.beyond.mask_propagation": False}
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The budget.

    Attributes:
        out: folder for latents, weights and rows.
        steps: of training.
        batch_size: clips of 8 frames of 96x96 a step.
        clips: different ones; half are played backwards each time.
        scenes: the first of the validation split, 16 frames each.
        sampling_steps: numbers of Euler steps.
        rows: their names; all when empty.
    """

    out: Path = Path("runs/ablations")
    steps: int = 200
    batch_size: int = 4
    clips: int = 384
    scenes: int = 16
    sampling_steps: tuple[int, ...] = (1,)
    rows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the rows.

        Raises:
            InputError: if there is none of a name.
        """
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown:
            raise InputError(f"rows: expected some of {'; '.join(ROWS)}, got {'; '.join(unknown)}")


def main(settings: Settings) -> None:
    """Train and score all rows, and print the table."""
    print(
        f"{settings.steps} steps of {settings.batch_size} clips, {settings.clips} different ones; mIoU_occ / mIoU on "
        f"{settings.scenes} scenes of split {SPLIT}\n"
    )
    columns = [
        f"{depth} depth, {steps} step{'s' * (steps > 1)}"
        for steps in settings.sampling_steps
        for depth in ("without", "with")
    ]
    print(f"| one change | {' | '.join(columns)} | training, s of a processor |\n|" + " --- |" * (len(columns) + 2))
    once = Once(encoding=False)
    for name in settings.rows or ROWS:
        found = _row(name, settings, once)
        cells = [f"{hidden:.3f} ± {error:.3f} / {whole:.3f}" for hidden, error, whole in found["scores"]]
        print(f"| {name} | {' | '.join(cells)} | {found['seconds']:.0f} |", flush=True)


def _row(name: str, settings: Settings, once: Once) -> dict[str, Any]:
    """What is kept of a row, or is found now."""
    row = ROWS[name]
    budget = {**asdict(settings), "out": None, "rows": None, "sampling_steps": list(settings.sampling_steps)}
    kept = settings.out / _folder(name) / "row.json"
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if found.get("budget") == budget:
        return found
    trained = row.weights or name
    model, seconds = _train(settings, trained)
    found = {"budget": budget, "seconds": seconds, "scores": _scores(model, row, settings, once)}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def _train(settings: Settings, name: str) -> tuple[Path, float]:
    """The folder of a row's model, and the seconds that training it took now: none if it is there."""
    changes = {
        **_budget(settings),
        **ROWS[name].training,
        "data.cache": settings.out / "latents",
        "output": settings.out / _folder(name) / f"{settings.steps}_steps",
    }
    precompute(load_settings(PrecomputeSettings, CONFIG, changes))
    started = time.process_time()
    result = train(load_settings(TrainingSettings, CONFIG, changes))
    if result.terminated or not result.finished:
        raise SystemExit("asked to end; the same command goes on")
    return result.model, time.process_time() - started


def _budget(settings: Settings) -> dict[str, object]:
    """What all rows change of the bundled model's last run: random weights, fewer and shorter clips, no validation."""
    return {
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "data.clips": settings.clips,
        "data.frames": 8,
        "model.base": None,
        "model.vae": TINY / "vae",
        "model.image_encoder": TINY / "image_encoder",
        "model.unet.block_out_channels": (32, 64, 96),
        "model.unet.attention_levels": (2,),
        "model.unet.layers_per_block": 1,
        "model.unet.num_attention_heads": (1, 2, 3),
        "model.unet.cross_attention_dim": 64,
        "model.unet.addition_time_embed_dim": 32,
        "optimizer.learning_rate": 1e-3,
        "optimizer.warmup_steps": settings.steps // 10,
        "validation.every": 0,
        "checkpoint_every": max(1, settings.steps // 3),
        "keep_checkpoints": 1,
        "tracker": "none",
        "cpu": True,
    }  # fmt: skip


def _scores(model: Path, row: Row, settings: Settings, once: Once) -> list[tuple[float, float, float]]:
    """mIoU_occ with its standard error, and mIoU, by number of steps without and with depth."""
    pipeline = AmodalSegmentationPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    plain = {"scheduler": "euler", "tta": 1, "mask_propagation": False, "mask_filters": ()}
    completer = AmodalCompleter(pipeline, None)
    scores = []
    for steps in settings.sampling_steps:
        config = completer.config(preset="default", **{**plain, **row.sampling, "num_inference_steps": steps})
        for with_depth in (False, True):
            tracks = []
            for seed in range(settings.scenes):
                track = scene_track(seed, SPLIT)
                with once.shared():
                    result = completer(track.clip, config, depth=track.depth if with_depth else None, seed=seed)
                tracks.append(score_track(result.amodal_mask, track.clip.modal_mask, track.amodal_mask))
            total = summarise(tracks)
            scores.append((total.miou_occ.value, total.miou_occ.standard_error, total.miou.value))
    return scores


def _folder(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "." else "_" for letter in name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parse_settings(Settings, sys.argv[1:], description="Ablations of stage 1's training."))
