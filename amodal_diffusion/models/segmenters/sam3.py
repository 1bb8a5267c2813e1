"""SAM 3 (transformers): a text finds every instance of what it names and follows it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import transformers

from amodal_diffusion.models.segmenters.preprocessing import Preprocessing, masks_from_logits
from amodal_diffusion.models.segmenters.protocol import ObjectMask
from amodal_diffusion.models.segmenters.sam3_routines import use_routines
from amodal_diffusion.types import BoolArray, InputError, UInt8Array
from amodal_diffusion.video.prompts import Prompts

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
