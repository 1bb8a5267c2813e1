"""The command itself: version, mistakes in its line, interruption, and what it does not swallow."""

from __future__ import annotations

import logging
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from amodal_diffusion import cli
from amodal_diffusion.basics import InputError


def run_as(monkeypatch: pytest.MonkeyPatch, run: object) -> int:
    """Run a subcommand whose work is `run`."""
    module = SimpleNamespace(SUMMARY="try", add_arguments=lambda _: None, run=run)
    monkeypatch.setattr(cli, "import_module", lambda _: module)
    return cli.main(["complete"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"amodal-diffusion {version('amodal-diffusion')}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["complete"], ["--nonsense"]])
def test_a_wrong_line_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("complete", "complete: expected CLIP, a video file"),
        ("segment", "segment: expected CLIP (a video file, a folder of pictures, or one picture, animated or not) and"),
        (
            "complete clip.mp4 masks",
            "masks: unexpected; did you mean --masks masks? A path that has spaces needs",
        ),
        ("complet clip.mp4", "complet: no command has this name; did you mean complete?"),
        (
            "complete clip.mp4 --masks m --stages mask",
            "--stages: expected one of masks, all, got mask; did you mean masks?",
        ),
        ("batch clips.csv", "clips.csv: unexpected; give the name of an option before it"),
        ("complete clip.mp4 --seed x", "--seed: expected a whole number, at least 0, got 'x'"),
        ("complete clip.mp4 --steps 0", "--steps: expected a whole number, at least 1, got '0'"),
        ("complete clip.mp4 --steps x", "--steps: expected a whole number, at least 1, got 'x'"),
        ("complete clip.mp4 --margin=-1", "--margin: expected a number, at least 0, got '-1'"),
        ("complete clip.mp4 --over green", "--over: unknown; did you mean --over-color?"),
        (
            "complete clip.mp4 --formats prores,green",
            "--formats: green is a color; for the background, add",
        ),
    ],
)
def test_a_wrong_line_says_what_was_expected(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_a_users_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: object) -> None:
        logging.getLogger("amodal_diffusion.somewhere").warning("two\nlines")
        raise InputError("masks: first\nsecond")

    assert run_as(monkeypatch, run) == 2
    assert capsys.readouterr().err == "warning: two lines\nerror: masks: first second\n"
    assert not logging.getLogger("amodal_diffusion").handlers


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> None:
        raise KeyboardInterrupt

    assert run_as(monkeypatch, run) == 130


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_as(monkeypatch, run)
