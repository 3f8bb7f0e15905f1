"""May this night's model go out?

Floors and ceilings on what was measured; the question whether training has seen the test cases (tasks/frozen.py); and
the comparison with the live release (tasks/against.py). A refusal is a result, not an error: it is written with its reasons,
and the night ends well.

The rules on search (`on_search`) stand by themselves: a release that changes nothing but the documents needs no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from tasks import champion as champions
from tasks import frozen
from tasks.against import Behaviour, against, as_good
from tasks.champion import SearchChampion
from tasks.errors import DataError, GateError
from tasks.files import read_json
from tasks.frozen import Frozen
from tasks.params import Gate
from tasks.progress import log
from tasks.reasons import EVIDENCE, LIMIT, SEEN, Reason
from tasks.reports import Report
from tasks.stats import Difference

Metrics = Mapping[str, Any]


class GateReport(Report):
    """metrics/gate.json."""

    promote: bool = Field(description="whether every rule let the model through")
    champion: str | None = Field(description="id of the live release it was compared with; null before the first one")
    champion_search: str | None = Field(description="the same of its search; a later one where only documents have changed since")
    reasons: list[Reason] = Field(description="every rule that is switched on, in the order of params.yaml")
    frozen: Frozen = Field(description="the test sets by hash, and whether training has seen them")


def gate(cfg: Gate, evaluation: Path, reward: Path, quantize: Path, retrieval: Path, answers: Path, dataset: Path,
         champion: Path, champion_search: Path) -> GateReport:
    """Judge the night by its metrics files (metrics/evaluate.json and so on), artifacts/dataset, champion.json and
    champion-search.json.

    DataError when a file lacks a figure that a rule needs; GateError when a stage met another live release.
    """
    files = {"evaluate": evaluation, "reward": reward, "quantize": quantize, "retrieve": retrieval, "answers": answers}
    metrics = {name: read_json(file) for name, file in files.items()}
    live, searched = champions.read(champion), champions.read(champion_search, SearchChampion).release
    check_met("evaluate", metrics["evaluate"], live.release, evaluation)
    found = frozen.look(dataset, live.test_sets)
    reasons = [*floors(cfg, FLOORS, metrics, files), *on_search(cfg, metrics["retrieve"], searched, retrieval),
               *unseen(cfg, found, live.release)]
    if live.release is not None:
        reasons += against(cfg, metrics["evaluate"]["champion"], live.release)
    for reason in reasons:
        log(f"gate: {'passed' if reason.passed else 'REFUSED'}  {reason.why}")
    return GateReport(promote=all(reason.passed for reason in reasons), champion=live.release, champion_search=searched,
                      reasons=reasons, frozen=found)


def on_search(cfg: Gate, retrieve: Metrics, live: str | None, file: Path) -> list[Reason]:
    """The rules on search alone, by what stage retrieve measured and wrote to `file`.

    `live`: the release in champion-search.json; GateError when retrieve met another one.
    """
    check_met("retrieve", retrieve, live, file)
    reasons = list(floors(cfg, SEARCH_FLOORS, {"retrieve": retrieve}, {"retrieve": file}))
    if live is not None and cfg.retrieval_loss is not None:
        met = retrieve["champion"]["found"]
        # No part of a night's level: search is not drawn anew each night, the same documents are found the same way.
        reasons.append(as_good(SEARCH, cfg.retrieval_loss, met and Difference.model_validate(met), live, cfg.alpha,
                               cfg.champion_cases))
    return reasons


SEARCH = Behaviour("retrieval_loss", "values among the passages")


def unseen(cfg: Gate, found: Frozen, live: str | None) -> Iterator[Reason]:
    """The rule that no test case is asked in training, and which test sets these are."""
    if cfg.seen_cases is None:
        return
    passed = found.seen <= cfg.seen_cases
    named = ", ".join(found.where[:5]) + (", …" if found.seen > 5 else "")
    said = (f"{found.seen or 'none'} of {found.cases:,} test cases {'is' if found.seen < 2 else 'are'} asked in the "
            f"{found.rows:,} rows trained on{f': {named}' if named else ''}")
    if found.changed:
        said += f"; other test sets than those of {live}: {', '.join(found.changed)}"
    if not passed:
        said = f"{SEEN}: {said}; stage prepare leaves such rows out: dvc repro --force prepare"
    yield Reason(rule="seen_cases", figure=found.seen, limit=cfg.seen_cases, passed=passed, refusal=None if passed else SEEN,
                 why=f"seen_cases: {said}")


def check_met(stage: str, metrics: Metrics, live: str | None, file: Path) -> None:
    """GateError unless the stage compared the night with the release that is live."""
    met = (metrics.get("champion") or {}).get("release")
    if met != live:
        raise GateError(str(file), f"was compared with release {met}, but {live} is live", f"dvc repro {stage}")


class Rule(NamedTuple):
    """Where a rule finds its figure, and what that is in words."""

    file: str
    key: str
    sign: int  # +1 a floor, −1 a ceiling
    what: str


FLOORS = {
    "correct": Rule("evaluate", "correct.aligned.all.share", +1, "of answerable cases answered right"),
    "correct_in_any_language": Rule("evaluate", "correct.aligned", +1, "answered right in the weakest language"),
    "preferred": Rule("evaluate", "preferred.aligned.all.share", +1, "of grounded cases answered as people prefer"),
    "abstains": Rule("evaluate", "abstains.aligned.all.share", +1, "of unanswerable cases abstained on"),
    "over_abstains": Rule("evaluate", "over_abstains.aligned.all.share", -1, "of answerable cases abstained on"),
    "degenerate": Rule("evaluate", "degenerate.aligned.share.share", -1, "of answers empty, cut or repetitive"),
    "most_frequent": Rule("evaluate", "degenerate.aligned.most_frequent", -1, "of answerable cases given one answer"),
    "sft_gain": Rule("evaluate", "sft_over_base.correct.low", +1, "right answers gained by SFT (lower end of the interval)"),
    "reference_gain": Rule("evaluate", "references.aligned_over_base.low", +1,
                           "of chrF gained over the base (lower end of the interval)"),
    "alignment_loss": Rule("evaluate", "aligned_over_sft.correct.low", -1, "right answers lost by alignment, at worst"),
    "kl": Rule("evaluate", "kl.per_sequence.mean", -1, "nats an answer from SFT to aligned model"),
    "reward_accuracy": Rule("reward", "correctness.accuracy.share", +1, "of correctness pairs ordered rightly"),
    "agreement": Rule("quantize", "quantized.agreement.mean", +1, "of answer tokens the same after quantization"),
    "quantized_correct_loss": Rule("quantize", "kept.right.lost.high", -1, "right answers lost by quantization, at worst"),
    "quantized_preferred_loss": Rule("quantize", "kept.preferred.lost.high", -1,
                                     "answers as people prefer lost by quantization, at worst"),
    "quantized_degenerate": Rule("quantize", "kept.degenerate.quantized.share.share", -1,
                                 "of the quantized model's answers empty, cut or repetitive"),
    "documents_right": Rule("answers", "right.all.share", +1,
                            "of questions on the documents answered right by the quantized model"),
}
SEARCH_FLOORS = {
    "documents_found": Rule("retrieve", "found.all.share", +1, "of questions on the documents had the value among the passages"),
}


def floors(cfg: Gate, rules: Mapping[str, Rule], metrics: Mapping[str, Metrics], files: Mapping[str, Path]) -> Iterator[Reason]:
    """The rules that look at this night alone."""
    for name, rule in rules.items():
        limit = getattr(cfg, name)
        if limit is None:
            continue
        figure = look_up(metrics[rule.file], rule.key, files[rule.file])
        if name == "correct_in_any_language":
            figure = min((value["share"] for language, value in figure.items() if language != "all"), default=None)
        if name == "alignment_loss" and figure is not None:
            figure = -figure  # the interval's lower end is the worst case, a loss where it is negative
        yield judged(name, rule, figure, limit)


def judged(name: str, rule: Rule, figure: float | None, limit: float) -> Reason:
    """A floor holds where figure ≥ limit, a ceiling where figure ≤ limit; what was not measured does not pass."""
    say: Callable[[float], str] = (lambda x: f"{x:.2f}") if name == "kl" else (lambda x: f"{100 * x:.1f} %")
    if figure is None:
        return Reason(rule=name, figure=None, limit=limit, passed=False, refusal=EVIDENCE,
                      why=f"{name}: no case to measure it on")
    passed = figure >= limit if rule.sign > 0 else figure <= limit
    bound = "least" if rule.sign > 0 else "most"
    return Reason(rule=name, figure=round(figure, 6), limit=limit, passed=passed, refusal=None if passed else LIMIT,
                  why=f"{name}: {say(figure)} {rule.what}; at {bound} {say(limit)} is asked")


def look_up(metrics: Metrics, key: str, file: Path) -> Any:
    """The value at a dotted key. None where a group of cases is empty (no such language, no such set) or null."""
    value: Any = metrics
    for depth, part in enumerate(key.split(".")):
        if not isinstance(value, Mapping) or part not in value:
            if depth > 0 and not value:
                return None
            raise DataError(str(file), f"has no {key}", "run the stage that writes it: dvc repro")
        value = value[part]
    return value
