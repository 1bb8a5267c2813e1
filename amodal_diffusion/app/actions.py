"""Actions of the web page, independent of its layout."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from amodal_diffusion.app.completer import Choices, PageCompleter, PageTask
from amodal_diffusion.app.downloads import download_list, layer_folder, pack
from amodal_diffusion.app.drawing import (
    Painting,
    frame_ranges,
    labels_of_objects,
    read_painting,
    shrunken_frames,
    write_clicked,
    write_corrected,
    write_followed,
)
from amodal_diffusion.app.materials import Example, Limits, open_masks, take_clip, take_masks, write_example
from amodal_diffusion.app.progress import Progress, Speeds, Steady
from amodal_diffusion.app.sessions import Session, Sessions
from amodal_diffusion.app.views import (
    Scene,
    SceneObject,
    color_of,
    folder_link,
    uncertainty,
    viewer,
    write_pictures,
    write_visible,
)
from amodal_diffusion.basics import InputError, counted
from amodal_diffusion.completion.layout import SUMMARY
from amodal_diffusion.frames.cuts import find_cuts
from amodal_diffusion.io.images import read_rgba
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.models.segmenters.protocol import Segmenter
from amodal_diffusion.types import BoolArray, UInt8Array

FINDING = "Finding the masks of all frames"
"""What the page says while masks are found from paint or clicks."""
CLICKED, PAINTED = "clicked", "painted"
"""Prefixes of the folders of masks that were found from clicks and from paint."""
_SHOWN = 16
"""Pictures in the editor that a browser may still ask for."""
_LOOK_SECONDS = 2.0  # between two looks at how much room is left


@dataclass(frozen=True)
class View:
    """Content that the page shows after an action.

    Attributes:
        status: one line of text.
        html: HTML of the viewer.
        files: HTML with links to the result files; empty if there are none.
    """

    status: str
    html: str
    files: str = ""


class Actions:
    """All actions of the page; each acts on one session.

    Attributes:
        segmenter: network that predicts masks from clicks; None disables clicks.
    """

    def __init__(
        self, sessions: Sessions, completer: PageCompleter, limits: Limits, *, segmenter: Segmenter | None = None
    ) -> None:
        """Store the resources that the actions use.

        Args:
            sessions: sessions of all open pages.
            completer: completes one clip at a time.
            limits: size limits of uploads.
            segmenter: network that predicts masks from clicks; None disables clicks.
        """
        self._sessions, self._completer, self._limits, self.segmenter = sessions, completer, limits, segmenter
        self._speeds = Speeds()
        self._networks = threading.Lock()  # they hold the state of one run

    def load_example(self, session: Session, example: Example) -> View:
        """Load a generated clip with its masks.

        Args:
            session: session of the page; its earlier clip is removed.
            example: the clip.

        Raises:
            InputError: if the page is at work, or has no room for the clip.
        """
        with self._claimed(session), session.replacing("example") as folder:
            files = write_example(example, folder)
            clip = self._choose(session, open_clip(files.frames))
            session.depth = files.depth
            status = f"{example.title}: {_size(clip)}, with masks of one object and depth"
            return self._show_masks(session, clip, status, files.masks)

    def load_clip(self, session: Session, files: Sequence[Path]) -> View:
        """Load an uploaded clip.

        Args:
            session: session of the page; its earlier clip is removed.
            files: one video, one zip of images, or images.

        Raises:
            InputError: if the files are not a clip, or exceed the limits, or the page is at work or full.
        """
        with self._claimed(session, files), session.replacing("clip") as folder:
            clip = self._choose(session, take_clip(files, folder, self._limits))
        status = f"{_size(clip)}. Now mark the visible part of the object: step 2."
        return View(status, viewer(self._scene(session, clip)))

    def load_masks(self, session: Session, files: Sequence[Path]) -> View:
        """Load uploaded masks.

        Args:
            session: session of the page, with a clip.
            files: one video, one zip of images or of one folder per object, or images.

        Raises:
            InputError: if the files are not masks or do not fit the clip.
        """
        with self._claimed(session, files), session.replacing("masks") as folder:
            clip = self._clip(session)
            return self._show_masks(session, clip, _size(clip), take_masks(files, folder, self._limits, clip))

    def frame(self, session: Session, index: int) -> UInt8Array:
        """A frame to click on, uint8 ``[H, W, 3]``.

        Args:
            session: session of the page, with a clip.
            index: index of the frame, from 0.
        """
        for number, rgb in enumerate(self._clip(session)):
            if number == index:
                return rgb
        raise InputError(f"frame: no frame {index} in a clip of {session.num_frames}")

    def clicked_masks(self, session: Session, index: int) -> dict[str, BoolArray]:
        """Masks of a frame that were found from clicks, bool ``[H, W]`` by object; none if the masks are others.

        Args:
            session: session of the page, with a clip.
            index: index of the frame, from 0.
        """
        masks = session.masks
        if masks is None or not _made(session, CLICKED):
            return {}
        return {folder.name: read_rgba(folder / f"{index:05d}.png")[..., 0] > 0 for folder in sorted(masks.iterdir())}

    def use_painting(self, session: Session, paint: str, on_share: Callable[[float], None]) -> View:
        """Use the painted frames as masks.

        Frames between painted ones are interpolated if the first and the last frame of the clip, or of a shot, are
        painted; else the segmenter follows what is painted. Where other masks than those of earlier paint were shown
        beside the paint, they stay as they are in the other frames.

        Args:
            session: session of the page, with a clip.
            paint: what the drawing board sends, see `read_painting`.
            on_share: called with the progress, from 0 to 1.

        Raises:
            InputError: if nothing is painted, or frames are missing and there is no segmenter.
            StoppedError: if the visitor asked to stop.
        """
        with self._work(session, on_share) as on_step:
            clip = self._clip(session)
            painting = read_painting(paint, num_frames=clip.num_frames, height=clip.height, width=clip.width)
            base = session.masks
            if (
                base is not None
                and painting.frames
                and painting.masks == session.masks_name
                and not _made(session, PAINTED)
            ):
                with session.replacing("corrected") as folder:
                    write_corrected(painting, open_masks(base, clip), folder)
                    said = f"{_size(clip)}, {frame_ranges(painting.frames)} corrected, the others as they were"
                    return self._show_masks(session, clip, said, folder)
            with session.replacing(PAINTED) as folder:
                how = self._fill(session, clip, painting, folder, on_step)
                others = clip.num_frames - len(painting.frames)
                filled = f", {others} of them {how}: look at each" if others else ""
                small = _small(open_masks(folder, clip), dict.fromkeys(map(str, painting.objects), painting.frames))
                return self._show_masks(session, clip, f"{_size(clip)}{filled}", folder, _advice(small, "paint"))

    def _fill(
        self, session: Session, clip: ClipReader, painting: Painting, folder: Path, on_step: Callable[[float], None]
    ) -> str:
        """Write the masks of all frames from those of some; words for how."""
        cuts = find_cuts(clip)
        if self.segmenter is None or painting.has_ends(clip.num_frames, cuts):
            painting.write(folder, clip.num_frames, cuts)
            return "filled in between painted ones"
        with self._networks:
            write_followed(clip, painting, self.segmenter, folder, _noting(session, on_step), cuts=cuts)
        session.check()
        return "found from painted ones"

    def use_clicks(self, session: Session, on_share: Callable[[float], None]) -> View:
        """Segment the clicked objects in all frames.

        Args:
            session: session of the page, with a clip.
            on_share: called with the progress, from 0 to 1.

        Raises:
            InputError: if there is no segmenter or no click, or a click selects nothing.
            StoppedError: if the visitor asked to stop.
        """
        with self._work(session, on_share) as on_step, session.replacing(CLICKED) as folder:
            clip = self._clip(session)
            if self.segmenter is None:
                raise InputError("click: this page was started without a segmenter; see --segmenter")
            with self._networks:
                write_clicked(clip, session.clicks, self.segmenter, folder, _noting(session, on_step))
            session.check()
            shown: dict[str, list[int]] = defaultdict(list)
            for point in session.clicks:
                shown[point.object_name].append(point.frame)
            small = _small(open_masks(folder, clip), shown)
            return self._show_masks(session, clip, _size(clip), folder, _advice(small, "click"))

    def complete(self, session: Session, on_share: Callable[[float], None], choices: Choices | None = None) -> View:
        """Complete the objects.

        Args:
            session: session of the page, with a clip and masks.
            on_share: called at each event of the work with the share done, from 0 to 1.
            choices: settings; the defaults when None.

        Raises:
            InputError: if the clip or the masks are missing, or a task of the page is already running.
            StoppedError: if the visitor asked to stop.
        """
        choices = choices or Choices()
        with self._work(session, on_share) as on_step, session.replacing("results") as folder:
            clip = self._clip(session)
            if session.masks is None:
                raise InputError("masks: none yet; paint them, upload them, or load an example (step 2)")
            tracks = open_masks(session.masks, clip)
            task = PageTask(
                clip=clip.path,
                masks=session.masks,
                depth=session.depth,
                out=folder / "results",
                num_frames=clip.num_frames,
                num_objects=len(tracks),
                pixels=clip.height * clip.width,
                choices=choices,
            )
            session.doing = "Waiting for other visitors"
            with self._networks:
                session.check()
                session.doing = "Completing"
                progress = session.progress = Progress(self._completer.work(task), self._speeds)

                def note(step: str, done: int, total: int) -> None:
                    progress.note(step, done, total)
                    on_step(progress.look()[0])

                self._completer(task, note)
            note("page", 0, 1)
            pack(task.out)
            scene = self._results(session, clip, tracks, task.out)
            progress.finish()
            session.check()
        done = f"Done: {_size(clip)}, {counted(len(tracks), 'object')}, seed {choices.seed}."
        return View(done, viewer(scene), download_list(task.out))

    def stop(self, session: Session) -> bool:
        """Stop the page's task before its next network pass.

        Args:
            session: session of the page.

        Returns:
            whether a task was running.
        """
        session.stop.set()
        return session.running

    def picture(self, session: Session, pixels: UInt8Array) -> str:
        """Write an image that only this visitor can read.

        Args:
            session: session of the page.
            pixels: uint8 ``[H, W, 3 or 4]``.

        Returns:
            path of the image.
        """
        path = session.fresh_folder("paint") / "frame.png"
        Image.fromarray(np.asarray(pixels)).save(path)
        session.keep_newest("paint", _SHOWN)
        return str(path)

    @contextmanager
    def _work(self, session: Session, on_share: Callable[[float], None]) -> Iterator[Callable[[float], None]]:
        """Run a task of the page; the yielded function reports progress and raises once Stop is pressed."""
        looked = -math.inf

        def on_step(share: float) -> None:
            nonlocal looked
            session.check()
            if time.monotonic() - looked > _LOOK_SECONDS:  # looking at all files takes time
                self._sessions.check_room(session.visitor)
                looked = time.monotonic()
            on_share(share)

        with self._claimed(session):
            try:
                yield on_step
            finally:
                session.progress = None

    @contextmanager
    def _claimed(self, session: Session, files: Sequence[Path] = ()) -> Iterator[None]:
        """Mark the page as at work, so that no other action changes its files; ``files`` are copied."""
        session.begin()
        try:
            self._sessions.check_room(session.visitor, sum(file.stat().st_size for file in files))
            yield
        finally:
            self._sessions.finish(session)

    def _choose(self, session: Session, clip: ClipReader) -> ClipReader:
        """Set the clip of a session, and remove the files, masks, paint and clicks of an earlier one."""
        for folder in session.folder.iterdir():
            if not clip.path.is_relative_to(folder):
                shutil.rmtree(folder, ignore_errors=True)
        session.clip, session.num_frames, session.size = clip.path, clip.num_frames, (clip.height, clip.width)
        session.clicks, session.visible = [], {}
        session.masks = session.depth = None
        session.masks_name = ""
        session.pictures = write_pictures(clip, session.fresh_folder("pictures"))
        return clip

    def _clip(self, session: Session) -> ClipReader:
        if session.clip is None:
            raise InputError("clip: none yet, or removed as the page was idle; load an example or upload one (step 1)")
        return open_clip(session.clip)

    def _show_masks(self, session: Session, clip: ClipReader, status: str, masks: Path, advice: str = "") -> View:
        """Take masks for the clip's if they fit, and draw them; advice ends the message in place of what comes next."""
        tracks = open_masks(masks, clip)
        scene = self._scene(session, clip)
        with session.replacing("visible") as folder:
            session.visible = write_visible(tracks, folder, scene=scene)
        session.masks = masks
        session.masks_name = folder.name
        found = tuple(
            SceneObject(name, color_of(label - 1), folder_link(session.visible[name]))
            for name, label in labels_of_objects(tracks).items()
        )
        ready = f"{status}. Masks: {counted(len(tracks), 'object')}. {advice}Ready: press Complete in step 3."
        return View(ready, viewer(replace(scene, masks=folder.name, objects=found)))

    def _scene(self, session: Session, clip: ClipReader, canvas: Mapping[str, int] | None = None) -> Scene:
        if session.pictures is None:
            raise RuntimeError("a clip without pictures")
        return Scene.of(clip, session.pictures, canvas)

    def _results(self, session: Session, clip: ClipReader, tracks: Mapping[str, MaskTrack], results: Path) -> Scene:
        """The viewer's scene of a result, whose masks and layers it shows as they are."""
        canvas = json.loads((results / SUMMARY).read_text(encoding="utf-8"))["canvas"]
        scene = self._scene(session, clip, canvas)
        visible = session.visible
        if (scene.width, scene.height) != (scene.frame_width, scene.frame_height):
            visible = write_visible(tracks, session.fresh_folder("margin"), scene=scene)
        objects = []
        for name, label in labels_of_objects(tracks).items():
            video, samples = uncertainty(results, name), None
            if video is not None:
                samples = folder_link(write_pictures(video, session.fresh_folder("uncertain")))
            objects.append(
                SceneObject(
                    name,
                    color_of(label - 1),
                    folder_link(visible[name]),
                    amodal=folder_link(results / "objects" / name / "amodal_masks"),
                    completed=folder_link(layer_folder(results, name)),
                    uncertain=samples,
                )
            )
        session.keep_newest("margin", 1)
        session.keep_newest("uncertain", len(tracks))
        return replace(scene, masks=session.masks_name, objects=tuple(objects))


def _made(session: Session, prefix: str) -> bool:
    """Whether the page made a session's masks, into a folder of this prefix."""
    masks = session.masks
    return masks is not None and masks.parent == session.folder and masks.name.startswith(prefix)


def _noting(session: Session, on_step: Callable[[float], None]) -> Callable[[float], None]:
    """A function that notes the share done in a session's progress, then calls another."""
    session.doing = FINDING
    progress = session.progress = Steady()

    def note(share: float) -> None:
        progress.note(share)
        on_step(share)

    return note


def _small(tracks: Mapping[str, MaskTrack], shown: Mapping[str, Sequence[int]]) -> list[int]:
    """Frames in which the mask of any object is much smaller than where a visitor showed the object."""
    found = (shrunken_frames(track.areas, shown.get(name, ())) for name, track in tracks.items())
    return sorted({frame for frames in found for frame in frames})


def _advice(small: Sequence[int], how: Literal["paint", "click"]) -> str:
    """What to do about frames with small masks."""
    if not small:
        return ""
    done, again = ("painted", "paint") if how == "paint" else ("clicked", "click on the object in")
    them, one = ("them", "one of these") if len(small) > 1 else ("it", "it")
    return (
        f"In {frame_ranges(small)} the mask is much smaller than where you {done}: look at {them} and {again} {one}. "
    )


def _size(clip: ClipReader) -> str:
    return f"{counted(clip.num_frames, 'frame')} of {clip.width}x{clip.height}"
