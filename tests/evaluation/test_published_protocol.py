"""SAIL-VOS and TAO-Amodal as the published evaluation has them, and the prediction files that it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from amodal_diffusion.cli import main
from amodal_diffusion.evaluation import runner
from amodal_diffusion.evaluation.benchmarks.base import BoxTarget
from amodal_diffusion.evaluation.benchmarks.tao_amodal import open_tao_amodal
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.types import BoolArray
from tests.evaluation import samples
from tests.factories import SAMPLING, tiny_components

SIZE = (16, 32)
PAPER = ("--preset", "paper", "--steps", "1", "--device", "cpu", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 1 with the geometry of the released checkpoints, small."""
    components = tiny_components()
    with torch.no_grad():  # else nothing is above the published threshold
        components.vae.decoder.time_conv_out.weight.mul_(6)
    sampling = SAMPLING.changed({"height": SIZE[0], "width": SIZE[1], "fit": "stretch"})
    folder = tmp_path_factory.mktemp("model")
    save_model([replace(components, settings=replace(components.settings, sampling=sampling))], folder)
    return folder


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "draw_plots", lambda *_: {})


def evaluate(benchmark: str, data: Path, model: Path, out: Path, *options: str | Path) -> dict[str, Any]:
    given = ["--benchmark", benchmark, "--data", data, "--depth", data.parent / "depth", "--out", out]
    assert main(["evaluate", *map(str, [*given, "--methods", f"modal,{model}@depth", *options])]) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def score(predictions: Path, annotations: Path, out: Path, *options: str | Path) -> dict[str, Any]:
    words = ["score", predictions, "--annotations", annotations, "--out", out, "-q", *options]
    assert main([*map(str, words)]) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def predictions(out: Path) -> list[Path]:
    return sorted(out.glob("exports/*/predictions.json"))


def sampling_of(summary: dict[str, Any]) -> dict[str, Any]:
    (described,) = summary["settings"]["models"].values()
    found: dict[str, Any] = described["amodal_segmentation"]["sampling"]
    return found


def test_sailvos_is_resized_as_published_and_its_prediction_file_scores_the_same(model: Path, tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path / "data")
    summary = evaluate("sailvos", data, model, tmp_path / "out", *PAPER)
    sampling = sampling_of(summary)
    assert (sampling["resample"], sampling["conditioning"], sampling["fps"]) == ("cv2", "released", 8)
    files = predictions(tmp_path / "out")
    assert [file.parent.name[:2] for file in files] == ["0_", "1_"]
    for number, (file, method) in enumerate(zip(files, summary["methods"].values(), strict=True)):
        entries = json.loads(file.read_text())
        wanted = {f"({frame}, {item.track_id})" for item in samples.objects() for frame in range(samples.FRAMES)}
        assert entries.keys() == wanted
        (entry,) = {tuple(entry) for entry in entries.values()}
        assert entry == ("diffvas_res_rle",)
        again = score(file, data, tmp_path / f"score{number}")
        for protocol in ("strict", "released"):
            for measure in ("miou", "miou_occ"):
                mean = method[protocol][measure]
                assert again[protocol][measure] == (None if mean is None else pytest.approx(mean))


def resized(values: npt.NDArray[np.floating[Any]], size: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Bilinear, ``[F, *size]``."""
    for axis, target in ((1, size[0]), (2, size[1])):
        source = values.shape[axis]
        at = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if place == axis else 1 for place in range(3)])
        values = values.take(low, axis) * (1 - share) + values.take(np.minimum(low + 1, source - 1), axis) * share
    return values.astype(np.float64)


def boxes(masks: BoolArray) -> list[list[float]]:
    found = []
    for mask in masks:
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        found.append([columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]])
    return [[float(value) for value in box] for box in found]


def test_tao_amodal_is_sampled_cut_and_written_as_published(model: Path, tmp_path: Path) -> None:
    data, first = samples.write_tao(tmp_path / "data"), tmp_path / "first.json"
    first.write_text(json.dumps({7: samples.objects()[0].track_id}))
    summary = evaluate("tao-amodal", data, model, tmp_path / "out", *PAPER, "--track-ids", first)
    sampling = sampling_of(summary)
    assert (sampling["resample"], sampling["fps"], sampling["mask_threshold"]) == ("cv2", 2, pytest.approx(600 / 765))

    # The masks by hand: depth of 8 bits with margins of 255, levels scaled to the padded frame, then the threshold
    completer = AmodalCompleter.from_pretrained(model, stages=["amodal_segmentation"], device="cpu")
    config = completer.config(preset="paper", num_inference_steps=1, fps=2, resample="cv2")
    benchmark = open_tao_amodal(data, depth=data.parent / "depth")
    files = predictions(tmp_path / "out")
    entries = json.loads(files[1].read_text())
    written = json.loads((tmp_path / "out/results.json").read_text())["tracks"]
    down, right = samples.HEIGHT // 4, samples.WIDTH // 4
    near = samples.nearness()
    levels = np.rint((near - near.min()) / (near.max() - near.min()) * 255)
    depth = np.pad(levels, ((0, 0), (down, down), (right, right)), constant_values=255) / np.float32(255)
    shares = []
    for index, item in enumerate(samples.objects()):
        track = benchmark.track(index)
        assert isinstance(track, BoxTarget)
        result = completer(track.clip, config, depth=depth, seed=track.seed())
        assert result.score is not None
        sums = resized(np.rint(result.score * 765), depth.shape[1:])
        masks = (sums > 600.5) | track.clip.modal_mask
        kept = written[index]["methods"][f"{model}@depth"]["samples"][0]["masks"]
        found = np.stack([decode_rle(mask) for mask in kept])
        assert not ((found != masks) & (abs(sums - 600.5) > 1e-3)).any()
        shares.append((found & ~track.clip.modal_mask).mean())
        number = item.track_id - samples.objects()[0].track_id + 1
        for frame, (x, y, width, height) in enumerate(boxes(found)):
            key = f"(7, '{frame:05d}.png', '{number}')"
            assert entries.pop(key) == {"diffvas_res_bbox": [x - right, y - down, width, height]}
    assert not entries
    assert 0.01 < min(shares) <= max(shares) < 0.6

    for number, (file, method) in enumerate(
        zip(predictions(tmp_path / "out"), summary["methods"].values(), strict=True)
    ):
        again = score(file, data, tmp_path / f"score{number}", "--track-ids", first)
        assert again["boxes"]["miou"] == pytest.approx(method["boxes"]["miou"])


def test_models_with_corrected_conditioning_are_sampled_as_for_users(model: Path, tmp_path: Path) -> None:
    data = samples.write_tao(tmp_path / "data")
    summary = evaluate("tao-amodal", data, model, tmp_path / "out", "--device", "cpu", "-q", "--limit", "1")
    sampling = sampling_of(summary)
    assert (sampling["resample"], sampling["fps"], sampling["conditioning"]) == ("cv2", 8, "corrected")
    benchmark = open_tao_amodal(data, depth=data.parent / "depth")
    track = benchmark.track(0)
    completer = AmodalCompleter.from_pretrained(model, stages=["amodal_segmentation"], device="cpu")
    config = completer.config(resample="cv2")
    found = completer(track.clip, config, depth=track.depth, seed=track.seed()).amodal_mask
    entries = json.loads(predictions(tmp_path / "out")[1].read_text())
    x, y, width, height = boxes(found)[0]
    wanted = [x - samples.WIDTH // 4, y - samples.HEIGHT // 4, width, height]
    assert entries[f"(7, '00000.png', '{samples.objects()[0].track_id}')"] == {"diffvas_res_bbox": wanted}


def test_track_ids_are_for_tao_amodal_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = samples.write_sailvos(tmp_path / "data")
    words = ["--benchmark", "sailvos", "--data", str(data), "--methods", "modal", "--track-ids", str(data)]
    assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == 2
    assert capfd.readouterr().err.startswith("error: track_ids: expected none for the benchmark sailvos, got ")
