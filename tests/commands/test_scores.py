"""`--formats scores` keeps the scores of stage 1, and `--from-scores` cuts the masks anew without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.completion import clip as completion
from amodal_diffusion.completion import objects
from amodal_diffusion.io.manifest import MANIFEST
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.pipelines.postprocessing import score_levels, score_of_levels
from amodal_diffusion.types import VideoClip
from tests.commands.folders import amodal_masks, contents, discs_behind_a_bar, fail_at, pictures
from tests.media import write_masks

FRAMES, SIZE = 7, (16, 32)
MASKS = ("--stages", "masks", "-q")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[str]:
    """Two windows of two objects, so that scores are blended."""
    return discs_behind_a_bar(tmp_path_factory.mktemp("clip"), model, FRAMES, {"cup": 0, "jug": 3})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, clip: list[str]) -> Path:
    return complete(clip, tmp_path_factory.mktemp("kept") / "out", *MASKS, "--formats", "scores", "--tta", "2")


def complete(clip: list[str], out: Path, *options: str | Path) -> Path:
    assert main(["complete", *clip, *map(str, options), "--out", str(out)]) == 0
    return out


def refused(clip: list[str], out: Path, *options: str | Path) -> None:
    try:
        status = main(["complete", *clip, *map(str, options), "--out", str(out), "-q"])
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 2
    assert not list(out.parent.glob(f"{out.name}*"))


def without_scores(folder: Path) -> dict[str, object]:
    """What lies in a result, but for the scores and what tells of them."""
    found = {name: value for name, value in contents(folder).items() if "/scores/" not in name}
    summary = found["summary.json"]
    assert isinstance(summary, dict)
    for name in ("settings", "from_scores"):
        del summary[name]
    return found


def test_every_level_of_a_file_is_kept_and_sums_of_three_levels_to_the_bit() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(score_levels(score_of_levels(levels)), levels)
    sums = (np.arange(766, dtype=np.float32) / np.float32(765))[None]
    np.testing.assert_array_equal(score_of_levels(score_levels(sums)), sums)


def test_scores_are_16_bits_at_the_size_of_the_network(kept: Path, clip: list[str], tmp_path: Path) -> None:
    plain = complete(clip, tmp_path / "plain", *MASKS, "--tta", "2")
    assert without_scores(plain) == without_scores(kept)
    steps = json.loads((kept / MANIFEST).read_text())["steps"]
    for name in ("cup", "jug"):
        levels = pictures(kept / "objects" / name / "scores")
        assert (levels.dtype, levels.shape) == (np.uint16, (FRAMES, *SIZE))
        assert len(np.unique(levels)) > 100
        files = [f"objects/{name}/scores/{frame:05d}.png" for frame in range(FRAMES)]
        assert set(files) <= set(steps[f"object {name}"]["files"])
        assert set(files) <= steps[f"object {name}"]["digests"].keys()


@pytest.mark.parametrize(
    "options",
    [
        ("--mask-threshold", "0.41"),
        ("--mask-threshold", "0.6", "--mask-filters", "all"),
        ("--mask-filters", "depth"),
    ],
    ids=" ".join,
)
def test_masks_cut_from_scores_are_those_of_the_run_with_that_threshold(
    kept: Path, clip: list[str], tmp_path: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = complete(clip, tmp_path / "fresh", *MASKS, "--tta", "2", *options)
    monkeypatch.setattr(AmodalCompleter, "from_pretrained", None)  # no network is loaded
    again = complete(clip, tmp_path / "again", "-q", "--from-scores", kept, "--formats", "scores", *options)
    assert without_scores(again) == without_scores(fresh)
    assert not np.array_equal(amodal_masks(again, "cup"), amodal_masks(kept, "cup"))
    np.testing.assert_array_equal(pictures(again / "objects/cup/scores"), pictures(kept / "objects/cup/scores"))
    assert json.loads((again / "summary.json").read_text())["from_scores"] == str(kept)


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_presets_margins_skipped_frames_and_one_object(preset: str, clip: list[str], tmp_path: Path) -> None:
    chosen = (*MASKS, "--preset", preset, "--steps", "1", "--skip-unoccluded", "--seed", "3")
    given = ("--margin", "0.25", "--object", "jug", "--cuts", "3")
    scores = complete(clip, tmp_path / "scores", *chosen, *given, "--formats", "scores")
    fresh = complete(clip, tmp_path / "fresh", *chosen, *given, "--mask-threshold", "0.45")
    again = complete(clip, tmp_path / "again", "-q", *given, "--from-scores", scores, "--mask-threshold", "0.45")
    assert without_scores(again) == without_scores(fresh)


def test_an_interrupted_run_goes_on(
    kept: Path, clip: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, options in (("scores", ("--formats", "scores", "--tta", "2")), ("masks", ("--from-scores", str(kept)))):
        command = ["complete", *clip, *MASKS, *options, "--out", str(tmp_path / name)]
        monkeypatch.setattr(objects, "write_mask_png", fail_at("jug", 5, KeyboardInterrupt()))
        assert main(command) == 130
        monkeypatch.undo()
        assert main(command) == 0
        assert without_scores(tmp_path / name) == without_scores(kept)
    assert contents(tmp_path / "scores") == contents(kept)


def test_masks_from_scores_can_be_painted(kept: Path, clip: list[str], tmp_path: Path) -> None:
    masks = complete(clip, tmp_path / "masks", "-q", "--from-scores", kept, "--object", "cup")
    assert not (masks / "objects/cup/completed").exists()
    painted = complete(clip, tmp_path / "painted", "-q", "--amodal-masks", kept / "objects", "--object", "cup")
    np.testing.assert_array_equal(amodal_masks(painted, "cup"), amodal_masks(masks, "cup"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from-scores", "nosuch"), "--from-scores: nosuch: no result with stage 1 that this version of"),
        (("--from-scores", "KEPT", "--steps", "3"), "--steps: nothing is sampled with --from-scores, got 3"),
        (("--from-scores", "KEPT", "--seed", "3"), "--seed: nothing is sampled with --from-scores"),
        (("--from-scores", "KEPT", "--margin", "0.5"), "scores of 7 frames of 24x40 pixels, the clip has 7 of 48x80"),
        (("--from-scores", "KEPT", "--cuts", "3"), "made with the cuts none, here are 3; see --cuts"),
        (("--from-scores", "KEPT", "--amodal-masks", "x"), "--from-scores: makes the masks that --amodal-masks gives"),
        (("--from-scores", "KEPT", "--depth", "none"), "was given, got none; give the depth of that run"),
        (("--from-scores", "KEPT", "--formats", "webm"), "--formats: webm holds layers, which --stages masks"),
        (("--mask-threshold", "1"), "--mask-threshold: expected a number from 0 to below 1, got 1"),
        (("--mask-threshold", "half"), "--mask-threshold: expected a number from 0 to below 1, got half"),
        (("--formats", "scores", "--amodal-masks", "x"), "--formats: scores are stage 1's"),
        (("--formats", "scores", "--samples", "2"), "--formats: scores are those of one sample"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_fit_is_one_line(
    kept: Path, clip: list[str], tmp_path: Path, options: tuple[str, ...], message: str,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(completion, "Networks", None)  # before anything is loaded
    refused(clip, tmp_path / "out", *(str(kept) if word == "KEPT" else word for word in options))
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_scores_of_something_else(
    kept: Path, clip: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def message(folder: Path, *masks: str) -> str:
        refused([*clip, *masks], tmp_path / "out", "--from-scores", folder)
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        return error

    plain = shutil.copytree(kept, tmp_path / "plain")
    for name in ("cup", "jug"):
        shutil.rmtree(plain / "objects" / name / "scores")
    assert "holds no scores; make it again with --formats scores" in message(plain)

    (plain / "objects/jug/scores").mkdir()
    shutil.copy(kept / "objects/jug/scores/00000.png", plain / "objects/jug/scores")
    assert "holds no score of object cup in frame 0; make it again with --formats scores" in message(plain)

    other = np.zeros((FRAMES, 24, 40), np.bool_)
    other[:, 4:9, 4:9] = True
    assert "object cup had other masks of its visible part" in message(
        kept, "--masks", str(write_masks(tmp_path / "other/cup", other).parent)
    )
    assert "no scores of object dog; there are cup, jug" in message(
        kept, "--masks", str(write_masks(tmp_path / "dogs/dog", other).parent)
    )

    small = shutil.copytree(kept, tmp_path / "small")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(small / "objects/cup/scores/00000.png")
    assert "00000.png: expected a score of 16 bits and 32x16 pixels, got 8x8" in message(small)


def test_scores_in_python(model: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (FRAMES, 24, 40, 3), dtype=np.uint8)
    modal = np.zeros((FRAMES, 24, 40), np.bool_)
    modal[:, 8:16, 10:20] = True
    clip = VideoClip(rgb, modal, cuts="none")
    completer = AmodalCompleter.from_pretrained(model, device="cpu")
    result = completer(clip)
    assert result.score is not None
    assert (result.score.dtype, result.score.shape) == (np.float32, (FRAMES, *SIZE))
    assert 0 <= result.score.min() < result.score.max() <= 1
    masks = AmodalCompleter.from_pretrained(model, stages=["amodal_segmentation"], device="cpu")
    streamed = masks(clip).score
    assert streamed is not None
    np.testing.assert_array_equal(streamed, result.score)
    several = completer(clip, completer.config(samples=3)).score
    assert several is not None
    assert several.shape == result.score.shape
    content = AmodalCompleter.from_pretrained(model, stages=["content_completion"], device="cpu")
    assert content(clip, amodal_mask=modal).score is None


@pytest.mark.parametrize("options", [["--vae", "light"], ["--compile"], ["--cuda-graphs"], ["--offload", "model"]])
def test_options_of_networks_are_refused_beside_scores(
    options: list[str], kept: Path, clip: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["complete", *clip, "--from-scores", str(kept), *options, "--out", str(tmp_path / "out"), "-q"]) == 2
    assert f"{options[0]}: nothing is sampled with --from-scores" in capsys.readouterr().err
