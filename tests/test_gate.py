"""tasks/gate.py on small metrics files: every rule at its limit and beyond, and the comparison with a live release."""

import pytest

from tasks.errors import DataError, GateError
from tasks.files import write_json
from tasks.gate import FLOORS, SEARCH_FLOORS, gate, on_search
from tasks.params import Gate

RULES = FLOORS | SEARCH_FLOORS
CFG = Gate(correct=0.6, correct_in_any_language=0.5, preferred=0.6, abstains=0.6, over_abstains=0.3, degenerate=0.05,
           most_frequent=0.3, sft_gain=0.1, reference_gain=0.02, alignment_loss=0.05, kl=20.0, reward_accuracy=0.55,
           agreement=0.95, quantized_correct_loss=0.05, quantized_preferred_loss=0.05, quantized_degenerate=0.05,
           documents_right=0.4, documents_found=0.7, retrieval_loss=0.05, champion_correct_loss=0.05,
           champion_preferred_loss=0.05, champion_cases=50)
OFF = dict.fromkeys(name for name in Gate.model_fields if name != "champion_cases") | {"champion_cases": 50}


def share(value):
    """A share as metrics files hold it."""
    return {"share": value, "low": value, "high": value, "n": 100}


def difference(value, low, n=200):
    """A paired difference as metrics/evaluate.json holds it."""
    return {"difference": value, "low": low, "high": value, "n": n, "better": 1, "worse": 1, "p": 1.0}


def night():
    """The metrics of a night that passes."""
    return {
        "evaluate": {
            "correct": {"aligned": {"all": share(0.8), "en": share(0.85), "zh": share(0.7)}},
            "preferred": {"aligned": {"all": share(0.9)}},
            "abstains": {"aligned": {"all": share(0.8)}},
            "over_abstains": {"aligned": {"all": share(0.05)}},
            "degenerate": {"aligned": {"share": share(0.0), "most_frequent": 0.02}},
            "sft_over_base": {"correct": difference(0.5, 0.45)},
            "references": {"aligned_over_base": difference(0.2, 0.15)},
            "aligned_over_sft": {"correct": difference(0.01, -0.02)},
            "kl": {"per_sequence": {"mean": 3.0}},
            "champion": None,
        },
        "reward": {"correctness": {"accuracy": share(0.8)}},
        "quantize": {"quantized": {"agreement": {"mean": 0.99}}, "kept": {
            "right": {"lost": {"high": 0.012}}, "preferred": {"lost": {"high": 0.02}},
            "degenerate": {"quantized": {"share": {"share": 0.004}}}}},
        "retrieve": {"found": {"all": share(0.9)}, "champion": None},
        "answers": {"right": {"all": share(0.7)}},
    }


def judge(tmp_path, metrics, cfg=CFG, release=None, searched=None):
    """Write the files and run the stage on them; `release` is live, and `searched` is whose search is."""
    paths = []
    for name in ("evaluate", "reward", "quantize", "retrieve", "answers"):
        paths.append(tmp_path / f"{name}.json")
        write_json(paths[-1], metrics[name])
    for file, live, cases in (("champion", release, "answers"), ("champion-search", searched, "questions")):
        paths.append(tmp_path / f"{file}.json")
        write_json(paths[-1], {"release": live} if live is None else {"release": live, cases: {}})
    return gate(cfg, *paths)


def put(metrics, file, key, value):
    """Set the value at a dotted key."""
    *path, last = key.split(".")
    inner = metrics[file]
    for part in path:
        inner = inner[part]
    inner[last] = value


def test_first_release_meets_the_floors_only(tmp_path):
    """A good night passes by 18 rules, and none of them is about a champion."""
    report = judge(tmp_path, night())
    assert report.promote
    assert report.champion is None and report.champion_search is None
    assert [reason.rule for reason in report.reasons] == list(RULES)
    assert all(reason.passed for reason in report.reasons)


@pytest.mark.parametrize(
    "rule, good, bad",
    [
        ("correct", 0.6, 0.59),
        ("preferred", 0.6, 0.59),
        ("abstains", 0.6, 0.59),
        ("over_abstains", 0.3, 0.31),
        ("degenerate", 0.05, 0.06),
        ("most_frequent", 0.3, 0.31),
        ("sft_gain", 0.1, 0.09),
        ("reference_gain", 0.02, 0.01),
        ("alignment_loss", -0.05, -0.06),  # the interval's lower end: −6 points at worst, 5 may be lost
        ("kl", 20.0, 20.1),
        ("reward_accuracy", 0.55, 0.54),
        ("agreement", 0.95, 0.94),
        ("documents_right", 0.4, 0.39),
        ("documents_found", 0.7, 0.69),
    ],
)
def test_each_rule_holds_at_its_limit_and_not_beyond(tmp_path, rule, good, bad):
    """At the limit it passes; just beyond, the night is held back by this rule alone."""
    metrics = night()
    put(metrics, RULES[rule].file, RULES[rule].key, good)
    assert judge(tmp_path, metrics).promote
    put(metrics, RULES[rule].file, RULES[rule].key, bad)
    report = judge(tmp_path, metrics)
    assert not report.promote
    assert [reason.rule for reason in report.reasons if not reason.passed] == [rule]


def test_the_weakest_language_counts(tmp_path):
    """80 % over all hides 49 % in Chinese; the rule for languages does not."""
    metrics = night()
    metrics["evaluate"]["correct"]["aligned"]["zh"] = share(0.49)
    (reason,) = [reason for reason in judge(tmp_path, metrics).reasons if not reason.passed]
    assert reason.rule == "correct_in_any_language"
    assert reason.why == (
        "correct_in_any_language: 49.0 % answered right in the weakest language; at least 50.0 % is asked")


def test_rules_cover_the_parameters():
    """Every limit in params.yaml is a rule, and every rule has a limit."""
    assert set(Gate.model_fields) == set(RULES) | {
        "retrieval_loss", "champion_correct_loss", "champion_preferred_loss", "champion_cases"}


def test_null_switches_a_rule_off(tmp_path):
    """With every limit null nothing is judged, not even looked up."""
    report = judge(tmp_path, {name: {} for name in ("evaluate", "reward", "quantize", "retrieve", "answers")}, Gate(**OFF))
    assert report.promote
    assert report.reasons == []


def test_nothing_measured_does_not_pass(tmp_path):
    """A set without cases has no share: the floor on it is not met."""
    metrics = night()
    metrics["evaluate"]["abstains"]["aligned"] = {}
    (reason,) = [reason for reason in judge(tmp_path, metrics).reasons if not reason.passed]
    assert (reason.rule, reason.figure, reason.why) == ("abstains", None, "abstains: no case to measure it on")


def test_data_without_evaluation_sets_is_refused_rule_by_rule(tmp_path):
    """Empty tables and nulls are no figures: every rule on them refuses, until its limit is null."""
    metrics = night()
    for key in ("correct", "preferred", "abstains", "over_abstains"):
        metrics["evaluate"][key] = {"aligned": {}}
    metrics["evaluate"] |= {"degenerate": {}, "sft_over_base": None, "aligned_over_sft": {"correct": None}, "kl": None,
                            "references": None}
    metrics["reward"]["correctness"] = None
    metrics["quantize"]["kept"] |= {"right": None, "preferred": None}
    metrics["answers"], metrics["retrieve"] = {"right": {}}, {"found": {}, "champion": None}
    report = judge(tmp_path, metrics)
    assert [reason.rule for reason in report.reasons if reason.passed] == ["agreement", "quantized_degenerate"]
    assert {reason.why.partition(": ")[2] for reason in report.reasons if not reason.passed} == {"no case to measure it on"}
    assert judge(tmp_path, metrics, Gate(**OFF | {"agreement": 0.95})).promote


def test_a_missing_figure_is_an_error(tmp_path):
    """A metrics file of another version names the file and the key."""
    metrics = night()
    del metrics["quantize"]["quantized"]
    with pytest.raises(DataError, match=r"quantize.json: has no quantized.agreement.mean; run the stage"):
        judge(tmp_path, metrics)


def champion_night(correct, preferred):
    """A good night that met release r1."""
    metrics = night()
    metrics["evaluate"]["champion"] = {"release": "r1", "gain": {"correct": correct, "preferred": preferred}}
    return metrics


def test_non_inferior_passes(tmp_path):
    """−1 point with an interval down to −4 lies above the margin of −5."""
    report = judge(tmp_path, champion_night(difference(-0.01, -0.04), difference(0.02, -0.01)), release="r1")
    assert report.promote
    assert report.champion == "r1"
    assert report.reasons[-1].rule == "champion_preferred_loss"


def test_unproven_does_not_pass(tmp_path):
    """No difference seen, but on so few cases that −6 points are possible: held back, and the words say why."""
    report = judge(tmp_path, champion_night(difference(0.0, -0.06, n=60), difference(0.0, 0.0)), release="r1")
    (reason,) = [reason for reason in report.reasons if not reason.passed]
    assert not report.promote
    assert reason.why == (
        "champion_correct_loss: +0.0 points of right answers against r1 on 60 shared cases "
        "(95 % interval -6.0 to +0.0); the interval must lie above -5.0")


def test_too_few_shared_cases_leave_the_floors(tmp_path):
    """After a change of the evaluation sets there is nothing to compare: the floors decide, and it is said."""
    metrics = champion_night(difference(-0.5, -0.9, n=49), difference(0.0, 0.0))
    report = judge(tmp_path, metrics, release="r1")
    assert report.promote
    assert "only 49 cases are shared with r1" in report.reasons[-2].why
    metrics["evaluate"]["champion"]["gain"] = None
    assert judge(tmp_path, metrics, release="r1").promote


def test_another_champion_than_the_evaluations(tmp_path):
    """An evaluation that met an older release does not judge tonight's model against the live one."""
    with pytest.raises(GateError, match=r"was compared with release r1, but r2 is live; dvc repro evaluate"):
        judge(tmp_path, champion_night(difference(0, 0), difference(0, 0)), release="r2")


def search(found, release="r1"):
    """metrics/retrieve.json of a night whose search met a release."""
    return {"found": {"all": share(0.9)}, "champion": {"release": release, "found": found}}


def test_search_may_not_lose_what_the_live_release_found(tmp_path):
    """−1 point, at worst −4: passes; at worst −6: held back by this rule alone, in words."""
    for low, passes in ((-0.04, True), (-0.06, False)):
        metrics = night() | {"retrieve": search(difference(-0.01, low))}
        report = judge(tmp_path, metrics, searched="r1")
        assert report.promote is passes
        reason = report.reasons[-1]
        assert (reason.rule, reason.passed, reason.figure) == ("retrieval_loss", passes, low)
    assert reason.why == (
        "retrieval_loss: -1.0 points of values among the passages against r1 on 200 shared cases "
        "(95 % interval -6.0 to -1.0); the interval must lie above -5.0")


def test_model_and_search_each_meet_their_own_release(tmp_path):
    """Documents released since: search is compared with r2, the model with r1; either one stale is an error."""
    metrics = champion_night(difference(0.0, -0.01), difference(0.0, -0.01)) | {"retrieve": search(difference(0, 0), "r2")}
    report = judge(tmp_path, metrics, release="r1", searched="r2")
    assert (report.promote, report.champion, report.champion_search) == (True, "r1", "r2")
    assert [reason.rule for reason in report.reasons[-3:]] == [
        "retrieval_loss", "champion_correct_loss", "champion_preferred_loss"]
    with pytest.raises(GateError, match=r"retrieve.json: was compared with release r2, but r3 is live; dvc repro retrieve"):
        judge(tmp_path, metrics, release="r1", searched="r3")
    with pytest.raises(GateError, match=r"evaluate.json: was compared with release r1, but r2 is live; dvc repro evaluate"):
        judge(tmp_path, metrics, release="r2", searched="r2")


def test_the_rules_on_search_stand_alone(tmp_path):
    """What a release of documents asks: the floor and the comparison, from one file; too few shared questions say so."""
    file = tmp_path / "retrieve.json"
    assert [reason.rule for reason in on_search(CFG, {"found": {"all": share(0.9)}, "champion": None}, None, file)] == [
        "documents_found"]
    floor, loss = on_search(CFG, search(difference(-0.5, -0.9, n=49)), "r1", file)
    assert floor.passed and loss.passed and "only 49 cases are shared with r1" in loss.why
    assert not on_search(CFG, search(difference(-0.5, -0.9)), "r1", file)[1].passed
    assert on_search(Gate(**OFF), search(None), "r1", file) == []
    with pytest.raises(GateError, match=r"was compared with release r1, but None is live"):
        on_search(CFG, search(None), None, file)
