"""tasks/gate.py on small metrics files: every rule at its limit and beyond, unseen test cases, and a live release."""

import pytest
from pydantic import ValidationError

from tasks.against import BEHAVIOURS
from tasks.errors import DataError, GateError
from tasks.files import write_json
from tasks.gate import FLOORS, SEARCH_FLOORS, gate, on_search
from tasks.params import Gate
from tasks.stats import paired
from tests.test_frozen import write_dataset

RULES = FLOORS | SEARCH_FLOORS
CFG = Gate(correct=0.6, correct_in_any_language=0.5, preferred=0.6, abstains=0.6, over_abstains=0.3, degenerate=0.05,
           most_frequent=0.3, sft_gain=0.1, reference_gain=0.02, alignment_loss=0.05, kl=20.0, reward_accuracy=0.55,
           agreement=0.95, quantized_correct_loss=0.05, quantized_preferred_loss=0.05, quantized_degenerate=0.05,
           documents_right=0.4, documents_found=0.7, retrieval_loss=0.05, seen_cases=0, against_champion="better", alpha=0.05,
           nights=30, champion_cases=100, champion_proves=["correct", "preferred"], champion_correct_loss=0.05,
           champion_preferred_loss=0.06, champion_abstains_loss=0.1, champion_over_abstains_rise=0.05,
           champion_degenerate_rise=0.03, champion_reference_loss=None)
HOW = {"against_champion": "floors", "alpha": 0.05, "nights": 30, "champion_cases": 100, "champion_proves": ["correct"]}
OFF = dict.fromkeys(Gate.model_fields) | HOW
COMPARED = ["champion_correct_loss", "champion_preferred_loss", "champion_abstains_loss", "champion_over_abstains_rise",
            "champion_degenerate_rise", "against_champion"]


def share(value):
    """A share as metrics files hold it."""
    return {"share": value, "low": value, "high": value, "n": 100}


def difference(better, worse, n=620):
    """A paired difference of so many won and lost cases, as metrics/evaluate.json holds it."""
    flags = [1] * better + [-1] * worse + [0] * (n - better - worse)
    return paired(flags, [0] * n, seed=0).model_dump()


def night():
    """The metrics of a night that passes."""
    return {
        "evaluate": {
            "correct": {"aligned": {"all": share(0.8), "en": share(0.85), "zh": share(0.7)}},
            "preferred": {"aligned": {"all": share(0.9)}},
            "abstains": {"aligned": {"all": share(0.8)}},
            "over_abstains": {"aligned": {"all": share(0.05)}},
            "degenerate": {"aligned": {"share": share(0.0), "most_frequent": 0.02}},
            "sft_over_base": {"correct": {"low": 0.45}},
            "references": {"aligned_over_base": {"low": 0.15}},
            "aligned_over_sft": {"correct": {"low": -0.02}},
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


def judge(tmp_path, metrics, cfg=CFG, release=None, searched=None, dataset=True):
    """Write the files and run the stage on them; `release` is live, and `searched` is whose search is."""
    paths = []
    for name in ("evaluate", "reward", "quantize", "retrieve", "answers"):
        paths.append(tmp_path / f"{name}.json")
        write_json(paths[-1], metrics[name])
    if dataset:
        write_dataset(tmp_path / "dataset")
    paths.append(tmp_path / "dataset")
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
    """A good night passes by 18 rules and the one on seen cases, and none of them is about a champion."""
    report = judge(tmp_path, night())
    assert report.promote
    assert report.champion is None and report.champion_search is None
    assert [reason.rule for reason in report.reasons] == [*RULES, "seen_cases"]
    assert all(reason.passed and reason.refusal is None for reason in report.reasons)


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
    assert [(reason.rule, reason.refusal) for reason in report.reasons if not reason.passed] == [(rule, "beyond the limit")]


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
    limits = {behaviour.limit for behaviour in BEHAVIOURS.values()}
    assert set(Gate.model_fields) == set(RULES) | limits | set(HOW) | {"retrieval_loss", "seen_cases"}


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
    assert [reason.rule for reason in report.reasons if reason.passed] == ["agreement", "quantized_degenerate", "seen_cases"]
    assert {reason.why.partition(": ")[2] for reason in report.reasons if not reason.passed} == {"no case to measure it on"}
    assert judge(tmp_path, metrics, Gate(**OFF | {"agreement": 0.95})).promote


def test_a_missing_figure_is_an_error(tmp_path):
    """A metrics file of another version names the file and the key."""
    metrics = night()
    del metrics["quantize"]["quantized"]
    with pytest.raises(DataError, match=r"quantize.json: has no quantized.agreement.mean; run the stage"):
        judge(tmp_path, metrics)


def champion_night(**behaviours):
    """A good night that met release r1: 52 to 20 in right answers, as good as equal in all else."""
    found = {"correct": difference(52, 20), "preferred": difference(30, 30, 600), "abstains": difference(15, 15, 300),
             "over_abstains": difference(1, 1), "degenerate": difference(0, 2, 920)} | behaviours
    metrics = night()
    metrics["evaluate"]["champion"] = {"release": "r1", "cases": 920, "differing": 300,
                                       "behaviours": {name: one for name, one in found.items() if one}}
    return metrics


def refusals(report):
    """Rule → what kind of no."""
    return {reason.rule: reason.refusal for reason in report.reasons if not reason.passed}


def why(report, rule):
    """The words of a rule."""
    return next(reason.why for reason in report.reasons if reason.rule == rule)


def test_better_in_one_and_worse_in_none(tmp_path):
    """52 won and 20 lost is proven at .05/30/2: P[X ≥ 52], X ~ Bin(72, ½) = 1.0e-4. Six rules more than before a release."""
    report = judge(tmp_path, champion_night(), release="r1")
    assert report.promote and report.champion == "r1"
    assert [reason.rule for reason in report.reasons[-6:]] == COMPARED
    assert why(report, "against_champion") == (
        "against_champion: better than r1: +5.2 points of right answers (p 0.0001); p of 0.00083 is asked")
    assert why(report, "champion_correct_loss") == (
        "champion_correct_loss: +5.2 points of right answers against r1 on 620 shared cases, at worst +1.2; -5.0 is the limit")


def test_as_good_is_not_better(tmp_path):
    """As many won as lost: held back by this rule alone, which says what would have been enough; `not_worse` lets it out."""
    metrics = champion_night(correct=difference(29, 29))
    report = judge(tmp_path, metrics, release="r1")
    assert refusals(report) == {"against_champion": "nothing proven better"} and not report.promote
    assert why(report, "against_champion") == (
        "against_champion: nothing proven better than r1: right answers 29 won, 29 lost (60 to 29 would do); "
        "answers the way people prefer 30 won, 30 lost (61 to 30 would do)")
    assert judge(tmp_path, metrics, CFG.model_copy(update={"against_champion": "not_worse"}), release="r1").promote


def test_the_live_model_itself_has_nothing_to_prove(tmp_path):
    """All 920 answers word for word: new documents with the live model pass. On fewer cases than are asked, or with one word
    changed, it has to be proven."""
    same = {name: difference(0, 0, n) for name, n in (
        ("correct", 620), ("preferred", 600), ("abstains", 300), ("over_abstains", 620), ("degenerate", 920))}
    metrics = champion_night(**same)
    metrics["evaluate"]["champion"]["differing"] = 0
    report = judge(tmp_path, metrics, release="r1")
    assert report.promote and why(report, "against_champion") == (
        "against_champion: all 920 shared cases are answered in the words of r1: nothing to prove")
    for change in ({"cases": 99}, {"differing": 1}):
        spoiled = {**metrics, "evaluate": {**metrics["evaluate"], "champion": metrics["evaluate"]["champion"] | change}}
        assert refusals(judge(tmp_path, spoiled, release="r1")) == {"against_champion": "nothing proven better"}


def test_better_in_one_does_not_pay_for_another(tmp_path):
    """Right answers gained, right abstentions lost: 40 of 300 are 13.3 points, more than the 10 that may be."""
    report = judge(tmp_path, champion_night(abstains=difference(5, 45, 300)), release="r1")
    assert refusals(report) == {"champion_abstains_loss": "worse"}
    assert why(report, "champion_abstains_loss").startswith(
        "champion_abstains_loss: worse: -13.3 points of abstentions where the notes do not say against r1 on 300 shared cases")


def test_too_wide_is_not_enough_evidence(tmp_path):
    """No difference seen, but 160 of 600 that differ: z = 2.815 against −6 points, and 2.935 is asked. Held back, and it is
    said what would do: 600 (2.935/2.815)² cases."""
    report = judge(tmp_path, champion_night(preferred=difference(80, 80, 600)), release="r1")
    assert refusals(report) == {"champion_preferred_loss": "not enough evidence"}
    assert why(report, "champion_preferred_loss") == (
        "champion_preferred_loss: not enough evidence: +0.0 points of answers the way people prefer against r1 on "
        "600 shared cases, at worst -6.3; -6.0 is the limit; 653 such cases would do")


@pytest.mark.parametrize("shared, said", [(difference(0, 0, 99), "99 cases are"), (None, "no case is")])
def test_too_few_cases_are_not_enough_evidence(tmp_path, shared, said):
    """Below champion_cases nothing is concluded, and the live release stays."""
    report = judge(tmp_path, champion_night(correct=shared), release="r1")
    assert refusals(report) == {"champion_correct_loss": "not enough evidence", "against_champion": "nothing proven better"}
    assert why(report, "champion_correct_loss") == (
        f"champion_correct_loss: not enough evidence: {said} shared with r1, and champion_cases asks for 100")
    assert report.reasons[-6].figure is None


def test_no_case_left_is_never_a_silent_dead_end(tmp_path):
    """All test sets replaced since the release: every comparison refuses, one names the way out, and that way is open."""
    metrics = champion_night(**dict.fromkeys(("correct", "preferred", "abstains", "over_abstains", "degenerate")))
    report = judge(tmp_path, metrics, release="r1")
    assert set(refusals(report)) == set(COMPARED) and set(refusals(report).values()) == {"not enough evidence"}
    assert why(report, "against_champion") == (
        "against_champion: not enough evidence: no case is shared with r1 on which correct or preferred could be proven better, "
        "and champion_cases asks for 100; while it cannot be had, against_champion: floors compares nothing")
    assert judge(tmp_path, metrics, CFG.model_copy(update={"against_champion": "floors"}), release="r1").promote


def test_own_data_is_met_on_held_out_instructions(tmp_path):
    """Without evaluation sets: chrF on 200 instructions, .02 better with a spread of .1. se² = ((200(.01 + .0004) + 2)/202 −
    .0198²)/201 = .00993²; t = 2.97 for .05/30: ± .0295. At worst −.0097: not worse. A gain of .0295 would be proven."""
    cfg = Gate(**OFF | {"champion_reference_loss": 0.05, "against_champion": "not_worse", "champion_proves": ["reference"]})
    def told(value):
        return {"difference": value, "low": 0, "high": 0, "n": 200, "better": 90, "worse": 70, "p": 0.1, "spread": 0.1}
    metrics = champion_night(**dict.fromkeys(("correct", "preferred", "abstains", "over_abstains", "degenerate")),
                             reference=told(0.02))
    report = judge(tmp_path, metrics, cfg, release="r1")
    assert report.promote and [reason.rule for reason in report.reasons] == ["champion_reference_loss"]
    assert why(report, "champion_reference_loss") == (
        "champion_reference_loss: +2.0 points of chrF on held-out instructions against r1 on 200 shared cases, "
        "at worst -1.0; -5.0 is the limit")
    better = cfg.model_copy(update={"against_champion": "better"})
    assert refusals(judge(tmp_path, metrics, better, release="r1")) == {"against_champion": "nothing proven better"}
    assert why(judge(tmp_path, metrics, better, release="r1"), "against_champion").endswith(
        "chrF on held-out instructions +2.0 points (+2.9 would do)")
    metrics["evaluate"]["champion"]["behaviours"]["reference"] = told(0.05)
    assert judge(tmp_path, metrics, better, release="r1").promote


def test_not_worse_in_nothing_is_refused_at_the_door():
    """A comparison that asks nothing would let everything out."""
    with pytest.raises(ValidationError, match="not_worse asks nothing"):
        Gate(**OFF | {"against_champion": "not_worse"})


def test_another_champion_than_the_evaluations(tmp_path):
    """An evaluation that met an older release does not judge tonight's model against the live one."""
    with pytest.raises(GateError, match=r"was compared with release r1, but r2 is live; dvc repro evaluate"):
        judge(tmp_path, champion_night(), release="r2")


def search(found, release="r1"):
    """metrics/retrieve.json of a night whose search met a release."""
    return {"found": {"all": share(0.9)}, "champion": {"release": release, "found": found}}


def test_search_may_not_lose_what_the_live_release_found(tmp_path):
    """Of 320, 9 lost and none won: −2.8 points, at worst −5.0 at the whole alpha; 10 lost could be −5.3. Search is not drawn
    anew each night, so no night's part is spent."""
    for lost, passes in ((9, True), (10, False)):
        metrics = night() | {"retrieve": search(difference(0, lost, 320))}
        report = judge(tmp_path, metrics, searched="r1")
        assert report.promote is passes
        reason = next(reason for reason in report.reasons if reason.rule == "retrieval_loss")
        assert (reason.passed, reason.refusal) == (passes, None if passes else "worse")
    assert reason.why == (
        "retrieval_loss: worse: -3.1 points of values among the passages against r1 on 320 shared cases, "
        "at worst -5.2; -5.0 is the limit")


def test_model_and_search_each_meet_their_own_release(tmp_path):
    """Documents released since: search is compared with r2, the model with r1; either one stale is an error."""
    metrics = champion_night() | {"retrieve": search(difference(0, 0), "r2")}
    report = judge(tmp_path, metrics, release="r1", searched="r2")
    assert (report.promote, report.champion, report.champion_search) == (True, "r1", "r2")
    assert [reason.rule for reason in report.reasons[-8:]] == ["retrieval_loss", "seen_cases", *COMPARED]
    with pytest.raises(GateError, match=r"retrieve.json: was compared with release r2, but r3 is live; dvc repro retrieve"):
        judge(tmp_path, metrics, release="r1", searched="r3")
    with pytest.raises(GateError, match=r"evaluate.json: was compared with release r1, but r2 is live; dvc repro evaluate"):
        judge(tmp_path, metrics, release="r2", searched="r2")


def test_the_rules_on_search_stand_alone(tmp_path):
    """What a release of documents asks: the floor and the comparison, from one file; too few shared questions refuse."""
    file = tmp_path / "retrieve.json"
    assert [reason.rule for reason in on_search(CFG, {"found": {"all": share(0.9)}, "champion": None}, None, file)] == [
        "documents_found"]
    floor, loss = on_search(CFG, search(difference(0, 0, 99)), "r1", file)
    assert floor.passed and loss.refusal == "not enough evidence"
    assert "99 cases are shared with r1" in loss.why
    assert not on_search(CFG, search(difference(0, 100)), "r1", file)[1].passed
    assert on_search(Gate(**OFF), search(None), "r1", file) == []
    with pytest.raises(GateError, match=r"was compared with release r1, but None is live"):
        on_search(CFG, search(None), None, file)


def test_a_case_smuggled_into_training_is_found(tmp_path):
    """One test case among the instructions, in other letters: refused by name, and the same model without it passes."""
    asked = {"id": "smuggled", "messages": [{"role": "user", "content": "when does the ASHGATE store open"},
                                            {"role": "assistant", "content": "At 8:00."}]}
    report = judge(tmp_path, night())
    assert report.promote and report.frozen.cases == 3 and list(report.frozen.test_sets) == ["facts"]
    write_dataset(tmp_path / "spoiled", instructions=[asked])
    (tmp_path / "dataset").rename(tmp_path / "clean")
    (tmp_path / "spoiled").rename(tmp_path / "dataset")
    report = judge(tmp_path, night(), dataset=False)
    assert refusals(report) == {"seen_cases": "seen in training"} and not report.promote
    assert why(report, "seen_cases") == (
        "seen_cases: seen in training: 1 of 3 test cases is asked in the 4 rows trained on: facts-1 (instructions/train.jsonl: "
        "smuggled); stage prepare leaves such rows out: dvc repro --force prepare")
    assert judge(tmp_path, night(), CFG.model_copy(update={"seen_cases": None}), dataset=False).promote
