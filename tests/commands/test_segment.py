"""`amodal-diffusion segment`, and `complete` with clicks: real segmenters at tiny size, files, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.prompts import Box, Point, Prompts
from amodal_diffusion.models.segmenters.loading import load_segmenter
from amodal_diffusion.models.segmenters.protocol import segment_frames
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.types import BoolArray
from tests.media import encode, moving_disc, run_command, write_frames, write_masks
from tests.segmenters import silent_sam2, tiny_sam3_folder, tiny_segmenter_folder

RGB, MASK = moving_disc()
QUICK = ("--device", "cpu", "--steps", "1", "--height", "16", "--width", "32", "--stages", "masks", "--depth", "none")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_segmenter_folder(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "frames", RGB)


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def masks_in(folder: Path) -> dict[str, BoolArray]:
    return {name: np.stack(list(track)) for name, track in read_masks(folder).items()}


def refused(capfd: pytest.CaptureFixture[str], *arguments: str | Path, out: Path) -> str:
    """Run a command that must fail, and return its one line; nothing may be left behind."""
    capfd.readouterr()
    assert run(*arguments, "--out", out, "-q") == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1, output.err
    assert not out.exists()
    assert not out.with_name(f"{out.name}.partial").exists()
    return output.err


# What comes out


def test_masks_of_several_objects_are_what_the_segmenter_gives(
    tmp_path: Path, clip: Path, segmenter: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "masks"
    shown = ("--point", "20,24@2", "cat:50,10@4", "--negative-point", "cat:5,5@4", "--box", "3:10,10,40,40@0")
    assert run("segment", clip, *shown, "--segmenter", segmenter, "--out", out, "-q") == 0
    assert capfd.readouterr().out == f"{out}\n"
    prompts = Prompts(
        points=(Point(20, 24, 2), Point(50, 10, 4, object_name="cat"), Point(5, 5, 4, False, "cat")),
        boxes=(Box(10, 10, 40, 40, 0, "3"),),
    )
    expected = segment_frames(RGB, prompts, load_segmenter(str(segmenter), device="cpu"))
    found = masks_in(out)
    assert list(found) == list(expected) == ["1", "3", "cat"]
    for name, masks in found.items():
        np.testing.assert_array_equal(masks, expected[name])
        assert {path.name for path in (out / name).iterdir()} == {f"{index:05d}.png" for index in range(len(RGB))}
    record = json.loads((out / "segmentation.json").read_text())
    assert record["visible_area"]["cat"] == [int(mask.sum()) for mask in expected["cat"]]


def test_a_video_of_odd_size_gives_masks_of_its_size(tmp_path: Path, segmenter: Path) -> None:
    rgb, _ = moving_disc(3, 37, 53)
    video = encode(tmp_path / "clip.mp4", rgb, "-pix_fmt", "yuv444p", "-preset", "ultrafast")
    assert run("segment", video, "--point", "52,36", "--segmenter", segmenter, "--out", tmp_path / "out", "-q") == 0
    assert masks_in(tmp_path / "out")["1"].shape == (3, 37, 53)


def test_a_text_gives_a_folder_for_each_thing_that_it_finds(tmp_path: Path, clip: Path) -> None:
    weights, out = tiny_sam3_folder(tmp_path / "sam3"), tmp_path / "masks"
    assert run("segment", clip, "--text", "a cat", "--segmenter", weights, "--out", out, "-q") == 0
    expected = segment_frames(RGB, Prompts(texts=("a cat",)), load_segmenter(str(weights), device="cpu"))
    found = masks_in(out)
    assert list(found) == sorted(expected)
    assert "a-cat-1" in found
    for name, masks in found.items():
        np.testing.assert_array_equal(masks, expected[name])


def test_what_segment_writes_is_what_complete_reads(tmp_path: Path, clip: Path, segmenter: Path, model: Path) -> None:
    masks, separate, at_once = tmp_path / "masks", tmp_path / "separate", tmp_path / "at_once"
    shown = ("--point", "20,24@2", "b:50,10@4", "--segmenter", segmenter)
    assert run("segment", clip, *shown, "--out", masks, "--device", "cpu", "-q") == 0
    assert run("complete", clip, "--masks", masks, "--out", separate, "--model", model, *QUICK, "-q") == 0
    assert run("complete", clip, *shown, "--out", at_once, "--model", model, *QUICK, "-q") == 0
    for name, expected in masks_in(masks).items():
        kept = masks_in(at_once / "objects" / name / "modal_masks")["1"]
        np.testing.assert_array_equal(kept, expected)
        for index in range(len(RGB)):
            file = f"objects/{name}/amodal_masks/{index:05d}.png"
            assert (at_once / file).read_bytes() == (separate / file).read_bytes()
    summary = json.loads((at_once / "summary.json").read_text())
    assert summary["settings"]["segmenter"] == str(segmenter)
    assert summary["settings"]["point"] == ["20,24@2", "b:50,10@4"]
    assert json.loads((at_once / "segmentation.json").read_text())["prompts"]["points"][1] == {
        "x": 50.0,
        "y": 10.0,
        "frame": 4,
        "inside": True,
        "object_name": "b",
    }


def test_complete_goes_on_from_masks_that_clicks_have_made(
    tmp_path: Path, clip: Path, segmenter: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ("complete", clip, "--point", "20,24@2", "--segmenter", segmenter, "--out", out, "--model", model, "-q")
    with monkeypatch.context() as patch:
        patch.setattr("amodal_diffusion.completion.clip.clip_depth", interrupt)
        assert run(*command, *QUICK) == 130
    made = tmp_path / "out.partial" / "objects" / "1" / "modal_masks" / "00000.png"
    before = made.stat().st_mtime_ns
    monkeypatch.setattr("amodal_diffusion.completion.networks.open_segmenter", interrupt)  # not needed again
    assert run(*command, *QUICK) == 0
    assert (out / made.relative_to(tmp_path / "out.partial")).stat().st_mtime_ns == before


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_is_interrupted_leaves_no_masks(
    tmp_path: Path, clip: Path, segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(path: Path, mask: BoolArray) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        Image.fromarray(mask).save(path)

    monkeypatch.setattr("amodal_diffusion.completion.segmentation.write_mask_png", write)
    assert run("segment", clip, "--point", "20,24@2", "--segmenter", segmenter, "--out", tmp_path / "out", "-q") == 130
    assert len(written) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames"]


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--point", "64,10@0"), "point: 64,10@0: expected a place in the frame of 64x48 pixels"),
        (("--point", "10,48"), "point: 10,48@0: expected a place in the frame of 64x48 pixels"),
        (("--point", "10,10@6"), "point: 10,10@6: no such frame; the clip has 6, numbered 0 to 5"),
        (("--point", "10,10@0", "--negative-point", "99,10@0"), "negative-point: 99,10@0: expected a place"),
        (("--negative-point", "10,10@0"), "negative-point: object 1 has no point and no box in frame 0"),
        (("--box", "40,10,20,30@0"), "box: 40,10,20,30@0: expected left < right and top < bottom"),
        (("--box", "10,10,65,30@0"), "in the frame of 64x48 pixels"),
        (("--box", "1,1,9,9", "2,2,9,9"), "box: object 1 has 2 boxes in frame 0, expected one"),
        (("--point", "ten,10@0"), "--point: expected [ID:]X,Y@FRAME, such as 120,80@0 or 2:120,80@0, got 'ten,10@0'"),
        (("--point", "nan,10@0"), "point: nan,10@0: expected a place in the frame"),
        (("--point", "../x:10,10@0"), "object '../x': expected a name of letters"),
        (("--point", ":10,10@0"), "object '': expected a name of letters"),
        (("--box", "1,2,3@0"), "--box: expected [ID:]X0,Y0,X1,Y1@FRAME"),
        ((), "prompt: no point, box or text is given"),
        (("--text", " "), "text: empty; give what to find"),
        (("--text", "cat", "--point", "10,10"), "text: cannot be combined with points and boxes"),
        (("--text", "cat"), "text: Sam2VideoModel knows points and boxes alone"),
    ],
)
def test_prompts_that_do_not_fit(
    tmp_path: Path,
    clip: Path,
    segmenter: Path,
    capfd: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    assert words in refused(capfd, "segment", clip, *options, "--segmenter", segmenter, out=tmp_path / "out")


def test_a_click_that_selects_nothing(tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = tiny_segmenter_folder(tmp_path / "silent", silent_sam2())
    line = refused(capfd, "segment", clip, "--point", "cat:10,10@3", "--segmenter", weights, out=tmp_path / "out")
    assert "prompt: object cat: selects nothing in frame 3; click on the object itself" in line


def test_without_a_segmenter_masks_come_from_colors_and_motion(
    tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("segment", clip, "--point", "19,24", "--out", tmp_path / "out", "-q") == 0
    notice = capfd.readouterr().err
    assert notice.count("\n") == 1
    assert "masks are made without a network" in notice
    assert "--segmenter facebook/sam2.1-hiera-tiny" in notice
    found = masks_in(tmp_path / "out")["1"]
    assert (found & MASK).sum() / (found | MASK).sum() > 0.9


def test_a_text_needs_a_segmenter(tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = refused(capfd, "segment", clip, "--text", "disc", out=tmp_path / "out")
    assert line.startswith("error: --segmenter: a text needs one that knows words, such as facebook/sam3")


@pytest.mark.slow
def test_complete_with_a_point_needs_no_weights_of_a_segmenter(tmp_path: Path) -> None:
    scene = make_scene(0, split="validation", frames=8, height=120, width=216)
    assert scene.rgb is not None
    clip, out = write_frames(tmp_path / "frames", scene.rgb), tmp_path / "out"
    rows, columns = np.nonzero(scene.target.modal[0])
    point = f"{columns[len(columns) // 2]},{rows[len(rows) // 2]}"
    result = run_command("complete", clip, "--point", point, "--out", out, "--depth", "none")
    assert result.returncode == 0, result.stderr
    assert "masks are made without a network" in result.stderr
    found, truth = masks_in(out / "objects/1/modal_masks")["1"][0], scene.target.modal[0]
    assert (found & truth).sum() / (found | truth).sum() > 0.8
    assert (out / "objects/1/completed").is_dir()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", "segmenter nosuch: no folder, hub id or plug-in of this name"),
        ("nobody/nothing", "`amodal-diffusion download nobody/nothing --out DIR`, then give DIR instead"),
    ],
)
def test_a_segmenter_that_is_not_there(
    tmp_path: Path,
    clip: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    assert words in refused(capfd, "segment", clip, "--point", "1,1", "--segmenter", name, out=out)


def spoil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def spoil_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def spoil_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_pickle, "pickle files can run code and are never loaded"),
        (spoil_kind, "is a bert model, expected one of sam2_video"),
        (spoil_weights, "cannot be loaded as Sam2VideoModel"),
    ],
)
def test_a_segmenter_that_is_damaged(
    tmp_path: Path, clip: Path, segmenter: Path, capfd: pytest.CaptureFixture[str], spoil: object, words: str
) -> None:
    broken = Path(shutil.copytree(segmenter, tmp_path / "broken"))
    assert callable(spoil)
    spoil(broken)
    assert words in refused(capfd, "segment", clip, "--point", "1,1", "--segmenter", broken, out=tmp_path / "out")


def test_masks_and_clicks_at_once(
    tmp_path: Path, clip: Path, segmenter: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    masks, out = write_masks(tmp_path / "masks", MASK), tmp_path / "out"
    clicks = ("--point", "20,24@2", "--segmenter", segmenter)
    assert "got both" in refused(capfd, "complete", clip, "--masks", masks, *clicks, out=out)
    assert "got neither" in refused(capfd, "complete", clip, out=out)
    paint = ("--amodal-masks", masks)
    assert "--amodal-masks: needs --masks" in refused(capfd, "complete", clip, *clicks, *paint, out=out)
    assert "--object: needs --masks" in refused(capfd, "complete", clip, *clicks, "--object", "1", out=out)
