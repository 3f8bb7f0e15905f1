"""One manifest that names everything that serves together, and a model card written from the same facts.

All of it follows from the stage's inputs, so the same night gives the same bytes: git commit and date are added when a
release is promoted (tasks/promote.py). The stack is written down because another kind of processor, or another number
of threads, may change the bits of a model without anybody having changed a line.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import environment
from tasks.errors import DataError, ModelError
from tasks.figures import figures_from, text
from tasks.files import read_json, read_jsonl, sha256_file, sha256_tree, size, write_atomic, write_json
from tasks.params import Answers, Compute
from tasks.params import Release as ReleaseParams
from tasks.rag.prompt import TEMPLATES
from tasks.reports import Report

MANIFEST, CARD, TEMPLATE, JUDGEMENTS = "manifest.json", "README.md", "chat_template.jinja", "judgements.json"
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "gptqmodel",
    "numpy",
    "lancedb",
    "pyarrow",
)


class ReleaseReport(Report):
    """What the candidate is."""

    manifest: str = Field(description="SHA-256 of manifest.json: the same for the same release")
    bytes: int = Field(description="bytes of all parts that serve together")
    promote: bool = Field(description="whether the gate lets it out")


def release(
    cfg: ReleaseParams,
    answering: Answers,
    compute: Compute,
    data: Path,
    int4: Path,
    base: Path,
    embedded: Path,
    index: Path,
    figures: Path,
    gate: Path,
    dataset: Path,
    out: Path,
) -> ReleaseReport:
    """Write manifest.json and README.md for what this night has made.

    `data` is the raw data (its hash is read from data.dvc beside it, DVC's own name for exactly these bytes), `figures`
    the folder of the stages' metrics, `gate` the verdict, `dataset` what was trained on: judgements.json names the
    judgements in it, and the manifest names that file. The prompt's words and the settings of section answers go in too,
    so that a release is asked as it was judged, whatever the code and params.yaml say by then. ModelError where the
    model's chat template is not the base's.
    """
    template, trained = int4 / TEMPLATE, base / TEMPLATE
    if not template.is_file() or not trained.is_file() or template.read_bytes() != trained.read_bytes():
        raise ModelError(
            str(template),
            f"is not the template the model was trained with ({trained})",
            "run the stages again: dvc repro quantize",
        )
    parts = {"model": int4, "chat_template": template, "embedded": embedded, "index": index}
    verdict = read_json(gate)
    judged = judgements(dataset)
    write_json(out / JUDGEMENTS, judged)
    manifest = {
        "name": cfg.name,
        "license": cfg.license,
        "parts": {
            name: {"path": path.as_posix(), "sha256": sha256_tree(path), "bytes": size(path)}
            for name, path in parts.items()
        },
        "base": {"path": base.as_posix(), "sha256": sha256_tree(base)},
        "embedding": facts(embedded / MANIFEST),
        "index": facts(index / MANIFEST),
        "prompt": {language: asdict(words) for language, words in TEMPLATES.items()},
        "answering": answering.model_dump(mode="json"),
        "figures": figures_from(cfg.figures, figures),
        "gate": verdict,
        "data": data_hash(data),
        "judgements": {
            "sha256": sha256_file(out / JUDGEMENTS),
            "annotators": len(judged),
            "annotations": sum(map(len, judged.values())),
        },
        "stack": stack(compute),
    }
    write_json(out / MANIFEST, manifest)
    write_atomic(out / CARD, card(manifest))
    return ReleaseReport(
        manifest=sha256_file(out / MANIFEST),
        promote=bool(verdict["promote"]),
        bytes=sum(manifest["parts"][name]["bytes"] for name in ("model", "embedded", "index")),
    )


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


def stack(compute: Compute) -> dict[str, Any]:
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
    }


def card(manifest: Mapping[str, Any]) -> str:
    """The model card: the manifest in words and tables."""
    parts, data, gate, stack_ = (manifest[key] for key in ("parts", "data", "gate", "stack"))
    judged = manifest["judgements"]
    lines = [
        "---",
        f"license: {manifest['license']}",
        "library_name: transformers",
        "tags: [gptq, int4, rag]",
        "---",
        "",
        f"# {manifest['name']}",
        "",
        "A causal language model, fine-tuned on a team's instructions, aligned with its preferences, quantized to 4",
        "bits, with the search index that it answers from. Written by Nightshift from the night's own figures.",
        "",
        "## Figures on held-out cases",
        "",
        "| figure | value |",
        "|---|---:|",
        *(f"| {label} | {text(label, value)} |" for label, value in manifest["figures"].items()),
        "",
        f"The gate says: **{'promote' if gate['promote'] else 'hold'}**.",
        "",
        *(f"- {'passed' if reason['passed'] else 'REFUSED'}: {reason['why']}" for reason in gate["reasons"]),
        "",
        "## Parts",
        "",
        "| part | path | MB | SHA-256 |",
        "|---|---|---:|---|",
        *(
            f"| {name} | `{part['path']}` | {part['bytes'] / 1e6:.2f} | `{part['sha256']}` |"
            for name, part in parts.items()
        ),
        "",
        "## Where it comes from",
        "",
        f"- data: `{data['dvc']}` {data['md5']} ({data['files']} files, {data['bytes'] / 1e6:.2f} MB)",
        f"- judgements: {judged['annotations']:,} by {judged['annotators']} annotators (`judgements.json` names them)",
        f"- base model: tree `{manifest['base']['sha256']}`",
        f"- stack: {stack_['device']}, {stack_['instruction_set']}, {stack_['threads']} threads, "
        f"{stack_['precision']}, Python {stack_['python']}, "
        + ", ".join(f"{name} {version}" for name, version in stack_["packages"].items()),
        "",
        "## Use",
        "",
        "Load the model with transformers (GPTQ) and the chat template beside it; retrieve from the index whose build",
        "the manifest names; check each part's SHA-256 first. It answers from the notes it is given and says when they",
        "do not say; it knows the data above and its base, and is not fit for advice that could do harm.",
        "",
    ]
    return "\n".join(lines)
