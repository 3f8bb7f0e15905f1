"""The only reader of params.yaml. One frozen model a section; no default hides here, and a typo is an error at the door.

Each field's description carries its unit. A stage function names the sections it needs by annotation
(`def sft(cfg: Sft, compute: Compute, …)`), and dvc.yaml lists the same sections under `params:`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from tasks.errors import ParamsError
from tasks.params.alignment import Align, Dpo, Kl, Online, Ppo, Stop
from tasks.params.data import MinRows, Prepare, Sources, SqlSource, Validate
from tasks.params.fields import Compute, Precise, Section, Seed
from tasks.params.search import Answers, Embed, Index, Weaviate
from tasks.params.service import Feedback, Labelling, Nightly, Notify, Retention, Scale, Serve, Webhook
from tasks.params.shipping import Evaluate, Gate, Page, Quantize, Release
from tasks.params.training import Base, Candidates, Lora, Merge, Reward, Select, Sft, Steps, Training

__all__ = [
    "Align", "Answers", "Base", "Candidates", "Compute", "Dpo", "Embed", "Evaluate", "Feedback", "Gate", "Index", "Kl",
    "Labelling", "Lora", "Merge", "MinRows", "Nightly", "Notify", "Online", "Page", "Params", "Ppo", "Precise", "Prepare",
    "Quantize", "Recipe", "Release", "Retention", "Reward", "Scale", "Section", "Seed", "Select", "Serve", "Sft", "Sources",
    "SqlSource", "Steps", "Stop", "Training", "Validate", "Weaviate", "Webhook", "load",
]


class Recipe(Section):
    """All that decides what a release is: the sections of the stages that lead to it, to be written down with it."""

    seed: Seed
    compute: Compute
    validate_: Validate = Field(alias="validate")
    prepare: Prepare
    base: Base
    sft: Sft
    reward: Reward
    align: Align
    merge: Merge
    evaluate: Evaluate
    quantize: Quantize
    embed: Embed
    index: Index
    answers: Answers
    gate: Gate
    release: Release


class Params(Section):
    """The whole of params.yaml."""

    seed: Seed
    compute: Compute
    sources: Sources
    validate_: Validate = Field(alias="validate")
    prepare: Prepare
    base: Base
    sft: Sft
    candidates: Candidates
    reward: Reward
    select: Select
    align: Align
    merge: Merge
    evaluate: Evaluate
    quantize: Quantize
    embed: Embed
    index: Index
    answers: Answers
    gate: Gate
    release: Release
    report: Page
    serve: Serve
    labelling: Labelling
    feedback: Feedback
    nightly: Nightly
    notify: Notify
    retention: Retention
    scale: Scale

    def precisions(self) -> dict[str, Precise]:
        """Where params.yaml says how exactly a stage computes, its own place or compute.precision → such a section, one that
        trains before one that answers."""
        found: dict[str, Precise] = {}
        for name in type(self).model_fields:
            section = getattr(self, name)
            if isinstance(section, Precise):
                place = "compute.precision" if section.precision is None else f"{name}.precision"
                if place not in found or isinstance(section, Training):
                    found[place] = section
        return found

    def section(self, kind: type[Kind]) -> Kind:
        """The one section of this type, or the Recipe; the way a stage's signature asks for its parameters."""
        if kind is Recipe:
            fields = {field.alias or name: getattr(self, name) for name, field in Recipe.model_fields.items()}
            return kind.model_validate(fields)
        for name in type(self).model_fields:
            value = getattr(self, name)
            if type(value) is kind:
                return value
        raise ParamsError(kind.__name__, "is no section of params.yaml", f"take one of {', '.join(type(self).model_fields)}")


Kind = TypeVar("Kind", bound=Section)


def load(path: Path) -> Params:
    """Read and check params.yaml; every wrong value is named by section and field before any heavy import."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(str(path), "is missing",
                          "run from the repository root, or restore it: git checkout params.yaml") from None
    except yaml.YAMLError as error:
        raise ParamsError(str(path), f"is not YAML ({error})", "mend the line it names") from None
    if not isinstance(raw, dict):
        raise ParamsError(str(path), "holds no sections", "restore it: git checkout params.yaml")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(path, item) for item in error.errors()]
        raise ParamsError(problems[0] if len(problems) == 1 else "\n  ".join([f"{path}: {len(problems)} problems", *problems]),
                          remedy="correct params.yaml, or git diff params.yaml to see what changed") from None


def _problem(path: Path, item: dict) -> str:
    """One pydantic error in a user's words, with the nearest right name for a typo."""
    import difflib

    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _known(item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"{path}: {where}: no such parameter ({hint})"
    if item["type"] == "missing":
        return f"{path}: {where}: is missing (params.yaml is complete: no default hides in code)"
    found = "" if isinstance(item["input"], dict) or "url" in item["loc"] else f" (found {item['input']!r})"
    return f"{path}: {where}: {item['msg']}{found}"  # a URL may hold a password, and a whole section is no answer


def _known(loc: tuple) -> list[str]:
    model: type[BaseModel] = Params
    for part in loc:
        if isinstance(part, int):  # of a list
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        found = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if found is None:
            return []
        model = found
    return [field.alias or name for name, field in model.model_fields.items()]
