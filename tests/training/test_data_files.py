"""A missing file is found before a network is loaded, and the error says where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.data.published import DATASET
from amodal_diffusion.training.data_files import check_data_files
from amodal_diffusion.training.data_settings import DataSettings
from amodal_diffusion.training.setup import train_main
from tests.documents import ROOT

CONFIGS = ROOT / "configs"
TRAINING = (
    "data.annotations: data/sailvos/train.json: no such file or folder; it is diffusion_vas_sailvos_train.json of"
)
FRAMES = "data.images: data/sailvos/frames: no such file or folder; the frames of SAIL-VOS come from its authors, under"
OWN = (
    "data.annotations: own.json: no such file or folder; `amodal-diffusion prepare` makes annotation files of own clips"
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--config", str(CONFIGS / "sailvos_stage1_mask.yaml")], f"{TRAINING} the Hugging Face data set {DATASET} "),
        (["--config", str(CONFIGS / "sailvos_stage2.yaml"), "--data.annotations", "have.json"], FRAMES),
        (["--data.annotations", "own.json", "--data.validation_annotations", "have.json"], OWN),
    ],
)
def test_a_missing_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("have.json").write_text("[]")
    assert train_main(settings) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert "docs/data.md, section" in error


@pytest.mark.parametrize(("validation", "notices"), [("link.json", 1), ("other.json", 0)])
def test_validation_on_the_clips_of_training_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, validation: str, notices: int
) -> None:
    for name in ("own.json", "other.json"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "link.json").symlink_to(tmp_path / "own.json")
    data = DataSettings(annotations=tmp_path / "own.json", validation_annotations=tmp_path / validation)
    check_data_files(data, "amodal_segmentation")
    assert len(caplog.messages) == notices
    assert all("link.json is also trained on" in message for message in caplog.messages)
