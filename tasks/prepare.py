"""Raw data into the dataset that training reads: canonical rows, no copies, nothing of the evaluation, splits, pairs.

Rows that the checks refused are left out, and so is everything else that must not be learned from; dropped.jsonl says
what and why. Splits go by prompt: all rows of a prompt, in instructions and preferences, are on the same side. All
choices are hashes of the seed and the text, so new rows never move old ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import withdrawn
from tasks.errors import DataError
from tasks.files import read_json, write_jsonl
from tasks.formats import (
    Case,
    Instruction,
    Prompt,
    Read,
    read_evaluation,
    read_instructions,
    read_preferences,
    read_prompts,
)
from tasks.formats.evaluation import ANSWER_SETS, DOCUMENT_SET, SETS
from tasks.formats.rows import FEEDBACK, fingerprint
from tasks.labelling.agreement import Judgements, judgements
from tasks.pairs import Pair, pairs, says
from tasks.params import Prepare, Seed
from tasks.progress import log
from tasks.reports import Report
from tasks.sift import Dropped, Few, Row, Sift, unsettled

Split = dict[str, list[dict[str, Any]]]  # "train" and "eval" → rows


class PrepareReport(Report):
    """What came in and what the trainings get."""

    read: dict[str, int] = Field(description="kind → rows read")
    instructions: dict[str, int] = Field(description="split → instruction rows")
    pairs: dict[str, int] = Field(description="split → preference pairs")
    prompts: int = Field(description="prompts to sample answers for")
    prompts_from: str = Field(description="where they come from: data/prompts, or instructions where it is empty")
    evaluation: dict[str, int] = Field(description="evaluation set → cases")
    languages: dict[str, dict[str, int]] = Field(description="kind → language → rows, train and eval together")
    forms: dict[str, int] = Field(description="form → rows read")
    dropped: dict[str, int] = Field(description="reason → rows left out (dropped.jsonl names them)")
    feedback: int = Field(description="prompts that users sent back, of those to sample answers for")
    skipped: int = Field(description="rankings that make no pair because the annotator would not say")
    flagged: int = Field(description="rankings that make no pair because of the flag all_bad or unsafe")
    ranked_prompts: int = Field(description="prompts with a ranking that says something")
    judged: int = Field(description="pairs of answers that somebody ordered")
    judged_twice: int = Field(description="of these, pairs that two or more annotators ordered")
    agreement: float | None = Field(description="share of the pairs judged twice on which all agree; null without any")
    overruled_votes: int = Field(description="votes against a pair's majority")
    even_pairs: int = Field(description="pairs left out because the vote was even")
    ties: int = Field(description="times that a ranking put two answers on one level")
    capped_pairs: int = Field(description="pairs left out because their prompt had enough")
    labelling: Judgements | None = Field(description="how people judged; null where nobody has")


def prepare(cfg: Prepare, seed: Seed, data: Path, validation: Path, out: Path) -> PrepareReport:
    """Write artifacts/dataset from data/. `validation` is the report of the checks: its refused rows are left out.

    What data/ does not hold gives empty files, but for prompts, which held-out instructions stand in for beside those that
    users sent back. DataError when rows of a kind are there and none is left to train on; judgements that make no pair
    to train on yet (skips, ties, a first pair that is held out) are said, and the night goes on.
    """
    log_, ranked = read_instructions(data / "instructions"), read_preferences(data / "preferences")
    asked, held_out = read_prompts(data / "prompts"), read_evaluation(data / "evaluation")
    kinds = {"instructions": log_, "preferences": ranked, "prompts": asked, "evaluation": held_out}
    refused = _refused(validation, kinds)
    cases, dropped = held_out.rows, Dropped()
    for read in (log_, ranked, asked):
        for problem in read.problems:
            dropped.add(problem.where, None, "cannot be read:", f"{problem.what}; {problem.remedy}")
    sift = Sift(cfg, refused, cases, dropped, withdrawn.names(data))
    few = Few(seed.value, dropped)
    learned = sift.distinct(_approved_first(log_.rows), "instructions")
    instructions = few(learned, cfg.max_instructions, "prepare.max_instructions")
    prompts = sift.prompts(asked.rows)
    judged = sift.judgements(ranked.rows)
    prompts = unsettled(prompts, judged)
    rankings = few([r for r in judged if says(r)], cfg.max_ranked_prompts, "prepare.max_ranked_prompts")
    rankings += [r for r in judged if not says(r)]
    cases = [c for name in SETS for c in few([c for c in cases if c.set == name], cfg.max_cases, "prepare.max_cases")]
    found, tally = pairs(rankings, per_prompt=cfg.pairs_per_prompt, prompt_weight=cfg.prompt_weight, seed=seed.value)

    split = {
        "instructions": _some_held_out(_split([_instruction(r) for r in instructions], cfg.eval_share, seed.value),
                                       cfg.eval_share, seed.value),
        "preferences": _split([_pair(p) for p in found], cfg.eval_share, seed.value),
    }
    split["preferences"] = _apart(split["preferences"], split["instructions"]["eval"])
    for kind, parts in split.items():
        if kind == "preferences" and judged and not parts["train"]:
            log(f"preferences: {len(judged)} judgements, and no pair to train on yet")
        elif not parts["train"] and (kinds[kind].rows or kinds[kind].problems):
            raise DataError(
                f"{data / kind}",
                "leaves no row to train on",
                f"add rows, or see metrics/validate.json and lower prepare.eval_share ({cfg.eval_share})",
            )
        for name, rows in parts.items():
            write_jsonl(out / kind / f"{name}.jsonl", rows)
            log(f"{kind}/{name}: {len(rows)} rows")
    from_data = bool(asked.problems) or any(row.origin != FEEDBACK for row in asked.rows)
    sent_back = few([p for p in prompts if p.origin == FEEDBACK], cfg.max_prompts, "prepare.max_prompts")
    left = None if cfg.max_prompts is None else cfg.max_prompts - len(sent_back)  # users go first
    others = [p for p in prompts if p.origin != FEEDBACK]
    if from_data:
        prompts = sent_back + few(others, left, "prepare.max_prompts")
    else:
        rows = split["instructions"]["eval"] or split["instructions"]["train"]
        told = {fingerprint(p.messages) for p in prompts}
        others += [p for p in _questions(rows) if fingerprint(p.messages) not in told]
        prompts = sent_back + Few(seed.value, Dropped())(others, left, "prepare.max_prompts")
        log(f"prompts: data/prompts holds none; {len(prompts) - len(sent_back)} instructions are asked instead")
    write_jsonl(out / "prompts" / "prompts.jsonl", [_prompt(p) for p in prompts])
    for name in SETS:
        write_jsonl(out / "evaluation" / f"{name}.jsonl", [_case(c) for c in cases if c.set == name])
    write_jsonl(out / "dropped.jsonl", dropped.rows)
    log(f"left out: {', '.join(f'{n} {reason}' for reason, n in sorted(dropped.counts.items())) or 'nothing'}")
    everything = {"instructions": instructions, "preferences": found, "prompts": prompts, "evaluation": cases}
    return PrepareReport(
        read={"instructions": len(log_.rows), "preferences": len(ranked.rows), "prompts": len(asked.rows)},
        instructions={name: len(rows) for name, rows in split["instructions"].items()},
        pairs={name: len(rows) for name, rows in split["preferences"].items()},
        prompts=len(prompts),
        prompts_from="data/prompts" if from_data else "instructions",
        feedback=len(sent_back),
        evaluation=dict(Counter(c.set for c in cases)),
        languages={kind: dict(Counter(row.language for row in rows)) for kind, rows in everything.items()},
        forms=dict(Counter(row.form for row in (*log_.rows, *ranked.rows))),
        dropped=dict(dropped.counts),
        skipped=tally.skipped,
        flagged=tally.flagged,
        ranked_prompts=tally.prompts,
        judged=tally.judged,
        judged_twice=tally.judged_twice,
        agreement=round(tally.agreed / tally.judged_twice, 6) if tally.judged_twice else None,
        overruled_votes=tally.overruled,
        even_pairs=tally.even,
        ties=tally.ties,
        capped_pairs=tally.capped,
        labelling=judgements(judged) if judged else None,
    )


def _approved_first(rows: Sequence[Instruction]) -> list[Instruction]:
    """Rows that a person has approved before the others: of two that say nearly the same, theirs stays."""
    return sorted(rows, key=lambda row: row.annotation is None)


def _refused(validation: Path, kinds: dict[str, Read]) -> dict[str, str]:
    """Place → why the checks refused it. DataError when the report tells of other data than this."""
    report = read_json(validation)
    for kind, read in kinds.items():
        now, then = len(read.rows) + len(read.problems), report.get("rows", {}).get(kind)
        if now != then:
            raise DataError(
                str(validation), f"is about other data ({kind}: {then} rows, now {now})", "dvc repro validate"
            )
    return {row["where"]: ", ".join(row["reasons"]) for row in report["refused"]}


def _split(rows: Sequence[dict[str, Any]], share: float, seed: int) -> Split:
    """Rows whose first question's hash falls below `share` go to eval, the others to train."""
    parts: Split = {"train": [], "eval": []}
    for row in rows:
        parts["eval" if _drawn(row, seed) < share else "train"].append(row)
    return parts


def _drawn(row: dict[str, Any], seed: int) -> float:
    """A number in [0, 1) that the seed and the row's first question decide."""
    asked = next((m["content"] for m in row["messages"] if m["role"] == "user"), "")
    return int(hashlib.sha256(f"{seed}\0{asked}".encode()).hexdigest()[:8], 16) / 16**8


def _some_held_out(parts: Split, share: float, seed: int) -> Split:
    """The split, with the prompt of the smallest hash held out where the share of few rows comes to none."""
    if parts["eval"] or not share or len(parts["train"]) < 2:
        return parts
    first = min(parts["train"], key=lambda row: (_drawn(row, seed), row["id"]))
    sides: Split = {"train": [], "eval": []}
    for row in parts["train"]:
        sides["eval" if _drawn(row, seed) == _drawn(first, seed) else "train"].append(row)
    return sides if sides["train"] else parts


def _apart(pairs_: Split, held_out: Sequence[dict[str, Any]]) -> Split:
    """The pairs' split, with those on the prompt of a held-out instruction held out too: it may have been held out by choice."""
    asked = {fingerprint(row["messages"][:-1]) for row in held_out}
    sides: Split = {"train": [], "eval": list(pairs_["eval"])}
    for pair in pairs_["train"]:
        sides["eval" if fingerprint(pair["messages"]) in asked else "train"].append(pair)
    return sides


def _questions(rows: Sequence[dict[str, Any]]) -> list[Prompt]:
    """The different prompts of instruction rows, each without its last answer."""
    found: dict[str, Prompt] = {}
    for row in rows:
        asked = Prompt(row["id"], row["messages"][:-1], row["language"], row["source"])
        found.setdefault(fingerprint(asked.messages), asked)
    return list(found.values())


def _fields(row: Row | Case) -> dict[str, Any]:
    return {"id": row.id, "messages": row.messages, "language": row.language}


def _prompt(row: Prompt) -> dict[str, Any]:
    """A prompt; what users were not content with is there only where there is something."""
    more = {"origin": row.origin, "answers": list(row.answers)}
    return {**_fields(row), **{name: value for name, value in more.items() if value}}


def _instruction(row: Instruction) -> dict[str, Any]:
    judged = {"annotator": row.annotator, "annotation": row.annotation} if row.annotator else {}
    return {**_fields(row), "source": row.source, **judged}


def _pair(pair: Pair) -> dict[str, Any]:
    return vars(pair)


def _case(case: Case) -> dict[str, Any]:
    if case.set == DOCUMENT_SET:  # asked of the index: the question alone
        (asked,) = case.messages
        return {"id": case.id, "question": asked["content"], "language": case.language, **case.fields}
    names = ("answer", "distractors", "cite", "kind") if case.set in ANSWER_SETS else ("chosen", "rejected", "defect")
    return {**_fields(case), **{name: case.fields[name] for name in names}}
