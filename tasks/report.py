"""One page that shows what the night brought: may it go out, what got better, what it cost, and where it comes from.

Self-contained (no network, no script, the reader's own fonts), readable in light and dark, narrow, wide and on paper.
Equal inputs give equal bytes: no dates, no durations, no random ids. What models, annotators and documents wrote is
untrusted text and is escaped by the template engine, everywhere.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks.files import read_jsonl, sha256_file, write_atomic
from tasks.params import Page
from tasks.progress import log
from tasks.rag.chunks import read_chunks
from tasks.reporting import asking, behaviour, data, documents, judgements, learning, quantization, rules, samples, verdict
from tasks.reporting.page import render
from tasks.reporting.parts import Paragraph, Samples, Section
from tasks.reporting.reading import Figures
from tasks.reports import Report

PAGE = "index.html"
STAGES = (
    "validate",
    "prepare",
    "base",
    "sft",
    "candidates",
    "reward",
    "select",
    "align",
    "merge",
    "evaluate",
    "quantize",
    "embed",
    "index",
    "retrieve",
    "answers",
    "gate",
    "release",
)
SETS = ("facts", "context", "unanswerable")
DOCUMENT_SET = "documents"
COSTS = (  # never on this page: equal nights have equal pages, and never the same cost
    "Time, work, memory and disk of each stage, this night and those before it: nightshift costs, or as a page "
    ".nightshift/costs.html, where the night ran."
)


class PageReport(Report):
    """metrics/report.json."""

    page: str = Field(description="SHA-256 of index.html")
    bytes: int = Field(description="its size")
    promote: bool = Field(description="what the page's heading says: whether the gate lets the night out")
    pictures: int = Field(description="pictures on it")
    samples: dict[str, int] = Field(description="sample cases shown whose answer is as wanted, and whose answer is not")


def report(
    cfg: Page,
    figures: Path,
    sft_curve: Path,
    reward_curve: Path,
    align_curve: Path,
    evaluation: Path,
    references: Path,
    selected: Path,
    cases: Path,
    answers: Path,
    embedded: Path,
    release: Path,
    out: Path,
) -> PageReport:
    """Write out/index.html.

    `figures`: the folder of the stages' metrics; `*_curve`: curve.jsonl of a training; `evaluation`: answers.jsonl of
    the evaluate stage, `references` its references.jsonl and `cases` the folder of all sets; `selected`: selected.jsonl;
    `answers`: answers.jsonl of the answers stage, and `embedded` the passages; `release`: manifest.json. DataError names a
    file and the key that it lacks.
    """
    metrics = {stage: Figures.read(figures / f"{stage}.json") for stage in STAGES}
    chosen = shown(cfg, evaluation, references, cases, answers, embedded)
    passed, heading, why = verdict.verdict(metrics["gate"])
    sections = [
        rules.rules(metrics["gate"]),
        verdict.changes(metrics["evaluate"], metrics["retrieve"]),
        behaviour.behaviours(metrics["evaluate"]),
        learning.training(
            metrics["sft"],
            metrics["reward"],
            metrics["align"],
            {"sft": sft_curve, "reward": reward_curve, "align": align_curve},
        ),
        learning.reward_model(metrics["reward"]),
        quantization.quantization(metrics["quantize"]),
        documents.documents(metrics["retrieve"], metrics["answers"], metrics["embed"], metrics["index"]),
        data.data(metrics["validate"], metrics["prepare"]),
        judgements.judgements(metrics["prepare"]),
        asking.asking(metrics["select"], metrics["candidates"], metrics["prepare"], selected, cfg.samples, cfg.characters),
        chosen,
        data.lineage(Figures.read(release), metrics["release"], metrics["base"], metrics["merge"]),
        Section("costs", "What it cost", [Paragraph(COSTS)]),
    ]
    html = render(
        title=f"{heading} · Nightshift report",
        eyebrow="Nightshift · nightly report",
        mood="good" if passed else "bad",
        heading=heading,
        why=why,
        sections=sections,
        headlines=verdict.headlines(*(metrics[stage] for stage in ("evaluate", "reward", "quantize", "answers"))),
    )
    write_atomic(out / PAGE, html)
    good = [sample.answers[-1].good for block in chosen.blocks if isinstance(block, Samples) for sample in block.items]
    result = PageReport(
        page=sha256_file(out / PAGE),
        bytes=len(html.encode()),
        promote=passed,
        pictures=html.count("<svg "),
        samples={"as wanted": sum(good), "not": len(good) - sum(good)},
    )
    log(f"report: {heading.lower()}; {result.pictures} pictures, {len(good)} sample cases, {result.bytes:,} bytes")
    return result


def shown(cfg: Page, evaluation: Path, references: Path, cases: Path, answers: Path, embedded: Path) -> Section:
    """The sample answers, picked by the rule of tasks/reporting/samples.py."""
    known = {(name, case["id"]): case for name in SETS for case in read_jsonl(cases / f"{name}.jsonl")}
    asked = {case["id"]: case for case in read_jsonl(cases / f"{DOCUMENT_SET}.jsonl")}
    passages = {chunk.id: chunk.passage for chunk in read_chunks(embedded)[0]}
    trained = samples.behaviour(evaluation, read_jsonl(evaluation), known, SETS, cfg.samples, cfg.characters)
    logged = samples.references(references, read_jsonl(references), cfg.samples, cfg.characters)
    grounded = documents.grounded(answers, read_jsonl(answers), asked, passages, cfg.samples, cfg.characters)
    return Section(
        "samples",
        "Sample answers",
        [
            Paragraph(
                "Nobody picked these. In each set and language the cases are ordered by the SHA-256 of their id; "
                f"shown are the first {'one' if cfg.samples == 1 else cfg.samples} that the aligned model (over "
                "documents: the quantized model) answers as wanted and as many that it does not; of held-out "
                "instructions those whose answer came nearer to the log's than the base's, and as many that did not. Wrong "
                "answers are therefore more frequent here than in the figures above."
            ),
            Samples("Base, SFT and aligned model on held-out cases", trained)
            if trained
            else Paragraph("There were no held-out cases to show answers to."),
            Samples("Base, SFT and aligned model on held-out instructions", logged)
            if logged
            else Paragraph("There were no held-out instructions to show answers to."),
            Samples("The quantized model over documents", grounded)
            if grounded
            else Paragraph("There were no questions on documents to show answers to."),
        ],
    )
