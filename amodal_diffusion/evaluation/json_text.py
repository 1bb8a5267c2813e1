"""JSON text of results: no NaN, which JSON does not have."""

from __future__ import annotations

import json
import math


def json_text(content: object, *, indent: int | None = 1) -> str:
    """Lay results out as JSON text, null where there is no value.

    Args:
        content: what `json` takes, NaN included.
        indent: blanks a level; None for one line.
    """
    return json.dumps(_without_nan(content), indent=indent, allow_nan=False) + "\n"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
