"""May this night's model go out?

Floors and ceilings on what was measured, and against the live release a test of non-inferiority: the 95 % interval of
the paired difference must lie above minus the margin, so a model that is merely unproven does not pass as equal. A
refusal is a result, not an error: it is written with its reasons, and the night ends well.

The rules on search (`on_search`) stand by themselves: a release that changes nothing but the documents needs no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from tasks import champion as champions
from tasks.champion import SearchChampion
from tasks.errors import DataError, GateError
from tasks.files import read_json
from tasks.params import Gate
from tasks.progress import log
from tasks.reports import Report

Metrics = Mapping[str, Any]


class Reason(Report):
    """One rule and what it found."""

    rule: str = Field(description="the limit's name in section gate of params.yaml")
    figure: float | None = Field(description="what was measured; null when there was nothing to measure")
    limit: float = Field(description="what it is held to")
    passed: bool = Field(description="whether the rule lets the model through")
    why: str = Field(description="the same in words")


class GateReport(Report):
    """metrics/gate.json."""

    promote: bool = Field(description="whether every rule let the model through")
    champion: str | None = Field(description="id of the live release it was compared with; null before the first one")
    champion_search: str | None = Field(description="the same of its search; a later one where only documents have changed since")
    reasons: list[Reason] = Field(description="every rule that is switched on, in the order of params.yaml")


def gate(cfg: Gate, evaluation: Path, reward: Path, quantize: Path, retrieval: Path, answers: Path, champion: Path,
         champion_search: Path) -> GateReport:
    """Judge the night by its metrics files (metrics/evaluate.json and so on), champion.json and champion-search.json.

    DataError when a file lacks a figure that a rule needs; GateError when a stage met another live release.
    """
    files = {"evaluate": evaluation, "reward": reward, "quantize": quantize, "retrieve": retrieval, "answers": answers}
    metrics = {name: read_json(file) for name, file in files.items()}
    live, searched = champions.read(champion).release, champions.read(champion_search, SearchChampion).release
    check_met("evaluate", metrics["evaluate"], live, evaluation)
    reasons = [*floors(cfg, FLOORS, metrics, files), *on_search(cfg, metrics["retrieve"], searched, retrieval),
               *against(cfg, metrics, live)]
    for reason in reasons:
        log(f"gate: {'passed' if reason.passed else 'REFUSED'}  {reason.why}")
    return GateReport(promote=all(reason.passed for reason in reasons), champion=live, champion_search=searched,
                      reasons=reasons)


def on_search(cfg: Gate, retrieve: Metrics, live: str | None, file: Path) -> list[Reason]:
    """The rules on search alone, by what stage retrieve measured and wrote to `file`.

    `live`: the release in champion-search.json; GateError when retrieve met another one.
    """
    check_met("retrieve", retrieve, live, file)
    reasons = list(floors(cfg, SEARCH_FLOORS, {"retrieve": retrieve}, {"retrieve": file}))
    if live is not None and cfg.retrieval_loss is not None:
        reasons.append(not_inferior("retrieval_loss", cfg.retrieval_loss, retrieve["champion"]["found"], live,
                                    "values among the passages", cfg.champion_cases))
    return reasons


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
        return Reason(rule=name, figure=None, limit=limit, passed=False, why=f"{name}: no case to measure it on")
    passed = figure >= limit if rule.sign > 0 else figure <= limit
    bound = "least" if rule.sign > 0 else "most"
    return Reason(rule=name, figure=round(figure, 6), limit=limit, passed=passed,
                  why=f"{name}: {say(figure)} {rule.what}; at {bound} {say(limit)} is asked")


def against(cfg: Gate, metrics: Mapping[str, Metrics], live: str | None) -> Iterator[Reason]:
    """Non-inferiority to the live release on the cases both answered; nothing before the first release."""
    if live is None:
        return
    met = metrics["evaluate"]["champion"]
    for rule, part, what in (("champion_correct_loss", "correct", "right answers"),
                             ("champion_preferred_loss", "preferred", "answers the way people prefer")):
        margin = getattr(cfg, rule)
        if margin is not None:
            yield not_inferior(rule, margin, (met["gain"] or {}).get(part), live, what, cfg.champion_cases)


def not_inferior(rule: str, margin: float, difference: Metrics | None, live: str, what: str, least: int) -> Reason:
    """The lower end of the paired difference lies above minus the margin; with fewer than `least` shared cases it passes."""
    if difference is None or difference["n"] < least:
        shared = difference["n"] if difference else 0
        return Reason(rule=rule, figure=None, limit=margin, passed=True,
                      why=f"{rule}: only {shared} cases are shared with {live} (champion_cases asks for {least}): "
                          "the floors decide alone")
    points = [f"{100 * difference[key]:+.1f}" for key in ("difference", "low", "high")]
    return Reason(
        rule=rule, figure=difference["low"], limit=margin, passed=difference["low"] >= -margin,
        why=f"{rule}: {points[0]} points of {what} against {live} on {difference['n']} shared cases (95 % interval "
            f"{points[1]} to {points[2]}); the interval must lie above {-100 * margin:+.1f}")


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
