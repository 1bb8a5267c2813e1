"""The contract of every method of stage 1, with learning and without, and of the completer that takes any of them."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.methods import _BASELINES
from amodal_diffusion.models.checkpoint import read_settings
from amodal_diffusion.pipelines import methods
from amodal_diffusion.pipelines.completer import AmodalCompleter, ObjectStream
from amodal_diffusion.pipelines.diffusion_segmenter import DiffusionSegmenter
from amodal_diffusion.pipelines.methods import METHODS, Method, StageNames, method_of
from amodal_diffusion.pipelines.preprocessing import clip_frames
from amodal_diffusion.types import AmodalSegmenter, FloatArray, Segmentation, VideoClip
from tests.methods import WRITE

LEARNED = tuple(METHODS)
OTHERS = tuple(name for name in METHODS if name != "diffusion")
ALL = (*_BASELINES, *LEARNED)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("methods")
    for name, write in WRITE.items():
        write(root / name)
    return {name: root / name for name in WRITE}


@pytest.fixture(scope="module")
def opened(folders: dict[str, Path]) -> dict[str, AmodalSegmenter]:
    """Every method, loaded once."""
    return {name: METHODS[name].open(folder, device="cpu") for name, folder in folders.items()} | _BASELINES


def clip_of(*, frames: int = 4, size: tuple[int, int] = (33, 47), hidden: int | None = 2, seed: int = 0) -> VideoClip:
    """A square over noise that moves right behind a bar; one frame hides all of it."""
    modal = np.zeros((frames, *size), dtype=np.bool_)
    for frame in range(frames):
        modal[frame, size[0] // 4 : size[0] // 2 + 1, 5 * (size[1] > 9) + frame : size[1] // 2 + frame] = True
    modal[..., size[1] // 3 : size[1] // 3 + size[1] // 10] = False
    if hidden is not None:
        modal[hidden] = False
    rgb = np.random.default_rng(seed).integers(0, 255, (*modal.shape, 3), dtype=np.uint8)
    return VideoClip(rgb, modal, cuts="none")


def depth_of(clip: VideoClip) -> FloatArray:
    return np.where(clip.modal_mask, 0.5, 0.9).astype(np.float32)


def drawn(method: AmodalSegmenter, clip: VideoClip, seed: int = 1) -> Segmentation:
    return method(clip, depth_of(clip), generator=torch.Generator().manual_seed(seed))


def assert_equal(one: Segmentation, other: Segmentation) -> None:
    for entry in fields(Segmentation):
        np.testing.assert_array_equal(getattr(one, entry.name), getattr(other, entry.name), err_msg=entry.name)


@pytest.mark.parametrize("name", ALL)
def test_what_a_method_says_of_all_frames(opened: dict[str, AmodalSegmenter], name: str) -> None:
    clip = clip_of()
    found = drawn(opened[name], clip)
    assert (found.mask.dtype, found.probability.dtype, found.valid.dtype, found.score.dtype) == (
        np.bool_, np.float32, np.bool_, np.float32,
    )  # fmt: skip
    assert found.mask.shape == found.probability.shape == clip.modal_mask.shape
    assert found.valid.shape == found.score.shape == (clip.num_frames,)
    assert (found.mask >= clip.modal_mask).all()
    assert 0 <= found.probability.min() <= found.probability.max() <= 1
    assert 0 <= found.score.min() <= found.score.max() <= 1
    assert found.valid[clip.modal_mask.any(axis=(1, 2))].all()
    assert not found.mask[~found.valid].any()
    if name in _BASELINES:
        np.testing.assert_array_equal(found.probability >= 0.5, found.mask)


@pytest.mark.parametrize("name", ALL)
def test_clips_one_after_the_other_share_nothing(opened: dict[str, AmodalSegmenter], name: str) -> None:
    method, first, second = opened[name], clip_of(), clip_of(frames=3, hidden=0, seed=1)
    alone = drawn(method, first)
    other = method(second, depth_of(second))  # without a generator
    assert_equal(drawn(method, first), alone)
    assert_equal(method(second, depth_of(second)), other)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("size", [(5, 7), (40, 3)])
def test_one_frame_smaller_than_a_patch(opened: dict[str, AmodalSegmenter], name: str, size: tuple[int, int]) -> None:
    clip = clip_of(frames=1, size=size, hidden=None)
    found = drawn(opened[name], clip)
    assert found.mask.shape == (1, *size)
    assert found.valid.all()
    assert (found.mask >= clip.modal_mask).all()


@pytest.mark.parametrize("name", LEARNED)
def test_a_folder_gives_the_method_back(
    folders: dict[str, Path], opened: dict[str, AmodalSegmenter], name: str
) -> None:
    assert method_of(folders[name]) == method_of(folders[name], name) == name
    clip = clip_of(frames=2, hidden=None)
    assert_equal(drawn(METHODS[name].open(folders[name], device="cpu"), clip), drawn(opened[name], clip))


@pytest.mark.parametrize("name", LEARNED)
def test_the_completer_gives_the_masks_of_the_method(opened: dict[str, AmodalSegmenter], name: str) -> None:
    method, clip = opened[name], clip_of()
    completer = method.completer if isinstance(method, DiffusionSegmenter) else AmodalCompleter(method, None)
    single = completer(clip, seed=3)
    if name in OTHERS:
        found = method(clip, generator=torch.Generator().manual_seed(3))
        np.testing.assert_array_equal(single.amodal_mask, found.mask)
        np.testing.assert_array_equal(single.score, found.probability)
        assert completer.settings(completer.config()).keys() == {"amodal_segmentation"}
    # Objects of a batch are those that each would be alone.
    other = VideoClip(clip.rgb, np.roll(clip.modal_mask, 9, axis=1), cuts="none")
    frames = zip(clip_frames(clip), clip_frames(other), strict=True)
    masks: list[list[np.ndarray]] = [[], []]
    for place, result in completer.stream_objects(frames, [ObjectStream(), ObjectStream()], seed=3):
        masks[place].append(result.amodal_mask[0])
    np.testing.assert_array_equal(masks[0], single.amodal_mask)
    np.testing.assert_array_equal(masks[1], completer(other, seed=3).amodal_mask)


def test_each_shot_is_segmented_by_itself_and_known_frames_stay(opened: dict[str, AmodalSegmenter]) -> None:
    clip = clip_of(frames=5, hidden=None)
    modal = clip.modal_mask.copy()
    modal[3:] = False
    cut = VideoClip(clip.rgb, modal, cuts=(3,))
    asked: list[int] = []

    def noting(
        clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        asked.append(clip.num_frames)
        return opened["c2f-seg"](clip, depth, generator=generator)

    completer = AmodalCompleter(noting, None)
    found = completer(cut)
    assert asked == [3]  # nothing shows the object in the second shot
    assert not found.amodal_mask[3:].any()
    known = completer(cut, amodal_mask=found.amodal_mask)
    assert asked == [3]
    np.testing.assert_array_equal(known.amodal_mask, found.amodal_mask)


# ---- names, folders, mistakes ----


def test_every_method_has_a_tiny_checkpoint_here() -> None:
    assert WRITE.keys() == METHODS.keys()


def test_the_method_is_read_from_the_checkpoint(folders: dict[str, Path]) -> None:
    completer = AmodalCompleter.from_pretrained(folders["sameo"], stages=("amodal_segmentation",), device="cpu")
    assert type(completer.segmenter).__name__ == "SameoSegmenter"
    assert (completer.device, completer.dtype) == ("cpu", "float32")
    assert len(completer.fingerprints()["amodal_segmentation"]) == 64
    assert completer.config(num_inference_steps=3, samples=1) == completer.config()
    with pytest.raises(InputError, match="tta: is for the masks of diffusion, and another method predicts them"):
        completer.config(tta=2)
    assert StageNames(folders["sameo"]).known_method == "sameo"
    places = StageNames(folders["sameo"]).places()
    assert isinstance(places["content_completion"], Path)
    assert places["content_completion"].name == "tiny"  # a checkpoint of SAMEO has no stage 2


@pytest.mark.parametrize("found", LEARNED)
@pytest.mark.parametrize("wanted", LEARNED)
def test_a_checkpoint_of_another_method_is_one_line(folders: dict[str, Path], found: str, wanted: str) -> None:
    if found == wanted:
        return
    with pytest.raises(InputError, match=f"holds a checkpoint of {found}, not of {wanted}; --method {found} reads it"):
        AmodalCompleter.from_pretrained(folders[found], method=wanted)


def test_what_is_no_checkpoint_of_diffusion_is_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a checkpoint of s-amodal, expected a stage of diffusion; --method s-amodal"):
        read_settings(folders["s-amodal"])
    (tmp_path / "checkpoint.json").write_text('{"format": 2, "method": "newer"}')
    with pytest.raises(InputError, match="holds a checkpoint of newer; this version reads diffusion, c2f-seg"):
        method_of(tmp_path)
    (tmp_path / "checkpoint.json").write_text('{"format": 2, "method": ["sameo"]}')
    with pytest.raises(InputError, match="this version reads diffusion, c2f-seg"):
        method_of(tmp_path)
    (tmp_path / "checkpoint.json").write_text('{"format"')
    with pytest.raises(InputError, match=r"checkpoint\.json: expected JSON"):
        method_of(tmp_path)
    with pytest.raises(InputError, match="method: expected one of diffusion, c2f-seg, s-amodal, sameo, got c2f"):
        StageNames(method="c2f")


def test_bundled_weights_are_named_by_the_method(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(methods, "_weights", lambda name: tmp_path / name)
    for names in (StageNames("tiny", method="sameo"), StageNames("sameo")):
        with pytest.raises(InputError, match="method sameo: no weights of it are bundled; name the folder or hub id"):
            names.places()
    (tmp_path / "sameo").symlink_to(folders["sameo"])
    for names in (StageNames("tiny", method="sameo"), StageNames("sameo")):
        assert names.local() == names.places()["amodal_segmentation"] == tmp_path / "sameo"
        assert names.known_method == "sameo"
    assert "method sameo: its bundled weights are tiny" in caplog.text
    with pytest.raises(InputError, match="holds a checkpoint of sameo, not of c2f-seg"):
        StageNames("sameo", method="c2f-seg").places()


def test_a_new_method_is_an_entry_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """Says that the object fills the frame."""

        @classmethod
        def from_folder(cls, folder: Path, *, device: object) -> Full:
            assert (folder / "checkpoint.json").is_file()
            assert device == torch.device("cpu")
            return cls()

        def __call__(
            self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
        ) -> Segmentation:
            del depth, generator
            return Segmentation.certain(np.ones_like(clip.modal_mask))

    monkeypatch.setitem(sys.modules, "amodal_diffusion.pipelines.full", SimpleNamespace(Full=Full))
    monkeypatch.setitem(METHODS, "full", Method("full", "full:Full", weights="full"))
    (tmp_path / "checkpoint.json").write_text('{"format": 2, "method": "full"}')
    completer = AmodalCompleter.from_pretrained(tmp_path, stages=("amodal_segmentation",), device="cpu")
    assert completer(clip_of()).amodal_mask.all()
    assert (completer.device, completer.fingerprints()) == ("cpu", {})
    assert completer.settings(completer.config()) == {"amodal_segmentation": {}}
