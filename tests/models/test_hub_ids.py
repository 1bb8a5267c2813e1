"""Hub ids with a revision go to the hub as they are meant, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.evaluation import methods
from amodal_diffusion.models import hub
from amodal_diffusion.models.downloads import Wanted
from amodal_diffusion.models.hub import (
    RELEASED,
    find_model,
    find_released,
    locate_depth,
    locate_model,
    released_stage,
)
from amodal_diffusion.models.hub_ids import HubId, hub_place
from amodal_diffusion.models.segmenters.loading import locate_segmenter


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("owner/name", "owner/name", "main"),
        ("owner/name@main", "owner/name", "main"),
        ("facebook/sam2.1-hiera-tiny@v1.0", "facebook/sam2.1-hiera-tiny", "v1.0"),
        ("o_1/n.2@refs/pr/3", "o_1/n.2", "refs/pr/3"),
        (
            "owner/name@0c5f8c54321b08c451d7680e12892f8017f819ca",
            "owner/name",
            "0c5f8c54321b08c451d7680e12892f8017f819ca",
        ),
    ],
)
def test_an_id_may_carry_a_revision(text: str, repository: str, revision: str) -> None:
    assert HubId.parse(text) == HubId(repository, revision)
    assert hub_place(text) == (repository, revision)


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "a/b/c",
        "../b",
        "/a/b",
        "./b",
        "a/b@",
        "a/b@..",
        "a/b@x/../y",
        "a/b@/x",
        "a/b@v1@v2",
        "a b/c",
        "@x",
        "a/b@-x",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert HubId.parse(text) is None


def wanted(place: Path | Wanted) -> Wanted:
    assert isinstance(place, Wanted)
    return place


def test_models_depth_networks_and_segmenters_are_wanted_at_their_revision() -> None:
    assert wanted(locate_model("owner/name@v2")).hub_id == HubId("owner/name", "v2")
    assert wanted(locate_depth("owner/depth@v3")).hub_id == HubId("owner/depth", "v3")
    assert wanted(locate_segmenter("owner/sam")).hub_id == HubId("owner/sam", "main")
    assert wanted(locate_depth("small")).hub_id.repository == "depth-anything/Depth-Anything-V2-Small-hf"
    with pytest.raises(InputError, match="depth model huge: expected small, large, a folder or a hub id"):
        locate_depth("huge")


def test_a_released_name_is_one_repository_a_stage() -> None:
    for stage in STAGES:
        place = wanted(locate_model("diffusion-vas@v1", stage=stage))
        assert place.hub_id == HubId(RELEASED["diffusion-vas"].stages[stage], "v1")
        assert place.license is not None
        assert released_stage(place.hub_id.repository) == stage
    place = wanted(locate_model("diffusion-vas", stage="content_completion"))
    assert place.hub_id == HubId("kaihuac/diffusion-vas-content-completion", "main")
    with pytest.raises(InputError, match="names one checkpoint a stage; name kaihuac/diffusion-vas-amodal-seg"):
        locate_model("diffusion-vas")


def test_a_folder_whose_name_is_an_id_counts_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner/name@v1").mkdir(parents=True)
    (tmp_path / "diffusion-vas").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("owner/name@v1") == Path("owner/name@v1")
    assert hub_place("owner/name@v1") == ("owner/name@v1", "main")
    assert find_model("diffusion-vas") == Path("diffusion-vas")
    assert find_released("diffusion-vas") is None


def test_in_methods_a_final_depth_is_the_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def locate(name: str | Path, **_: Any) -> Path:
        if isinstance(name, str):  # no folder that is known already
            asked.append(name)
        return hub.bundled_models()["tiny"]

    monkeypatch.setattr(hub, "locate_model", locate)
    built = methods.build_methods(["owner/name@v2@depth", "owner/name@v2", "owner/name@depth"])
    assert [method.uses_depth for method in built] == [True, False, True]
    assert set(asked) == {"owner/name@v2", "owner/name"}
    assert [method.name for method in built] == ["owner/name@v2@depth", "owner/name@v2", "owner/name@depth"]


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth"])
def test_a_pickled_file_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"is a file, expected a folder .* can run code and are never loaded") as error:
        find_model(tmp_path / f"model{suffix}")
    assert "\n" not in str(error.value)
