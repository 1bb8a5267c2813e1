"""A call with frames and masks: one object, several, labels; and where the networks are."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.pipelines.preprocessing import clip_frames
from amodal_diffusion.types import AmodalResult, VideoClip
from tests.factories import moving_square

CLIP = moving_square(3)
OTHER = np.roll(CLIP.modal_mask, 6, axis=2) & ~CLIP.modal_mask
LABELS = CLIP.modal_mask * np.int32(7) + OTHER * np.int32(2)
SMALL = {"height": 8, "width": 16, "num_inference_steps": 1}


def same(one: AmodalResult, other: AmodalResult) -> bool:
    return bool((one.amodal_mask == other.amodal_mask).all()) and bool((one.rgba == other.rgba).all())  # type: ignore[union-attr]


def test_frames_and_masks_are_a_clip(completer: AmodalCompleter) -> None:
    config = completer.config(**SMALL)
    expected = completer(CLIP, config, seed=2)
    assert same(completer(CLIP, config=config, seed=2), expected)
    for masks in (CLIP.modal_mask, torch.from_numpy(CLIP.modal_mask)[:, None], list(CLIP.modal_mask)):
        found = completer(CLIP.rgb, masks, 8.0, config=config, seed=2)
        assert isinstance(found, AmodalResult)
        assert same(found, expected)


def test_several_objects_get_what_each_gets_alone(completer: AmodalCompleter) -> None:
    config = completer.config(**SMALL)
    depth = np.random.default_rng(0).random((3, 24, 40))
    alone = [completer(VideoClip(CLIP.rgb, mask), config, depth=depth) for mask in (CLIP.modal_mask, OTHER)]
    together = completer(CLIP.rgb, np.stack([CLIP.modal_mask, OTHER]), config=config, depth=depth)
    labelled = completer(CLIP.rgb, LABELS, config=config, labels=True, depth=depth)
    assert all(map(same, together, alone))
    assert all(map(same, labelled, alone[::-1]))  # labels ascend
    (single,) = completer(CLIP.rgb, CLIP.modal_mask[None], config=config, depth=depth)
    assert same(single, alone[0])


def test_known_amodal_masks_of_several_objects(completer: AmodalCompleter) -> None:
    whole = np.stack([CLIP.modal_mask | OTHER, OTHER])
    config = completer.config(**SMALL)
    found = completer(CLIP.rgb, np.stack([CLIP.modal_mask, OTHER]), config=config, amodal_mask=whole)
    assert all((result.amodal_mask == mask).all() for result, mask in zip(found, whole, strict=True))


@pytest.mark.parametrize(
    ("frames", "masks", "more", "message"),
    [
        (CLIP.rgb, None, {}, "masks: missing"),
        (CLIP, CLIP.modal_mask, {}, "masks: the clip has modal masks already"),
        (CLIP.rgb, LABELS, {}, "if each value is an object, call with labels=True, or give mask == 7"),
        (CLIP.rgb, LABELS * 0, {"labels": True}, "masks: no value beside 0"),
        (CLIP.rgb, np.stack([OTHER] * 2, axis=1), {}, r"objects come first: masks.transpose\(1, 0, 2, 3\)"),
        (CLIP.rgb, OTHER[..., None], {}, r"drop the last axis: masks\[..., 0\]"),
        (CLIP.rgb, CLIP.modal_mask, {"labels": True}, r"masks: expected integers \[F, H, W\] with a value for each"),
        (CLIP.rgb, np.stack([OTHER, OTHER & False]), {}, r"masks\[1\]: empty in every frame"),
        (CLIP.rgb, OTHER[:2], {}, r"masks: expected \[3, 24, 40\] to match the frames, got \[2, 24, 40\]"),
        (CLIP.rgb, OTHER, {"amodal_mask": np.stack([OTHER] * 2)}, "amodal_mask: expected masks of 1 objects, got 2"),
        (CLIP.rgb, OTHER, {"config": {"preset": "fast"}}, r"config: .*, got dict; make one with completer.config\(pre"),
        (CLIP.rgb, OTHER, {"seed": -1}, "seed: expected at least 0, got -1"),
        (CLIP.rgb, OTHER, {"seed": 1.0}, "seed: expected an integer, got 1.0"),
        (CLIP.rgb, OTHER, {"preset": "fast"}, r"preset: give it as config=completer.config\(preset=...\)"),
        (
            CLIP.rgb,
            OTHER,
            {"num_steps": 3},
            r"num_steps: unknown; .*=completer.config\(num_inference_steps=...\)",
        ),
        (CLIP.rgb, OTHER, {"generator": torch.Generator()}, "generator: unknown; give an integer as seed=..."),
        (CLIP.rgb, OTHER, {"depths": OTHER}, r"depths: unknown; did you mean depth=...\?"),
    ],
)
def test_what_does_not_fit(
    completer: AmodalCompleter, frames: Any, masks: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        completer(frames, masks, **more)


def test_the_completer_moves_and_says_what_it_is(completer: AmodalCompleter) -> None:
    assert completer.to("cpu") is completer
    assert repr(completer) == "AmodalCompleter(amodal_segmentation, content_completion; cpu, float32)"
    with pytest.raises(InputError, match="enable_model_cpu_offload: moves weights to a GPU, and this runs on the CPU"):
        completer.enable_model_cpu_offload("cpu")
    with pytest.raises(InputError, match="cannot be used here"):
        completer.to("cuda:77")


def test_missing_depth_is_noticed_once(completer: AmodalCompleter, caplog: pytest.LogCaptureFixture) -> None:
    trained_with_depth = copy(completer)
    trained_with_depth.default_depth_model = "small"
    config = completer.config(**SMALL)
    online = trained_with_depth.online(look_ahead=1, window=2, config=config)
    trained_with_depth(CLIP, config, amodal_mask=CLIP.modal_mask)
    online.push(CLIP.rgb[0], CLIP.modal_mask[0], np.zeros((24, 40)))
    assert not caplog.messages
    online.push(CLIP.rgb[1], CLIP.modal_mask[1])
    next(trained_with_depth.stream(clip_frames(CLIP), config))
    gap, notice = caplog.messages
    assert gap == "depth: none for frame 1; the last map is used for up to 2 frames"
    assert "give depth=DepthEstimator.from_pretrained('small')(frames), or set completer.warn_without" in notice


def test_a_config_is_given_once_and_is_one(completer: AmodalCompleter) -> None:
    config = completer.config(**SMALL)
    assert repr(config).startswith("CompletionConfig(amodal_segmentation: ")
    assert "height=8" in repr(config)
    assert len(repr(config)) < 600
    with pytest.raises(InputError, match="config: given twice"):
        completer(CLIP, config, config=config)
    with pytest.raises(InputError, match="config: expected a CompletionConfig, got dict; make one with"):
        completer(CLIP, {"preset": "fast"})
    with pytest.raises(InputError, match="masks: expected at least one object, got "):
        completer(CLIP.rgb, CLIP.modal_mask[None][:0])
    with pytest.raises(InputError, match="masks: expected an array, got masks by name"):
        completer(CLIP.rgb, {"cup": CLIP.modal_mask})
    assert same(completer(CLIP, config, seed=np.int64(2)), completer(CLIP, config, seed=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"torch_dtype": torch.float16}, "torch_dtype: unknown; give it as dtype="),
        ({"devise": "cpu"}, "devise: unknown; did you mean device="),
        ({"token": "x"}, "token: unknown; set the environment variable HF_TOKEN"),
        ({"xyz": 1}, "xyz: unknown; expected model, content_model, method, vae, "),
        ({"revision": "main"}, "revision: unknown; give it with the model, as owner/name@REVISION"),
        ({"attention": "flash"}, "attention: expected sdpa, plain, xformers, got 'flash'"),
        ({"offload": "models"}, "offload: expected none, model, sequential, got 'models'"),
        ({"stages": ["amodal"]}, "stages: expected one or both of amodal_segmentation, content_completion, got"),
    ],
)
def test_loading_refuses_what_it_does_not_know(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AmodalCompleter.from_pretrained("tiny", device="cpu", **arguments)


def test_float16_on_a_cpu_is_one_notice(caplog: pytest.LogCaptureFixture) -> None:
    completer = AmodalCompleter.from_pretrained("tiny", device="cpu", dtype="float16", stages=["content_completion"])
    assert completer.dtype == "float16"
    assert [record.getMessage() for record in caplog.records] == [
        "dtype: float16 is many times slower than float32 or bfloat16 on a CPU; give one of these"
    ]
    for arguments in ({"device": "cpu", "dtype": torch.float32}, {"device": torch.float32}, {"dtype": "float16"}):
        with pytest.raises(InputError, match="to: precision is chosen when networks are loaded"):
            completer.to(**arguments)
