"""What jobs with `out` leave: read as a plain program would, and what lies in a directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["manifest", "names", "rows"]


def rows(result: Any) -> list[tuple[Any, Any]]:
    """Keys and values in the files that a result names: JSON lines."""
    lines = [line for path in result for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [(row["key"], row["value"]) for row in map(json.loads, lines)]


def manifest(place: Path) -> Any:
    """What stands in an output's manifest."""
    return json.loads((place / "_manifest.json").read_text())


def names(place: Path) -> list[str]:
    """What lies in a directory; nothing if it is not there."""
    return sorted(path.name for path in place.iterdir()) if place.exists() else []
