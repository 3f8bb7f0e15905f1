"""Check the raw data before anything is trained on it: Great Expectations, one suite for each kind of data.

Failing rows are named by file and line. A few bad rows do not stop the night: up to the shares of params.yaml they
are refused, and `prepare` leaves out exactly those. More than that is a broken delivery: the run ends with the rows.
The Data Docs (HTML) and the report are the same bytes for the same data.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks.errors import DataError
from tasks.params import Validate
from tasks.progress import log
from tasks.reports import Report
from tasks.validation import docs, frames, presence

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult

NAMED = 20  # places that a finding names


class Finding(Report):
    """A check that some rows failed."""

    kind: str = Field(description="instructions, preferences, prompts, evaluation or documents")
    check: str = Field(description="what should hold")
    severity: str = Field(description="critical stops the night when more rows fail than allowed; warning is only told")
    passed: bool = Field(description="whether no more rows failed than allowed")
    rows: int = Field(description="rows that failed")
    share: float = Field(description="rows that failed / rows that could be asked")
    allowed: float = Field(description="share that may fail")
    where: list[str] = Field(
        description=f"the first {NAMED} rows that failed: file:line, or file:row n in a JSON array"
    )


class Refused(Report):
    """A row that later stages must leave out."""

    where: str = Field(description="file:line, or file:row n in a JSON array")
    reasons: list[str] = Field(description="checks that it failed")


class ValidateReport(Report):
    """What the checks found."""

    rows: dict[str, int] = Field(description="kind of data → rows (documents: files)")
    checks: dict[str, int] = Field(description="kind of data → expectations")
    findings: list[Finding] = Field(description="checks that some rows failed, within what is allowed")
    refused: list[Refused] = Field(description="rows that prepare leaves out")
    absent: list[str] = Field(
        description="kinds of data and evaluation sets (evaluation/…) without a row, which validate.min_rows allows"
    )


def validate(cfg: Validate, data: Path, docs_out: Path) -> ValidateReport:
    """Check data/ and write the Data Docs.

    DataError names the first rows when too many fail a critical check, or the folder that holds nothing although
    validate.min_rows asks for rows of it. A kind without rows that may be absent has no checks.
    """
    raw = frames.read(data)
    missing = presence.absent(cfg.min_rows, raw)
    tables = frames.tables(raw, round(cfg.max_document_megabytes * 2**20), cfg.max_document_seconds)
    results = run(cfg, {kind: table for kind, table in tables.items() if kind not in missing})
    findings, refused = [], refused_rows(results)
    for kind, result in results.items():
        found = [_finding(kind, r) for r in result.results]
        findings += [f for f, _ in found if f is not None]
        bad = [f for f, _ in found if f is not None and not f.passed]
        log(f"{kind}: {len(tables[kind])} rows, {len(found)} checks, {len(bad)} failed")
    for kind in missing:
        log(f"{kind}: absent: {presence.ABSENT[kind.partition('/')[0]]}")
    summary = [_summary(k, len(tables[k]), results[k], findings) for k in results]
    docs.write(docs_out, results, [*summary, *(presence.line(kind) for kind in missing)])
    for finding in findings:
        log(f"  {describe(finding)}")
    fatal = [f for f in findings if not f.passed and f.severity == "critical"]
    if fatal:
        problems = _problems(tables)
        detail = "\n  ".join(
            line for f in fatal for line in (describe(f), *(problems[w] for w in f.where if w in problems))
        )
        raise DataError(str(data), f"{len(fatal)} checks failed\n  {detail}", "mend or remove the rows and run again")
    return ValidateReport(
        rows={kind: len(table) for kind, table in tables.items()},
        checks={kind: len(results[kind].results) if kind in results else 0 for kind in tables},
        findings=findings,
        refused=[Refused(where=where, reasons=reasons) for where, reasons in sorted(refused.items())],
        absent=missing,
    )


def refused_rows(results: Mapping[str, ExpectationSuiteValidationResult]) -> dict[str, list[str]]:
    """where → the checks for which later steps leave the row out."""
    out: dict[str, list[str]] = {}
    for kind, result in results.items():
        for finding, rows in (_finding(kind, r) for r in result.results):
            for where in rows:
                out.setdefault(where, []).append(finding.check)
    return out


def run(cfg: Validate, tables: dict[str, frames.Table]) -> dict[str, ExpectationSuiteValidationResult]:
    """Kind → result of its suite. Great Expectations works in memory: no project folder, no store, no telemetry."""
    import great_expectations as gx

    from tasks.validation.suites import suites

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("data")
    results = {}
    for kind, suite in ((k, s) for k, s in suites(cfg).items() if k in tables):
        batch = source.add_dataframe_asset(kind).add_batch_definition_whole_dataframe("all")
        results[kind] = _check(context, gx, kind, batch, suite, tables[kind])
    return results


def _check(
    context: Any, gx: Any, kind: str, batch: Any, suite: ExpectationSuite, table: frames.Table
) -> ExpectationSuiteValidationResult:
    """One checkpoint. COMPLETE lists every failing row by its `where`."""
    definition = gx.ValidationDefinition(name=kind, data=batch, suite=context.suites.add(suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=kind,
            validation_definitions=[context.validation_definitions.add(definition)],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["where"]},
        )
    )
    # GX draws its progress bars whatever the context's settings say
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        outcome = checkpoint.run(batch_parameters={"dataframe": frames.frame(table)})
    (result,) = outcome.run_results.values()
    for r in result.results:
        if r.exception_info and r.exception_info.get("raised_exception"):
            raise DataError(
                f"{kind}: {r.expectation_config.description}",
                f"cannot be checked ({r.exception_info['exception_message']})",
                "look for columns of mixed types in the files of this kind",
            )
    return result


def _finding(kind: str, result: Any) -> tuple[Finding | None, list[str]]:
    """The finding of one expectation's result, None where no row failed; and the rows to refuse."""
    config, found = result.expectation_config, result.result
    where = [row["where"] for row in found.get("unexpected_index_list") or []]
    if result.success and not where:
        return None, []
    asked = found.get("element_count", 0) - found.get("missing_count", 0)
    finding = Finding(
        kind=kind,
        check=config.description,
        severity=config.severity.value,
        passed=bool(result.success),
        rows=len(where),
        share=round(len(where) / asked, 6) if asked else 0.0,
        allowed=round(1 - config.kwargs.get("mostly", 1.0), 6),
        where=sorted(where, key=_natural)[:NAMED],
    )
    return finding, where if config.meta["drop"] and finding.severity == "critical" else []


def _natural(where: str) -> tuple[str, int]:
    """file:9 before file:10."""
    file, _, place = where.rpartition(":")
    digits = place.removeprefix("row ")
    return (file, int(digits)) if digits.isdigit() else (where, 0)


def describe(finding: Finding) -> str:
    """One line for a reader."""
    places = ", ".join(finding.where[:5]) + (" …" if finding.rows > 5 else "")
    verdict = "allowed" if finding.passed else "FAILED"
    count = f"{finding.rows} rows ({finding.share:.2%}; up to {finding.allowed:.2%})"
    return f"{finding.kind}: {finding.check}: {verdict}: {count}" + (f": {places}" if places else "")


def _problems(tables: dict[str, frames.Table]) -> dict[str, str]:
    """where → what is wrong with a row that could not be read."""
    rows = [row for table in tables.values() for row in table]
    told = {row["where"]: row.get("problem") or row.get("file_problem") for row in rows}
    return {where: f"  {where}: {what}" for where, what in told.items() if what}


def _summary(
    kind: str, rows: int, result: ExpectationSuiteValidationResult, findings: list[Finding]
) -> tuple[str, ...]:
    """The index page's row for a kind."""
    mine = [f for f in findings if f.kind == kind]
    bad = [f for f in mine if not f.passed]
    verdict = "passed" if not bad else "failed" if any(f.severity == "critical" for f in bad) else "warning"
    return kind, f"{rows:,}", str(len(result.results)), verdict, "\n".join(f"{f.rows} not: {f.check}" for f in mine)
