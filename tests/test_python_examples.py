"""The guide's Python snippets and the notebook run, with what other tools give."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from amodal_diffusion.types import AmodalResult
from tests.documents import ROOT, read
from tests.media import moving_disc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:OpenCV", "ignore:.*DetectionDataset"),
]


def test_snippets_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    rgb, cup = moving_disc(5, 48, 64)
    dog = np.roll(cup, 12, axis=2) & ~cup
    names: dict[str, Any] = {"rgb": rgb, "cup": cup, "dog": dog}
    names["video_segments"] = {  # logits; the second object is hidden in frame 1
        frame: {number: np.where(mask[frame], 4.0, -4.0)[None] for number, mask in ((1, cup), (4, dog))}
        for frame in range(5)
    }
    del names["video_segments"][1][4]
    names["detections"] = [
        supervision.Detections(xyxy=supervision.mask_to_xyxy(masks), mask=masks, tracker_id=np.array([7, 3]))
        for masks in (np.stack([cup[frame], dog[frame]]) for frame in range(5))
    ]
    names["annotations"] = [{"segmentation": coco.encode(np.asfortranarray(mask.astype(np.uint8)))} for mask in cup]
    published: list[tuple[int, str]] = []
    names["publish"] = lambda number, name, *_: published.append((number, name))
    names["camera"] = [(rgb[0, ..., ::-1], {"cup": cup[0]}), (rgb[1, ..., ::-1], {"dog": dog[1]})]
    for snippet in re.findall(
        r"^```python\n(.*?)^```", read("docs/python_examples.md"), flags=re.DOTALL | re.MULTILINE
    ):
        exec(compile(snippet, "docs/python_examples.md", "exec"), names)

    assert names["by_number"].keys() == {1, 4}
    assert (names["by_number"][1].amodal_mask >= cup).all()
    assert names["tracks"] == [3, 7]
    assert (names["amodal"][2].mask[1] >= cup[2]).all()
    assert isinstance(names["result"], AmodalResult)
    assert (coco.decode(names["whole"][3]) >= cup[3]).all()
    assert [final.number for final in names["rest"]] == [3, 4]
    assert len(names["streamed"]) == len(rgb)
    assert all((mask >= seen).all() for mask, seen in zip(names["streamed"], cup, strict=True))
    assert published == [(0, "cup"), (0, "dog")]  # the window shows both
    assert "AmodalCompleter(amodal_segmentation, content_completion; cpu, float32)" in capsys.readouterr().out


def test_the_notebook_runs() -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    assert len(notebook.cells) <= 12
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
