"""Two routines that transformers' SAM 3 would fetch from the hub as compiled code, on the libraries that are here."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import transformers
from scipy import ndimage
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.prompts import Prompts
from amodal_diffusion.models.segmenters.preprocessing import Preprocessing, masks_from_logits
from amodal_diffusion.models.segmenters.protocol import ObjectMask
from amodal_diffusion.types import BoolArray, UInt8Array

_EIGHT = np.ones((3, 3), np.int8)  # pixels that touch at a corner belong together


class MaskRoutines:
    """What the library calls on its module's ``cv_utils_kernel``; without it, it leaves both steps out."""

    def generic_nms(self, ious: Tensor, scores: Tensor, threshold: float, *, use_iou_matrix: bool) -> Tensor:  # noqa: ARG002
        """Leave out what overlaps a surer one.

        Args:
            ious: float ``[n, n]``, of each with each.
            scores: float ``[n]``.
            threshold: an overlap above it is too much.
            use_iou_matrix: always true here.

        Returns:
            int64 ``[k]``, those that stay, surest first.
        """
        overlaps = (ious > threshold).cpu()
        kept: list[int] = []
        for index in scores.argsort(descending=True).tolist():
            if not overlaps[index, kept].any():
                kept.append(index)
        return torch.tensor(kept, dtype=torch.long, device=ious.device)

    def cc_2d(self, mask: Tensor, *, get_counts: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Find connected parts.

        Args:
            mask: uint8 ``[n, 1, h, w]``.
            get_counts: always true here.

        Returns:
            number of the part at each pixel and its area, int32 ``[n, 1, h, w]``; 0 outside the mask.
        """
        labels, counts = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
        for index, picture in enumerate(mask[:, 0].cpu().numpy()):
            labels[index, 0], _ = ndimage.label(picture, structure=_EIGHT)
            areas = np.bincount(labels[index, 0].ravel())
            areas[0] = 0
            counts[index, 0] = areas[labels[index, 0]]
        return torch.from_numpy(labels).to(mask.device), torch.from_numpy(counts).to(mask.device)


def use_routines(network: Any) -> None:  # noqa: ANN401
    """Have the library take these routines, and never look for code on the hub.

    Args:
        network: ``Sam3VideoModel``.
    """
    vars(sys.modules[type(network).__module__])["cv_utils_kernel"] = MaskRoutines()


_TOKENS = 32  # of a text, as the network was trained


class Sam3Segmenter:
    """SAM 3's detector and its memory of what that found, frame by frame.

    What is kept of the frames that have passed is what the network can still look at, so memory grows with the number
    of objects that are found, not with the clip.
    """

    def __init__(self, network: Any, tokenizer: Any, preprocessing: Preprocessing) -> None:  # noqa: ANN401
        """Take a loaded network.

        Args:
            network: ``Sam3VideoModel``, on its device.
            tokenizer: of its text encoder.
            preprocessing: of its frames.
        """
        use_routines(network)
        self._network, self._tokenizer, self._preprocessing = network.eval(), tokenizer, preprocessing

    def segment(self, frames: Iterable[UInt8Array], prompts: Prompts) -> Iterator[ObjectMask]:
        """Segment a clip, as `Segmenter` says, in the order of its frames; it is gone through once.

        Objects are named as what they are and counted: ``red-car-1``, ``red-car-2``.

        Args:
            frames: uint8 ``[H, W, 3]``, RGB.
            prompts: texts.

        Raises:
            InputError: if there are points or boxes among the prompts.
        """
        if prompts.points or prompts.boxes:
            raise InputError(
                "prompt: Sam3VideoModel takes texts alone here; for points and boxes give a SAM 2 model "
                "(facebook/sam2.1-hiera-tiny)"
            )
        return self._segment(frames, list(dict.fromkeys(prompts.texts)))

    def _segment(self, frames: Iterable[UInt8Array], texts: list[str]) -> Iterator[ObjectMask]:
        session = self._session(texts)
        names: dict[int, str] = {}
        counts: Counter[str] = Counter()
        for frame, rgb in enumerate(frames):
            pixels = self._preprocessing.normalise(self._preprocessing.shrink(rgb).to(self._network.device))
            output = self._network(session, frame=pixels.to(self._network.dtype), frame_idx=frame)
            numbers = sorted(output.obj_id_to_mask.keys() - output.suppressed_obj_ids)
            prompts = [session.obj_id_to_prompt_id[number] for number in numbers]
            self._forget(session, frame)
            if not numbers:
                continue
            logits = torch.cat([output.obj_id_to_mask[number] for number in numbers])  # [n, h, w]
            masks = masks_from_logits(logits, height=rgb.shape[0], width=rgb.shape[1])
            _separate(masks, [output.obj_id_to_tracker_score.get(number, 0.0) for number in numbers], prompts)
            for number, prompt, mask in zip(numbers, prompts, masks, strict=True):
                if number not in names:
                    word = _word(session.prompts[prompt])
                    counts[word] += 1
                    names[number] = f"{word}-{counts[word]}"
                yield ObjectMask(names[number], frame, mask)

    def _session(self, texts: list[str]) -> Any:  # noqa: ANN401
        device = self._network.device
        session = transformers.Sam3VideoInferenceSession(inference_device=device, dtype=self._network.dtype)
        for text in texts:
            number = session.add_prompt(text)
            coded = self._tokenizer(
                text, return_tensors="pt", padding="max_length", truncation=True, max_length=_TOKENS
            ).to(device)
            session.prompt_input_ids[number] = coded.input_ids
            session.prompt_attention_masks[number] = coded.attention_mask
        return session

    def _forget(self, session: Any, frame: int) -> None:  # noqa: ANN401
        """Drop all that no frame to come looks at."""
        config = self._network.config.tracker_config
        window = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        session.processed_frames[frame] = None  # the tracker asks how many there were
        for inputs, tracked in zip(
            session.mask_inputs_per_obj.values(), session.frames_tracked_per_obj.values(), strict=True
        ):
            inputs.clear()
            tracked.clear()
        for outputs in session.output_dict_per_obj.values():
            _keep_newest(outputs["non_cond_frame_outputs"], window)
            _keep_newest(outputs["cond_frame_outputs"], window)  # the detector makes new ones now and then
            for output in (*outputs["non_cond_frame_outputs"].values(), *outputs["cond_frame_outputs"].values()):
                output.pop("high_res_masks", None)
        for past in (session.obj_id_to_tracker_score_frame_wise, session.suppressed_obj_ids):
            for index in [index for index in past if index < frame]:
                del past[index]
        session.unmatched_frame_inds.clear()  # logs for removing objects afterwards, which a stream cannot do
        session.overlap_pair_to_frame_inds.clear()


def _separate(masks: BoolArray, scores: list[float], prompts: list[int]) -> None:
    """Leave a pixel to the surest of the objects that one text has found there; in place, ``[n, H, W]``."""
    for prompt in set(prompts):
        group = [index for index, of in enumerate(prompts) if of == prompt]
        sure = np.where(masks[group], np.array([scores[index] for index in group])[:, None, None], -1.0)
        masks[group] &= sure.argmax(axis=0) == np.arange(len(group))[:, None, None]


def _keep_newest(outputs: dict[int, Any], count: int) -> None:
    for frame in sorted(outputs)[:-count]:
        del outputs[frame]


def _word(text: str) -> str:
    """A name for objects, which becomes a folder's."""
    return re.sub(r"[^0-9A-Za-z]+", "-", text).strip("-").lower() or "object"
