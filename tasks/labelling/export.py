"""Label Studio's JSON export: all of a file, or nothing of it and the place where it breaks off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.errors import DataError


def tasks(path: Path) -> list[dict[str, Any]]:
    """Tasks of a JSON export, or DataError: half an export is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(str(path), "does not exist", "name the file that Label Studio's Export has given") from None
    except UnicodeDecodeError as error:
        raise DataError(str(path), f"is not UTF-8 (byte {error.start})", "export again, as JSON") from None
    except json.JSONDecodeError as error:
        what = f"is not whole JSON ({error.msg}, column {error.colno}); nothing of it was taken"
        raise DataError(f"{path}:{error.lineno}", what, "export again, as JSON") from None
    if not isinstance(found, list):
        raise DataError(str(path), "is no list of tasks; nothing of it was taken", "export again, as JSON")
    for number, task in enumerate(found, 1):
        if not isinstance(task, dict) or not isinstance(task.get("annotations"), list) or "data" not in task:
            raise DataError(
                f"{path}:row {number}",
                "is no task with its annotations; nothing of the file was taken",
                "export as JSON, not JSON-MIN, CSV or another form",
            )
    return found
