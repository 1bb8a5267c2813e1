"""`amodal-diffusion evaluate`: the table, the verdicts, results.json, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amodal_diffusion.cli import main
from tests.factories import tiny_completer_folder

ONE_CLIP = ("--split", "validation", "--limit", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model"))


def test_baselines_and_a_model_in_one_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = f"modal,hull,hull-nearer,{model},{model}@depth"
    arguments = [
        "evaluate",
        "--methods",
        methods,
        "--limit",
        "1",
        "--stages",
        "all",
        "--device",
        "cpu",
        "-q",
        *ONE_CLIP,
    ]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    assert "scenes/validation, 1 clip" in printed
    assert "hidden PSNR, dB" in printed
    verdicts = [line for line in printed.splitlines() if line.startswith(("pass", "FAIL"))]
    assert len(verdicts) == 4
    first = json.loads((tmp_path / "one" / "results.json").read_text(encoding="utf-8"))
    assert list(first["methods"]) == methods.split(",")
    content = first["methods"]["hull"]["content"]
    assert content["psnr"]["value"] == pytest.approx(first["methods"]["hull"]["tracks"][0]["content"]["psnr"])
    assert content["ssim"]["tracks"] == 1
    assert content["lpips"]["value"] is None

    alone = ["evaluate", "--methods", str(model), "--device", "cpu", "-q", *ONE_CLIP]
    assert main([*alone, "--out", str(tmp_path / "two")]) == 0
    second = json.loads((tmp_path / "two" / "results.json").read_text(encoding="utf-8"))
    assert second["methods"][str(model)]["strict"] == first["methods"][str(model)]["strict"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "201"], "error: limit: expected 1 to 200 clips, got 201"),
        (["--methods", "no-such-model"], "error: "),
        (["--methods", "modal", "--lpips", "weights.safetensors"], "error: lpips, video-features: are for painted"),
        (["--methods", "modal,modal"], "error: methods: expected each method once, got modal"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--out", str(tmp_path / "out"), "-q", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_earlier_results_stay_without_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "--methods", "modal", "-q", *ONE_CLIP, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
