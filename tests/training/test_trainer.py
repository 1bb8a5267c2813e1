"""The loop: exact resume, accumulation, learning rate, time limit, what is trained and exported."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.training.settings import OptimizerSettings, TrainingSettings, ValidationSettings
from amodal_diffusion.training.trainer import learning_rate
from tests.training.conftest import MakeSettings, fit
from tests.training.states import assert_equal, checkpoint, state_of


def test_four_steps_equal_three_and_one_more(finished: TrainingSettings, tmp_path: Path) -> None:
    settings = replace(finished, output=tmp_path / "run")
    shutil.copytree(checkpoint(finished, 3), checkpoint(settings, 3))
    assert fit(settings).step == 4
    assert_equal(state_of(checkpoint(finished, 4)), state_of(checkpoint(settings, 4)))
    assert (checkpoint(settings, 4) / "random_states_0.pkl").is_file()


def test_the_time_limit_saves_exports_and_goes_on_exactly(finished: TrainingSettings, tmp_path: Path) -> None:
    limited = replace(finished, output=tmp_path / "run", max_minutes=1e-9)
    first = fit(limited)
    assert (first.step, first.finished) == (1, False)
    assert (first.model / "checkpoint.json").is_file()
    assert fit(replace(limited, max_minutes=0.0)).finished
    assert_equal(state_of(checkpoint(finished, 4)), state_of(checkpoint(limited, 4)))


def test_two_batches_of_one_equal_one_batch_of_two(finished: TrainingSettings, make_settings: MakeSettings) -> None:
    one = make_settings(steps=1, batch_size=2)
    fit(one)
    moments = [state_of(checkpoint(settings, 1))["moments"] for settings in (one, finished)]
    gradients = [{key: value for key, value in entry.items() if key.endswith("exp_avg")} for entry in moments]
    assert gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-7, rtol=1e-4)


def test_the_exported_model_loads_with_the_averaged_weights(finished: TrainingSettings) -> None:
    components = load_stage(finished.output / "model", stage="amodal_segmentation")
    average, trained = (load_file(checkpoint(finished, 4) / f"{name}.safetensors") for name in ("ema", "unet"))
    weights = dict(components.unet.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in average.items())
    assert any(not torch.equal(weights[name], value) for name, value in trained.items())
    assert components.settings.sampling.num_inference_steps == 2
    assert components.settings.sampling.height == 16


def test_only_what_is_chosen_is_trained_from_a_checkpoint(
    finished: TrainingSettings, make_settings: MakeSettings
) -> None:
    base = finished.output / "model"
    settings = make_settings(steps=1, optimizer=OptimizerSettings(learning_rate=1e-2))
    model = replace(settings.model, base=str(base), vae=None, trainable="paper")
    tuned = fit(replace(settings, model=model)).model
    before, after = (
        dict(load_stage(name, stage="amodal_segmentation").unet.named_parameters()) for name in (base, tuned)
    )
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert all("temporal_transformer_block" in name or name.startswith("conv_in.") for name in changed)
    assert not (checkpoint(settings, 1) / "ema.safetensors").exists()


def test_content_completion_trains_float32_weights_in_mixed_precision(make_settings: MakeSettings) -> None:
    settings = make_settings(stage="content_completion", steps=1, mixed_precision="bf16")
    result = fit(settings)
    assert load_stage(result.model, stage="content_completion").settings.stage == "content_completion"
    weights: dict[str, Tensor] = load_file(checkpoint(settings, 1) / "unet.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_half_precision_needs_a_gpu(make_settings: MakeSettings) -> None:
    with pytest.raises(InputError, match="mixed_precision: fp16 needs a GPU"):
        fit(make_settings(mixed_precision="fp16", cpu=True))


@pytest.mark.parametrize("launch", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_half_precision_needs_whole_networks(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, launch: str
) -> None:
    monkeypatch.setenv(launch, "true")
    with pytest.raises(InputError, match="mixed_precision: fp16 needs a gradient scaler in one piece; give bf16"):
        fit(make_settings(mixed_precision="fp16"))


def test_plain_attention_computes_the_same(finished: TrainingSettings, tmp_path: Path) -> None:
    plain = replace(finished, output=tmp_path, steps=1, model=replace(finished.model, attention="plain"))
    fit(plain)
    lines = [json.loads((run.output / "log.jsonl").read_text().splitlines()[1]) for run in (finished, plain)]
    assert lines[0]["gradient_norm"] == pytest.approx(lines[1]["gradient_norm"], rel=1e-4)


def test_figures_settings_and_picture_are_kept(make_settings: MakeSettings) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    validation = ValidationSettings(every=4, clips=1, pictures=1)
    settings = make_settings(log_every=2, tracker="tensorboard", validation=validation)
    fit(settings)
    lines = [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]
    assert lines[0] == {"event": "start", "step": 0, "processes": 1, "batches_per_step": 1}
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == [2, 4]
    assert all(math.isfinite(line["loss"]) and line["gradient_norm"] > 0 for line in losses)
    assert losses[0]["learning_rate"] == pytest.approx(1e-3)
    assert "guide_dropout: 0.5" in (settings.output / "settings.yaml").read_text()
    events = EventAccumulator(str(settings.output / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [2, 4]
    (image,) = events.Images("validation")
    assert image.step == 4
    assert image.width > 2 * 320  # two frames, enlarged


def test_learning_rate_rises_then_stays_or_falls() -> None:
    cosine = OptimizerSettings(learning_rate=2.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(cosine, step, steps=20) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rate(cosine, 12, steps=20) == pytest.approx(1.0)
    assert learning_rate(cosine, 20, steps=20) == pytest.approx(0.0)
    constant = OptimizerSettings(learning_rate=2.0)
    assert {learning_rate(constant, step, steps=5) for step in range(5)} == {2.0}
