"""Make the picture of the README: a drawn clip, completed by the command, as an animation of four panels."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from amodal_diffusion.cli import main as amodal_diffusion
from amodal_diffusion.synthetic.drawn import draw_clip
from amodal_diffusion.types import BoolArray, UInt8Array

DRAWING, FRAMES, HEIGHT, WIDTH = "dog", 24, 192, 384  # an example of the web page
GAP, CAPTION = 8, 24
PAPER, INK = (255, 255, 255), (36, 41, 47)
MASK_BACKGROUND, VISIBLE, HIDDEN = (24, 28, 36), (245, 245, 245), (255, 140, 40)
CHECKERS = (255, 232)


def write_inputs(folder: Path) -> list[str]:
    """Write frames, visible masks and depth of the clip; returns the arguments that name them."""
    drawn = draw_clip(DRAWING, frames=FRAMES, height=HEIGHT, width=WIDTH)
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, (rgb, visible) in enumerate(zip(drawn.rgb, drawn.modal, strict=True)):
        Image.fromarray(rgb).save(folder / "frames" / f"{index:05d}.png")
        Image.fromarray(visible).convert("L").save(folder / "masks" / f"{index:05d}.png")
    np.save(folder / "depth.npy", drawn.depth)
    return [f"{folder}/frames", "--masks", f"{folder}/masks", "--depth", f"{folder}/depth.npy"]


def draw_mask(visible: BoolArray, amodal: BoolArray) -> UInt8Array:
    """Paint bool ``[H, W]`` masks: what is visible in white, what is only predicted in orange."""
    panel = np.full((*visible.shape, 3), MASK_BACKGROUND, np.uint8)
    panel[amodal] = HIDDEN
    panel[visible] = VISIBLE
    return panel


def draw_layer(rgba: UInt8Array) -> UInt8Array:
    """Lay an RGBA ``[H, W, 4]`` picture over a checkerboard."""
    rows, columns = np.indices(rgba.shape[:2]) // 12
    checkers = np.where((rows + columns) % 2, *CHECKERS).astype(np.uint8)[..., None].repeat(3, -1)
    return np.where(rgba[..., 3:] > 0, rgba[..., :3], checkers).astype(np.uint8)


def compose(panels: dict[str, UInt8Array]) -> Image.Image:
    """Set four panels with their captions into two rows."""
    page = Image.new("RGB", (2 * WIDTH + GAP, 2 * (HEIGHT + CAPTION) + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for number, (caption, panel) in enumerate(panels.items()):
        left, top = number % 2 * (WIDTH + GAP), number // 2 * (HEIGHT + CAPTION + GAP)
        draw.text((left, top + 3), caption, fill=INK, font=ImageFont.load_default(15))
        page.paste(Image.fromarray(panel), (left, top + CAPTION))
    return page


def frames_of(clip: Path, result: Path) -> list[Image.Image]:
    """Draw each frame of a completed clip from the files that the command wrote."""
    drawn = []
    for frame in sorted((clip / "frames").iterdir()):
        visible = np.asarray(Image.open(clip / "masks" / frame.name)) > 0
        amodal = np.asarray(Image.open(result / "amodal_masks" / frame.name)) > 0
        panels = {
            "input clip": np.asarray(Image.open(frame)),
            "visible mask (given)": draw_mask(visible, visible),
            "amodal mask (stage 1)": draw_mask(visible, amodal),
            "completed object (stage 2)": draw_layer(np.asarray(Image.open(result / "completed" / frame.name))),
        }
        drawn.append(compose(panels))
    return drawn


def main() -> int:
    """Complete the clip and write the animation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/teaser"), help="folder of the clip and its completion")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "teaser.webp")
    args = parser.parse_args()
    arguments = [*write_inputs(args.work / "clip"), "--out", f"{args.work}/result", "--overwrite"]
    if amodal_diffusion(["complete", *arguments]):
        return 1
    first, *others = frames_of(args.work / "clip", args.work / "result/objects/1")
    first.save(args.out, save_all=True, append_images=others, duration=125, loop=0, quality=80, method=6)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
