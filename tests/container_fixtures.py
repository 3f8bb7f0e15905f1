"""What deploy/ says of containers, read once: compose.yaml, the Dockerfile's stages, the manifests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_TEXT)["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SCRIPTS = sorted(path for path in (DEPLOY / "containers").glob("*.*") if path.name != "__init__.py")
KUBERNETES = DEPLOY / "kubernetes"
VARIANTS = ("base", "gpu")


def stages() -> dict[str, list[str]]:
    """The Dockerfile's stages: name → its instructions, each on one line, the first its FROM."""
    lines = re.sub(r"\\\n(?:\s*#.*\n)*", " ", DOCKERFILE).splitlines()
    found: dict[str, list[str]] = {}
    for line in (line.strip() for line in lines if line.strip() and not line.startswith("#")):
        if name := re.fullmatch(r"FROM \S+ AS (\S+)", line):
            found[name[1]] = []
        if found:
            list(found.values())[-1].append(line)
    return found


def lineage(stage: str) -> list[str]:
    """The instructions of a stage after those of the stages that it is made from."""
    all_of = stages()
    base = all_of[stage][0].split()[1]
    return [*(lineage(base) if base in all_of else []), *all_of[stage]]


def pins(lock: str) -> dict[str, str]:
    """A lock's versions by package."""
    return dict(line.split("==") for line in (ROOT / lock).read_text().split())


def template(variant: str) -> dict[str, Any]:
    """The job template of a work pool."""
    return json.loads((KUBERNETES / variant / "base-job-template.json").read_text())


def manifests() -> list[dict[str, Any]]:
    """All objects of kubernetes/base, as written."""
    kustomization = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())
    return [one for name in kustomization["resources"] for one in yaml.safe_load_all((KUBERNETES / "base" / name).read_text())]


def prefect_settings() -> set[str]:
    """Every name that Prefect reads from its environment, old spellings included."""
    from prefect.settings.legacy import _get_valid_setting_names
    from prefect.settings.models.root import Settings

    return {name.upper() for name in _get_valid_setting_names(Settings)}
