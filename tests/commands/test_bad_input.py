"""Bad input to `amodal-diffusion complete`: one line, status 2, nothing left behind; and odd input that must work.

One row of the table runs in a process of its own, as a user's does; the others run `main` in this one, where no network
may be loaded for what is refused.
"""

from __future__ import annotations

import json
import resource
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli import main
from amodal_diffusion.completion import clip as completion
from amodal_diffusion.io.atomic import DIGESTS
from amodal_diffusion.io.images import read_integers
from amodal_diffusion.io.video_reader import open_clip
from tests.media import (
    H264,
    damage,
    encode,
    encode_whole_first,
    ffmpeg,
    moving_disc,
    run_command,
    truncate,
    write_frames,
    write_masks,
)

RGB, MASK = moving_disc()
Refused = Callable[..., str]
QUICK = ("--device", "cpu")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "frames", RGB)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return write_masks(tmp_path / "masks", MASK)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Runs the command, checks that it fails as it should before any network is loaded, and gives its one line."""

    def load(_: object) -> None:
        raise AssertionError("networks are loaded before the inputs are checked")

    def run(clip: Path, masks: Path, *options: str | Path) -> str:
        before = set(clip.parent.iterdir())
        arguments = ["complete", clip, "--masks", masks, "--out", clip.parent / "out", *options]
        monkeypatch.setattr(completion, "Networks", load)
        assert main([str(argument) for argument in arguments]) == 2
        monkeypatch.undo()
        printed = capfd.readouterr()
        assert_one_line(printed.out, printed.err)
        assert set(clip.parent.iterdir()) == before
        return printed.err

    return run


def assert_one_line(out: str, error: str) -> None:
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert error.endswith("\n")


# No such file, not a video, empty


@pytest.mark.parametrize(
    ("name", "problem"),
    [("absent.mp4", "no such file"), ("empty.mp4", "empty (0 bytes)"), ("text.mp4", "not a video")],
)
def test_no_clip(tmp_path: Path, masks: Path, refused: Refused, name: str, problem: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello")
    line = refused(tmp_path / name, masks)
    assert problem in line
    assert name in line


def test_a_process_of_its_own_ends_likewise(tmp_path: Path, masks: Path) -> None:
    result = run_command("complete", tmp_path / "absent.mp4", "--masks", masks, "--out", tmp_path / "out")
    assert result.returncode == 2
    assert_one_line(result.stdout, result.stderr)


# Truncated or damaged video


def test_a_truncated_video(tmp_path: Path, refused: Refused) -> None:
    rgb, mask = moving_disc(24)
    cut = truncate(encode_whole_first(tmp_path / "whole.mp4", rgb), tmp_path / "cut.mp4", 0.6)
    line = refused(cut, write_masks(tmp_path / "masks", mask))
    kept = open_clip(cut, allow_truncated=True).num_frames
    assert f"{kept} of 24 frames decode (3 s x 8 frames a second), read by PyAV" in line
    assert "--allow-truncated" in line


def test_a_damaged_video(tmp_path: Path, refused: Refused) -> None:
    rgb, mask = moving_disc(24)
    hurt = damage(encode_whole_first(tmp_path / "whole.mp4", rgb), tmp_path / "hurt.mp4", 0.5, 0.6)
    assert "of 24 frames decode" in refused(hurt, write_masks(tmp_path / "masks", mask))


def test_a_truncated_video_that_is_allowed(tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rgb, mask = moving_disc(24)
    cut = truncate(encode_whole_first(tmp_path / "whole.mp4", rgb), tmp_path / "cut.mp4", 0.6)
    summary = completed(tmp_path, cut, write_masks(tmp_path / "masks", mask), model, "--allow-truncated")
    kept = open_clip(cut, allow_truncated=True).num_frames
    assert summary["clip"]["frames"] == kept
    notices = capfd.readouterr().err.splitlines()
    assert all(line.startswith(("warning: ", "depth: ")) for line in notices), notices
    assert any(f"{kept} of 24 frames decode" in line for line in notices)


# Mask and frame counts or sizes differ, no mask at all, gray masks


def test_counts_differ(tmp_path: Path, frames: Path, refused: Refused) -> None:
    assert "4 masks for 6 frames" in refused(frames, write_masks(tmp_path / "masks", MASK[:4]))


def test_sizes_differ(tmp_path: Path, frames: Path, refused: Refused) -> None:
    line = refused(frames, write_masks(tmp_path / "masks", MASK[:, :20, :30]))
    assert "30x20" in line
    assert "64x48" in line


def test_no_mask_at_all(tmp_path: Path, frames: Path, refused: Refused) -> None:
    (tmp_path / "masks").mkdir()
    assert "no masks" in refused(frames, tmp_path / "masks")


def test_soft_gray_masks(tmp_path: Path, frames: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    distance = np.abs(np.arange(64) - 32)[None, None] + np.zeros((6, 48, 1), int)
    soft = np.clip(255 - distance * 9, 0, 255) + np.arange(48)[None, :, None] % 9
    soft = np.clip(soft, 0, 255).astype(np.uint8)
    summary = completed(tmp_path, frames, write_masks(tmp_path / "masks", soft), model, "--stages", "masks")
    assert summary["objects"]["1"]["visible_area"] == [int(mask.sum()) for mask in soft >= 128]
    assert "warning: masks: " in capfd.readouterr().err


# Modal mask empty in every frame


def test_empty_in_every_frame(tmp_path: Path, frames: Path, refused: Refused) -> None:
    line = refused(frames, write_masks(tmp_path / "masks", np.zeros_like(MASK)))
    assert "empty in every one of 6 frames" in line


def test_empty_in_some_frames(tmp_path: Path, frames: Path, model: Path) -> None:
    some = MASK.copy()
    some[[0, 3]] = False
    summary = completed(tmp_path, frames, write_masks(tmp_path / "masks", some), model, "--stages", "masks")
    assert summary["objects"]["1"]["visible_area"][3] == 0


# Unknown model, wrong checkpoint, missing part, a pickle file


def test_an_unknown_model(tmp_path: Path, frames: Path, masks: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["complete", str(frames), "--masks", str(masks), "--out", str(tmp_path / "out"), "--model", "nosuch"]
    assert main(arguments) == 2
    printed = capfd.readouterr()
    assert_one_line(printed.out, printed.err)
    assert "model nosuch: " in printed.err
    assert not list(tmp_path.glob("out*"))


def spoil_wrong_keys(folder: Path) -> None:
    unet = folder / "amodal_segmentation" / "unet"
    shutil.copy(folder / "vae" / "diffusion_pytorch_model.safetensors", unet)


def spoil_missing_part(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def spoil_pickle(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_wrong_keys, ("missing", "unexpected", "unet")),
        (spoil_missing_part, ("vae", "found", "image_encoder")),
        (spoil_pickle, ("safetensors", "found diffusion_pytorch_model.bin", "pickle")),
    ],
)
def test_a_wrong_checkpoint(
    tmp_path: Path,
    frames: Path,
    masks: Path,
    model: Path,
    spoil: object,
    words: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    (broken / DIGESTS).unlink()  # as a folder that another program wrote
    assert callable(spoil)
    spoil(broken)
    out = tmp_path / "out"
    assert main(["complete", str(frames), "--masks", str(masks), "--out", str(out), "--model", str(broken)]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words), error
    assert not out.exists()
    assert not out.with_name("out.partial").exists()


# DIR not empty


def test_a_folder_that_is_not_empty(tmp_path: Path, frames: Path, masks: Path, refused: Refused) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    assert "not empty" in refused(frames, masks)
    assert "thesis.txt" in refused(frames, masks, "--overwrite")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


# All work, within memory


def completed(tmp_path: Path, clip: Path, masks: Path, model: Path, *options: str) -> dict:
    """Run the command in this process, check what every result must hold, and return its summary."""
    out = tmp_path / "out"
    arguments = ["complete", str(clip), "--masks", str(masks), "--out", str(out), "--model", str(model), "-q"]
    assert main([*arguments, *QUICK, *options]) == 0
    summary = json.loads((out / "summary.json").read_text())
    entry, size = summary["clip"], (summary["clip"]["height"], summary["clip"]["width"])
    for name, areas in summary["objects"].items():
        files = sorted((out / "objects" / name / "amodal_masks").iterdir())
        assert [path.name for path in files] == [f"{index:05d}.png" for index in range(entry["frames"])]
        for path, area, visible in zip(files, areas["amodal_area"], areas["visible_area"], strict=True):
            values = read_integers(path).values
            assert values.shape == size
            assert set(np.unique(values)) <= {0, 255}
            assert (values > 0).sum() == area >= visible
    overlay = open_clip(out / "overlay.mp4")
    assert overlay.num_frames == entry["frames"]
    assert (overlay.height, overlay.width) == tuple(side + side % 2 for side in size)
    return summary


ODD = {
    "one frame": (1, 48, 64, H264),
    "3 frames": (3, 48, 64, H264),
    "33 frames": (33, 16, 32, H264),
    "37x53 pixels": (3, 53, 37, ("-pix_fmt", "yuv444p", "-preset", "ultrafast")),
    "AV1": (3, 64, 96, ("-c:v", "libsvtav1", "-pix_fmt", "yuv420p")),
    "10-bit": (3, 48, 64, ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none")),
    "variable frame rate": (9, 48, 64, (*H264, "-vf", "select='not(eq(mod(n,3),1))'", "-fps_mode", "vfr")),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_clips_work(tmp_path: Path, model: Path, kind: str) -> None:
    frames, height, width, options = ODD[kind]
    rgb, mask = moving_disc(frames, height, width)
    if kind == "variable frame rate":
        mask = mask[np.arange(frames) % 3 != 1]
    clip = encode(tmp_path / "clip.mp4", rgb, *options)
    summary = completed(tmp_path, clip, write_masks(tmp_path / "masks", mask), model, "--stages", "masks")
    assert (summary["clip"]["frames"], summary["clip"]["height"]) == (len(mask), height)


def test_a_rotated_clip_works(tmp_path: Path, model: Path) -> None:
    rgb, mask = moving_disc(3)
    encode(tmp_path / "plain.mp4", rgb)
    ffmpeg("-display_rotation", "90", "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "clip.mp4")
    upright = write_masks(tmp_path / "masks", np.ascontiguousarray(np.rot90(mask, axes=(1, 2))))
    completed(tmp_path, tmp_path / "clip.mp4", upright, model)
    layer = np.asarray(Image.open(tmp_path / "out/objects/1/completed/00000.png"))
    seen = np.rot90(mask[0])
    assert layer.shape == (64, 48, 4)
    assert np.abs(layer[seen][:, :3].astype(int) - np.rot90(rgb[0])[seen]).mean() < 6


@pytest.mark.slow
def test_arrays_held_at_a_time_are_a_few_frames(tmp_path: Path, model: Path) -> None:
    rgb, mask = moving_disc(5, 540, 960)
    clip, masks, out = encode(tmp_path / "clip.mp4", rgb), write_masks(tmp_path / "masks", mask), tmp_path / "out"
    command = ["complete", str(clip), "--masks", str(masks), "--out", str(out), "--model", str(model), "-q", *QUICK]
    assert main(command) == 0  # what is imported and cached at the first call is not counted
    tracemalloc.start()
    try:
        assert main([*command, "--overwrite"]) == 0
        assert tracemalloc.get_traced_memory()[1] < 16 * rgb[0].nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_4k_works_within_memory(tmp_path: Path, model: Path) -> None:
    rgb, mask = moving_disc(2, 2160, 3840)
    clip = encode(tmp_path / "clip.mp4", rgb)
    masks, out = write_masks(tmp_path / "masks", mask), tmp_path / "out"
    result = run_command("complete", clip, "--masks", masks, "--out", out, "--model", model, "-q", *QUICK)
    assert result.returncode == 0, result.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 * 2**20  # KiB
    layer = np.asarray(Image.open(out / "objects" / "1" / "completed" / "00001.png"))
    seen = next(frame for index, frame in enumerate(open_clip(clip)) if index == 1)
    np.testing.assert_array_equal(layer[mask[1]][:, :3], seen[mask[1]])
