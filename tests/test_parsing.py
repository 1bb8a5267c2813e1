"""Settings from YAML and command lines: what beats what, and how a mistake is reported."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.parsing import (
    CommandParser,
    dump_settings,
    find_config,
    load_settings,
    parse_settings,
    save_settings,
)


@dataclass(frozen=True)
class Data:
    """Data.

    Attributes:
        frames: frames of a clip.
        split: which part.
        folder: where it lies.
    """

    frames: int = 25
    split: Literal["train", "validation"] = "train"
    folder: Path | None = None


@dataclass(frozen=True)
class Settings:
    """All of it.

    Attributes:
        data: what is read.
        dry_run: whether to stop early.
        learning_rate: step of the optimizer.
        widths: channels of each level.
        name: of the run.
    """

    data: Data = field(default_factory=Data)
    dry_run: bool = False
    learning_rate: float = 1e-3
    widths: tuple[int, ...] = (32, 64)
    name: str | None = None

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate: expected above 0, got {self.learning_rate}")


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("data:\n  frames: 8\n  split: validation\nlearning_rate: 3e-4\n", encoding="utf-8")
    return path


def test_defaults_then_yaml_then_flags(yaml_file: Path) -> None:
    settings = parse_settings(Settings, ["--config", str(yaml_file), "--data.frames", "4"])
    assert settings == Settings(Data(frames=4, split="validation"), learning_rate=3e-4)


@pytest.mark.parametrize("joined", [False, True])
def test_flags_beat_yaml_wherever_it_stands(yaml_file: Path, joined: bool) -> None:
    config = [f"--config={yaml_file}"] if joined else ["--config", str(yaml_file)]
    flags = ["--learning_rate", "1e-5", "--data.frames=4"]
    expected = Settings(Data(frames=4, split="validation"), learning_rate=1e-5)
    for args in ([*config, *flags], [*flags, *config], [*flags[:2], *config, *flags[2:]]):
        assert parse_settings(Settings, args) == expected


def test_flags_beat_the_file_of_a_group(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("frames: 8\nsplit: validation\n", encoding="utf-8")
    settings = parse_settings(Settings, ["--data.frames", "4", "--data", str(path)])
    assert settings.data == Data(frames=4, split="validation")


def test_a_shipped_file_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("configs/debug_cpu.yaml", "debug_cpu.yaml"):
        assert Path(find_config(name)).read_text(encoding="utf-8").startswith("# A few steps")
    assert find_config("missing.yaml") == "missing.yaml"
    own = tmp_path / "debug_cpu.yaml"
    own.write_text("learning_rate: 0.5\n", encoding="utf-8")
    assert parse_settings(Settings, ["--config=debug_cpu.yaml"]).learning_rate == 0.5


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--dry-run"], True),
        (["--dry_run"], True),
        (["--dry-run", "--learning-rate", "1e-3"], True),
        (["--dry_run", "false"], False),
        (["--dry-run=true"], True),
        ([], False),
    ],
)
def test_a_bare_truth_flag_means_true(args: list[str], expected: bool) -> None:
    assert parse_settings(Settings, args).dry_run is expected


def test_a_later_file_beats_an_earlier_one(yaml_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("data: {frames: 2}\n", encoding="utf-8")
    settings = parse_settings(Settings, ["--config", str(yaml_file), "--config", str(other)])
    assert settings.data == Data(frames=2, split="validation")


@pytest.mark.parametrize(
    ("args", "text", "nearest"),
    [
        (["--data.framez", "3"], None, "--data.frames"),
        (["--data.frame", "3"], None, "--data.frames"),
        (["--frames=3"], None, "--data.frames"),
        (["--learning_rat", "3"], None, "--learning_rate"),
        ([], "data: {framez: 3}", "data.frames"),
        ([], "frames: 3", "data.frames"),
        ([], "lerning_rate: 3", "learning_rate"),
    ],
)
def test_unknown_name_is_one_line_with_the_nearest(
    args: list[str], text: str | None, nearest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        args = ["--config", str(path)]
    with pytest.raises(SystemExit) as stop:
        parse_settings(Settings, args)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert f"did you mean {nearest}?" in printed.err


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--data.frames", "many"], "data.frames"),
        (["--data.split", "test"], "data.split"),
        (["--learning_rate", "0"], "learning_rate: expected above 0"),
        (["--learning_rate"], "--learning_rate"),
        (["--learning_rate", "fast"], "learning_rate: expected a number, got 'fast'"),
        (["--data.frames", "fast"], "data.frames: expected a whole number, got 'fast'"),
        (["--config", "configs/accelerate/cpu.yaml"], "cpu.yaml: this is an Accelerate launch file; give it as "),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["stray"], "stray"),
    ],
)
def test_wrong_value_is_one_line(args: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_settings(Settings, args)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert part in error


def test_damaged_yaml_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: [\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        parse_settings(Settings, ["--config", str(path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_load_settings_raises_instead_of_exiting(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {framez: 3}", encoding="utf-8")
    with pytest.raises(InputError, match=r"did you mean data\.frames\?"):
        load_settings(Settings, path)
    with pytest.raises(InputError, match=r"missing\.yaml"):
        load_settings(Settings, tmp_path / "missing.yaml")


def test_overrides_beat_the_file(yaml_file: Path) -> None:
    overrides = {"data.frames": 2, "widths": (8, 16, 24), "name": "run: 1"}
    settings = load_settings(Settings, yaml_file, overrides)
    assert settings == Settings(Data(2, "validation"), False, 3e-4, (8, 16, 24), "run: 1")


@pytest.mark.parametrize("name", [None, "a", "123", "true", "a: b", "- c", "ä ö"])
def test_saved_settings_load_back_equal(name: str | None, tmp_path: Path) -> None:
    settings = Settings(Data(3, "validation", tmp_path / "frames"), True, 1e-7, (8,), name)
    save_settings(settings, tmp_path / "run.yaml")
    assert load_settings(Settings, tmp_path / "run.yaml") == settings


def test_dump_wants_an_instance() -> None:
    assert "frames: 25" in dump_settings(Settings())
    with pytest.raises(TypeError, match="dataclass instance"):
        dump_settings(Settings)


def test_command_parser_without_settings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parser = CommandParser(prog="tool")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--steps", type=int, default=5)
    assert parser.parse_args(["a.mp4", "--steps", "3"]).steps == 3
    monkeypatch.setattr(sys, "argv", ["tool", "a.mp4", "--setps", "3"])
    with pytest.raises(SystemExit) as stop:
        parser.parse_args()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --setps: unknown; did you mean --steps?\n"


def test_subcommand_mistakes_name_the_subcommands_flags(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="tool")
    commands = parser.add_subcommands(required=True, dest="command")
    child = CommandParser()
    child.add_argument("--guidance", type=float)
    commands.add_subcommand("complete", child)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["complete", "--guidence", "2"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --guidence: unknown; did you mean --guidance?\n"


def test_replace_keeps_settings_frozen() -> None:
    settings = Settings()
    assert replace(settings, name="x").name == "x"
    with pytest.raises(AttributeError):
        settings.name = "x"  # type: ignore[misc]
