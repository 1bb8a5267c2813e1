"""Inputs of `complete`: all are opened and validated before a network is loaded."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.canvas import Canvas
from amodal_diffusion.completion.layout import SCORES, check_formats
from amodal_diffusion.completion.request import (
    OF_NETWORKS,
    CompletionRequest,
    ModelChoice,
    SamplingChoice,
    check_method,
    flag_of,
)
from amodal_diffusion.completion.scores import KeptScores
from amodal_diffusion.completion.segmentation import check_prompts
from amodal_diffusion.completion.shots import open_shots
from amodal_diffusion.frames.cuts import say_cuts
from amodal_diffusion.io.clip_subset import ClipSubset
from amodal_diffusion.io.depth_files import DepthTrack, fit_depth, open_depth
from amodal_diffusion.io.mask_files import MaskTrack, fit_track, read_masks
from amodal_diffusion.io.video_reader import ClipReader


@dataclass(frozen=True)
class CompletionInputs:
    """Opened inputs whose sizes and numbers of frames match.

    Attributes:
        clip: the frames.
        tracks: modal masks of the objects to complete; empty if a segmenter has yet to predict them.
        whole: maps the names of objects to their amodal masks, if given.
        depth: depth of the clip, if given.
        canvas: the frame with its outpainting margins.
        cuts: first frames of new shots.
        scores: of an earlier run, from which the masks are cut; None to run stage 1.
    """

    clip: ClipReader
    tracks: tuple[MaskTrack, ...]
    whole: dict[str, MaskTrack]
    depth: DepthTrack | None
    canvas: Canvas
    cuts: tuple[int, ...] = ()
    scores: KeptScores | None = None

    def on_canvas(self) -> CompletionInputs:
        """The same inputs with outpainting margins."""
        return replace(
            self,
            clip=self.canvas.place_clip(self.clip),
            tracks=tuple(self.canvas.place_masks(track) for track in self.tracks),
            whole={name: self.canvas.place_masks(track) for name, track in self.whole.items()},
            depth=None if self.depth is None else self.canvas.place_depth(self.depth, cuts=self.cuts),
        )


_CUT_ANEW = ("mask_threshold", "mask_filters", "object_batch")  # what counts for masks that are cut from scores


def open_inputs(request: CompletionRequest) -> CompletionInputs:
    """Open all inputs and check that they match.

    Args:
        request: the options of `complete`.

    Raises:
        InputError: if an input is missing or damaged, or does not match the others, or options contradict each other.
    """
    if request.source.amodal_masks is not None and request.output.stages == "masks":
        raise InputError("--amodal-masks: replaces stage 1, the only stage of --stages masks; leave one of them out")
    source = request.source
    for folder in (source.clip, source.masks, source.amodal_masks, source.from_scores, Path(request.depth.depth)):
        if folder is not None and folder.is_dir() and request.out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"out: {request.out}: lies in {folder}, which is input; choose another folder")
    _check_source(request)
    _check_known(request)
    check_method(request, request.stage_names.known_method)
    check_formats(request.output.formats, painted=request.painted, sound=request.output.audio)
    if request.sampling.shrink_mask and not request.painted:
        raise InputError("--shrink-mask: needs stage 2, which --stages masks and --from-scores leave out; leave it out")
    clip, cuts = open_shots(
        request.source.clip,
        request.source.cuts,
        allow_truncated=request.source.allow_truncated,
        bit_depth=request.source.bit_depth,
    )
    if request.source.cuts == "auto":
        say_cuts(cuts)
    canvas = Canvas.around(clip, request.output.margin)
    if request.source.masks is None:
        _check_layer_frames(request, clip)
        check_prompts(request.clicks.prompts, request.clicks.segmenter, clip)
        return CompletionInputs(clip, (), {}, _depth(request, clip), canvas, cuts)
    found = read_masks(
        request.source.masks, allow_truncated=request.source.allow_truncated, mask_type=request.source.mask_type
    )
    tracks = tuple(fit_track(track, clip, what="masks") for track in _chosen(found, request.source.object))
    clip, cuts = _frames_with_masks(clip, tracks, cuts)
    for track in tracks:
        if not any(track.areas):
            raise InputError(
                f"masks: {track.path}: object {track.name} is empty in every one of {track.num_frames} frames; it "
                "must be visible in at least one"
            )
    _check_layer_frames(request, clip)
    scores = None if request.source.from_scores is None else KeptScores.open(request.source.from_scores)
    if scores is not None:
        scores.check(tracks, canvas, cuts)
        scores.check_depth(request.depth.depth, request.depth.depth_model)
    whole = _whole_masks(request, clip, tracks, canvas)
    return CompletionInputs(clip, tracks, whole, _depth(request, clip), canvas, cuts, scores)


def _frames_with_masks(
    clip: ClipReader, tracks: tuple[MaskTrack, ...], cuts: tuple[int, ...]
) -> tuple[ClipReader, tuple[int, ...]]:
    """The frames of the clip for which there are masks, all or every n-th, and the cuts between these."""
    found = {track.positions for track in tracks}
    if found == {None}:
        return clip, cuts
    if len(found) > 1:
        raise InputError("masks: the objects have masks of different frames; give each the masks of the same frames")
    (positions,) = found
    if positions is None:
        return clip, cuts
    begun = {bisect_left(positions, cut) for cut in cuts} - {0, len(positions)}
    return ClipSubset(clip, positions), tuple(sorted(begun))


def _check_layer_frames(request: CompletionRequest, clip: ClipReader) -> None:
    """Refuse layered pictures of frames that the clip does not have."""
    wanted = request.output.layer_frames
    if isinstance(wanted, tuple) and wanted[-1] >= clip.num_frames:
        raise InputError(f"--layer-frames: expected frames from 0 to {clip.num_frames - 1}, got {wanted[-1]}")


def _check_source(request: CompletionRequest) -> None:
    """Check that there is exactly one source of masks: files or prompts."""
    if (request.source.masks is None) == (request.clicks.prompts is None):
        found = "neither" if request.source.masks is None else "both"
        raise InputError(f"--masks: expected either masks or prompts (--point, --box, --text), got {found}")
    if request.source.masks is not None:
        return
    if request.source.amodal_masks is not None:
        raise InputError("--amodal-masks: needs --masks; make them with `amodal-diffusion segment`")
    if request.source.from_scores is not None:
        raise InputError("--from-scores: needs --masks; those of prompts are in the result, in objects/ID/modal_masks")
    if request.source.object is not None:
        raise InputError("--object: needs --masks; prompt only the object to complete")


def _check_known(request: CompletionRequest) -> None:
    """Refuse options that do nothing, or cannot be obeyed, beside given amodal masks or scores."""
    source, samples = request.source, request.sampling.samples or 1
    if samples > 1 and source.amodal_masks is not None:
        raise InputError("--samples: needs stage 1, which --amodal-masks replaces; leave one of them out")
    if SCORES in request.output.formats and source.amodal_masks is not None:
        raise InputError("--formats: scores are stage 1's, which --amodal-masks replaces; leave one of them out")
    if SCORES in request.output.formats and samples > 1:
        raise InputError("--formats: scores are those of one sample; leave out --samples, or scores")
    if source.from_scores is None:
        return
    if source.amodal_masks is not None:
        raise InputError("--from-scores: makes the masks that --amodal-masks gives; leave one of them out")
    unused = {name: (value, getattr(SamplingChoice(), name)) for name, value in asdict(request.sampling).items()}
    unused |= {name: (getattr(request.model, name), getattr(ModelChoice(), name)) for name in OF_NETWORKS}
    for name, (value, default) in unused.items():
        if name not in _CUT_ANEW and value != default:
            raise InputError(
                f"{flag_of(name)}: nothing is sampled with --from-scores, got {value}; leave one of them out"
            )


def _chosen(tracks: dict[str, MaskTrack], name: str | None) -> list[MaskTrack]:
    if name is None:
        return list(tracks.values())
    if name not in tracks:
        raise InputError(f"--object: no object {name} in the masks; there are {', '.join(tracks)}")
    return [tracks[name]]


def _whole_masks(
    request: CompletionRequest, clip: ClipReader, tracks: tuple[MaskTrack, ...], canvas: Canvas
) -> dict[str, MaskTrack]:
    """Read the given amodal masks of each object, matched by name; a single track matches a single object by itself.

    The masks have the size of the frame, or of the canvas if an earlier run with the same margins wrote them.
    """
    if request.source.amodal_masks is None:
        return {}
    what = "amodal-masks"
    found = read_masks(request.source.amodal_masks, allow_truncated=request.source.allow_truncated, what=what)
    if len(found) == len(tracks) == 1:
        found = {tracks[0].name: next(iter(found.values()))}
    missing = [track.name for track in tracks if track.name not in found]
    if missing:
        raise InputError(
            f"{what}: {request.source.amodal_masks}: no masks of object {', '.join(missing)}; there are "
            f"{', '.join(found)}"
        )
    wide = canvas.place_clip(clip)
    chosen = [found[track.name] for track in tracks]
    fitted = (
        fit_track(track, wide if (track.height, track.width) == (wide.height, wide.width) else clip, what=what)
        for track in chosen
    )
    return {track.name: masks for track, masks in zip(tracks, fitted, strict=True)}


def _depth(request: CompletionRequest, clip: ClipReader) -> DepthTrack | None:
    if request.depth.depth == "auto":
        return None
    if request.depth.depth_model is not None:
        raise InputError(
            f"--depth-model: nothing to estimate, as --depth is {request.depth.depth}; leave one of them out"
        )
    if request.depth.depth == "none":
        return None
    return fit_depth(open_depth(request.depth.depth, inverse=request.depth.depth_inverse), clip)
