"""The documents are held to the code: commands, stages, links, sections."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tasks.__main__ import STAGES
from tasks.params import Params

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "starter/README.md", *sorted((ROOT / "docs").rglob("*.md")),
         *sorted((ROOT / "deploy").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_command_exists(page):
    """Each `make x` at the start of a line or in code is a target of the Makefile."""
    named = set(re.findall(r"(?:^ *|`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE))
    assert named <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    """No dead links inside the repository."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_explains_every_stage():
    """The table of stages names each stage of the graph, and no other."""
    table = (ROOT / "README.md").read_text().split("| stage |")[1].split("\n\n")[0]
    named = {name.strip() for row in table.splitlines()[2:] for name in row.split("|")[1].split(",")}
    assert named == set(STAGES)


def test_params_yaml_has_the_sections_of_the_code_in_their_order():
    """A reader finds a section where the code has it."""
    sections = list(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert sections == [field.alias or name for name, field in Params.model_fields.items()]


def test_help_lists_every_target():
    """`make help` shows what README and CONTRIBUTING promise; only help itself may be terse."""
    assert {t for t in TARGETS if not re.search(rf"^{t}:.*## ", MAKEFILE, re.MULTILINE)} == set()
