"""Actions on a session, with real networks: what is shown, that it is what `complete` writes, and that Stop stops."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from amodal_diffusion.app.actions import Actions, View
from amodal_diffusion.app.completer import PageCompleter, PageTask, count_passes, count_windows
from amodal_diffusion.app.guard import COOKIE
from amodal_diffusion.app.handlers import Handlers
from amodal_diffusion.app.materials import EXAMPLES, Limits
from amodal_diffusion.app.sessions import Session, Sessions, StoppedError
from amodal_diffusion.cli import main
from amodal_diffusion.completion.request import ModelChoice
from amodal_diffusion.frames.drawing import COLORS
from amodal_diffusion.frames.windows import WindowStream
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.prompts import Point, Prompts
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.models.segmenters.protocol import ObjectMask
from amodal_diffusion.pipelines import methods
from amodal_diffusion.pipelines.completer import CompletionConfig
from amodal_diffusion.types import STAGES, InputError, UInt8Array
from tests.factories import SAMPLING, tiny_components
from tests.media import moving_disc, write_frames, write_masks
from tests.methods import WRITE

FRAMES = 6
RGB, MASK = moving_disc(FRAMES, 24, 40)
LIMITS = Limits(megabytes=10, frames=40)


class BrightThings:
    """A segmenter of another program: what is bright where it is clicked."""

    def segment(self, frames: Iterable[UInt8Array], prompts: Prompts) -> Iterator[ObjectMask]:
        for index, frame in enumerate(frames):
            for name in prompts.objects:
                if index != 3:  # nothing of it can be seen there
                    yield ObjectMask(name, index, np.asarray(frame[..., 0] > 200))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages with random weights: windows of 4 frames of 16 x 32 pixels."""
    folder, sampling = (
        tmp_path_factory.mktemp("model"),
        SAMPLING.changed({"height": 16, "width": 32, "num_inference_steps": 1}),
    )
    stages = [tiny_components(stage) for stage in STAGES]
    save_model([replace(parts, settings=replace(parts.settings, sampling=sampling)) for parts in stages], folder)
    return folder


@pytest.fixture(scope="module")
def completer(model: Path) -> PageCompleter:
    return PageCompleter(ModelChoice(model=str(model), device="cpu"))


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    (tmp_path / "root").mkdir()
    return Sessions(tmp_path / "root")


@pytest.fixture
def session(sessions: Sessions) -> Session:
    return sessions.get("visitor", "page")


@pytest.fixture
def actions(sessions: Sessions, completer: PageCompleter) -> Actions:
    return Actions(sessions, completer, LIMITS, segmenter=BrightThings())


@pytest.fixture
def ready(actions: Actions, session: Session, tmp_path: Path) -> Session:
    """A session with a clip and masks of two objects."""
    actions.load_clip(session, sorted(write_frames(tmp_path / "frames", RGB).iterdir()))
    labels = MASK.astype(np.uint8)
    labels[:, 12:] *= 2
    view = actions.load_masks(session, sorted(write_masks(tmp_path / "masks", labels).iterdir()))
    assert "2 objects" in view.status
    return session


def linked(view: View) -> list[Path]:
    return [
        Path(unquote(path)) for path in re.findall(r'(?:href|src)="gradio_api/file=([^"]+)"', view.html + view.files)
    ]


def titles(view: View) -> list[str]:
    """Captions of the panes, without their notes."""
    return re.findall(r"<figcaption>([^<]*[^< ]) ?<small>", view.html)


def nothing(_: float) -> None:
    """A visitor who does not look."""


def test_it_completes_as_the_command_does(actions: Actions, ready: Session, model: Path, tmp_path: Path) -> None:
    ready.depth = tmp_path / "depth.npy"
    np.save(ready.depth, np.where(MASK, 0.5, np.linspace(0.0, 1.0, MASK.shape[2])).astype(np.float32))
    shares: list[float] = []
    view = actions.complete(ready, shares.append, seed=7)
    assert shares == pytest.approx([number / len(shares) for number in range(len(shares))])  # each pass counts
    assert "2 objects, seed 7" in view.status
    assert all(path.is_file() and path.is_relative_to(ready.folder) for path in linked(view))
    packed = next(path for path in linked(view) if path.suffix == ".zip")
    inputs = [str(ready.clip), "--masks", str(ready.masks), "--depth", str(ready.depth), "--seed", "7"]
    options = ["--model", str(model), "--device", "cpu", "--out", str(tmp_path / "out"), "-q"]
    assert main(["complete", *inputs, *options]) == 0
    pictures = {file.relative_to(tmp_path / "out"): file for file in (tmp_path / "out" / "objects").rglob("*.png")}
    with zipfile.ZipFile(packed) as archive:
        assert {f"results/{name.as_posix()}" for name in pictures} <= set(archive.namelist())
        for name, file in pictures.items():
            assert archive.read(f"results/{name.as_posix()}") == file.read_bytes()
    names = {path.name for path in linked(view)}
    assert {"overlay.mp4", "summary.json", "results.zip", "00000.png"} <= names
    assert titles(view) == ["Visible part", "Amodal mask", "Completed: object 1", "Completed: object 2"]


def test_several_samples_add_a_pane_of_where_they_differ(actions: Actions, ready: Session) -> None:
    shares: list[float] = []
    view = actions.complete(ready, shares.append, seed=0, samples=2)
    assert 0.5 < shares[-1] < 1
    assert titles(view)[2:] == [f"{kind}: object {name}" for name in "12" for kind in ("Completed", "Uncertain")]
    folders = [Path(unquote(folder)) for folder in re.findall(r'data-folder="gradio_api/file=([^"]+)/"', view.html)]
    assert [len(list(folder.glob("*.jpg"))) for folder in folders] == [FRAMES] * 6
    assert "uncertainty.mp4" in view.files


def test_stop_ends_the_work_and_the_next_run_is_whole(actions: Actions, ready: Session) -> None:
    steps = 0

    def stop_soon(_: float) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            assert actions.stop(ready)

    with pytest.raises(StoppedError):
        actions.complete(ready, stop_soon, seed=0)
    assert steps == 2
    assert not actions.stop(ready)  # nothing is at work any more
    assert "Done" in actions.complete(ready, nothing, seed=0).status


def test_a_page_does_one_thing_at_a_time(actions: Actions, ready: Session, tmp_path: Path) -> None:
    said: list[str] = []

    def again(_: float) -> None:
        for action in (
            lambda: actions.complete(ready, nothing, seed=0),
            lambda: actions.load_clip(ready, sorted((tmp_path / "frames").iterdir())),
        ):
            with pytest.raises(InputError) as error:
                action()
            said.append(str(error.value))

    actions.complete(ready, again, seed=0)
    assert all("at work" in line for line in said)


def test_a_page_that_is_closed_meanwhile_leaves_nothing(actions: Actions, ready: Session, sessions: Sessions) -> None:
    with pytest.raises(StoppedError):
        actions.complete(ready, lambda _: sessions.close("visitor", "page"), seed=0)
    assert not any(sessions.root.iterdir())


def test_what_is_missing_is_said(actions: Actions, session: Session, tmp_path: Path) -> None:
    for action in (lambda: actions.complete(session, nothing, seed=0), lambda: actions.use_painting(session)):
        with pytest.raises(InputError, match="clip: none yet"):
            action()
    actions.load_clip(session, sorted(write_frames(tmp_path / "frames", RGB).iterdir()))
    with pytest.raises(InputError, match="masks: none yet"):
        actions.complete(session, nothing, seed=0)
    with pytest.raises(InputError, match="nothing is painted"):
        actions.use_painting(session)


def test_a_new_clip_forgets_all_of_the_old_one(actions: Actions, ready: Session, tmp_path: Path) -> None:
    ready.painting.put(0, MASK[0].astype(np.uint8))
    actions.complete(ready, nothing, seed=0)
    actions.load_clip(ready, sorted(write_frames(tmp_path / "other", RGB[:3]).iterdir()))
    assert (ready.masks, ready.painting.frames, ready.clicks) == (None, [], [])
    kept = {path.name.partition("-")[0] for path in ready.folder.iterdir()}
    assert kept == {"clip", "view"}


def test_painted_frames_become_masks(actions: Actions, ready: Session) -> None:
    for frame in (0, FRAMES - 1):
        ready.painting.put(frame, MASK[frame].astype(np.uint8))
    view = actions.use_painting(ready)
    assert "4 of them filled in" in view.status
    assert ready.masks is not None
    filled = np.stack(list(read_masks(ready.masks)["1"]))
    assert (filled & MASK).sum() / (filled | MASK).sum() > 0.9  # a disc that moves evenly


def test_paint_of_another_size_than_the_clip_is_left_out(actions: Actions, ready: Session, sessions: Sessions) -> None:
    """A late event of an earlier clip, or a visitor who fills the memory."""
    handlers = Handlers(actions, sessions)
    request: Any = SimpleNamespace(cookies={COOKIE: "visitor"}, username=None, session_hash="page")
    for height, width in ((300, 300), RGB.shape[1:3]):
        layer = np.full((height, width, 4), (*COLORS[0], 255), np.uint8)
        handlers.paint({"background": layer[..., :3], "layers": [layer]}, 1, request)
        assert ready.painting.frames == ([] if height == 300 else [1])


def test_paint_that_shows_nothing_leaves_the_masks_that_were_given(actions: Actions, ready: Session) -> None:
    given = ready.masks
    ready.painting.put(0, MASK[0].astype(np.uint8))
    with pytest.raises(InputError, match=f"frame {FRAMES - 1} is not painted"):
        actions.use_painting(ready)
    assert ready.masks == given
    assert actions.complete(ready, nothing, seed=0).status.startswith("Done")


def test_an_action_looks_at_the_clip_once_it_has_the_page(actions: Actions, ready: Session) -> None:
    """Else another clip could come between."""
    ready.begin()
    ready.clip = None
    for action in (actions.complete, actions.use_clicks):
        with pytest.raises(InputError, match="at work already"):
            action(ready, nothing, **({"seed": 0} if action == actions.complete else {}))  # type: ignore[operator]


def test_clicks_become_masks(actions: Actions, ready: Session) -> None:
    with pytest.raises(InputError, match="no point, box or text"):
        actions.use_clicks(ready, nothing)
    ready.clicks.append(Point(12.0, 12.0, 0, object_name="2"))
    assert "1 object" in actions.use_clicks(ready, nothing).status
    assert ready.masks is not None
    found = np.stack(list(read_masks(ready.masks)["2"]))
    expected = MASK.copy()
    expected[3] = False
    np.testing.assert_array_equal(found, expected)


def test_examples_are_ready_to_complete(actions: Actions, session: Session) -> None:
    for example in EXAMPLES:
        assert "Ready" in actions.load_example(session, example).status
        assert session.depth is not None
        assert session.masks is not None


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 7, 8, 10, 31])
def test_windows_are_counted_as_they_are_cut(frames: int) -> None:
    stream = WindowStream[int](size=4, overlap=1)
    cut = 0
    for number in (*range(frames), None):
        window = stream.finish() if number is None else stream.push(number)
        if window is not None:
            stream.add(window, torch.zeros(len(window.items)))
            cut += 1
    assert count_windows(frames, 4) == cut


def test_passes_are_counted_for_both_stages() -> None:
    first, second = SAMPLING.changed({"tta": 2, "scheduler": "heun"}), SAMPLING  # 3 passes an augmentation, and 2
    assert count_passes(CompletionConfig(first, second), 10) == 3 * (2 * 3 + 2)  # 3 windows
    propagated = second.changed({"color_propagation": True, "blend_weight": 0.0})
    assert count_passes(CompletionConfig(first, propagated), 10) == 3 * 2 * 3
    assert count_passes(CompletionConfig(None, second), 4) == 2


def test_progress_counts_the_windows_of_each_shot(completer: PageCompleter, tmp_path: Path) -> None:
    rgb = np.concatenate([RGB[:5], 255 - RGB[:5]])  # two windows of 4 in each shot, but three in 10 frames
    masks = write_masks(tmp_path / "masks", np.concatenate([MASK[:5], MASK[:5]]))
    task = PageTask(
        write_frames(tmp_path / "frames", rgb), masks, None, tmp_path / "out", len(rgb), 1, seed=0, samples=1
    )
    shares: list[float] = []
    completer(task, shares.append)
    assert json.loads((tmp_path / "out/summary.json").read_text())["cuts"] == [5]
    assert len(shares) == pytest.approx(1 / (1 - shares[-1]))  # the last pass begins with one left


def test_completer_says_what_it_runs(completer: PageCompleter, model: Path) -> None:
    assert completer.description == f"{model} on cpu"
    assert completer.samples == SAMPLING.samples


def test_a_visitor_chooses_among_the_bundled_methods(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE["sameo"](tmp_path / "weights/sameo")
    monkeypatch.setattr(methods, "_weights", lambda name: tmp_path / "weights" / name)
    completer = PageCompleter(ModelChoice(model=str(model), device="cpu"))
    assert completer.methods == ("diffusion", "sameo")
    frames, masks = write_frames(tmp_path / "frames", RGB[:3]), write_masks(tmp_path / "masks", MASK[:3])
    task = PageTask(frames, masks, None, tmp_path / "out", 3, 1, seed=0, samples=1, method="sameo")
    completer(task, lambda _: None)
    assert json.loads((tmp_path / "out/summary.json").read_text())["method"] == "sameo"
    with pytest.raises(InputError, match="method: expected one of diffusion, sameo, got c2f-seg"):
        completer(replace(task, method="c2f-seg"), lambda _: None)
