"""Live video: bounded look-ahead, nothing from later frames, objects that come and go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.pipelines.completer import AmodalCompleter, CompletionConfig
from amodal_diffusion.pipelines.online import ONE_OBJECT, OnlineCompleter, OnlineFrame
from amodal_diffusion.types import AmodalResult, VideoClip
from tests.factories import moving_square

FRAMES = 6
CLIP = moving_square(FRAMES)
SMALL = {"height": 8, "width": 16, "num_inference_steps": 1}


@pytest.fixture
def config(completer: AmodalCompleter) -> CompletionConfig:
    return completer.config(**SMALL)


def fed(online: OnlineCompleter, clip: VideoClip) -> list[list[OnlineFrame]]:
    """What comes out at each frame of a clip, and at the end."""
    out = [online.push(rgb, mask) for rgb, mask in zip(clip.rgb, clip.modal_mask, strict=True)]
    return [*out, online.finish()]


def in_bytes(result: AmodalResult) -> list[bytes]:
    return [result.amodal_mask.tobytes(), result.rgba.tobytes()]  # type: ignore[union-attr]


@pytest.mark.parametrize(("look_ahead", "stride"), [(2, 1), (2, 3)])
def test_a_frame_comes_out_before_the_look_ahead_is_over(
    completer: AmodalCompleter, config: CompletionConfig, look_ahead: int, stride: int
) -> None:
    online = completer.online(look_ahead=look_ahead, stride=stride, window=4, config=config)
    out = fed(online, CLIP)
    assert repr(online).startswith(f"OnlineCompleter(window 4, stride {stride}, look_ahead {look_ahead}; {FRAMES} fra")
    numbers = [[frame.number for frame in frames] for frames in out]
    assert [number for found in numbers for number in found] == list(range(FRAMES))
    for pushed, found in enumerate(numbers[:-1]):
        assert all(pushed - look_ahead <= number <= pushed for number in found)
        assert len(found) in (0, stride)
    for frame in (frame for frames in out for frame in frames):
        mask = frame.objects[ONE_OBJECT].amodal_mask[0]
        assert not (CLIP.modal_mask[frame.number] & ~mask).any()


def test_nothing_depends_on_later_frames(completer: AmodalCompleter, config: CompletionConfig) -> None:
    changed = replace(CLIP, rgb=CLIP.rgb.copy(), modal_mask=CLIP.modal_mask.copy())
    changed.rgb[4:] = 255 - changed.rgb[4:]
    changed.modal_mask[4:] = np.roll(changed.modal_mask[4:], 9, axis=2)
    before = fed(completer.online(look_ahead=1, window=4, config=config), CLIP)
    after = fed(completer.online(look_ahead=1, window=4, config=config), changed)
    for one, other in zip(before[:4], after[:4], strict=True):
        assert [in_bytes(f.objects[ONE_OBJECT]) for f in one] == [in_bytes(f.objects[ONE_OBJECT]) for f in other]
    assert in_bytes(before[5][0].objects[ONE_OBJECT]) != in_bytes(after[5][0].objects[ONE_OBJECT])


def test_one_window_is_a_call(completer: AmodalCompleter, config: CompletionConfig) -> None:
    window = VideoClip(CLIP.rgb[:4], CLIP.modal_mask[:4])
    whole = completer(window, config)
    frames = fed(completer.online(look_ahead=3, stride=4, window=4, config=config), window)[3]
    assert b"".join(in_bytes(frame.objects[ONE_OBJECT])[0] for frame in frames) == in_bytes(whole)[0]
    assert b"".join(in_bytes(frame.objects[ONE_OBJECT])[1] for frame in frames) == in_bytes(whole)[1]


def test_objects_come_and_go_and_a_cut_ends_a_shot(masks_only: AmodalCompleter) -> None:
    online = masks_only.online(look_ahead=1, window=4, config=masks_only.config(**SMALL))
    mask, other = CLIP.modal_mask[0], np.roll(CLIP.modal_mask[0], 5, axis=1)
    assert online.push(CLIP.rgb[0], {}) == []
    (first,) = online.push(CLIP.rgb[1], {"cup": mask})
    (second,) = online.push(CLIP.rgb[2], {"cup": mask, "dog": other})
    assert (first.number, first.objects.keys()) == (0, {"cup"})
    assert second.objects.keys() == {"cup", "dog"}
    (last,) = online.push(CLIP.rgb[3], {"dog": other}, starts_shot=True)
    assert (last.number, last.objects.keys()) == (2, {"cup", "dog"})
    (final,) = online.finish()
    assert (final.number, final.objects.keys()) == (3, {"dog"})
    assert online.finish() == []


def test_bad_numbers_and_frames(completer: AmodalCompleter) -> None:
    with pytest.raises(InputError, match="look_ahead: expected 0 to 3, below the window of 4, got 4"):
        completer.online(look_ahead=4, window=4)
    with pytest.raises(InputError, match="stride: expected 1 to 3, look_ahead \\+ 1, got 4"):
        completer.online(look_ahead=2, stride=4, window=4)
    with pytest.raises(InputError, match="seed: expected at least 0, got -1"):
        completer.online(seed=-1)
    online = completer.online(look_ahead=1, window=4)
    with pytest.raises(InputError, match=r"masks object: expected \[24, 40\] to match rgb, got \[24, 20\]"):
        online.push(CLIP.rgb[0], CLIP.modal_mask[0, :, :20])
    online.push(CLIP.rgb[0], CLIP.modal_mask[0])
    with pytest.raises(InputError, match=r"rgb: expected \[24, 40, 3\] as in the frames before, got \[12, 40, 3\]"):
        online.push(CLIP.rgb[0, :12], CLIP.modal_mask[0, :12])


def test_a_missing_depth_map_is_that_of_the_frame_before(
    completer: AmodalCompleter, config: CompletionConfig, caplog: pytest.LogCaptureFixture
) -> None:
    depth = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40)
    whole, gaps = (completer.online(look_ahead=1, window=4, config=config) for _ in range(2))
    expected, found = [], []
    for number, (rgb, mask) in enumerate(zip(CLIP.rgb, CLIP.modal_mask, strict=True)):
        expected += whole.push(rgb, mask, depth)
        found += gaps.push(rgb, mask, None if number in (2, 3) else depth)
    assert len(found) == FRAMES - 1
    for one, other in zip(expected, found, strict=True):
        assert in_bytes(one.objects[ONE_OBJECT]) == in_bytes(other.objects[ONE_OBJECT])
    assert [record.getMessage() for record in caplog.records if "depth" in record.getMessage()] == [
        "depth: none for frame 2; the last map is used for up to 4 frames"
    ]


def test_an_old_depth_map_is_given_up(
    completer: AmodalCompleter, config: CompletionConfig, caplog: pytest.LogCaptureFixture
) -> None:
    online = completer.online(look_ahead=0, window=2, config=config)
    for number in range(5):
        online.push(CLIP.rgb[number], CLIP.modal_mask[number], None if number else np.zeros((24, 40)))
    assert [frame.depth is None for frame in online._frames] == [True, True]
    assert [record.getMessage() for record in caplog.records if "depth" in record.getMessage()] == [
        "depth: none for frame 1; the last map is used for up to 2 frames",
        "depth: none for 2 frames; frames are completed without depth",
    ]


def test_pictures_and_lists_are_frames_too(completer: AmodalCompleter, config: CompletionConfig) -> None:
    expected = completer.online(look_ahead=0, window=2, config=config).push(CLIP.rgb[0], CLIP.modal_mask[0])
    picture, mask = Image.fromarray(CLIP.rgb[0]), torch.from_numpy(CLIP.modal_mask[0])
    for rgb, masks in (
        (picture.convert("RGBA"), mask),
        (torch.from_numpy(CLIP.rgb[0]), [mask]),
        (picture, {"object": mask}),
    ):
        found = completer.online(look_ahead=np.int64(0), window=2, config=config).push(rgb, masks)
        assert in_bytes(found[0].objects[ONE_OBJECT]) == in_bytes(expected[0].objects[ONE_OBJECT])


@pytest.mark.parametrize(
    ("rgb", "masks", "message"),
    [
        (CLIP.rgb[0, ..., 0], CLIP.modal_mask[0], r"rgb: expected one frame \[H, W, 3\], got \[24, 40\]"),
        (CLIP.rgb, CLIP.modal_mask[0], r"rgb: expected one frame \[H, W, 3\], got \[6, 24, 40, 3\]"),
        (CLIP.rgb[0], None, "masks: expected a mask .* got None; give {} where nothing is seen"),
        (CLIP.rgb[0], list(CLIP.modal_mask[:2]), "masks: got 2 masks without names; give"),
    ],
)
def test_messages_speak_of_one_frame(completer: AmodalCompleter, rgb: object, masks: object, message: str) -> None:
    online = completer.online(look_ahead=0, window=2)
    with pytest.raises(InputError, match=message):
        online.push(rgb, masks)


@pytest.mark.parametrize("numbers", [{"look_ahead": 1.5}, {"stride": 1.5}, {"look_ahead": "2"}, {"window": 4.0}])
def test_numbers_of_frames_are_integers(completer: AmodalCompleter, numbers: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(numbers))}: expected an integer"):
        completer.online(**numbers)  # type: ignore[arg-type]
