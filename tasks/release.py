"""One manifest that names everything that serves together and all that it came from, and a model card from the same facts.

All of it follows from the stage's inputs, so the same night gives the same bytes: git commit and date are added when a
release is promoted (tasks/promote.py), and DVC's names of the bytes with them. The stack is written down because another
kind of processor, or another number of threads, may change the bits of a model without anybody having changed a line.
What the groups of a manifest mean: tasks/records.py.
"""

from __future__ import annotations

import platform
import re
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import environment
from tasks.errors import DataError
from tasks.figures import figures_from
from tasks.files import read_json, read_jsonl, sha256_file, sha256_tree, write_json
from tasks.params import Compute, Recipe
from tasks.rag.prompt import TEMPLATES
from tasks.records import part
from tasks.reporting import card
from tasks.reports import Report
from tasks.training.folders import TEMPLATE, check_same_chat

MANIFEST, JUDGEMENTS = "manifest.json", "judgements.json"
STAGES = (  # that lead to a release: their figures are part of it
    "validate",
    "prepare",
    "base",
    "sft",
    "reward",
    "align",
    "merge",
    "evaluate",
    "quantize",
    "embed",
    "index",
    "retrieve",
    "answers",
    "gate",
)
BASE = ("model", "revision", "licence", "architecture", "parameters", "window")  # what metrics/base.json says of it
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "gptqmodel",
    "optimum",
    "numpy",
    "sentence-transformers",
    "lancedb",
    "weaviate-client",
    "pyarrow",
)


class ReleaseReport(Report):
    """What the candidate is."""

    manifest: str = Field(description="SHA-256 of manifest.json: the same for the same release")
    bytes: int = Field(description="bytes of all parts that serve together")
    promote: bool = Field(description="whether the gate lets it out")


def release(
    recipe: Recipe,
    data: Path,
    dataset: Path,
    base: Path,
    sft: Path,
    reward: Path,
    align: Path,
    merged: Path,
    int4: Path,
    embedded: Path,
    index: Path,
    evaluation: Path,
    retrieval: Path,
    answers: Path,
    figures: Path,
    requirements: Path,
    out: Path,
) -> ReleaseReport:
    """Write manifest.json, judgements.json, README.md and card.html for what this night has made.

    `data` is the raw data (its hash is read from data.dvc beside it, DVC's own name for exactly these bytes), `dataset` what
    was trained on: judgements.json names the judgements in it. `int4`, `embedded` and `index` serve together; the others are
    what they were made from and judged by. `figures`: the folder of the stages' metrics, the gate's verdict among them;
    `requirements`: requirements.lock. The prompt's words and the settings of section answers go in too, so that a release is
    asked as it was judged, whatever the code and params.yaml say by then. ModelError where the model's chat template or the
    tokens that end and fill its answers are not the base's.
    """
    tokens = check_same_chat(base, int4)
    files = {stage: figures / f"{stage}.json" for stage in STAGES}
    metrics = {stage: read_json(path) for stage, path in files.items()}
    judged = judgements(dataset)
    write_json(out / JUDGEMENTS, judged)
    made_from = {"dataset": dataset, "base": base, "sft": sft, "reward": reward, "align": align, "merged": merged}
    manifest = {
        "name": recipe.release.name,
        "license": recipe.release.license,
        "parts": named({"model": int4, "chat_template": int4 / TEMPLATE, "embedded": embedded, "index": index}),
        "made_from": named(made_from),
        "evaluation": named({"evaluation": evaluation, "retrieval": retrieval, "answers": answers}),
        "metrics": named(files),
        "base": {"path": base.as_posix(), "sha256": sha256_tree(base), **{key: metrics["base"].get(key) for key in BASE}},
        "embedding": facts(embedded / MANIFEST),
        "index": facts(index / MANIFEST),
        "tokens": tokens,
        "prompt": {language: asdict(words) for language, words in TEMPLATES.items()},
        "answering": recipe.answers.model_dump(mode="json"),
        "figures": figures_from(recipe.release.figures, figures),
        "gate": metrics["gate"],
        "data": data_hash(data),
        "judgements": {
            "sha256": sha256_file(out / JUDGEMENTS),
            "annotators": len(judged),
            "annotations": sum(map(len, judged.values())),
        },
        "params": recipe.model_dump(mode="json", by_alias=True),
        "stack": stack(recipe.compute, requirements),
    }
    write_json(out / MANIFEST, manifest)
    card.write(card.Facts(manifest, metrics), out)
    return ReleaseReport(
        manifest=sha256_file(out / MANIFEST),
        promote=bool(manifest["gate"]["promote"]),
        bytes=sum(manifest["parts"][name]["bytes"] for name in ("model", "embedded", "index")),
    )


def named(paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Name → path, hash and bytes."""
    return {name: part(path) for name, path in paths.items()}


def judgements(dataset: Path) -> dict[str, list[str | int]]:
    """Annotator → ids of the annotations that were trained on: rankings by way of their pairs, and approved corrections.

    Somebody whose rows tell no id (imported pairs) is there with none.
    """
    found: dict[str, set[str | int]] = {}

    def add(annotator: str, annotation: str | int | None) -> None:
        found.setdefault(annotator, set()).update(() if annotation is None else (annotation,))

    for pair in read_jsonl(dataset / "preferences" / "train.jsonl"):
        for annotator, annotation in zip(pair["annotators"], pair["annotations"], strict=True):
            add(annotator, annotation)
    for row in read_jsonl(dataset / "instructions" / "train.jsonl"):
        if row.get("annotator"):
            add(row["annotator"], row.get("annotation"))
    return {annotator: sorted(ids, key=str) for annotator, ids in sorted(found.items())}


def data_hash(data: Path) -> dict[str, Any]:
    """What DVC calls the raw data: its .dvc file, md5, files and bytes; DataError when it is not tracked."""
    import yaml

    pointer = data.with_name(f"{data.name}.dvc")
    try:
        entry = yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]
        return {"dvc": pointer.as_posix(), "md5": entry["md5"], "files": entry.get("nfiles", 1), "bytes": entry["size"]}
    except (OSError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise DataError(str(pointer), f"does not name the data ({error!r})", f"track it: dvc add {data}") from None


def facts(manifest: Path) -> dict[str, Any]:
    """The short values of another part's manifest: names, hashes, counts and settings, not its lists."""
    return {key: value for key, value in read_json(manifest).items() if not isinstance(value, list)}


def stack(compute: Compute, requirements: Path) -> dict[str, Any]:
    """What the bits depend on besides inputs and code: no host name, nothing that changes between two runs here."""
    import torch

    cuda = compute.device != "cpu" and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "processor": None if compute.reproducible == "any-x86" else environment.processor(),
        "threads": compute.threads,
        "reproducible": compute.reproducible,
        "precision": compute.precision,
        "torch_build": {
            "git": torch.version.git_version,
            "cuda": torch.version.cuda,
            "mkl": torch.backends.mkl.is_available(),
        },
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "lock": pins(requirements),
    }


def pins(requirements: Path) -> dict[str, Any]:
    """requirements.lock by its hash, and in what the environment differs from it: "absent", or the version that is there."""
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", requirements.read_text(encoding="utf-8"), re.MULTILINE))
    there: dict[str, str] = {}
    for each in metadata.distributions():  # in the order of sys.path: of two with one name, the first is what is imported
        if each.name:
            there.setdefault(re.sub(r"[-_.]+", "-", each.name).lower(), each.version)
    otherwise = {name: there.get(name, "absent") for name, version in pinned.items() if there.get(name) != version}
    return {"sha256": sha256_file(requirements), "packages": len(pinned), "otherwise": otherwise}
