"""Other methods of stage 1 on the command line: `complete --method`, `batch`, `refine`, `synthesize`; mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.commands.synthesize import read_range
from amodal_diffusion.completion import objects
from amodal_diffusion.evaluation.benchmarks.registry import open_benchmark
from amodal_diffusion.evaluation.methods import ModelOptions, build_methods
from amodal_diffusion.models.hub import bundled_models
from amodal_diffusion.models.sameo import Sameo
from amodal_diffusion.pipelines import methods
from amodal_diffusion.pipelines.methods import METHODS
from amodal_diffusion.types import VideoClip
from tests.commands.folders import amodal_masks, contents, discs_behind_a_bar, fail_at, pictures
from tests.methods import WRITE

OTHERS = tuple(name for name in METHODS if name != "diffusion")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("methods")
    for name in OTHERS:
        WRITE[name](root / name)
    return {name: root / name for name in OTHERS}


@pytest.fixture
def weights(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny checkpoints, in the place of bundled weights."""
    places = {**folders, "tiny": bundled_models()["tiny"]}
    monkeypatch.setattr(methods, "_weights", lambda name: places.get(name, Path("nowhere")))


def failed(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that is refused."""
    capfd.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_method_masks_and_the_same_stage_2_paints(tmp_path: Path, folders: dict[str, Path], model: Path) -> None:
    inputs = [*discs_behind_a_bar(tmp_path, folders["sameo"], 5, {"cup": 0}), "--content-model", str(model)]
    out = tmp_path / "out"
    assert main(["complete", *inputs, "--method", "sameo", "--formats", "png,scores", "--out", str(out), "-q"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["method"], summary["model"]) == ("sameo", str(folders["sameo"]))
    assert summary["sampling"].keys() == {"amodal_segmentation", "content_completion"}
    visible = pictures(tmp_path / "masks/cup") > 0
    found = METHODS["sameo"].open(folders["sameo"], device="cpu")(VideoClip(pictures(tmp_path / "frames"), visible))
    masks = amodal_masks(out, "cup")
    np.testing.assert_array_equal(masks, found.mask)
    np.testing.assert_allclose(pictures(out / "objects/cup/scores") / 65535, found.probability, atol=1e-5)
    np.testing.assert_array_equal(pictures(out / "objects/cup/completed")[..., 3] > 0, masks)


@pytest.mark.parametrize("name", OTHERS)
def test_the_checkpoint_tells_the_method(tmp_path: Path, folders: dict[str, Path], name: str) -> None:
    inputs, out = discs_behind_a_bar(tmp_path, folders[name], 3, {"cup": 0, "box": 8}), tmp_path / "out"
    assert main(["complete", *inputs, "--stages", "masks", "--object-batch", "2", "--out", str(out), "-q"]) == 0
    segmenter, frames = METHODS[name].open(folders[name], device="cpu"), pictures(tmp_path / "frames")
    for number in ("cup", "box"):
        clip = VideoClip(frames, pictures(tmp_path / "masks" / number) > 0)
        np.testing.assert_array_equal(amodal_masks(out, number), segmenter(clip).mask)


@pytest.mark.usefixtures("weights")
def test_without_a_model_the_bundled_weights_are_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inputs = discs_behind_a_bar(tmp_path, Path("tiny"), 3, {"cup": 0})
    out, stages = tmp_path / "out", ("--stages", "masks", "-q")
    assert main(["complete", *inputs, "--method", "sameo", "--out", str(out), *stages]) == 0
    assert "method sameo: its bundled weights are tiny" in capfd.readouterr().err
    assert json.loads((out / "summary.json").read_text())["method"] == "sameo"
    (tmp_path / "clips.csv").write_text(f"clip,masks\n{tmp_path / 'frames'},{tmp_path / 'masks'}\n")
    several = ["batch", "--input", str(tmp_path / "clips.csv"), "--method", "sameo", "--device", "cpu", *stages]
    assert main([*several, "--out", str(tmp_path / "outs")]) == 0
    (made,) = (path for path in (tmp_path / "outs").iterdir() if path.is_dir())
    np.testing.assert_array_equal(amodal_masks(made, "cup"), amodal_masks(out, "cup"))


def test_a_finished_result_stays_and_another_method_is_other_settings(
    tmp_path: Path, folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    first = discs_behind_a_bar(tmp_path, folders["sameo"], 3, {"cup": 0})
    rest = ("--stages", "masks", "-q", "--formats", "scores", "--out", tmp_path / "out")
    assert main(["complete", *first, *map(str, rest)]) == 0
    second = [part.replace(str(folders["sameo"]), str(folders["s-amodal"])) for part in first]
    assert "out:" in failed(capfd, "complete", *second, *rest)
    again = (*rest[:-1], tmp_path / "cut", "--from-scores", tmp_path / "out")
    assert "made with sameo; masks are cut anew from scores of diffusion alone" in failed(
        capfd, "complete", *first, *(str(part) for part in again if part != "--formats" and part != "scores")
    )


def test_an_interrupted_run_goes_on(tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = discs_behind_a_bar(tmp_path, folders["sameo"], 6, {"cup": 0})
    rest = ("--stages", "masks", "--formats", "scores", "-q", "--out")
    with monkeypatch.context() as patch:
        patch.setattr(objects, "write_mask_png", fail_at("cup", 5, KeyboardInterrupt()))
        assert main(["complete", *inputs, *rest, str(tmp_path / "out")]) == 130
    assert not (tmp_path / "out").exists()
    for out in ("out", "whole"):
        assert main(["complete", *inputs, *rest, str(tmp_path / out)]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "c2f-seg"), "holds a checkpoint of sameo, not of c2f-seg; --method sameo reads it"),
        (("--tta", "2"), "--tta: is for the masks of diffusion, and sameo predicts them; leave it out"),
        (("--samples", "3"), "--samples: is for the masks of diffusion, and sameo"),
        (("--mask-filters", "none", "--method", "sameo"), "--mask-filters: is for the masks of diffusion, and sameo"),
        (("--stages", "masks", "--steps", "3"), "--steps: is for diffusion, which --stages masks with sameo does not"),
        (("--stages", "masks", "--scheduler", "heun"), "--scheduler: is for diffusion, which --stages masks"),
        (("--stages", "masks", "--guidance", "2"), "--guidance: is for diffusion, which --stages masks"),
        (("--stages", "masks", "--vae", "tiny"), "--vae: is for diffusion, which --stages masks"),
        (("--stages", "masks", "--dry-run"), "--dry-run: plans diffusion, and --stages masks with sameo uses none"),
        (("--method", "sameo", "--amodal-masks", "masks"), "--method: chooses stage 1, which --amodal-masks replaces"),
    ],
)
def test_what_does_not_fit_the_method_is_one_line_before_anything_is_written(
    tmp_path: Path,
    folders: dict[str, Path],
    capfd: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    inputs = discs_behind_a_bar(tmp_path, folders["sameo"], 3, {"cup": 0})
    before = set(tmp_path.iterdir())
    assert message in failed(capfd, "complete", *inputs, "--out", tmp_path / "out", *options)
    assert set(tmp_path.iterdir()) == before


def test_a_checkpoint_of_diffusion_is_not_of_another_method(
    tmp_path: Path, model: Path, folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = discs_behind_a_bar(tmp_path, model, 3, {"cup": 0})
    line = failed(capfd, "complete", *inputs, "--method", "s-amodal", "--out", tmp_path / "out")
    assert f"model {model}: holds a checkpoint of diffusion, not of s-amodal; --method diffusion reads it" in line
    stage_2 = ("--content-model", folders["sameo"], "--out", tmp_path / "out")
    assert "a checkpoint of sameo, expected a stage of diffusion" in failed(capfd, "complete", *inputs, *stage_2)


@pytest.mark.usefixtures("weights")
def test_methods_of_an_evaluation(folders: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    names = ["modal", "sameo", "s-amodal", str(folders["c2f-seg"])]
    built = build_methods(names, ModelOptions(device="cpu", stages=("amodal_segmentation",)))
    assert [method.learned for method in built] == [False, True, True, True]
    assert "method sameo: its bundled weights are tiny" in caplog.text
    target = open_benchmark("scenes", split="validation", limit=1).track(0)
    for method in built:
        assert (method.predict(target) >= target.clip.modal_mask).all()
        described = method.describe(paints=False)
        if method.learned:
            assert len(described["amodal_segmentation"]["fingerprint"]) == 64  # type: ignore[index]
    with pytest.raises(InputError, match="sameo@depth: sameo uses no depth; leave out @depth"):
        build_methods(["sameo@depth"], ModelOptions(device="cpu"))
    with pytest.raises(InputError, match=r"sameo\+vae: sameo has no autoencoder to replace"):
        build_methods(["sameo+vae"], ModelOptions(device="cpu", vae="tiny"))


# ---- images ----


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two images of a square each, with detections that are annotations as well."""
    images, annotations = [], []
    (tmp_path / "images").mkdir()
    for number in (7, 12):
        rgb = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(tmp_path / f"images/{number:012d}.png")
        images.append({"id": number, "height": 48, "width": 64, "file_name": f"{number:012d}.png"})
        annotations.append(
            {
                "id": number, "image_id": number, "category_id": 1, "bbox": [6, 6, 36, 36], "score": 0.5,
                "segmentation": [[6, 6, 42, 6, 42, 42, 6, 42]],
            }
        )  # fmt: skip
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_refine_writes_amodal_results(
    tmp_path: Path, folders: dict[str, Path], coco: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "amodal.json"
    arguments = ("refine", coco, "--images", tmp_path / "images", "--out", out, "--device", "cpu")
    assert main([str(part) for part in (*arguments, "--model", folders["sameo"], "-q")]) == 0
    results = json.loads(out.read_text())
    assert [result["image_id"] for result in results] == [7, 12]
    assert all(result["score"] == pytest.approx(0.5 * result["predicted_iou"]) for result in results)
    assert f"{out}: 2 results in 2 images" in capfd.readouterr().out
    assert "exists; choose another file" in failed(capfd, *arguments, "--model", folders["sameo"])
    out.unlink()
    assert "holds a checkpoint of c2f-seg, not of sameo" in failed(capfd, *arguments, "--model", folders["c2f-seg"])
    boxes = json.loads(coco.read_text())
    boxes["annotations"][1]["bbox"] = [70, 6, 4, 4]
    coco.write_text(json.dumps(boxes))
    assert "json: 1: bbox: expected a box in the image" in failed(capfd, *arguments, "--model", "nothing")
    assert not out.exists()


def test_synthesize_writes_occluded_images_and_their_twins(
    tmp_path: Path,
    folders: dict[str, Path],
    coco: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(model: Sameo, embeddings: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The boxes themselves, with confidence."""
        del model, embeddings
        grid = torch.arange(32) * 2  # masks of 32 pixels in a square of 64
        left, top, right, bottom = boxes[0].float().unbind(-1)
        columns = (grid >= left[:, None]) & (grid < right[:, None])
        rows = (grid >= top[:, None]) & (grid < bottom[:, None])
        return 20.0 * (rows[:, :, None] & columns[:, None])[None] - 10, torch.full(boxes.shape[:2], 0.9)

    monkeypatch.setattr(Sameo, "decode", answer)
    made = tmp_path / "made"
    arguments = ("synthesize", coco, "--images", tmp_path / "images", "--out", made, "--model", folders["sameo"])
    assert main([*map(str, arguments), "--count", "2", "--rate", "0.2,0.5", "--least-iou", "0.8"]) == 0
    assert "2 occluded images and their untouched twins\nobjects left out: none" in capfd.readouterr().out
    assert len(json.loads((made / "annotations.json").read_text())["images"]) == 4
    assert "has annotations.json already" in failed(capfd, *arguments)
    for option, message in {
        "--rate=0.7,0.2": "expected 0 < least <= largest",
        "--least-iou=2": "--least-iou: expected a share from 0 to 1, got 2",
        "--images=nowhere": "nowhere: expected the folder of the images",
    }.items():
        assert message in failed(capfd, *arguments[:5], tmp_path / "other", *arguments[6:], option)
    with pytest.raises(InputError, match=r"expected two numbers LOW,HIGH, got 0\.5"):
        read_range("0.5")
