"""May this night's model go out?

Floors and ceilings on what was measured, and against the live release a test of non-inferiority: the 95 % interval of
the paired difference must lie above minus the margin, so a model that is merely unproven does not pass as equal. A
refusal is a result, not an error: it is written with its reasons, and the night ends well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from tasks import champion as champions
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
    reasons: list[Reason] = Field(description="every rule that is switched on, in the order of params.yaml")


def gate(cfg: Gate, evaluation: Path, reward: Path, quantize: Path, answers: Path, champion: Path) -> GateReport:
    """Judge the night by its metrics files (metrics/evaluate.json and so on) and champion.json.

    DataError when a file lacks a figure that a rule needs; GateError when the evaluation met another live release.
    """
    metrics = {"evaluate": read_json(evaluation), "reward": read_json(reward), "quantize": read_json(quantize),
               "answers": read_json(answers)}
    files = {"evaluate": evaluation, "reward": reward, "quantize": quantize, "answers": answers}
    live = champions.read(champion).release
    met = (metrics["evaluate"].get("champion") or {}).get("release")
    if met != live:
        raise GateError(str(evaluation), f"was compared with release {met}, but {live} is live", "dvc repro evaluate")
    reasons = [*floors(cfg, metrics, files), *against(cfg, metrics, live)]
    for reason in reasons:
        log(f"gate: {'passed' if reason.passed else 'REFUSED'}  {reason.why}")
    return GateReport(promote=all(reason.passed for reason in reasons), champion=live, reasons=reasons)


class Rule(NamedTuple):
    """Where a rule finds its figure, and what that is in words."""

    file: str
    key: str
    sign: int  # +1 a floor, −1 a ceiling
    what: str


RULES = {
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
    "agreement": Rule("quantize", "int4.agreement.mean", +1, "of answer tokens the same after quantization"),
    "documents_right": Rule("answers", "right.all.share", +1, "of questions on the documents answered right by int4"),
    "documents_found": Rule("answers", "grounded.all.share", +1, "of them had the value among the passages"),
}


def floors(cfg: Gate, metrics: Mapping[str, Metrics], files: Mapping[str, Path]) -> Iterator[Reason]:
    """The rules that look at this night alone."""
    for name, rule in RULES.items():
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
        if margin is None:
            continue
        difference = (met["gain"] or {}).get(part)
        if difference is None or difference["n"] < cfg.champion_cases:
            shared = difference["n"] if difference else 0
            yield Reason(rule=rule, figure=None, limit=margin, passed=True,
                         why=f"{rule}: only {shared} cases are shared with {live} (champion_cases asks for "
                             f"{cfg.champion_cases}): the floors decide alone")
            continue
        points = [f"{100 * difference[key]:+.1f}" for key in ("difference", "low", "high")]
        passed = difference["low"] >= -margin
        yield Reason(
            rule=rule, figure=difference["low"], limit=margin, passed=passed,
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
