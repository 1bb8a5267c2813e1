"""What lies in a folder of results, but for what tells times."""

from __future__ import annotations

import json
from pathlib import Path


def contents(folder: Path) -> dict[str, object]:
    """All files; of those that tell times, the rest."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_dir() or path.name == "manifest.json":
            continue
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".json":
            values = json.loads(path.read_text())
            for entry in (values, *values.get("objects", {}).values()):
                entry.pop("seconds", None)
                entry.pop("finished", None)
            found[str(path.relative_to(folder))] = values
    return found
