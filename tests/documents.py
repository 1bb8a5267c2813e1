"""The guides and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{name}.md" for name in ("caches", "cluster", "data", "evaluation", "recipes", "segmenters")),
)


def commands_in(document: str) -> list[str]:
    """The lines of all blocks of commands in a text, each on one line."""
    blocks = re.findall(r"^```bash\n(.*?)^```", document, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def section(document: str, title: str) -> str:
    """The part of a text under a heading, up to the next of its level."""
    _, _, rest = document.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]
