"""One task of Label Studio at a time: what is a row, what says nothing, and what is quarantined with which reason."""

from __future__ import annotations

import copy
import json

import pytest
from collect_fixtures import OWNER, Server, approved, choices, correction, question, rank

from tasks.labelling.annotations import CORRECTIONS, PREFERENCES, Said, read
from tasks.labelling.people import plain


def said(task, *results, **how) -> Said:
    """What annotations with these results come to."""
    server = Server()
    (number,) = server.send(task)
    for user, result in enumerate(results, 1):
        server.annotate(number, result, user, **how)
    return read(server.tasks[number], None, plain)


def why(found: Said) -> str:
    """The reason of the one that is quarantined; nothing else came of it."""
    assert found.rows == {PREFERENCES: [], CORRECTIONS: []}
    (one,) = found.quarantined
    return one.reason


def test_a_comparison_is_a_row_that_says_everything():
    """Texts by letter, the verdict as a ranking, where it came from, who and when: nothing else, and no address."""
    task = question(1)
    (row,) = said(task, choices(verdict="B", reasons=["honest", "helpful"], flags=["unsafe"])).rows[PREFERENCES]
    assert row == {
        "id": "prompt-1",
        "messages": task.messages,
        "language": "en",
        "answers": task.answers,
        "ranking": [["B"], ["A"]],
        "skipped": False,
        "annotator": "label-studio-1",
        "annotation": f"ls1-{task.task_hash[:8]}",
        "updated": "2026-11-24T12:00:02.000000Z",
        "seconds": 4.5,
        "order": task.order,
        "reasons": ["helpful", "honest"],
        "flags": ["unsafe"],
        "model": "sft-0123456789ab",
        "release": "2026-11-23-aabbccdd",
        "why": "uncertain",
        "task": task.task_hash,
        "place": "5/100",
    }
    assert "@" not in json.dumps(row)


def test_ties_ranks_and_skips():
    """A tie shares a list, a rank is a list a place, a skip says nothing of the answers whatever was filled in."""
    assert said(question(1), choices(verdict="tie")).rows[PREFERENCES][0]["ranking"] == [["A", "B"]]
    assert said(question(1, 4), rank("CADB")).rows[PREFERENCES][0]["ranking"] == [["C"], ["A"], ["D"], ["B"]]
    for left in ([], choices(verdict="A", flags="unsafe")):
        (row,) = said(question(1), left, skip=True).rows[PREFERENCES]
        assert (row["skipped"], row["ranking"], row["flags"]) == (True, [], [])


def test_several_people_are_several_rows():
    """Each with an annotation and an annotator of their own."""
    found = said(question(1), choices(verdict="A"), choices(verdict="B"), choices(verdict="tie"))
    assert len({(row["annotation"], row["annotator"]) for row in found.rows[PREFERENCES]}) == 3


def test_corrections():
    """Approved: a conversation that ends with the text. Rejected or skipped: nothing to learn, and no fault."""
    task = correction(3)
    (row,) = said(task, approved("At 8:03.")).rows[CORRECTIONS]
    assert row["id"] == "feedback-answer-3" and row["messages"] == [*task.messages, {"role": "assistant", "content": "At 8:03."}]
    assert set(row) == {"id", "messages", "language", "annotator", "annotation", "updated", "release", "task", "place"}
    for found in (said(task, choices(decision="reject")), said(task, [], skip=True)):
        assert list(found.nothing) == [f"ls1-{task.task_hash[:8]}"] and not found.quarantined and not found.rows[CORRECTIONS]


def test_drafts_predictions_and_foreign_controls_are_nobodys_judgement():
    """A task without annotations has no rows, whatever drafts it has; a control that a team added is passed over."""
    assert said(question(1)).rows[PREFERENCES] == []
    extra = {"from_name": "comment", "type": "textarea", "value": {"text": ["hm"]}}
    assert len(said(question(1), [extra, *choices(verdict="A")]).rows[PREFERENCES]) == 1


BUCKETS = [{"from_name": "rank", "type": "ranker", "value": {"ranker": {"_": ["A"], "rank": ["B", "C"]}}}]
TWO_BUCKETS = [{"from_name": "rank", "type": "ranker", "value": {"ranker": {"_": [], "good": ["B"], "bad": ["C", "A"]}}}]


@pytest.mark.parametrize(
    "task, result, reason",
    [
        (question(1), [], "there is no verdict"),
        (question(1), choices(verdict=["A", "B"]), "there are two verdicts (A, B)"),
        (question(1), [*choices(verdict="A"), *choices(verdict="tie")], "there are two verdicts (A, tie)"),
        (question(1), choices(verdict="C"), 'verdict: "C" is none of A, B, tie'),
        (question(1), choices(verdict="A", flags="rude"), 'flags: "rude" is none of all_bad, unsafe'),
        (
            question(1),
            [{"from_name": "verdict", "type": "textarea", "value": {"text": ["A"]}}],
            "'verdict' does not hold choices",
        ),
        (question(1), [{"from_name": "verdict", "value": "A"}], "'verdict' does not hold choices"),
        (question(1), "A", "its result is not a list of controls"),
        (question(1), rank("AB"), "there is no verdict"),
        (question(1, 3), choices(verdict="A"), "there is no rank"),
        (question(1, 3), [*rank("ABC"), *rank("CBA")], "there are two ranks"),
        (question(1, 3), rank("AB"), "the rank is incomplete: 2 of 3 answers"),
        (question(1, 3), rank("ABA"), "the rank names an answer twice (A, B, A)"),
        (question(1, 3), rank("ABD"), 'the rank names "D", which is none of the answers A, B, C'),
        (question(1, 3), rank("ABC", confirmed=False), "the order is not confirmed"),
        (question(1, 3), BUCKETS, "the rank is incomplete: 1 of 3 answers were not placed"),
        (question(1, 3), TWO_BUCKETS, "the answers lie in several buckets"),
        (question(1, 3), [{"from_name": "rank", "value": {"ranker": ["A", "B", "C"]}}], "its rank is not a list of letters"),
        (correction(1), approved("  \n"), "it approves no text"),
        (correction(1), choices(decision="approve"), "it approves no text"),
        (correction(1), [*approved("one"), *approved("two")[:1]], "it approves 2 texts"),
        (correction(1), approved("one")[:1], "there is no decision"),
        (correction(1), approved("half \ud83d"), "half a character"),
    ],
)
def test_what_is_malformed_is_no_judgement(task, result, reason):
    """Never a guess: each is quarantined with its reason and with what there is to look at."""
    assert reason in why(said(task, result))


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("id", None, "it has no id"),
        ("id", "1", "it has no id"),
        ("completed_by", None, "nobody is named"),
        ("completed_by", {"email": OWNER}, "nobody is named"),
        ("updated_at", "soon", "does not say when"),
        ("was_cancelled", "no", "'was_cancelled' is neither"),
    ],
)
def test_annotations_that_lack_something(field, value, reason):
    """Id, author, time: without them nobody could tell a second reading from a second judgement."""
    server = Server()
    (number,) = server.send(question(1))
    server.annotate(number, choices(verdict="A"))
    server.tasks[number]["annotations"][0][field] = value
    if field == "updated_at":
        server.tasks[number]["annotations"][0]["created_at"] = None
    assert reason in why(read(server.tasks[number], None, plain))


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda data: data.pop("nightshift"), "none of Nightshift's"),
        (lambda data: data.update(nightshift=2), "not as it was sent: nightshift"),
        (lambda data: data["answers"].update(A="Another answer."), "its texts are not those that its hash names"),
        (lambda data: data["messages"][0].update(content="Another question?"), "its texts are not those"),
        (lambda data: data.update(order=[0, 0]), "its texts are not those"),
        (lambda data: data["answers"].update(C="One more."), "a compare of the answers A, B, C"),
        (lambda data: data.update(messages=[]), "'task_hash' or 'messages'"),
        (lambda data: data.update(answers="A"), "not as it was sent: answers"),
    ],
)
def test_a_task_that_is_not_what_was_sent(change, reason):
    """A judgement of other texts than ours is a judgement of something else."""
    server = Server()
    (number,) = server.send(question(1))
    server.annotate(number, choices(verdict="A"))
    change(server.tasks[number]["data"])
    assert reason in why(read(server.tasks[number], None, plain))


def test_the_export_gives_the_same_rows(tmp_path):
    """There the author is an object with an address; the row is the same byte for byte, and what is quarantined hides it."""
    server = Server()
    for number in server.send(question(1), question(2, 3), correction(3)):
        server.annotate(number, {5: choices(verdict="A"), 6: rank("BAC"), 7: approved("So.")}[server.tasks[number]["project"]])
    bad = server.annotate(100, choices(verdict="C"))
    there = [read(task, None, plain) for task in json.loads(server.export(tmp_path / "e.json").read_text())]
    here = [read(copy.deepcopy(task), None, plain) for task in server.tasks.values()]
    assert [each.rows for each in there] == [each.rows for each in here]
    (one,) = there[0].quarantined
    assert one.annotation == str(bad) and one.name == "annotation-5-100-4" and one.raw["annotator"] == "label-studio-1"
    assert one.raw["result"] == choices(verdict="C") and OWNER not in json.dumps(one.raw)


def test_an_annotation_that_is_no_object_is_kept_to_look_at():
    """With its address masked."""
    task = {"id": 1, "data": question(1).data(), "annotations": [f"by {OWNER}"]}
    found = read(task, 5, plain)
    assert why(found) == "it has no id" and found.place == "5/1" and OWNER not in json.dumps(found.quarantined[0].raw)


def test_a_real_export_of_another_project_is_quarantined():
    """The shape of a public pairwise export (2023): each annotation with one clear reason, none a row."""
    annotation = {
        "id": 68045,
        "completed_by": 2,
        "result": [
            {
                "value": {"selected": "left"},
                "id": "S",
                "from_name": "comparison",
                "to_name": "comparison",
                "type": "pairwise",
                "origin": "manual",
            }
        ],
        "was_cancelled": False,
        "lead_time": 12.51,
        "created_at": "2023-04-17T21:54:20.457543Z",
        "updated_at": "2023-04-17T21:54:20.457580Z",
        "task": 401635,
    }
    task = {
        "id": 401635,
        "project": 183,
        "annotations": [annotation],
        "data": {"prompt": "What?", "answer1": "a", "answer2": "b"},
    }
    assert why(read(task, None, plain)) == "its task is none of Nightshift's (no 'nightshift' in its data)"
