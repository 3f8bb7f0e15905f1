"""dvc.yaml and the code tell the same story: stages, options, parameters, sources."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tasks.__main__ import BEFORE, STAGES, is_output, signature, stage_function
from tasks.params import Params, Recipe, Scale, Section

ROOT = Path(__file__).parent.parent
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def command(stage: str) -> dict[str, str]:
    """Option → value of a stage's command line."""
    words = shlex.split(GRAPH[stage]["cmd"])
    assert words[:4] == ["python", "-m", "tasks", stage]
    return dict(zip(words[4::2], words[5::2], strict=True))


def names(entries: list) -> list[str]:
    """Paths of a deps, outs or metrics list."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def section_of(kind: type) -> str:
    """The params.yaml name of a section class."""
    return next(field.alias or name for name, field in Params.model_fields.items() if field.annotation is kind)


def sections_of(kinds: list[type]) -> set[str]:
    """The params.yaml names of all sections that a signature asks for; those of a Recipe one by one, and not Scale: it may not
    change a byte (tests/test_spread.py), and so may not make a stage run again."""
    asked = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)} - {Scale}
    whole = {field.alias or name for name, field in Recipe.model_fields.items()} if Recipe in asked else set()
    return {section_of(kind) for kind in asked - {Recipe}} | whole


def imported(path: Path) -> set[str]:
    """Project modules that a source file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tasks"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("tasks")}
    return found


def test_every_stage_of_the_door_is_in_the_graph():
    """Nothing runs that DVC does not know, and the other way round."""
    assert sorted(GRAPH) == sorted(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_options_and_parameters_are_those_of_the_function(stage):
    """The command gives each path argument once; `params:` lists each section the signature asks for."""
    arguments = signature(stage_function(stage))
    paths = {f"--{name.replace('_', '-')}" for name, kind in arguments.items() if kind is Path}
    assert set(command(stage)) == paths | {"--metrics"}
    assert set(GRAPH[stage].get("params", [])) == sections_of(list(arguments.values()))


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_a_command_is_declared(stage):
    """An input that DVC does not hash would make a model that cannot be reproduced."""
    arguments = signature(stage_function(stage))
    deps, outs = names(GRAPH[stage].get("deps", [])), names(GRAPH[stage].get("outs", []))
    for name, kind in arguments.items():
        if kind is Path:
            value = command(stage)[f"--{name.replace('_', '-')}"]
            declared = outs if is_output(name) else deps
            below = [dep for dep in declared if dep.startswith(f"{value}/")]
            assert value in declared or below, f"{stage}: {value} is not declared"
    assert command(stage)["--metrics"] == f"metrics/{stage}.json" == names(GRAPH[stage]["metrics"])[0]


@pytest.mark.parametrize("stage", STAGES)
def test_only_a_stage_that_reads_its_former_output_keeps_it(stage):
    """DVC removes outputs before a stage runs, unless they persist."""
    settings = [out for out in GRAPH[stage].get("outs", []) if isinstance(out, dict)]
    persistent = [out for out in settings if next(iter(out.values())).get("persist")]
    reads = BEFORE in signature(stage_function(stage))
    assert names(persistent) == ([command(stage)["--out"]] if reads else [])


@pytest.mark.parametrize("stage", STAGES)
def test_the_sources_a_stage_imports_are_its_dependencies(stage):
    """Changed code reruns the stage that uses it."""
    core = {f"tasks.{name}" for name in ("errors", "files", "params", "reports", "progress", "environment")} | {"tasks"}
    deps = names(GRAPH[stage]["deps"])
    seen, todo = set(), [f"tasks.{stage}"]
    while todo:
        module = todo.pop()
        path = ROOT / (module.replace(".", "/") + ".py")
        path = path if path.is_file() else ROOT / module.replace(".", "/") / "__init__.py"
        if module in seen or module in core or not path.is_file():
            continue
        seen.add(module)
        source = path.relative_to(ROOT).as_posix()
        declared = any(source == dep or source.startswith(f"{dep}/") for dep in deps)
        assert declared, f"{stage} imports {source}: no dependency"
        todo += imported(path)


def test_no_stage_imports_an_orchestrator_and_no_flow_imports_torch():
    """Imports run one way."""
    for path in (ROOT / "tasks").rglob("*.py"):
        assert "prefect" not in path.read_text().split("import ")[1:] and "import prefect" not in path.read_text(), path
    for path in (ROOT / "flows").rglob("*.py"):
        for heavy in ("torch", "transformers", "trl", "lancedb", "great_expectations"):
            assert f"import {heavy}" not in path.read_text() and f"from {heavy}" not in path.read_text(), path


def test_the_form_of_a_night_offers_every_stage():
    """Prefect's form has the stages of dvc.yaml to choose from, in its order, and nothing else."""
    from flows.nightly import Stage

    assert list(get_args(Stage)) == list(GRAPH)
