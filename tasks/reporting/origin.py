"""Of the model card: on what it was made, and every hash that leads from it to what it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.records import ORIGIN
from tasks.reporting.parts import Cell, Paragraph, Table
from tasks.reporting.words import plural

if TYPE_CHECKING:
    from tasks.reporting.card import Facts

WHAT = {
    "parts": "Serves together: verified before a release goes live, and when it is loaded",
    "made_from": "What the model was made from",
    "evaluation": "Answers and search results that it was judged by",
    "metrics": "Figures of the stages",
}


def stack(facts: Facts) -> list[Any]:
    """Processor, threads, precision and packages. No times: they differ from run to run."""
    made = facts.told["stack"]
    rows: list[tuple[Any, ...]] = [
        ("computed on", made["device"]),
        ("instruction set", f"{made.get('machine', '')} {made['instruction_set']}".strip()),
        ("threads", f"{made['threads']:,}"),
        ("precision", made["precision"]),
        ("Python", f"{made['python']}, {made.get('system', 'system not told')}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in made["packages"].items())),
    ]
    if lock := made.get("lock"):
        differs = ", ".join(f"{name} {version}" for name, version in lock["otherwise"].items())
        outcome = f"otherwise there: {differs}" if differs else "all of them there just so"
        rows += [
            ("requirements.lock", Cell(lock["sha256"], "hash")),
            ("", f"{plural(lock['packages'], 'package')} pinned, {outcome}"),
        ]
    return [
        Paragraph("Another kind of processor or number of threads may change the bits without anything else having changed."),
        Table("Stack", ("", "value"), rows, words=2),
    ]


def provenance(facts: Facts) -> list[Any]:
    """Parts and origin by hash, and what else decides the bytes."""
    told, at = facts.told, facts.record
    outs = at["dvc"]["outs"] if at else {}
    groups = [group for group in ("parts", *ORIGIN) if group in told]
    raw, judged = told["data"], told.get("judgements")
    rows: list[tuple[Any, ...]] = [
        ("data", Cell(f"{raw.get('dvc', 'data.dvc')} {raw['md5']}", "hash")),
        *([("judgements", Cell(judged["sha256"], "hash"))] if judged else []),
        *[(f"{name}", Cell(value, "hash")) for name, value in _weights(told).items()],
    ]
    if at:
        commit = at["git"]["commit"] or "none"
        rows = [
            ("release", Cell(at["release"], "code")),
            ("promoted", f"{at['published'][:10]} {at['published'][11:16]} UTC, after {at['previous'] or 'nothing'}"),
            *([("rolled back", f"{at['withdrawn'][:10]} {at['withdrawn'][11:16]} UTC")] if at["withdrawn"] else []),
            ("git commit", Cell(commit, "hash")),
            ("manifest", Cell(at["manifest_sha256"], "hash")),
            ("dvc.lock", Cell(at["dvc"]["lock_sha256"], "hash")),
            ("params.yaml", Cell(at["params_sha256"], "hash")),
            *rows,
        ]
    tables = [
        Table(
            WHAT[group],
            ("what", "path", "bytes", *(("DVC",) if outs else ()), "SHA-256"),
            [_row(name, part, outs) for name, part in told[group].items()],
            words=5,
            folded=group == "metrics",
        )
        for group in groups
    ]
    said = "Every file by the SHA-256 of its bytes, every folder by that of its sorted paths and hashes."
    more = "" if at else " Git commit and date are in the record of its promotion."
    return [Paragraph(said + more), Table("Made of", ("what", "value"), rows, words=2), *tables]


def _row(name: str, part: Mapping[str, Any], outs: Mapping[str, str]) -> tuple[Any, ...]:
    size = Cell(f"{part['bytes']:,}", "number")
    dvc = (Cell(outs.get(part["path"]) or "–", "hash"),) if outs else ()
    return (name, Cell(part["path"], "code"), size, *dvc, Cell(part["sha256"], "hash"))


def _weights(told: Mapping[str, Any]) -> dict[str, str]:
    embedding, index = told.get("embedding", {}), told.get("index", {})
    return {
        "embedding model": f"{embedding.get('model', '')} {embedding.get('weights_sha256', '')}".strip(),
        "index build": str(index.get("build", "")),
    }
