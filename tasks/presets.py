"""`nightshift preset NAME`: lay presets/NAME.yaml over params.yaml, keeping its comments, order and layout.

A preset holds only what differs, under the same names. Nothing is written unless the result is a complete and valid
params.yaml. The starter has no preset: it is params.yaml as committed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import git, params
from tasks.errors import ParamsError
from tasks.files import write_atomic

STARTER = "starter"


def apply(root: Path, name: str) -> list[str]:
    """Apply a preset; returns lines that say what changed and how to go back. ParamsError when it does not fit."""
    path, preset = root / "params.yaml", root / "presets" / f"{name}.yaml"
    if name == STARTER:
        laid = [file.stem for file in sorted(preset.parent.glob("*.yaml")) if _is_laid(path, file)]
        if params.load(path).base.model == STARTER and not laid:
            return ["params.yaml is the starter's already"]
        raise ParamsError(
            "params.yaml",
            f"holds {'preset ' + ', '.join(laid) if laid else 'another base'}; the starter is what was committed",
            "git checkout params.yaml",
        )
    if not preset.is_file():
        known = sorted(file.stem for file in preset.parent.glob("*.yaml"))
        raise ParamsError(f"presets/{name}.yaml", "does not exist", f"known: {', '.join([STARTER, *known])}")
    content = _yaml().load(path.read_text(encoding="utf-8"))
    changes = list(lay_over(content, _yaml().load(preset.read_text(encoding="utf-8")) or {}, ()))
    if not changes:
        return [f"params.yaml has preset {name} already"]
    edited = bool(git.dirty(root, "params.yaml"))
    before = path.read_text(encoding="utf-8")
    stream = io.StringIO()
    _yaml().dump(content, stream)
    draft = root / ".nightshift" / "params.yaml"
    write_atomic(draft, stream.getvalue())
    try:
        params.load(draft)
    except ParamsError as error:
        raise ParamsError(f"presets/{name}.yaml", f"does not fit: {error}") from None
    finally:
        draft.unlink()
    back = "git checkout params.yaml"
    if edited or git.head(root) is None:
        saved = root / ".nightshift" / f"params.before-{name}.yaml"
        write_atomic(saved, before)
        back = f"cp {saved.relative_to(root)} params.yaml"
    write_atomic(path, stream.getvalue())
    return [
        f"preset {name}: {len(changes)} changes in params.yaml",
        *(f"  {change}" for change in changes),
        f"go back: {back}",
    ]


def lay_over(target: Any, preset: Any, where: tuple[str, ...]) -> Iterator[str]:
    """Set the preset's values in place, yielding "section.key: old → new" for each that differs."""
    for key, value in preset.items():
        place = (*where, str(key))
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            yield from lay_over(target[key], value, place)
        elif key not in target or target[key] != value:
            yield f"{'.'.join(place)}: {_show(target.get(key))} → {_show(value)}"
            target[key] = value


def _is_laid(path: Path, preset: Path) -> bool:
    """Whether params.yaml says all that a preset does."""
    content, wanted = (_yaml().load(file.read_text(encoding="utf-8")) or {} for file in (path, preset))
    return bool(wanted) and not list(lay_over(content, wanted, ()))


def _show(value: Any) -> str:
    return "null" if value is None else str(value)


def _yaml() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Writes null as `null`; of its own, because the original class serves DVC as well."""

    Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml = YAML(typ="rt")
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 200
    return yaml
