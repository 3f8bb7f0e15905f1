"""Errors a user can act on. Each names the thing, the place and the remedy.

    NightshiftError
    ├── ParamsError    params.yaml, or a command line: a wrong name, type or value
    ├── DataError      data/, or an artifact read as data: a bad row, an empty set, a missing file
    ├── ModelError     a model folder: wrong tokenizer, missing template, broken weights, degenerate answers
    ├── StoreError     a search index: missing, incomplete, not what its manifest says
    ├── GateError      a release that may not be promoted or rolled back to
    └── ServiceError   something outside this process: git, dvc, a server, a registry
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator


class NightshiftError(Exception):
    """Base of all errors that end a stage with a message instead of a traceback."""

    def __init__(self, thing: str, what: str = "", remedy: str = ""):
        """`thing` is where it is wrong (a path, a key, path:line), `what` is wrong with it, `remedy` is what to do."""
        self.thing, self.what, self.remedy = thing, what, remedy
        super().__init__(": ".join(part for part in (thing, what) if part) + (f"; {remedy}" if remedy else ""))


class ParamsError(NightshiftError):
    """A parameter or an argument is missing, misspelt or out of range."""


class DataError(NightshiftError):
    """Data that cannot be used as it is."""


class ModelError(NightshiftError):
    """A model that cannot be used as it is."""


class StoreError(NightshiftError):
    """A search index that cannot be used as it is."""


class GateError(NightshiftError):
    """A release that must not be served."""


class ServiceError(NightshiftError):
    """A program or server beside us failed."""


FULL = (errno.ENOSPC, errno.EDQUOT)  # what the system says of a disk, or of one's share of it


@contextlib.contextmanager
def full_disk(place: str) -> Iterator[None]:
    """A full disk as an error that a user can act on; `place` where the system names no file."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        remedy = "make room (nightshift gc removes what no release needs) and run again; what ran is kept"
        raise ServiceError(str(error.filename or place), os.strerror(error.errno).lower(), remedy) from error
