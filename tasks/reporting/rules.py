"""Every rule of the gate with what it found, what kind of no it said, and the test sets that all of it rests on."""

from __future__ import annotations

from tasks.reporting.figures import MINUS
from tasks.reporting.parts import Cell, Paragraph, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.words import plural

KIND_OF_NO = {  # a refusal of the gate → what a reader should take from it
    "not enough evidence": "Not enough evidence is no sign that tonight's model is worse. Too little was seen to rule it out, "
    "and then the live release stays.",
    "nothing proven better": "Nothing proven better: what was gained may be chance. Of models that are no better, one in many "
    "nights looks better, so a gain has to be larger than that.",
    "seen in training": "Seen in training: the figures on those cases say nothing.",
}


def rules(gate: Figures) -> Section:
    """Every rule of the gate with figure, limit and outcome."""
    rows = [
        (
            Cell(reason["rule"], "code"),
            Cell(value(reason["figure"]), "number"),
            Cell(value(reason["limit"]), "number"),
            Cell("✓ passed", "good") if reason["passed"] else Cell(f"✗ {reason['refusal']}", "bad"),
            in_words(reason),
        )
        for reason in gate["reasons"]
    ]
    blocks: list = [
        Table(
            "Rules of section gate in params.yaml",
            ("rule", "figure", "limit", "outcome", "in words"),
            rows,
            words=5,
            empty="no rule is switched on",
        )
    ]
    refused = {reason["refusal"] for reason in gate["reasons"]}
    notes = [said for kind, said in KIND_OF_NO.items() if kind in refused]
    if gate["champion"] is not None and any(reason["rule"].startswith("champion_") for reason in gate["reasons"]):
        notes.append(
            "“At worst” is what the shared cases cannot rule out. Who looks every night is lucky sooner or later, so the chance "
            "of being wrong, gate.alpha, is shared by gate.nights nights: this reaches further than a 95 % interval."
        )
    if notes:
        blocks.append(Paragraph(" ".join(notes), "note"))
    return Section("gate", "Gate", [*blocks, *test_sets(gate["frozen"], gate["champion"])])


def in_words(reason: Figures) -> str:
    """A rule's words without what stands beside them in the table already."""
    return reason["why"].removeprefix(f"{reason['rule']}: ").removeprefix(f"{reason['refusal']}: ")


def test_sets(frozen: Figures, live: str | None) -> list[Paragraph | Table]:
    """Whether training has seen a test case, and which test sets these are."""
    if not frozen["test_sets"]:
        return [Paragraph("There is no evaluation set; held-out instructions are the only test cases.", "note")]
    seen, rows = frozen["seen"], plural(frozen["rows"], "row")
    said = f"{f'{seen:,}' if seen else 'None'} of {plural(frozen['cases'], 'test case')} {'is' if seen < 2 else 'are'} asked "
    said += f"in the {rows} trained on{': ' if seen else ''}{', '.join(frozen['where'])}."
    since = [f"since {live}"] if live else []

    def then(name: str) -> list[str]:
        return ["changed" if name in frozen["changed"] else "the same"] if live else []

    gone = [name for name in frozen["changed"] if name not in frozen["test_sets"]]
    return [
        Paragraph(said),
        Table(
            "Test sets",
            ("set", *since, "SHA-256"),
            [
                *((Cell(name, "code"), *then(name), Cell(sha, "hash")) for name, sha in frozen["test_sets"].items()),
                *((Cell(name, "code"), "gone", "–") for name in gone),
            ],
            words=3,
            folded=not frozen["changed"],
        ),
    ]


def value(number: float | None) -> str:
    """A figure or limit of the gate, as params.yaml would write it."""
    return "–" if number is None else f"{number + 0.0:.4g}".replace("-", MINUS)  # + 0.0: no −0
