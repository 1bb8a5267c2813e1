"""The loop: exact resume, accumulation, learning rate, time limit, what is trained and exported."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file
from torch import Tensor

from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.training.checkpoints import complete_checkpoints
from amodal_diffusion.training.settings import OptimizerSettings, TrainingSettings
from amodal_diffusion.training.setup import train
from amodal_diffusion.training.trainer import TrainingResult, learning_rate
from amodal_diffusion.types import InputError
from tests.training.conftest import MakeSettings
from tests.training.states import assert_equal, state_of


def run(settings: TrainingSettings) -> TrainingResult:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    return train(settings)


def test_four_steps_equal_two_and_two_more(make_settings: MakeSettings, tmp_path: Path) -> None:
    whole = run(make_settings(output=tmp_path / "whole", gradient_accumulation_steps=2))
    assert whole.finished
    # The time limit is what interrupts a run half way without changing its schedule.
    halves = make_settings(
        output=tmp_path / "halves", gradient_accumulation_steps=2, checkpoint_every=1, keep_checkpoints=9
    )
    run(halves)
    for folder in complete_checkpoints(tmp_path / "halves/checkpoints")[2:]:
        folder.rename(tmp_path / folder.name)
    resumed = run(halves)
    assert resumed.step == 4
    first, last = tmp_path / "whole/checkpoints/00000004", tmp_path / "halves/checkpoints/00000004"
    assert_equal(state_of(first), state_of(last))
    assert (first / "random_states_0.pkl").is_file()


def test_the_time_limit_saves_exports_and_goes_on_exactly(make_settings: MakeSettings, tmp_path: Path) -> None:
    run(make_settings(output=tmp_path / "whole"))
    limited = make_settings(output=tmp_path / "limited", max_minutes=1e-9)
    first = run(limited)
    assert (first.step, first.finished) == (1, False)
    assert (first.model / "checkpoint.json").is_file()
    assert run(replace(limited, max_minutes=0.0)).finished
    assert_equal(state_of(tmp_path / "whole/checkpoints/00000004"), state_of(tmp_path / "limited/checkpoints/00000004"))


def test_two_batches_of_one_equal_one_batch_of_two(make_settings: MakeSettings, tmp_path: Path) -> None:
    run(make_settings(output=tmp_path / "one", steps=1))
    run(make_settings(output=tmp_path / "two", steps=1, batch_size=1, gradient_accumulation_steps=2))
    moments = [state_of(tmp_path / name / "checkpoints/00000001")["moments"] for name in ("one", "two")]
    gradients = [{key: value for key, value in entry.items() if key.endswith("exp_avg")} for entry in moments]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-7, rtol=1e-4)


def test_the_exported_model_loads_with_the_averaged_weights(make_settings: MakeSettings) -> None:
    result = run(make_settings(steps=2))
    components = load_stage(result.model, stage="amodal_segmentation")
    average = load_file(result.model.parent / "checkpoints/00000002/ema.safetensors")
    weights = dict(components.unet.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in average.items())
    trained = load_file(result.model.parent / "checkpoints/00000002/unet.safetensors")
    assert any(not torch.equal(weights[name], value) for name, value in trained.items())
    assert components.settings.sampling.num_inference_steps == 2
    assert components.settings.sampling.height == 16


def test_only_what_is_chosen_is_trained_from_a_checkpoint(make_settings: MakeSettings, tmp_path: Path) -> None:
    base = run(make_settings(output=tmp_path / "base", steps=1)).model
    settings = make_settings(output=tmp_path / "paper", steps=2)
    model = replace(settings.model, base=str(base), vae=None, trainable="paper")
    tuned = run(replace(settings, model=model, optimizer=OptimizerSettings(learning_rate=1e-2))).model
    before, after = (
        dict(load_stage(name, stage="amodal_segmentation").unet.named_parameters()) for name in (base, tuned)
    )
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert all("temporal_transformer_block" in name or name.startswith("conv_in.") for name in changed)
    assert not (tmp_path / "paper/checkpoints/00000002/ema.safetensors").exists()


def test_content_completion_trains(make_settings: MakeSettings) -> None:
    result = run(make_settings(stage="content_completion", steps=1))
    assert load_stage(result.model, stage="content_completion").settings.stage == "content_completion"


def test_half_precision_needs_a_gpu(make_settings: MakeSettings) -> None:
    with pytest.raises(InputError, match="mixed_precision: fp16 needs a GPU"):
        run(make_settings(mixed_precision="fp16", cpu=True))


@pytest.mark.parametrize("launch", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_half_precision_needs_whole_networks(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, launch: str
) -> None:
    monkeypatch.setenv(launch, "true")
    with pytest.raises(InputError, match="mixed_precision: fp16 needs a gradient scaler in one piece; give bf16"):
        run(make_settings(mixed_precision="fp16"))


def test_mixed_precision_keeps_float32_weights(make_settings: MakeSettings) -> None:
    result = run(make_settings(steps=1, mixed_precision="bf16"))
    weights: dict[str, Tensor] = load_file(result.model.parent / "checkpoints/00000001/unet.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_plain_attention_computes_the_same(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(output=tmp_path / "fused", steps=1)
    run(settings)
    run(replace(settings, output=tmp_path / "plain", model=replace(settings.model, attention="plain")))
    lines = [json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[1]) for name in ("fused", "plain")]
    assert lines[0]["gradient_norm"] == pytest.approx(lines[1]["gradient_norm"], rel=1e-4)


def test_loss_lines_and_settings_are_kept(make_settings: MakeSettings) -> None:
    settings = make_settings(log_every=2)
    run(settings)
    lines = [json.loads(line) for line in (settings.output / "log.jsonl").read_text().splitlines()]
    assert lines[0] == {"event": "start", "step": 0, "processes": 1, "batches_per_step": 1}
    assert [line["step"] for line in lines[1:]] == [2, 4]
    assert all(math.isfinite(line["loss"]) and line["gradient_norm"] > 0 for line in lines[1:])
    assert lines[1]["learning_rate"] == pytest.approx(1e-3)
    assert "guide_dropout: 0.5" in (settings.output / "settings.yaml").read_text()
    assert list((settings.output / "tensorboard").glob("events*"))


def test_another_network_does_not_resume(make_settings: MakeSettings) -> None:
    settings = make_settings(steps=1)
    run(settings)
    wider = replace(settings.model, unet=replace(settings.model.unet, cross_attention_dim=24))
    with pytest.raises(InputError, match="saved by another network"):
        run(replace(settings, steps=2, model=wider))


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
