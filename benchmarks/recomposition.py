"""How far the layers of all objects of a scene, put back in order, are from the input; how often the order is true."""

import argparse
import json
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.request import CompletionRequest, DepthChoice, ModelChoice, Output, Source
from amodal_diffusion.data.scene_export import scene_files, write_scene
from amodal_diffusion.frames.layers import Difference
from amodal_diffusion.synthetic import SceneTrack, make_scene

FRAMES = 25


def pairs_in_order(tracks: list[SceneTrack], lines: list[str]) -> np.ndarray:
    """Pairs of objects, one hiding the other in a frame; those in the right order; the hidden pixels of both numbers.

    An object that has no place in the order, as nothing of it was found in the frame, is in no right one.

    Args:
        tracks: with the truth.
        lines: of ``order.jsonl``.
    """
    counts = np.zeros(4, dtype=np.int64)
    for frame, line in enumerate(lines):
        place = {name: index for index, name in enumerate(json.loads(line)["front_to_back"])}
        for front, back in permutations(tracks, 2):
            pixels = int((front.modal[frame] & back.amodal[frame]).sum())
            right = place.get(str(front.track_id), len(place)) < place.get(str(back.track_id), -1)
            counts += np.array([1, right, pixels, right * pixels]) * (pixels > 0)
    return counts


def described(what: str, difference: Difference, counts: np.ndarray) -> str:
    """A line of figures."""
    pairs, right, pixels, of_right = counts
    return (
        f"{what}: {difference.share:.2%} of {difference.pixels} visible pixels differ, by {difference.mean:.3f} of 255 "
        f"on average, {difference.largest} at most; order true in {right} of {pairs} pairs, which have "
        f"{of_right / max(pixels, 1):.1%} of the hidden pixels"
    )


def main() -> None:
    """Print a line a scene, and one of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--depth", choices=["given", "none"], default="none")
    args = parser.parse_args()
    total, counts, objects = Difference(), np.zeros(4, dtype=np.int64), 0
    for seed in range(args.scenes):
        scene = make_scene(seed, split="validation", frames=FRAMES)
        tracks = [track for track in scene.tracks if track.modal.any()]
        ids = [track.track_id for track in tracks]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file in scene_files(scene.name, frames=FRAMES, object_ids=ids, masks=True):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_scene(scene, folder, object_ids=ids, masks=True)
            clip = folder / scene.name
            request = CompletionRequest(
                source=Source(clip=clip / "images", masks=clip / "modal"),
                output=Output(out=folder / "out", quiet=True),
                model=ModelChoice(device="cpu"),
                depth=DepthChoice(depth="none" if args.depth == "none" else str(clip / "depth")),
            )
            lines = (complete_clip(request) / "order.jsonl").read_text(encoding="utf-8").splitlines()
        found = sum((Difference(**json.loads(line)["recomposition"]) for line in lines), Difference())
        of_scene = pairs_in_order(tracks, lines)
        total, counts, objects = total + found, counts + of_scene, objects + len(ids)
        print(described(f"{scene.name}, {len(ids)} objects", found, of_scene), flush=True)
    print(described(f"{args.scenes} scenes, {objects} objects", total, counts))


if __name__ == "__main__":
    main()
