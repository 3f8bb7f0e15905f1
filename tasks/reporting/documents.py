"""The search index and the answers of the released model over the team's documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.reporting.figures import Group, Line, curves, dots, percent
from tasks.reporting.learning import dot
from tasks.reporting.parts import Answer, Paragraph, Picture, Pictures, Sample, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES, complete, cut, pick, verdict
from tasks.reporting.samples import as_wanted as wanted_of
from tasks.reporting.words import interval, per_cent, plural

MODES = {"hybrid": "one", "dense": "two", "sparse": "three"}  # search mode → CSS class of its curve
MEASURES = (
    ("right", "right"),
    ("cites_source", "cites its source"),
    ("grounded", "value retrieved"),
    ("right_when_grounded", "right if retrieved"),
)


def documents(answers: Figures, embed: Figures, index: Figures) -> Section:
    """Retrieval by mode, and grounded answers by language; what was indexed alone where there were no questions."""
    said, embedding = indexed(embed, index)
    if not answers["questions"]:
        said += " There are no questions on the documents, so neither search nor answers were measured."
        return Section("documents", "Retrieval and grounded answers", [Paragraph(said), Paragraph(embedding, "note")])
    retrieval = answers["retrieval"]
    lines, columns = [], []
    for mode, kind in MODES.items():
        measures = retrieval[mode]
        columns = columns or sorted(
            measures, key=lambda name: (name.split("@")[0] != "recall", name.split("@")[0], _depth(name))
        )
        lines.append(
            Line(
                mode,
                [
                    (float(_depth(name)), measures[name])
                    for name in sorted(measures, key=_depth)
                    if name.startswith("recall@")
                ],
                kind,
            )
        )
    right = answers["right"]
    groups = [
        Group(
            LANGUAGES[language],
            [dot(spoken, answers[key][language]) for key, spoken in MEASURES if language in answers[key]],
        )
        for language in LANGUAGES
        if language in right
    ]
    alt = "Answers over documents. " + " ".join(
        f"{group.name}: " + ", ".join(f"{d.name} {percent(d.value)} %" for d in group.dots) + "." for group in groups
    )
    rows = [
        (spoken, LANGUAGES.get(language, language), percent(share["share"]), interval(share), f"{share['n']:,}")
        for key, spoken in MEASURES
        for language, share in answers[key].items()
    ]
    abstains = answers["abstains"]
    for key, spoken in (
        ("recall", "abstains where no document answers"),
        ("precision", "no document answers where it abstains"),
    ):
        share = abstains[key]
        rows.append(
            (
                spoken,
                "all",
                *((percent(share["share"]), interval(share), f"{share['n']:,}") if share else ("–", "–", "0")),
            )
        )
    for key, spoken in (("invented_citations", "names a note that was not there"), ("ended", "ends by itself")):
        share = answers[key]
        rows.append((spoken, "all", percent(share["share"]), interval(share), f"{share['n']:,}"))
    return Section(
        "documents",
        "Retrieval and grounded answers",
        [
            Paragraph(
                f"{said} {plural(answers['questions'], 'question')} answered by the "
                f"int4 model from the {answers['top_k']} passages that hybrid search puts first."
            ),
            Pictures(
                [
                    Picture(
                        "Answers of the int4 model",
                        dots(groups, alt, room=116),
                        "Value retrieved: search's part. Right if retrieved: the model's own part.",
                    ),
                    Picture(
                        "Retrieval: recall at k documents",
                        curves(
                            lines,
                            "Recall at k for "
                            + ", ".join(
                                f"{line.name} {', '.join(percent(y) for _, y in line.points)} %" for line in lines
                            ),
                            bounds=(0, 1),
                            marks=[x for x, _ in lines[0].points],
                        ),
                        "Share of answerable questions whose document is among the first k.",
                    ),
                ]
            ),
            Table(
                "Retrieval over documents, answerable questions",
                ("search", *columns),
                [(mode, *(f"{retrieval[mode][name]:.3f}" for name in columns)) for mode in MODES],
            ),
            Table("Answers over documents", ("", "language", "%", "95 % interval", "n"), rows, words=2, folded=True),
            Paragraph(embedding, "note"),
        ],
    )


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
    complete(path, rows, ("id", "question", "language", "sources", "retrieved", "answer", "right", "abstains", "cites"))
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
                    answers=[Answer("int4", cut(row["answer"], characters), verdict(row), wanted_of(row))],
                )
            )
    return samples
