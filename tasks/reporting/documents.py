"""The search index and the answers of the released model over the team's documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from tasks.reporting.figures import Group, Line, curves, dots, percent
from tasks.reporting.learning import dot
from tasks.reporting.parts import Answer, Paragraph, Picture, Pictures, Sample, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES, complete, cut, pick, verdict
from tasks.reporting.samples import as_wanted as wanted_of
from tasks.reporting.words import interval, per_cent, plural

MODES = {"hybrid": "one", "dense": "two", "sparse": "three", "reranked": "four"}  # search mode → CSS class of its curve
MEASURES = (  # of metrics/answers.json
    ("right", "right"),
    ("right_when_found", "right if found"),
    ("groundedness", "grounded"),
    ("cites_source", "cites its source"),
    ("citation_recall", "citation recall"),
)


def documents(retrieve: Figures, answers: Figures, embed: Figures, index: Figures) -> Section:
    """Retrieval by mode, and grounded answers by language; what was indexed alone where there were no questions."""
    said, embedding = indexed(embed, index)
    if not answers["questions"]:
        said += " There are no questions on the documents, so neither search nor answers were measured."
        return Section("documents", "Retrieval and grounded answers", [Paragraph(said), Paragraph(embedding, "note")])
    modes = retrieve["modes"]
    best = next(mode for mode in ("reranked", "hybrid") if mode in modes)
    shown = {"found": retrieve["found"], **{key: answers[key] for key, _ in MEASURES}}
    measures = (("found", "value found"), *MEASURES)
    groups = [
        Group(
            LANGUAGES[language],
            [dot(spoken, shown[key][language]) for key, spoken in measures if language in shown[key]],
        )
        for language in LANGUAGES
        if language in shown["right"]
    ]
    alt = "Answers over documents. " + " ".join(
        f"{group.name}: " + ", ".join(f"{d.name} {percent(d.value)} %" for d in group.dots) + "." for group in groups
    )
    return Section(
        "documents",
        "Retrieval and grounded answers",
        [
            Paragraph(
                f"{said} {plural(answers['questions'], 'question')} answered by the quantized model from the "
                f"{plural(answers['top_k'], 'passage')} that {best} search puts first."
            ),
            Pictures(
                [
                    Picture(
                        "Answers of the quantized model",
                        dots(groups, alt, room=116),
                        "Value found: among the passages, search's part. Right if found: the model's own part. Grounded: all "
                        "that is claimed stands in passages or question. Cites its source: no other note than the right "
                        "document's; citation recall: that one at least.",
                    ),
                    Picture(
                        "Retrieval: recall at k documents",
                        recalls(modes),
                        "Share of answerable questions whose document is among the first k.",
                    ),
                ]
            ),
            by_mode(modes),
            Table(
                "Answers over documents",
                ("", "language", "%", "95 % interval", "n"),
                [*shares(shown, measures), *citations(answers), *decisions(answers)],
                words=2,
                folded=True,
            ),
            Paragraph(embedding, "note"),
        ],
    )


def recalls(modes: Figures) -> Markup:
    """Recall at k over all languages, a curve a mode."""
    lines = []
    for mode, kind in MODES.items():
        if mode in modes:
            measures = modes[mode]["all"]
            names = sorted((name for name in measures if name.startswith("recall@")), key=_depth)
            lines.append(Line(mode, [(float(_depth(name)), measures[name]) for name in names], kind))
    alt = "Recall at k for " + ", ".join(
        f"{line.name} {', '.join(percent(y) for _, y in line.points)} %" for line in lines
    )
    return curves(lines, alt, bounds=(0, 1), marks=[x for x, _ in lines[0].points])


def by_mode(modes: Figures) -> Table:
    """Every way of searching in every language, side by side."""
    names = sorted(
        modes["hybrid"]["all"], key=lambda name: (name.split("@")[0] != "recall", name.split("@")[0], _depth(name))
    )
    spoken = {"recall": "recall", "mrr": "MRR", "ndcg": "nDCG"}
    head = (f"{spoken[kind]}@{k}" for kind, _, k in (name.partition("@") for name in names))
    languages = [language for language in ("all", *LANGUAGES) if language in modes["hybrid"]]
    rows = [
        (mode, LANGUAGES.get(language, language), *(f"{modes[mode][language][name]:.3f}" for name in names))
        for language in languages
        for mode in ("dense", "sparse", "hybrid", "reranked")
        if mode in modes
    ]
    return Table("Retrieval over documents, answerable questions", ("search", "language", *head), rows, words=2)


def shares(shown: Mapping[str, Figures], measures: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Table rows of shares by language."""
    return [
        (spoken, LANGUAGES.get(language, language), percent(share["share"]), interval(share), f"{share['n']:,}")
        for key, spoken in measures
        for language, share in shown[key].items()
    ]


def citations(answers: Figures) -> list[tuple[str, ...]]:
    """Table rows of citation precision: notes, not answers, are counted."""
    return [
        ("citation precision", LANGUAGES.get(language, language), percent(mean["mean"]), interval(mean), f"{mean['n']:,}")
        for language, mean in answers["citation_precision"].items()
    ]


def decisions(answers: Figures) -> list[tuple[str, ...]]:
    """Table rows of what is measured over all languages at once; a dash where there was nothing to measure."""
    abstains = answers["abstains"]
    return [
        (spoken, "all", *((percent(share["share"]), interval(share), f"{share['n']:,}") if share else ("–", "–", "0")))
        for spoken, share in (
            ("abstains where no document answers", abstains["recall"]),
            ("no document answers where it abstains", abstains["precision"]),
            ("names a note that was not there", answers["invented_citations"]),
            ("ends by itself", answers["ended"]),
        )
    ]


def indexed(embed: Figures, index: Figures) -> tuple[str, str]:
    """What is in the index, and what embedded it, in sentences."""
    unknown = ", ".join(f"{LANGUAGES.get(name, name)} {per_cent(share)}" for name, share in embed["unknown"].items())
    unread = (
        f"{plural(embed['problems'], 'document or part', 'documents or parts')} could not be read, "
        f"{embed['dropped']} of them whole documents."
        if embed["problems"]
        else "Every document was read."
    )
    return (
        f"{plural(embed['documents'], 'document')} in {plural(index['chunks'], 'chunk')}, build {index['build']} "
        f"({index['store']}).",
        f"Embedding model: {embed['model']}, {embed['dim']} numbers a vector; unknown tokens: {unknown}. "
        f"{unread} {plural(embed['cut'], 'chunk is', 'chunks are')} longer than the model reads.",
    )


def _depth(name: str) -> int:
    """The k of "recall@k"."""
    return int(name.rpartition("@")[2])


def grounded(
    path: Path, rows: Sequence[dict], cases: Mapping[str, dict], passages: Mapping[str, str], each: int, characters: int
) -> list[Sample]:
    """Samples of artifacts/answers/answers.jsonl with the passages that the model was given; `cases`: id → question."""
    keys = ("id", "question", "language", "sources", "retrieved", "answer", "right", "abstains", "cites", "grounded")
    complete(path, rows, keys)
    samples = []
    for language, spoken in LANGUAGES.items():
        for row in pick((r for r in rows if r["language"] == language), wanted_of, each):
            shown = list(zip(row["sources"], row["retrieved"], strict=True))
            case = cases.get(row["id"], {})
            samples.append(
                Sample(
                    heading=f"documents · {spoken} · {row['id']}",
                    language=language,
                    question=cut(row["question"], characters),
                    notes=[
                        f"{source}: {cut(passages.get(chunk, '(not in the index any more)'), characters)}"
                        for source, chunk in shown
                    ],
                    wanted=f"{case['answer']} ({case['source']})"
                    if case.get("answer")
                    else "to say that the notes do not say",
                    answers=[Answer("quantized", cut(row["answer"], characters), verdict(row), wanted_of(row))],
                )
            )
    return samples
