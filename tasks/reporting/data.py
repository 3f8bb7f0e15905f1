"""Where it comes from: the data of the night and what was left out of it, and the hashes of everything that serves."""

from __future__ import annotations

from tasks.reporting.parts import Cell, Paragraph, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES
from tasks.reporting.words import megabytes, per_cent, plural, tiny

VALIDATION = "../validation/index.html"  # seen from reports/nightly/, where the page is
CARD = "../../artifacts/release/card.html"
SHOWN = 5  # places named of a finding


def data(validate: Figures, prepare: Figures) -> Section:
    """Rows in, rows out, why rows were left out, and what the checks said."""
    findings = validate["findings"]
    failed = [finding for finding in findings if not finding["passed"]]
    checks, rows_checked = sum(validate["checks"].values()), sum(validate["rows"].values())
    outcome = plural(len(failed), "check") if failed else "none"
    said = (
        f"{plural(checks, 'check')} over {plural(rows_checked, 'row')} of raw data: {outcome} failed more often than "
        f"allowed, {plural(len(validate['refused']), 'row was', 'rows were')} refused."
    )
    read, used = prepare["read"], prepare["languages"]
    kept = {"instructions": prepare["instructions"], "preferences": prepare["pairs"]}
    rows = []
    for kind, label in (
        ("instructions", "instructions"),
        ("preferences", "preferences, as pairs"),
        ("prompts", "prompts"),
    ):
        split = kept.get(kind, {"train": prepare["prompts"]})
        rows.append(
            (
                label,
                f"{read[kind]:,}",
                *(f"{split[part]:,}" if part in split else "–" for part in ("train", "eval")),
                *spoken(used, kind),
            )
        )
    rows.append(("evaluation cases", "–", "–", f"{sum(prepare['evaluation'].values()):,}", *spoken(used, "evaluation")))
    blocks: list = [Paragraph(said, link=(VALIDATION, "All checks, with failing rows by file and line"))]
    if validate["absent"]:
        blocks.append(Paragraph(f"Not in the data, and by validate.min_rows allowed: {', '.join(validate['absent'])}."))
    if findings:
        rows_found = [
            (
                finding["kind"],
                finding["check"],
                Cell(f"{finding['rows']:,} of up to {per_cent(finding['allowed'])}", "number"),
                Cell("✓ allowed", "good")
                if finding["passed"]
                else Cell("✗ failed" if finding["severity"] == "critical" else "! warning", "bad"),
                Cell(", ".join(finding["where"][:SHOWN]) + (" …" if finding["rows"] > SHOWN else ""), "code"),
            )
            for finding in findings
        ]
        blocks.append(
            Table(
                "Checks that some rows did not pass", ("data", "check", "rows", "outcome", "where"), rows_found, words=5
            )
        )
    reasons = [(reason.rstrip(":"), f"{count:,}") for reason, count in prepare["dropped"].items()]
    blocks += [
        Table(
            "Rows read, and what training and evaluation get",
            ("", "read", "used", "held out", *LANGUAGES.values()),
            rows,
        ),
        Table("Left out", ("reason", "rows"), reasons) if reasons else Paragraph("No row was left out."),
    ]
    return Section("data", "Data", blocks)


def spoken(used: Figures, kind: str) -> list[str]:
    """Rows in each language, "–" where a kind has none."""
    return [f"{used[kind][code]:,}" if kind in used and code in used[kind] else "–" for code in LANGUAGES]


def lineage(manifest: Figures, release: Figures, base: Figures, merge: Figures) -> Section:
    """What serves together, by hash, and what it was made of."""
    parts = [
        (name, Cell(part["path"], "hash"), Cell(megabytes(part["bytes"]), "number"), Cell(part["sha256"], "hash"))
        for name, part in manifest["parts"].items()
    ]
    raw, stack = manifest["data"], manifest["stack"]
    facts = [
        ("release manifest", Cell(release["manifest"], "hash")),
        ("data version", Cell(f"{raw['dvc']} {raw['md5']}", "hash")),
        ("", f"{plural(raw['files'], 'file')}, {megabytes(raw['bytes'])} MB"),
        (
            "base model",
            f"{base['model']}{' @ ' + base['revision'] if base['revision'] else ''}: {base['architecture']}, "
            f"{base['parameters']:,} parameters; {base['licence']}",
        ),
        ("base weights", Cell(base["weights_sha256"], "hash")),
        ("chat template", Cell(base["template_sha256"], "hash")),
        ("merged weights", Cell(merge["weights_sha256"], "hash")),
        (
            "merge parity",
            f"largest |Δlogit| {tiny(merge['max_logit_difference'])} over {plural(merge['positions'], 'position')}; "
            f"same likeliest token everywhere: {'yes' if merge['argmax_equal'] else 'no'}",
        ),
        (
            "embedding model",
            Cell(f"{manifest['embedding']['model']} {manifest['embedding']['weights_sha256']}", "hash"),
        ),
        ("index build", Cell(manifest["index"]["build"], "code")),
        (
            "stack",
            f"{stack['device']}, {stack['instruction_set']}, {plural(stack['threads'], 'thread')}, "
            f"{stack['precision']}, Python {stack['python']}; "
            + ", ".join(f"{name} {version}" for name, version in stack["packages"].items()),
        ),
    ]
    return Section(
        "lineage",
        "Lineage",
        [
            Paragraph(
                f"{manifest['name']}, licence {manifest['license']}. These parts serve together; their hashes are "
                "checked before a promotion. Another kind of processor or number of threads may change the bits "
                "without anything else having changed.",
                link=(CARD, "The model card has what they were made from"),
            ),
            Table("Parts", ("part", "path", "MB", "SHA-256"), parts, words=4),
            Table("Made of", ("what", "value"), facts, words=2),
        ],
    )
