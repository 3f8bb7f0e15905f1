"""tasks/pairs: rankings into pairs, counted by hand."""

from __future__ import annotations

import json

from tasks.formats import read_preferences
from tasks.pairs import pairs
from tests.data_fixtures import jsonl, ranking


def made(tmp_path, *rows, cap=6, weight=1.0, seed=1):
    """Pairs and tally of these rankings."""
    jsonl(tmp_path / "preferences" / "r.jsonl", list(rows))
    read = read_preferences(tmp_path / "preferences")
    assert not read.problems
    return pairs(read.rows, per_prompt=cap, prompt_weight=weight, seed=seed)


def short(found):
    """{(chosen, rejected)} by the fixture's letters."""
    names = {"It opens at 8:11. [1]": "A", "It opens at 8:11.": "B", "The notes do not say.": "C"}
    return {names[p.chosen] + names[p.rejected] for p in found}


def test_a_ranking_of_three_gives_three_pairs_that_share_the_weight(tmp_path):
    """A > B > C: AB, AC, BC, each of weight 1/3."""
    found, tally = made(tmp_path, ranking(1))
    assert short(found) == {"AB", "AC", "BC"}
    assert {p.weight for p in found} == {0.333333}
    assert (tally.prompts, tally.judged, tally.ties) == (1, 3, 0)


def test_ties_give_no_pair(tmp_path):
    """A > B = C: two pairs of weight 1/2 each, one tie."""
    found, tally = made(tmp_path, ranking(1, order=[["A"], ["B", "C"]]))
    assert short(found) == {"AB", "AC"}
    assert {p.weight for p in found} == {0.5}
    assert tally.ties == 1


def test_the_majority_decides_and_an_even_vote_drops_the_pair(tmp_path):
    """Two say A > B > C, one B > A > C: AB by 2:1, the rest unanimous. With one against one, AB goes."""
    swapped = [["B"], ["A"], ["C"]]
    three = [ranking(1, "annotator-01"), ranking(1, "annotator-02"), ranking(1, "annotator-03", swapped)]
    found, tally = made(tmp_path, *three)
    assert short(found) == {"AB", "AC", "BC"}
    first = next(p for p in found if p.rejected == "It opens at 8:11.")
    assert (first.annotators, first.annotations) == (["annotator-01", "annotator-02"], [101, 102])
    assert (tally.judged_twice, tally.agreed, tally.overruled, tally.even) == (3, 2, 1, 0)
    found, tally = made(tmp_path, three[0], three[2])
    assert short(found) == {"AC", "BC"}
    assert (tally.even, tally.agreed, tally.overruled) == (1, 2, 0)


def test_an_annotator_has_one_vote_and_the_later_one_counts(tmp_path):
    """The same person ranks the prompt again the other way round."""
    again = {**ranking(1, order=[["C"], ["B"], ["A"]]), "annotation": 999}
    found, tally = made(tmp_path, ranking(1), again)
    assert short(found) == {"CB", "CA", "BA"}
    assert {tuple(p.annotations) for p in found} == {(999,)}
    assert tally.judged_twice == 0


def test_answers_are_matched_by_text_not_by_letter(tmp_path):
    """Annotators see the answers in different orders."""
    row = ranking(1, "annotator-02", [["C"], ["B"], ["A"]])
    row["answers"] = {"A": row["answers"]["C"], "B": row["answers"]["B"], "C": row["answers"]["A"]}
    found, tally = made(tmp_path, ranking(1), row)
    assert short(found) == {"AB", "AC", "BC"}
    assert tally.agreed == tally.judged_twice == 3


def test_the_cap_keeps_the_same_pairs_whatever_else_comes_in(tmp_path):
    """At most two pairs a prompt; the draw depends on seed and texts alone; weights are shared by what stays."""
    alone, tally = made(tmp_path, ranking(1), cap=2, weight=2.0)
    assert (len(alone), tally.capped, {p.weight for p in alone}) == (2, 1, {1.0})
    among, _ = made(tmp_path, *[ranking(n) for n in (5, 1, 3)], cap=2, weight=2.0)
    mine = [p for p in among if "Bradton" in p.messages[0]["content"]]
    assert [p.id for p in mine] == [p.id for p in alone]
    draws = {json.dumps(sorted(short(made(tmp_path, ranking(1), cap=1, seed=s)[0]))) for s in range(12)}
    assert len(draws) > 1


def test_skipped_and_flagged_rankings_make_no_pair(tmp_path):
    """They are counted; a prompt with nothing else is no prompt with a ranking. Flags that mean something else do not matter."""
    skip = {**ranking(1), "ranking": [], "skipped": True}
    bad = {**ranking(2), "flags": ["all_bad"], "ranking": []}
    unsafe = {**ranking(3), "flags": ["unsafe"]}
    found, tally = made(tmp_path, skip, bad, unsafe, {**ranking(4), "flags": ["long"]})
    assert (len(found), tally.prompts, tally.skipped, tally.flagged, tally.judged) == (3, 1, 1, 2, 3)


def test_the_judgement_with_the_latest_time_counts(tmp_path):
    """Whatever the order in the file; a row that tells no time comes before those that do; time zones are compared as moments."""
    def at(moment, order, annotation):
        return {**ranking(1, order=order), "annotation": annotation, **({"updated": moment} if moment else {})}

    early = at("2026-11-24T09:00:00+08:00", [["C"], ["B"], ["A"]], 1)  # 01:00 UTC
    late = at("2026-11-24T02:00:00.5Z", [["A"], ["B"], ["C"]], 2)
    unknown = at("", [["B"], ["C"], ["A"]], 3)
    for rows in ([early, late, unknown], [late, unknown, early], [unknown, early, late]):
        found, tally = made(tmp_path, *rows)
        assert short(found) == {"AB", "AC", "BC"} and {tuple(p.annotations) for p in found} == {(2,)}
        assert tally.judged_twice == 0


def test_a_later_tie_or_flag_takes_a_vote_back(tmp_path):
    """The last word is that neither is better, or that none should be learned from. A later skip says nothing."""
    before = {**ranking(1), "updated": "2026-11-24T01:00:00Z"}
    after = {"annotation": 9, "updated": "2026-11-24T02:00:00Z"}
    found, _ = made(tmp_path, before, {**ranking(1, order=[["A", "B"], ["C"]]), **after})
    assert short(found) == {"AC", "BC"}
    found, _ = made(tmp_path, before, {**ranking(1), "flags": ["unsafe"], **after})
    assert found == []
    found, _ = made(tmp_path, before, {**ranking(1), "ranking": [], "skipped": True, **after})
    assert short(found) == {"AB", "AC", "BC"}


def test_annotators_and_annotations_are_matched_one_to_one(tmp_path):
    """Lineage walks from a pair to each annotation and the one who made it; a row without an id keeps its place."""
    unnamed = ranking(1, "annotator-01")
    del unnamed["annotation"]
    found, _ = made(tmp_path, unnamed, ranking(1, "annotator-03"), ranking(1, "annotator-02"))
    for pair in found:
        assert list(zip(pair.annotators, pair.annotations, strict=True)) == [
            ("annotator-01", None), ("annotator-02", 102), ("annotator-03", 103)]
