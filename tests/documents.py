"""The guides and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ("docs/cli.md", "docs/python.md")
DOCUMENTS = tuple(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "recipes/**/*.md", "configs/**/*.md")
    for path in sorted(ROOT.glob(pattern))
)


def read(name: str) -> str:
    """Text of a document, named relative to the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks_of_commands(document: str) -> list[list[str]]:
    """The commands of a text, one list a block, each command on one line."""
    blocks = re.findall(r"^```bash\n(.*?)^```", document, flags=re.DOTALL | re.MULTILINE)
    lines = [block.replace("\\\n", " ").splitlines() for block in blocks]
    return [[line.strip() for line in block if line.strip() and not line.startswith("#")] for block in lines]


def commands_in(document: str) -> list[str]:
    """The commands of all blocks of a text."""
    return [command for block in blocks_of_commands(document) for command in block]


def block_with(*starts: str) -> list[str]:
    """The block of commands, the same wherever a document has it, with a command for each of some beginnings."""
    found = [
        block
        for name in DOCUMENTS
        for block in blocks_of_commands(read(name))
        if all(any(command.startswith(start) for command in block) for start in starts)
    ]
    assert found
    assert all(block == found[0] for block in found)
    return found[0]
