"""Which files hold which objects, and what does not fit a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.images import davis_palette
from amodal_diffusion.io.mask_files import MaskTrack, fit_track, read_masks
from amodal_diffusion.io.video_reader import open_clip
from tests.media import Bool, encode, encode_whole_first, ffmpeg, moving_disc, truncate, write_frames, write_masks

RGB, MASK = moving_disc()


def stacked(track: MaskTrack) -> Bool:
    masks = np.stack(list(track))
    assert track.areas == tuple(masks.sum(axis=(1, 2)))
    assert masks.dtype == np.bool_
    return masks


@pytest.mark.parametrize("top", [1, 255, 65535])
@pytest.mark.parametrize("one_bit", [False, True])
def test_two_values_are_one_object(tmp_path: Path, top: int, one_bit: bool) -> None:
    values = MASK if one_bit else MASK.astype(np.uint16 if top > 255 else np.uint8) * np.uint16(top)
    if not one_bit and top < 256:
        values = values.astype(np.uint8)
    tracks = read_masks(write_masks(tmp_path / "masks", values, mode="1" if one_bit else None))
    assert list(tracks) == ["1"]
    np.testing.assert_array_equal(stacked(tracks["1"]), MASK)


def test_one_bit_and_eight_bit_files_mix(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks", MASK)
    Image.fromarray(MASK[0]).save(folder / "00000.png")
    np.testing.assert_array_equal(stacked(read_masks(folder)["1"]), MASK)


@pytest.mark.parametrize("mode", [None, "P"])
def test_labels_are_one_object_each(tmp_path: Path, mode: str | None) -> None:
    labels = np.where(MASK, 10, np.where(np.roll(MASK, 20, axis=2), 2, 0)).astype(np.uint8)
    tracks = read_masks(write_masks(tmp_path / "masks", labels, mode=mode))
    assert list(tracks) == ["2", "10"]
    np.testing.assert_array_equal(stacked(tracks["10"]), labels == 10)
    np.testing.assert_array_equal(stacked(tracks["2"]), labels == 2)


def test_a_palette_of_two_is_labels(tmp_path: Path) -> None:
    tracks = read_masks(write_masks(tmp_path / "masks", MASK.astype(np.uint8) * np.uint8(7), mode="P"))
    assert list(tracks) == ["7"]


def ramp(width: int, *, frames: int = 2) -> NDArray[np.uint8]:
    """Eight bars of gray beside each other, each so many pixels wide."""
    values = np.zeros((frames, 12, 8 * width + 6), np.uint8)
    values[:, 3:9, 3:-3] = np.repeat(np.arange(1, 9) * 31, width).astype(np.uint8)
    return values


def test_regions_wider_than_two_pixels_are_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(read_masks(write_masks(tmp_path / "wide", ramp(3)))) == 8
    assert caplog.text == ""
    (soft,) = read_masks(write_masks(tmp_path / "narrow", ramp(2))).values()
    np.testing.assert_array_equal(stacked(soft), ramp(2) >= 128)
    assert "soft gray masks (9 values), read as one object cut at half; see --mask-type" in caplog.text
    assert soft.kind == "soft"


def test_a_value_of_one_frame_alone_is_no_label(tmp_path: Path) -> None:
    values = ramp(3, frames=4)
    values[1:][values[1:] == 8 * 31] = 0
    assert len(read_masks(write_masks(tmp_path / "flash", values))) == 1
    values[1][ramp(3)[0] == 8 * 31] = 8 * 31
    assert len(read_masks(write_masks(tmp_path / "two", values))) == 8
    assert len(read_masks(write_masks(tmp_path / "one", values[:1]))) == 8


def test_the_user_decides_what_values_mean(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks", ramp(2))
    assert len(read_masks(folder, mask_type="labels")) == 8
    wide = write_masks(tmp_path / "wide", ramp(3))
    (one,) = read_masks(wide, mask_type="binary").values()
    np.testing.assert_array_equal(stacked(one), ramp(3) >= 128)
    with pytest.raises(InputError, match="--mask-type alpha: expected masks with an alpha channel"):
        read_masks(wide, mask_type="alpha")


def test_damage_by_jpeg_is_one_object(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for index, mask in enumerate(MASK):
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / f"{index}.jpg", quality=20)
        Image.open(folder / f"{index}.jpg").save(folder / f"{index}.png")  # whose ending no longer tells
        (folder / f"{index}.jpg").unlink()
    (track,) = read_masks(folder).values()
    assert (stacked(track) != MASK).mean() < 0.01


def test_void_of_label_pictures_is_no_object(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.zeros((2, 12, 24), np.uint8)
    labels[:, 2:8, 2:8], labels[:, 2:8, 10:16], labels[:, 2:8, 18:22] = 1, 2, 255
    assert list(read_masks(write_masks(tmp_path / "void", labels))) == ["1", "2"]
    assert "48 pixels of the value 255 are void and belong to no object" in caplog.text
    labels[labels == 2] = 64
    assert list(read_masks(write_masks(tmp_path / "object", labels))) == ["1", "64", "255"]


def palette_pictures(folder: Path, indices: NDArray[np.uint8], *palettes: list[int]) -> Path:
    """Pictures of indices with a palette each."""
    folder.mkdir()
    for number, (values, palette) in enumerate(zip(indices, palettes, strict=True)):
        picture = Image.fromarray(values)
        picture.putpalette(palette)
        picture.save(folder / f"{number}.png")
    return folder


BLACK, WHITE, RED, BLUE, VOID = [0, 0, 0], [255, 255, 255], [200, 0, 0], [0, 0, 200], [224, 224, 192]
AREA = np.zeros((12, 24), np.uint8)
AREA[2:9, 3:9], AREA[2:9, 12:18] = 1, 2


def test_colors_of_a_palette_decide_and_not_its_order(tmp_path: Path) -> None:
    swapped = np.select([AREA == 1, AREA == 2], [2, 1], 0).astype(np.uint8)
    folder = palette_pictures(
        tmp_path / "masks", np.stack([AREA, swapped]), [*BLACK, *RED, *BLUE], [*BLACK, *BLUE, *RED]
    )
    tracks = read_masks(folder)
    assert {name: track.areas for name, track in tracks.items()} == {"1": (42, 42), "2": (42, 42)}
    np.testing.assert_array_equal(stacked(tracks["1"]), np.stack([AREA == 1] * 2))


def test_black_and_white_palettes_are_one_object_in_any_order(tmp_path: Path) -> None:
    seen = (AREA > 0).astype(np.uint8)
    folder = palette_pictures(tmp_path / "masks", np.stack([seen, 1 - seen]), [*BLACK, *WHITE], [*WHITE, *BLACK])
    (track,) = read_masks(folder).values()
    np.testing.assert_array_equal(stacked(track), np.stack([seen > 0] * 2))


def test_without_black_the_first_color_is_the_background_and_void_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = AREA.copy()
    values[0] = 3
    folder = palette_pictures(tmp_path / "masks", values[None], [*WHITE, *RED, *BLUE, *VOID])
    assert {name: track.areas for name, track in read_masks(folder).items()} == {"1": (42,), "2": (42,)}
    assert "24 void pixels belong to no object" in caplog.text


def test_one_color_twice_leaves_the_indices(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = palette_pictures(tmp_path / "masks", AREA[None], [*BLACK, *RED, *RED])
    assert list(read_masks(folder)) == ["1", "2"]
    assert "its indices are the labels" in caplog.text


@pytest.mark.parametrize("suffix", ["webp", "png", "tif", "gif"])
def test_all_frames_of_one_file_are_masks(tmp_path: Path, suffix: str) -> None:
    pictures = [Image.fromarray(mask.astype(np.uint8) * np.uint8(255)) for mask in MASK]
    path = tmp_path / f"masks.{suffix}"
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], **({"lossless": True} if suffix == "webp" else {})
    )
    (track,) = read_masks(path).values()
    np.testing.assert_array_equal(stacked(track), MASK)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prores.mov", ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le")),
        ("animation.mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
        ("png.mov", ("-c:v", "png", "-pix_fmt", "rgba")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-crf", "4", "-b:v", "0")),
        ("vp8.webm", ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-crf", "4", "-b:v", "2M")),
    ],
)
def test_alpha_of_videos_is_the_mask(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, mask in enumerate(MASK):
        Image.fromarray(np.dstack([255 - RGB[index], mask * np.uint8(255)])).save(folder / f"{index:05d}.png")
    ffmpeg("-framerate", "8", "-i", folder / "%05d.png", *options, tmp_path / name)
    (track,) = read_masks(tmp_path / name).values()
    assert track.kind == "alpha"
    assert (stacked(track) != MASK).mean() < 0.01


def test_alpha_of_pictures_is_the_mask_unless_it_is_opaque(tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for index, mask in enumerate(MASK):
        Image.fromarray(np.dstack([RGB[index], mask * np.uint8(255)])).save(folder / f"{index}.png")
    (track,) = read_masks(folder).values()
    np.testing.assert_array_equal(stacked(track), MASK)
    (opaque,) = read_masks(write_masks(tmp_path / "opaque", MASK, mode="RGBA")).values()
    np.testing.assert_array_equal(stacked(opaque), MASK)
    assert opaque.kind == "binary"


def test_what_a_lossy_format_adds_is_no_object(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for index, mask in enumerate(MASK):
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / f"{index:05d}.jpg", quality=98)
    tracks = read_masks(folder)
    assert list(tracks) == ["1"]
    assert (stacked(tracks["1"]) != MASK).mean() < 0.01


def test_a_folder_of_folders_is_one_object_each(tmp_path: Path) -> None:
    for name, value in (("cat", 255), ("10", 1), ("2", 5)):
        write_masks(tmp_path / "masks" / name, MASK.astype(np.uint8) * np.uint8(value))
    (tmp_path / "masks" / ".hidden").mkdir()
    tracks = read_masks(tmp_path / "masks")
    assert list(tracks) == ["2", "10", "cat"]
    np.testing.assert_array_equal(stacked(tracks["cat"]), MASK)


def test_our_own_results_are_read_back(tmp_path: Path) -> None:
    write_masks(tmp_path / "objects" / "4" / "amodal_masks", MASK)
    write_frames(tmp_path / "objects" / "4" / "completed", RGB)
    assert list(read_masks(tmp_path / "objects")) == ["4"]


def test_a_video_is_cut_at_half(tmp_path: Path) -> None:
    gray = np.repeat(MASK[..., None], 3, axis=-1).astype(np.uint8) * np.uint8(200)
    masks = stacked(read_masks(encode(tmp_path / "masks.mp4", gray))["1"])
    assert (masks != MASK).mean() < 0.02


def test_one_picture_is_the_mask_of_one_frame(tmp_path: Path) -> None:
    write_masks(tmp_path, MASK[:1])
    np.testing.assert_array_equal(stacked(read_masks(tmp_path / "00000.png")["1"]), MASK[:1])


def test_gray_saved_as_rgb_is_read_and_colors_are_refused(tmp_path: Path) -> None:
    gray = write_masks(tmp_path / "gray", MASK, mode="RGB")
    np.testing.assert_array_equal(stacked(read_masks(gray)["1"]), MASK)
    with pytest.raises(InputError, match="expected one channel, got RGB colors"):
        read_masks(write_frames(tmp_path / "color", RGB))


def test_what_holds_no_masks_is_named(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    write_masks(tmp_path / "both", MASK)
    write_masks(tmp_path / "both" / "inner", MASK)
    (tmp_path / "hollow" / "1").mkdir(parents=True)
    write_masks(tmp_path / "labels" / "1", MASK * np.uint8(4) + np.roll(MASK, 9, axis=1) * np.uint8(3))
    for name, problem in {
        "absent": "no such file",
        "nothing": "no masks in this folder",
        "both": "both pictures and folders",
        "hollow": "no masks in this folder",
        "labels": r"holds labels 3, 4, 7",
    }.items():
        with pytest.raises(InputError, match=problem) as error:
            read_masks(tmp_path / name, what="amodal-masks")
        assert str(error.value).startswith("amodal-masks: ")
        assert name in str(error.value)


def test_masks_of_mixed_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks", MASK)
    Image.new("1", (10, 20)).save(folder / "00002.png")
    with pytest.raises(InputError, match=r"00002\.png: 10x20 pixels, 00000\.png has 64x48"):
        read_masks(folder)


def test_both_numbers_are_told_where_masks_do_not_fit(tmp_path: Path) -> None:
    clip = open_clip(write_frames(tmp_path / "frames", RGB))
    short = read_masks(write_masks(tmp_path / "short", MASK[:4]))["1"]
    with pytest.raises(InputError, match="4 masks for 6 frames"):
        fit_track(short, clip, what="masks")
    small = read_masks(write_masks(tmp_path / "small", MASK[:, :20, :30]))["1"]
    with pytest.raises(InputError, match="30x20 pixels for frames of 64x48"):
        fit_track(small, clip, what="masks")


def test_masks_of_lost_frames_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rgb, mask = moving_disc(24)
    whole = encode_whole_first(tmp_path / "whole.mp4", rgb)
    clip = open_clip(truncate(whole, tmp_path / "cut.mp4", 0.6), allow_truncated=True)
    assert clip.positions is not None
    track = fit_track(read_masks(write_masks(tmp_path / "masks", mask))["1"], clip, what="masks")
    np.testing.assert_array_equal(stacked(track), mask[list(clip.positions)])
    assert f"{clip.num_frames} of 24 masks are used" in caplog.text
    exact = read_masks(write_masks(tmp_path / "exact", mask[: clip.num_frames]))["1"]
    assert fit_track(exact, clip, what="masks").num_frames == clip.num_frames


LABELS = np.where(MASK, 3, 0).astype(np.uint8)
LABELS[:, :9] = 7
LABELS[2] = np.where(LABELS[2] == 7, 0, LABELS[2])  # 7 vanishes and returns


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("mkv", ("-c:v", "ffv1", "-pix_fmt", "gray")), ("mov", ("-c:v", "png", "-pix_fmt", "rgb24"))],
)
def test_a_video_of_labels(tmp_path: Path, suffix: str, options: tuple[str, ...]) -> None:
    gray = np.repeat(LABELS[..., None], 3, axis=-1)
    tracks = read_masks(encode(tmp_path / f"labels.{suffix}", gray, *options))
    assert list(tracks) == ["3", "7"]
    for name, found in tracks.items():
        np.testing.assert_array_equal(stacked(found), int(name) == LABELS)
        assert found.areas == tuple((int(name) == LABELS).sum(axis=(1, 2)))


def test_a_video_of_colored_labels(tmp_path: Path) -> None:
    lossless = ("-c:v", "ffv1", "-pix_fmt", "bgr0")
    davis = read_masks(encode(tmp_path / "davis.mkv", davis_palette()[LABELS], *lossless))
    assert list(davis) == ["3", "7"]
    np.testing.assert_array_equal(stacked(davis["7"]), LABELS == 7)
    own = np.zeros((256, 3), np.uint8)
    own[[3, 7]] = (10, 20, 30), (1, 2, 3)
    tracks = read_masks(encode(tmp_path / "own.mkv", own[LABELS], *lossless))
    assert list(tracks) == ["1", "2"]
    np.testing.assert_array_equal(stacked(tracks["1"]) | stacked(tracks["2"]), LABELS > 0)


def test_a_black_and_white_video_without_loss_is_one_object(tmp_path: Path) -> None:
    white = np.repeat((MASK * np.uint8(255))[..., None], 3, axis=-1)
    tracks = read_masks(encode(tmp_path / "masks.mkv", white, "-c:v", "ffv1", "-pix_fmt", "bgr0"))
    assert list(tracks) == ["1"]
    np.testing.assert_array_equal(stacked(tracks["1"]), MASK)


def test_labels_in_a_video_with_loss_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gray = np.repeat((LABELS * np.uint8(15))[..., None], 3, axis=-1)
    encode(tmp_path / "labels.mp4", np.where(gray > 0, gray + np.uint8(40), gray))
    assert list(read_masks(tmp_path / "labels.mp4")) == ["1"]
    assert "labels would have to be saved without loss" in caplog.text


def test_a_mask_video_of_odd_size_is_cut_to_the_clip(tmp_path: Path) -> None:
    rgb, mask = moving_disc(3, 37, 53)
    white = np.pad(
        np.repeat((mask * np.uint8(255))[..., None], 3, axis=-1), ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge"
    )
    clip = open_clip(write_frames(tmp_path / "frames", rgb))
    track = fit_track(read_masks(encode(tmp_path / "masks.mp4", white))["1"], clip, what="masks")
    assert (track.height, track.width) == (37, 53)
    assert (stacked(track) != mask).mean() < 0.02
