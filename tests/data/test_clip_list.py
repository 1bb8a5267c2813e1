"""Lists of clips: three ways to write one, names of results, and what is wrong with a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.clip_list import ClipEntry, read_clip_list

JSON_LINES = """
{"clip": "a/one.mp4", "masks": "a/masks", "object": 2, "depth": "a/depth.npy"}

{"clip": "/videos/two.mp4", "masks": "b", "name": "second", "depth": "none", "object": null}
"""
CSV = '\ufeffname,clip,masks,object,depth\n,a/one.mp4,"a/masks",2,a/depth.npy\nsecond,/videos/two.mp4,b,,none\n'
TEXT = "# clip masks depth object name\na/one.mp4\ta/masks\ta/depth.npy\t2\n\n/videos/two.mp4\tb\tnone\t\tsecond\r\n"


@pytest.mark.parametrize(
    ("name", "text"), [("l.jsonl", JSON_LINES), ("l.csv", CSV), ("s.csv", CSV.replace(",", ";")), ("l.txt", TEXT)]
)
def test_the_same_list_in_three_ways(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    clips = read_clip_list(path)
    assert len(clips) == 2
    assert list(clips) == [
        ClipEntry("a_one_2", tmp_path / "a/one.mp4", tmp_path / "a/masks", str(tmp_path / "a/depth.npy"), "2"),
        ClipEntry("second", Path("/videos/two.mp4"), tmp_path / "b", "none"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "clip\tmasks\na.mp4\tb\n",
        "clip;masks\n\na.mp4;b\n",
        "clip\tmasks\na.mp4\tb;c\n",
        '"clip";"masks"\na.mp4;"b,c"\n',
    ],
)
def test_the_first_line_alone_says_what_separates_values(tmp_path: Path, text: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text(text, encoding="utf-8")
    (entry,) = read_clip_list(path)
    assert entry.clip == tmp_path / "a.mp4"
    assert Path(entry.masks).name.startswith("b")


@pytest.mark.parametrize(
    ("clip", "name"),
    [
        ("a/b.mp4", "a_b"),
        ("../x/b.tar.mov", "x_b.tar"),
        ("/v/a", "v_a"),
        ("./a b.avi", "a b"),
        ("folder.v2", "folder.v2"),
    ],
)
def test_names_follow_from_the_line_alone(tmp_path: Path, clip: str, name: str) -> None:
    (tmp_path / "folder.v2").mkdir()
    path = tmp_path / "l.txt"
    path.write_text(f"{clip}\tm\n")
    assert [entry.name for entry in read_clip_list(path)] == [name]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("l.yaml", "", "expected a list named .jsonl, .csv or .txt"),
        ("l.csv", "clip,masks\n", "lists no clip"),
        (
            "l.csv",
            "clip,masks,dept\na,b,c\n",
            "line 2: dept is unknown; there are clip, masks, depth, object, name, ",
        ),
        ("l.csv", "clip,masks\na,b,c\n", "line 2 has more values than the first line has names"),
        ("l.csv", "clip,masks\na,\n", "line 2: no masks"),
        ("l.jsonl", "{}", "line 1: no clip and no masks"),
        ("l.jsonl", "{", "line 1 is not JSON"),
        ("l.jsonl", "[1]", "line 1: expected an object"),
        ("l.txt", "a\tb\n" + "\t".join("abcdefgh"), "line 2: expected at most 7 values"),
        ("l.txt", "a\tb\n#\n./a.mp4\tc\n", "lines 1 and 3 are both named a; give one of them another name"),
        ("l.csv", "clip,masks,name\na,b,../c\n", "'../c' is not a valid name of a result folder"),
        ("l.csv", "clip,masks,name\na,b,c.partial\n", "'c.partial' is not a valid name"),
        ("l.csv", "clip,masks,frames\na,b,-3\n", "line 2: frames: expected a whole number above 0, got -3"),
        ("l.csv", "clip,masks\n/,b\n", "line 2: '' is not a valid name"),
    ],
)
def test_what_is_wrong(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_clip_list(path)
    assert str(caught.value).startswith(f"input: {path}: ")
    assert problem in str(caught.value)


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\xff\tb")
    for name in ("l.txt", "none.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_clip_list(tmp_path / name)


def test_a_list_that_changes_between_two_passes_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_text("a.mp4\ta\nb.mp4\tb\n")
    found = read_clip_list(path)
    assert [entry.name for entry in found] == ["a", "b"]
    path.write_text("a.mp4\ta\nb.mp4\tb\nc.mp4\tc\n")
    with pytest.raises(InputError, match=r"l\.txt: has changed while the run reads it; begin the command again"):
        list(found)
