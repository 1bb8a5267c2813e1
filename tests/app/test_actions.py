"""Actions on a session, with real networks: what is shown, that it is what `complete` writes, and that Stop stops."""

from __future__ import annotations

import html
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.app.actions import Actions, View
from amodal_diffusion.app.completer import Choices, PageCompleter, PageTask, count_passes, count_windows
from amodal_diffusion.app.drawing import frame_ranges, shrunken_frames
from amodal_diffusion.app.handlers import OF_CHECKPOINT, choices_of, chosen_files
from amodal_diffusion.app.materials import EXAMPLES, Limits
from amodal_diffusion.app.sessions import Session, Sessions, StoppedError
from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.cli import main
from amodal_diffusion.completion.request import ModelChoice
from amodal_diffusion.frames.windows import WindowStream
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.prompts import Point, Prompts
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.models.segmenters.protocol import ObjectMask
from amodal_diffusion.pipelines import methods
from amodal_diffusion.pipelines.completer import CompletionConfig
from amodal_diffusion.types import UInt8Array
from tests.app.test_painting import sent
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
    return [Path(unquote(path)) for path in re.findall(r'href="gradio_api/file=([^"]+)"', view.files)]


def scene_of(view: View) -> dict[str, Any]:
    """What the viewer shows."""
    found = re.search(r'data-scene="([^"]+)"', view.html)
    assert found is not None
    return dict(json.loads(html.unescape(found[1])))


def folder_of(address: str) -> Path:
    return Path(unquote(address.removeprefix("gradio_api/file=")))


def paint(frames: Iterable[int]) -> str:
    """What the drawing board sends where the disc is painted in some frames."""
    return json.dumps({frame: sent(MASK[frame].astype(np.uint8)) for frame in frames})


def nothing(_: float) -> None:
    """A visitor who does not look."""


def test_it_completes_as_the_command_does(actions: Actions, ready: Session, model: Path, tmp_path: Path) -> None:
    ready.depth = tmp_path / "depth.npy"
    np.save(ready.depth, np.where(MASK, 0.5, np.linspace(0.0, 1.0, MASK.shape[2])).astype(np.float32))
    shares: list[float] = []
    view = actions.complete(ready, shares.append, Choices(seed=7))
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    assert "2 objects, seed 7" in view.status
    assert all(path.is_file() and path.is_relative_to(ready.folder) for path in linked(view))
    packed = next(path for path in linked(view) if path.name == "results.zip")
    inputs = [str(ready.clip), "--masks", str(ready.masks), "--depth", str(ready.depth), "--seed", "7"]
    options = ["--model", str(model), "--device", "cpu", "--out", str(tmp_path / "out"), "-q"]
    assert main(["complete", *inputs, *options]) == 0
    pictures = {file.relative_to(tmp_path / "out"): file for file in (tmp_path / "out" / "objects").rglob("*.png")}
    with zipfile.ZipFile(packed) as archive:
        assert {f"results/{name.as_posix()}" for name in pictures} <= set(archive.namelist())
        for name, file in pictures.items():
            assert archive.read(f"results/{name.as_posix()}") == file.read_bytes()
    names = {path.name for path in linked(view)}
    assert {"overlay.mp4", "summary.json", "results.zip", "layers.zip", "00000.png"} <= names
    scene = scene_of(view)
    assert [entry["name"] for entry in scene["objects"]] == ["1", "2"]
    for entry in scene["objects"]:
        for kind in ("visible", "amodal", "completed"):
            assert len(list(folder_of(entry[kind]).glob("*.png"))) == FRAMES
        assert entry["uncertain"] is None
    assert len(list(folder_of(scene["pictures"]).glob("*.jpg"))) == FRAMES


def test_settings_reach_the_command_and_the_viewer_follows_the_margin(actions: Actions, ready: Session) -> None:
    choices = Choices(samples=2, margin=0.25, soft_edge=2, mask_filters=(), preset="fast", formats=("prores", "coco"))
    view = actions.complete(ready, nothing, choices)
    scene = scene_of(view)
    assert (scene["width"], scene["left"], scene["frame_width"]) == (60, 10, 40)
    for entry in scene["objects"]:
        assert len(list(folder_of(entry["uncertain"]).glob("*.jpg"))) == FRAMES
        assert folder_of(entry["completed"]).name == "layers"  # those with the soft edge
        visible = np.asarray(Image.open(folder_of(entry["visible"]) / "00000.png"))
        assert visible.shape == (scene["height"], scene["width"])
        assert visible[scene["top"] : scene["top"] + 24, 10:50].any()
        assert not visible[: scene["top"]].any()
    names = [path.name for path in linked(view)]
    assert names[:2] == ["completed.mov", "completed.mov"]
    assert (
        names.index("layers.zip") < names.index("coco.json") < names.index("results.zip") < names.index("manifest.json")
    )
    settings = json.loads(next(path for path in linked(view) if path.name == "summary.json").read_text())["settings"]
    assert (settings["mask_filters"], settings["margin"], settings["preset"]) == ([], 0.25, "fast")


def test_stop_ends_the_work_and_the_next_run_is_whole(actions: Actions, ready: Session) -> None:
    steps = 0

    def stop_soon(_: float) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            assert actions.stop(ready)

    with pytest.raises(StoppedError):
        actions.complete(ready, stop_soon)
    assert steps == 2
    assert not actions.stop(ready)  # nothing is at work any more
    assert "Done" in actions.complete(ready, nothing).status


def test_a_page_does_one_thing_at_a_time(actions: Actions, ready: Session, tmp_path: Path) -> None:
    said: list[str] = []

    def again(_: float) -> None:
        for action in (
            lambda: actions.complete(ready, nothing),
            lambda: actions.load_clip(ready, sorted((tmp_path / "frames").iterdir())),
        ):
            with pytest.raises(InputError) as error:
                action()
            said.append(str(error.value))

    actions.complete(ready, again)
    assert all("at work" in line for line in said)


def test_a_page_that_is_closed_meanwhile_leaves_nothing(actions: Actions, ready: Session, sessions: Sessions) -> None:
    with pytest.raises(StoppedError):
        actions.complete(ready, lambda _: sessions.close("visitor", "page"))
    assert not any(sessions.root.iterdir())


def test_what_is_missing_is_said(actions: Actions, session: Session, tmp_path: Path) -> None:
    for action in (lambda: actions.complete(session, nothing), lambda: actions.use_painting(session, "{}", nothing)):
        with pytest.raises(InputError, match="clip: none yet"):
            action()
    actions.load_clip(session, sorted(write_frames(tmp_path / "frames", RGB).iterdir()))
    with pytest.raises(InputError, match="masks: none yet"):
        actions.complete(session, nothing)
    with pytest.raises(InputError, match="nothing is painted"):
        actions.use_painting(session, "{}", nothing)


def test_a_new_clip_forgets_all_of_the_old_one(actions: Actions, ready: Session, tmp_path: Path) -> None:
    actions.complete(ready, nothing)
    actions.load_clip(ready, sorted(write_frames(tmp_path / "other", RGB[:3]).iterdir()))
    assert (ready.masks, ready.visible, ready.clicks) == (None, {}, [])
    kept = {path.name.partition("-")[0] for path in ready.folder.iterdir()}
    assert kept == {"clip", "pictures"}


def test_paint_over_the_masks_that_are_shown_corrects_those_frames_alone(actions: Actions, ready: Session) -> None:
    labels = MASK[2].astype(np.uint8)
    labels[12:] = 0
    text = json.dumps({"masks": ready.masks_name, "2": sent(labels), "4": ""})
    assert "frames 2, 4 corrected, the others as they were" in actions.use_painting(ready, text, nothing).status
    assert ready.masks is not None
    tracks = {name: np.stack(list(track)) for name, track in read_masks(ready.masks).items()}
    upper, lower = MASK.copy(), MASK.copy()
    upper[:, 12:], lower[:, :12] = False, False
    upper[4], lower[2], lower[4] = False, False, False
    np.testing.assert_array_equal(tracks["1"], upper)
    np.testing.assert_array_equal(tracks["2"], lower)


def test_frames_with_a_much_smaller_mask_are_named() -> None:
    assert shrunken_frames([100, 90, 20, 0, 50, 5, 40], [0, 6]) == [2, 3, 5]
    assert frame_ranges([2, 3, 5]) == "frames 2 to 3, 5"
    assert frame_ranges([7]) == "frame 7"
    assert shrunken_frames([1, 0], [1]) == []


def test_painted_frames_become_masks(actions: Actions, ready: Session) -> None:
    view = actions.use_painting(ready, paint([0, FRAMES - 1]), nothing)
    assert "4 of them filled in" in view.status
    assert ready.masks is not None
    filled = np.stack(list(read_masks(ready.masks)["1"]))
    assert (filled & MASK).sum() / (filled | MASK).sum() > 0.9  # a disc that moves evenly


def test_settings_of_a_visitor_are_checked() -> None:
    given = {
        "seed": 3,
        "samples": None,
        "method": None,
        "preset": "",
        "filters": [OF_CHECKPOINT],
        "margin": 20,
        "soft_edge": 2,
        "shrink_mask": 3,
        "formats": ["coco"],
        "color": "navy",
    }
    assert choices_of(given) == Choices(seed=3, margin=0.2, soft_edge=2, shrink_mask=3, formats=("coco",), color="navy")
    assert choices_of({**given, "filters": []}).mask_filters == ()
    for name, value in {
        "seed": -1,
        "samples": 9,
        "margin": 101,
        "soft_edge": 65,
        "preset": "best",
        "color": "no",
    }.items():
        with pytest.raises(InputError, match=name.replace("_", " ")):
            choices_of({**given, name: value})
    for name in ("filters", "formats"):
        with pytest.raises(InputError, match=f"--.*{name}"):
            choices_of({**given, name: ["no such thing"]})


@pytest.mark.parametrize(
    ("box", "loaded", "expected"),
    [
        ("a.mp4 b.mp4", "a.mp4", "b.mp4"),
        ("a.mp4 a.mp4", "a.mp4", "a.mp4"),
        ("a.mp4 1.png 2.png", "a.mp4", "1.png 2.png"),
        ("1.png 2.png", "1.png", "1.png 2.png"),
        ("1.png 2.png b.zip", "1.png 2.png", "b.zip"),
    ],
)
def test_a_new_file_takes_the_place_of_a_loaded_one(box: str, loaded: str, expected: str) -> None:
    assert chosen_files(box.split(), [*map(Path, loaded.split())]) == [*map(Path, expected.split())]


def test_one_painted_frame_is_followed_and_replaces_the_masks(actions: Actions, ready: Session) -> None:
    labels = MASK[2].astype(np.uint8) * 2
    labels[:12] = 0
    view = actions.use_painting(ready, json.dumps({"2": sent(labels), "4": ""}), nothing)
    assert "4 of them found from painted ones" in view.status
    assert ready.masks is not None
    found = np.stack(list(read_masks(ready.masks)["2"]))
    expected = MASK.copy()
    expected[2], expected[3], expected[4] = labels > 0, False, False  # painted frames stay as they are
    np.testing.assert_array_equal(found, expected)


def test_paint_that_shows_nothing_leaves_the_masks_that_were_given(actions: Actions, ready: Session) -> None:
    given = ready.masks
    with pytest.raises(InputError, match="nothing is painted"):
        actions.use_painting(ready, json.dumps({0: "", FRAMES - 1: ""}), nothing)
    actions.segmenter = None
    with pytest.raises(InputError, match=f"frame {FRAMES - 1} is not painted"):
        actions.use_painting(ready, paint([0]), nothing)
    assert ready.masks == given
    assert actions.complete(ready, nothing).status.startswith("Done")


def test_an_action_looks_at_the_clip_once_it_has_the_page(actions: Actions, ready: Session) -> None:
    """Else another clip could come between."""
    ready.begin()
    ready.clip = None
    for action in (actions.complete, actions.use_clicks):
        with pytest.raises(InputError, match="at work already"):
            action(ready, nothing)


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
    np.testing.assert_array_equal(actions.clicked_masks(ready, 0)["2"], expected[0])  # for the picture to click on
    actions.use_painting(ready, paint([0, FRAMES - 1]), nothing)
    assert actions.clicked_masks(ready, 0) == {}


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
    assert count_passes(CompletionConfig(None, second), 4) == 2


def test_progress_counts_the_windows_of_each_shot(completer: PageCompleter, tmp_path: Path) -> None:
    rgb = np.concatenate([RGB[:5], 255 - RGB[:5]])  # two windows of 4 in each shot, but three in 10 frames
    masks = write_masks(tmp_path / "masks", np.concatenate([MASK[:5], MASK[:5]]))
    task = PageTask(
        write_frames(tmp_path / "frames", rgb),
        masks,
        None,
        tmp_path / "out",
        len(rgb),
        1,
        rgb[0, ..., 0].size,
        Choices(),
    )
    begun: list[int] = []
    completer(task, lambda step, done, _: begun.append(done) if step == "pass" else None)
    assert json.loads((tmp_path / "out/summary.json").read_text())["cuts"] == [5]
    assert begun == list(range(completer.work(task).passes))


def test_completer_says_what_it_runs(completer: PageCompleter, model: Path) -> None:
    assert completer.description == f"{model} on cpu"


def test_a_visitor_chooses_among_the_bundled_methods(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE["sameo"](tmp_path / "weights/sameo")
    monkeypatch.setattr(methods, "_weights", lambda name: tmp_path / "weights" / name)
    completer = PageCompleter(ModelChoice(model=str(model), device="cpu"))
    assert completer.methods == ("diffusion", "sameo")
    frames, masks = write_frames(tmp_path / "frames", RGB[:3]), write_masks(tmp_path / "masks", MASK[:3])
    task = PageTask(frames, masks, None, tmp_path / "out", 3, 1, RGB[0, ..., 0].size, Choices(method="sameo"))
    completer(task, lambda *_: None)
    assert json.loads((tmp_path / "out/summary.json").read_text())["method"] == "sameo"
    with pytest.raises(InputError, match="method: expected one of diffusion, sameo, got c2f-seg"):
        completer(replace(task, choices=Choices(method="c2f-seg")), lambda *_: None)
