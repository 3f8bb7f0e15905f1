"""What checks say, of what they say it, and the two ways in which it is shown."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tasks import home
from tasks.params import Params
from tasks.terminal import plain, without_passwords

Level = Literal["ok", "note", "warning", "broken"]
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|SALT|AUTH_STRING|CREDENTIALS?)$")  # ends of the names of such variables
SHORTEST = 6  # characters of a value that is hidden wherever it stands; a shorter one would blot out words
WIDTH = 100  # columns of an ok line


@dataclass(frozen=True)
class Finding:
    """One line about one thing, and what to do about it: a command or an edit."""

    level: Level
    what: str
    remedy: str = ""
    area: str = ""


@dataclass(frozen=True)
class Place:
    """What is looked at: `root` is where nights run and releases are, the nights' home or the checkout itself.

    `params` are those that nights there read; None where they cannot be read. `remote`: ask DVC's remote too.
    """

    root: Path
    checkout: Path
    params: Params | None = None
    remote: bool = False

    @property
    def has_home(self) -> bool:
        """Whether nights run in a work tree of their own."""
        return self.root != self.checkout


def ok(what: str) -> Finding:
    """As it should be."""
    return Finding("ok", what)


def note(what: str) -> Finding:
    """Nothing is wrong, and somebody may want to know."""
    return Finding("note", what)


def warning(what: str, remedy: str) -> Finding:
    """Nights run, and something is lost or will be."""
    return Finding("warning", what, remedy)


def broken(what: str, remedy: str) -> Finding:
    """What params.yaml or this project asks for does not work."""
    return Finding("broken", what, remedy)


def output(words: Sequence[str], folder: Path, seconds: float = 10.0) -> subprocess.CompletedProcess[str] | None:
    """A command that changes nothing, in `folder`; None where it isn't installed or takes longer than `seconds`."""
    try:
        return subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
                              timeout=seconds, env={**os.environ, "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0"})  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first of them, and how many more there are."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def hiding(root: Path) -> Callable[[Finding], Finding]:
    """What makes a finding safe to print: one line, no control characters, no password of a URL, no value of a secret
    that the environment or the nights' own file of secrets holds."""
    from tasks.labelling import secrets

    hidden = {value for name, value in os.environ.items() if SECRET.search(name)}
    with contextlib.suppress(OSError):  # who cannot read it cannot print it
        text = (home.shared(root) / secrets.FILE).read_text(encoding="utf-8", errors="replace")
        hidden |= {line.partition("=")[2].strip() for line in text.splitlines()}
    values = sorted((value for value in hidden if len(value) >= SHORTEST), key=len, reverse=True)

    def safe(text: str) -> str:
        for value in values:
            text = text.replace(value, "…")
        return without_passwords(" ".join(plain(text.replace("\n", " ")).split()))

    return lambda finding: replace(finding, what=safe(finding.what), remedy=safe(finding.remedy))


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """A page for a terminal: by area, one line a finding, the remedy below what is wrong."""
    width, area = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns), None
    for one in findings:
        if one.area != area:
            yield from ([one.area] if area is None else ["", one.area])
            area = one.area
        line = f"  {one.level:<9}{one.what}"
        yield line[: width - 1] + "…" if one.level == "ok" and len(line) > width else line
        if one.remedy and one.level in ("warning", "broken"):
            yield f"  {'':<9}→ {one.remedy}"
    yield ""
    yield summary(findings)


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    bad, odd = count(findings, "broken"), count(findings, "warning")
    return f"{bad} broken, {odd} warning{'' if odd == 1 else 's'}"


def count(findings: Sequence[Finding], level: Level) -> int:
    """How many findings have this level."""
    return sum(one.level == level for one in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for a program."""
    return {"broken": count(findings, "broken"), "warnings": count(findings, "warning"),
            "findings": [asdict(one) for one in findings]}
