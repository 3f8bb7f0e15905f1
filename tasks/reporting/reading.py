"""Reading what the stages wrote. A key that is not there is a message with file, key and remedy, not a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.files import read_json

REMEDY = "run `dvc repro` to write it anew"


class Figures(Mapping[str, Any]):
    """A JSON object read from a file, that knows where each value of it is.

    `figures["sets"]["facts"]` gives the value, or a Figures for an inner object; a missing key is a DataError such as
    "metrics/evaluate.json: has no 'sets.facts'; run `dvc repro` to write it anew". `get` keeps its usual meaning, for
    keys that may be absent by rights. The order of keys is the file's (sorted: canonical JSON).
    """

    def __init__(self, values: Mapping[str, Any], file: str, where: str = ""):
        """`where` is the dotted key of this object in its file, "" for the whole."""
        self._values, self.file, self.where = values, file, where

    @classmethod
    def read(cls, path: Path) -> Figures:
        """Read a JSON object; DataError when the file is missing or holds something else."""
        values = read_json(path)
        if not isinstance(values, dict):
            raise DataError(str(path), "holds no JSON object", REMEDY)
        return cls(values, str(path))

    def __getitem__(self, key: str) -> Any:
        """The value at `key`; an inner object comes as Figures, lists of objects as lists of Figures."""
        if key not in self._values:
            raise DataError(self.file, f"has no '{self._name(key)}'", REMEDY)
        return self._wrap(self._values[key], self._name(key))

    def __contains__(self, key: object) -> bool:
        """Whether the key is there (Mapping's own would ask __getitem__ and meet the DataError)."""
        return key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` where the key is absent or null."""
        value = self._values.get(key)
        return default if value is None else self._wrap(value, self._name(key))

    def __iter__(self) -> Iterator[str]:
        """Keys in the file's order."""
        return iter(self._values)

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._values)

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def _wrap(self, value: Any, where: str) -> Any:
        if isinstance(value, dict):
            return Figures(value, self.file, where)
        if isinstance(value, list):
            return [self._wrap(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return value


def column(rows: list[dict], x: str, y: str, path: Path) -> list[tuple[float, float]]:
    """Points (x, y) of the rows of a curve.jsonl that hold both; DataError when no row does."""
    points = [(float(row[x]), float(row[y])) for row in rows if row.get(x) is not None and row.get(y) is not None]
    if not points:
        raise DataError(str(path), f"no line has both '{x}' and '{y}'", REMEDY)
    return points
