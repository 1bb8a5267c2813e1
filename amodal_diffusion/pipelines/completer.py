"""AmodalCompleter: a clip and its modal masks in, whole objects out, for a clip or for a stream of any length."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, Literal, overload

from amodal_diffusion.basics import Cuts, InputError, Stage
from amodal_diffusion.config import OLD_FILTERS, Preset, check_seed
from amodal_diffusion.frames.cuts import say_cuts
from amodal_diffusion.pipelines.amodal_segmentation import (
    SegmentationStream,
    SegmentedFrame,
    given_masks,
)
from amodal_diffusion.pipelines.completion_config import (
    CompletionConfig,
    checked_config,
    refuse_unknown,
    stage_config,
)
from amodal_diffusion.pipelines.content_completion import CompletedFrame, ContentStream
from amodal_diffusion.pipelines.methods import OF_DIFFUSION, segmenter_settings
from amodal_diffusion.pipelines.object_streams import (
    ObjectStream,
    StreamStatistics,
    checked_frames,
    checked_inputs,
    join_results,
    shots,
    spend,
    then_none,
    timed,
)
from amodal_diffusion.pipelines.occlusion_intervals import clip_intervals
from amodal_diffusion.pipelines.online import OnlineCompleter
from amodal_diffusion.pipelines.preprocessing import FrameInput, clips_of, frames_of_objects
from amodal_diffusion.pipelines.shot_segmentation import ShotSegmentation
from amodal_diffusion.pipelines.stage_networks import StageNetworks
from amodal_diffusion.types import (
    AmodalResult,
    ArrayInput,
    BoolArray,
    FloatArray,
    VideoClip,
    as_depth,
    as_object_masks,
)

_ONLINE_WINDOW = 16  # of methods without a window of their own

__all__ = ["AmodalCompleter", "CompletionConfig", "FrameInput", "ObjectStream", "StreamStatistics"]


class AmodalCompleter(StageNetworks):
    """Both stages behind one call.

    Windows of the network's length follow each other with an overlap of a quarter and are cross-faded; the initial
    noise of a frame depends on the seed and the frame alone, so that windows agree where they overlap. Each shot is
    completed as a clip of its own: no window, motion, color or statistic crosses a hard cut.

    Args and attributes are those of :class:`~amodal_diffusion.pipelines.stage_networks.StageNetworks`.
    """

    def config(self, *, preset: Preset | None = None, **changes: Any) -> CompletionConfig:  # noqa: ANN401
        """How the loaded stages are sampled: a preset, with other values in its place.

        Args:
            preset: ``"paper"`` is the paper's inference, ``"default"`` the checkpoint's own settings, ``"fast"`` few
                steps; when None what the checkpoint names, or the paper's with ``conditioning="released"``.
            changes: values of :class:`~amodal_diffusion.config.SamplingConfig` and of its group
                :class:`~amodal_diffusion.config.BeyondPaper`, by field name; they count for both stages. None leaves a
                value as the preset has it. A `mask_threshold` is that of every frame: with it, `expected_iou_weight` is
                off unless it is given too.

        Raises:
            InputError: if there is no such preset or setting, or a value does not fit a checkpoint: the VAE does not
                divide height or width, the scheduler has other noise levels, or stage 1 is of a method without it.
        """
        idle = [name for name in OF_DIFFUSION if changes.get(name) not in (None, 1)]
        if self.segmenter is not None and idle:
            raise InputError(
                f"{idle[0]}: is for the masks of diffusion, and another method predicts them; leave it out"
            )
        return CompletionConfig(
            stage_config(self._segmentation, preset, changes), stage_config(self._content, preset, changes)
        )

    def settings(self, config: CompletionConfig) -> dict[str, Any]:
        """How each loaded stage is sampled, by name, as JSON values; of another method what its checkpoint says.

        Args:
            config: from :meth:`config`.
        """
        own = {} if self.segmenter is None else {"amodal_segmentation": segmenter_settings(self.segmenter)}
        return own | config.to_json()

    def halved_chunks(self) -> dict[Stage, int]:
        """By stage, how many frames of the last clip were decoded together where memory ran out; else nothing."""
        chunks = {stage: pipeline.relief.decode_chunk_size for stage, pipeline in self._pipelines.items()}
        return {stage: chunk for stage, chunk in chunks.items() if chunk is not None}

    @overload
    def __call__(
        self,
        clip: VideoClip,
        config: CompletionConfig | None = None,
        /,
        *,
        depth: ArrayInput | None = None,
        amodal_mask: ArrayInput | None = None,
        seed: int = 0,
    ) -> AmodalResult: ...

    @overload
    def __call__(
        self,
        clip: VideoClip,
        *,
        config: CompletionConfig | None = None,
        depth: ArrayInput | None = None,
        amodal_mask: ArrayInput | None = None,
        seed: int = 0,
    ) -> AmodalResult: ...

    @overload
    def __call__(
        self,
        clip: ArrayInput,
        masks: ArrayInput,
        fps: float = 8.0,
        *,
        config: CompletionConfig | None = None,
        cuts: Cuts = "auto",
        labels: Literal[True],
        depth: ArrayInput | None = None,
        amodal_mask: ArrayInput | None = None,
        seed: int = 0,
    ) -> list[AmodalResult]: ...

    @overload
    def __call__(
        self,
        clip: ArrayInput,
        masks: ArrayInput,
        fps: float = 8.0,
        *,
        config: CompletionConfig | None = None,
        cuts: Cuts = "auto",
        labels: bool = False,
        depth: ArrayInput | None = None,
        amodal_mask: ArrayInput | None = None,
        seed: int = 0,
    ) -> Any: ...  # noqa: ANN401 - an AmodalResult, or a list of them for masks [O, F, H, W]

    def __call__(
        self,
        clip: VideoClip | ArrayInput,
        masks: ArrayInput | CompletionConfig | None = None,
        fps: float = 8.0,
        *,
        config: CompletionConfig | None = None,
        cuts: Cuts = "auto",
        labels: bool = False,
        depth: ArrayInput | None = None,
        amodal_mask: ArrayInput | None = None,
        seed: int = 0,
        **unknown: object,
    ) -> AmodalResult | list[AmodalResult]:
        """Complete one object of a clip, or one or several objects in frames.

        Call it as ``completer(clip, config)`` or as ``completer(frames, masks, fps)``.

        Args:
            clip: frames, modal masks and hard cuts; a notice names the cuts that were found. A shot that does not show
                the object stays empty, unless its amodal masks are given. Or the frames alone, as `VideoClip` takes
                them.
            masks: modal masks for frames that come without: of one object ``[F, H, W]`` or ``[F, 1, H, W]``, of several
                ``[O, F, H, W]``, whose windows are then rows of one network call.
            fps: frames a second, for frames that come without a clip, like the following two.
            config: from :meth:`config`; the checkpoint's default when None.
            cuts: see `VideoClip`.
            labels: take the masks for integers ``[F, H, W]`` in which each value beside 0 is an object.
            depth: float ``[F, H, W]``, any scale, nearer is larger, for all objects; None for none. Arrays, tensors and
                lists, like the following.
            amodal_mask: bool ``[F, H, W]``, or ``[O, F, H, W]`` for several objects, to skip stage 1; converted as the
                modal mask of a clip is.
            seed: at least 0; the same seed gives the same result.
            unknown: refused, with what to give instead.

        Returns:
            the whole object at the clip's size; ``amodal_rgb`` and ``rgba`` are None without stage 2. A list for masks
            with an axis of objects or for labels, which are in ascending order.

        Raises:
            InputError: if shapes do not match, amodal masks are missing where stage 1 is not loaded, or an argument is
                unknown.
        """
        refuse_unknown(unknown)
        if isinstance(masks, CompletionConfig) or (isinstance(clip, VideoClip) and isinstance(masks, Mapping)):
            if config is not None:
                raise InputError("config: given twice; give it once")
            masks, config = None, checked_config(masks)
        if isinstance(fps, CompletionConfig):
            raise InputError("fps: expected a frame rate, got a configuration; give it as config=...")
        check_seed(seed)
        config = checked_config(config) or self.config()
        clips, several = clips_of(clip, masks, fps, cuts, labels=labels)
        first = clips[0]
        self.notice_depth(given=depth is not None or amodal_mask is not None)
        known = None
        if amodal_mask is not None:
            known, _ = as_object_masks(amodal_mask, "amodal_mask", first.num_frames)
            if len(known) != len(clips):
                raise InputError(f"amodal_mask: expected masks of {len(clips)} objects, got {len(known)}")
        frames = list(frames_of_objects(clips, None if depth is None else as_depth(depth, "depth"), known))
        if first.cuts == "auto":
            say_cuts([number for number, (frame, *_) in enumerate(frames) if frame.starts_shot])
        skip = config.skip_unoccluded
        objects = [
            ObjectStream(clip_intervals(list(entries), skip_unoccluded=skip)) for entries in zip(*frames, strict=True)
        ]
        results: list[list[AmodalResult]] = [[] for _ in objects]
        for place, result in self.stream_objects(frames, objects, config, seed=seed):
            results[place].append(result)
        joined = [join_results(entries) for entries in results]
        return joined if several else joined[0]

    def stream(
        self, frames: Iterable[FrameInput], config: CompletionConfig | None = None, *, seed: int = 0
    ) -> Iterator[AmodalResult]:
        """Complete a stream of frames of one object; memory is that of a few windows, whatever its length.

        Args:
            frames: in order, all of one size, with depth in all or in none. Mark the frames that start a shot; no cuts
                are searched for. Where ``fit`` is ``"crop"``, as in ``"tiny"``, each needs its ``center``, from
                :func:`~amodal_diffusion.crop_centers` over the masks of the whole clip.
            config: as for a call; no frame is skipped, as that takes the whole clip.
            seed: as for a call.

        Yields:
            results of one frame each, in order.

        Raises:
            InputError: if an array of a frame is not as `FrameInput` says, sizes differ, only some frames have
                depth, a center is missing where ``fit`` is ``"crop"``, or amodal masks are missing where stage 1 is not
                loaded.
        """

        def entries(frame: FrameInput) -> list[FrameInput]:
            self.notice_depth(given=frame.depth is not None or frame.amodal is not None)
            return [frame]

        checked = checked_inputs(frames)
        for _, result in self.stream_objects(map(entries, checked), [ObjectStream()], config, seed=seed):
            yield result

    def online(
        self,
        *,
        look_ahead: int = 3,
        stride: int = 1,
        window: int | None = None,
        config: CompletionConfig | None = None,
        seed: int = 0,
    ) -> OnlineCompleter:
        """Complete live video: a frame comes out before frame ``look_ahead + 1`` after it comes in.

        Args:
            look_ahead: frames that may come in before a frame is final; at 8 frames a second, 3 are 0.375 seconds, to
                which the time of one run of the networks is added.
            stride: frames that become final in one run of the networks, from 1 to ``look_ahead + 1``.
            window: frames that a run sees; the longer window of the two stages when None.
            config: as for a call; all frames of the window are looked at.
            seed: as for a call.

        Raises:
            InputError: if a number is out of range.
        """
        config = checked_config(config) or self.config()
        stages = (config.amodal_segmentation, config.content_completion)
        longest = max((stage.num_frames for stage in stages if stage is not None), default=_ONLINE_WINDOW)
        return OnlineCompleter(
            self, look_ahead=look_ahead, stride=stride, window=window or longest, config=config, seed=seed
        )

    def stream_objects(
        self,
        frames: Iterable[Sequence[FrameInput]],
        objects: Sequence[ObjectStream],
        config: CompletionConfig | None = None,
        *,
        seed: int = 0,
        first_frame: int = 0,
    ) -> Iterator[tuple[int, AmodalResult]]:
        """Complete several objects of a stream; the windows of all objects are rows of one network call.

        Args:
            frames: in order; of each frame one entry an object, all of one size. A frame that starts a shot for one
                object does for all.
            objects: what is known of each object; its statistics go up.
            config: as for a call.
            seed: as for a call.
            first_frame: number of the first frame, on which the noise depends.

        Yields:
            number of the object and result of one frame, each object's in order.

        Raises:
            InputError: if sizes differ, amodal masks are missing where stage 1 is not loaded, or intervals are of
                another clip.
        """
        check_seed(seed)
        config = checked_config(config) or self.config()
        for pipeline in self._pipelines.values():
            pipeline.relief.reset()
        for first, shot in shots(checked_frames(frames, objects)):
            segmentation, content = self._open_stages(objects, config, first=first, noise=(seed, first_frame + first))
            left = [max(0, entry.done - first) for entry in objects]
            for number, entries in enumerate(then_none(shot), first):
                # Stage 1: the next frame of each object in, the frames whose masks are final out
                started = time.perf_counter()
                if segmentation is None:
                    masked = [] if entries is None else [[given_masks(frame, number)] for frame in entries]
                else:
                    masked = segmentation.push(entries)
                spend(objects, "amodal_segmentation", time.perf_counter() - started)

                # Stage 2: these frames in, the frames whose colors are final out
                completed = (
                    _without_content(masked, left) if content is None else _painted(content, masked, entries is None)
                )
                for place, frame in timed(completed, objects, "content_completion"):
                    statistics = objects[place].statistics
                    statistics.removed.update(frame.removed)
                    statistics.hidden += frame.hidden
                    statistics.propagated += frame.propagated
                    yield place, frame.result

    def _open_stages(
        self, objects: Sequence[ObjectStream], config: CompletionConfig, *, first: int, noise: tuple[int, int]
    ) -> tuple[SegmentationStream | ShotSegmentation | None, ContentStream | None]:
        """Stages for the shot that begins at a frame of the stream; None for a stage that is not loaded.

        Args:
            objects: as for :meth:`stream_objects`.
            config: of both stages.
            first: number in the stream of the shot's first frame.
            noise: the seed, and the number of that frame for the noise.
        """
        seed, number = noise
        intervals = [None if entry.intervals is None else entry.intervals.shot(first) for entry in objects]
        done = [max(0, entry.done - first) for entry in objects]
        segmentation: SegmentationStream | ShotSegmentation | None = None
        content = None
        if self.segmenter is not None:
            segmentation = ShotSegmentation(self.segmenter, len(objects), seed=seed)
        elif config.amodal_segmentation is not None:
            segmentation = SegmentationStream(
                self._segmentation, config.amodal_segmentation, intervals, seed=seed, first=number
            )
        if self._content is not None and config.content_completion is not None:
            content = ContentStream(
                self._content, config.content_completion, intervals, done=done, seed=seed, first=number
            )
        return segmentation, content

    def complete(
        self,
        clip: VideoClip,
        *,
        depth: FloatArray | None = None,
        amodal_mask: BoolArray | None = None,
        seed: int = 0,
        preset: Preset | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        solver: Literal["euler", "heun", "dpmpp"] | None = None,
        height: int | None = None,
        width: int | None = None,
        guards: Sequence[str] | None = None,
        copies: bool | None = None,
        samples: int = 1,
        spans: Literal["auto", "all"] = "all",
    ) -> AmodalResult:
        """Call of version 0.1 with its keywords; deprecated, call the completer itself.

        Args:
            clip: as for a call, like the following three.
            depth: as for a call.
            amodal_mask: as for a call.
            seed: as for a call.
            preset: as for :meth:`config`, like the following.
            num_inference_steps: as for :meth:`config`.
            guidance_scale: as for :meth:`config`.
            solver: now ``scheduler``.
            height: as for :meth:`config`.
            width: as for :meth:`config`.
            guards: now ``mask_filters``: ``behind``, ``attached``, ``growth`` became ``depth``, ``components``,
                ``area``.
            copies: now ``color_propagation``.
            samples: as for :meth:`config`.
            spans: ``"auto"`` is now ``skip_unoccluded=True``.

        Raises:
            InputError: as a call.
        """
        warnings.warn("complete() is deprecated: call completer(clip, completer.config(...))", DeprecationWarning, 2)
        config = self.config(
            preset=preset,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            scheduler=solver,
            height=height,
            width=width,
            mask_filters=None if guards is None else tuple(OLD_FILTERS.get(name, name) for name in guards),
            color_propagation=copies,
            samples=samples,
            skip_unoccluded=spans == "auto",
        )
        return self(clip, config, depth=depth, amodal_mask=amodal_mask, seed=seed)


def _painted(
    content: ContentStream, masked: Sequence[Sequence[SegmentedFrame]], last: bool
) -> Iterator[tuple[int, CompletedFrame]]:
    """Push frames through stage 2, one of each object at a time, as the result is read."""
    steps: list[Sequence[SegmentedFrame | None] | None] = list(zip_longest(*masked))
    return chain.from_iterable(map(content.push, [*steps, None] if last else steps))


def _without_content(
    masked: Sequence[Sequence[SegmentedFrame]], left: list[int]
) -> Iterator[tuple[int, CompletedFrame]]:
    """Frames of masks alone, without those of ``left``, which counts down."""
    for place, entries in enumerate(masked):
        for entry in entries:
            left[place] -= 1
            if left[place] < 0:
                samples = None if entry.samples is None else entry.samples[:, None]
                score = None if entry.score is None else entry.score[None]
                yield place, CompletedFrame(AmodalResult(entry.amodal[None], None, None, samples, score), entry.removed)
