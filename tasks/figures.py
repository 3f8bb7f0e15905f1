"""The few figures by which a night is known: release, status, commit message and the flow's lines all show these.

`release.figures` in params.yaml maps a label to a place in the metrics: "right, context %": evaluate.sets.context.share
means key sets.context.share of metrics/evaluate.json. The last word of a label is its unit: "%" (the value is a share),
"MB" (the value is in bytes), anything else is shown as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def stage_of(place: str) -> str:
    """The stage whose metrics hold a figure."""
    return place.partition(".")[0]


def figures_from(places: Mapping[str, str], metrics: Path) -> dict[str, float | None]:
    """Label → value from the metrics folder; None where a night has not measured it."""
    files: dict[str, Any] = {}
    values = {}
    for label, place in places.items():
        stage, *keys = place.split(".")
        if stage not in files:
            path = metrics / f"{stage}.json"
            files[stage] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        values[label] = look_up(files[stage], keys)
    return values


def look_up(value: Any, keys: list[str]) -> float | None:
    """The number at a path of keys; None where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


def text(label: str, value: float | None) -> str:
    """A figure in the unit of its label: share 0.873 under "right %" → "87.3"."""
    if value is None:
        return "–"
    unit = label.split()[-1]
    if unit == "%":
        return f"{value * 100:.1f}"
    if unit == "MB":
        return f"{value / 1e6:.2f}"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def difference(label: str, new: float | None, old: float | None) -> str:
    """The change from old to new, signed, in the unit of the label; empty where one of them is missing."""
    if new is None or old is None:
        return ""
    if new == old:
        return "="
    shown = text(label, abs(new - old))
    return f"{'+' if new > old else '−'}{shown}"
