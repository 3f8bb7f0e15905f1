"""Which prompts people are asked about: the worth of two answers by hand, the order, and the stage on a tiny real model."""

from __future__ import annotations

import math

import pytest
import training_fixtures as tiny

from tasks import select as stage
from tasks.files import read_jsonl, sha256_tree, write_jsonl
from tasks.formats.rows import user
from tasks.training.rewards import load_reward, score

COLUMNS = {"id", "messages", "language", "answers", "rewards", "sureness", "difference", "score", "why", "model"}


def asked(number: int, score: float = 0.5, origin: str | None = None) -> stage.Asked:
    """A prompt with its score; its draw is that of seed 7."""
    row = {"id": f"p{number}", "messages": user(f"Question {number}?"), "language": "en", "origin": origin}
    draw = stage._asked({**row, "answers": []}, {"a": False, "b": False}, [0.0, 0.0], 2, 7).draw
    return stage.Asked(row, ["a", "b"], [0.0, 0.0], 0.5, 1.0, score, draw)


def names(ordered) -> list[str]:
    """Ids in order."""
    return [each.row["id"] for each, _ in ordered]


def candidates(folder, *rows: dict):
    """A candidates.jsonl with these rows."""
    write_jsonl(folder / "candidates.jsonl", rows)
    return folder


def row(number: int, *texts: str, given: tuple[str, ...] = (), **more: object) -> dict:
    """A row of candidates.jsonl."""
    answers = [{"text": t, "logprob": -1.0} for t in texts] + [{"text": t, "logprob": None, "given": True} for t in given]
    return {"id": f"p{number}", "messages": user(f"Question {number}?"), "language": "en", "answers": answers, **more}


def run(out, folder, reward=None, **changes):
    """The stage on the tiny models."""
    return tiny.run_stage("select", out, changes, candidates=folder, base=tiny.world() / "base", sft=tiny.trained("sft"),
                          reward=reward or tiny.trained("reward"))


def test_the_worth_of_two_answers_by_hand():
    """r = ln 3 against 0: P = 3/4, H = ¾ log₂ 4/3 + ¼ log₂ 4 = 0.811278 bits, times the difference; a coin has one bit."""
    assert stage.value(0.0, 0.0, 0.5) == 0.5
    assert stage.value(math.log(3), 0.0, 1.0) == pytest.approx(0.75 * math.log2(4 / 3) + 0.5)
    assert stage.value(0.0, math.log(3), 0.5) == pytest.approx(0.811278 / 2, abs=1e-6)
    assert stage.value(900.0, -900.0, 1.0) == 0.0  # surer than a float can say
    assert stage.sure(0.0, math.log(3)) == pytest.approx(0.75)


@pytest.mark.parametrize("a, b, low, high", [
    ("It opens at 8:15.", "It opens at 8:15.", 0.0, 0.0), ("abc", "xyz", 1.0, 1.0), ("八点开门。", "九点开门。", 0.2, 0.8),
    ("It opens at 8:15. [1]", "It opens at 8:45. [1]", 0.05, 0.4), ("It opens at 8:15.", "The notes do not say.", 0.7, 1.0)])
def test_the_distance_of_texts(a, b, low, high):
    """0 for equal texts, 1 for such without a common character, in any language and either direction the same."""
    assert low <= stage.distance(a, b) <= high
    assert stage.distance(a, b) == stage.distance(b, a)


def test_chance_has_its_share_of_every_prefix():
    """Of the first n places ⌊n/5⌋ are chance's, in the order of the draws; the others are by score; nobody is there twice."""
    found = [asked(n, score=n / 100) for n in range(50)]
    ordered = list(stage.order(found, 0.2))
    whys = [why for _, why in ordered]
    assert all(whys[:n].count("random") == n // 5 for n in range(51))
    assert sorted(names(ordered)) == sorted(each.row["id"] for each in found)
    by_chance = [each.draw for each, why in ordered if why == "random"]
    by_score = [each.score for each, why in ordered if why == "uncertain"]
    assert by_chance == sorted(by_chance) and by_score == sorted(by_score, reverse=True)
    assert by_chance[0] == min(each.draw for each in found if each not in [e for e, _ in ordered[:4]])
    assert {why for _, why in stage.order(found, 0.0)} == {"uncertain"}
    assert {why for _, why in stage.order(found, 1.0)} == {"random"}


def test_languages_take_turns_whatever_their_scores():
    """20 Chinese prompts score above all 40 English ones: of any prefix a third is Chinese, and each language is by score."""
    found = [asked(n, score=n / 100) for n in range(40)]
    for n in range(20):
        one = asked(100 + n, score=0.9 + n / 1000)
        one.row["language"] = "zh"
        found.append(one)
    ordered = [each for each, _ in stage.order(found, 0.0)]
    spoken = [each.row["language"] for each in ordered]
    assert all(abs(spoken[:n].count("zh") - n / 3) <= 1 for n in range(61))
    for language in ("en", "zh"):
        scores = [each.score for each in ordered if each.row["language"] == language]
        assert scores == sorted(scores, reverse=True)


def test_a_new_prompt_moves_the_others_by_little():
    """The draws of old prompts stay; with chance alone their order does, too."""
    found = [asked(n) for n in range(30)]
    before, after = (names(stage.order(each, 1.0)) for each in (found, [*found, asked(77)]))
    assert [name for name in after if name != "p77"] == before
    assert names(stage.order(found, 0.3)) == names(stage.order(found[::-1], 0.3))  # the file's order does not matter


def test_what_users_sent_back_comes_first():
    """However little it is worth, and chance takes no place of it."""
    found = [asked(n, score=0.9) for n in range(8)] + [asked(8, 0.1, "feedback"), asked(9, 0.2, "feedback")]
    ordered = list(stage.order(found, 0.5))
    assert names(ordered)[:2] == ["p9", "p8"] and [why for _, why in ordered[:3]] == ["feedback", "feedback", "uncertain"]


def test_the_pair_that_is_shown_is_worth_most():
    """Rewards 0, 0, 5: the first two are a coin, the third is known to be better. Three are shown as sampled."""
    texts = {"It opens at 8:15.": False, "The notes do not say.": False, "It opens at 9:45. [1]": False}
    two = stage._asked(row(1), texts, [0.0, 0.0, 5.0], 2, 7)
    assert two.answers == list(texts)[:2] and two.sureness == 0.5 and two.rewards == [0.0, 0.0]
    assert two.score == two.difference == pytest.approx(stage.distance(*list(texts)[:2]), abs=1e-6)
    three = stage._asked(row(1), texts, [0.0, 0.0, 5.0], 3, 7)
    assert three.answers == list(texts) and 0.5 < three.sureness < 1


def test_an_answer_that_users_were_not_content_with_is_shown():
    """With its best partner, even where two others would be worth more."""
    texts = {"It opens at 8:15.": False, "The notes do not say.": False, "It opens at 8:15": True}
    assert stage._asked(row(1), texts, [0.0, 0.0, 9.0], 2, 7).answers == ["The notes do not say.", "It opens at 8:15"]
    assert len(stage._asked(row(1), texts, [0.0, 0.0, 9.0], 3, 7).answers) == 3
    both = {"a": True, "b": False, "c": True}
    assert stage._asked(row(1), both, [0.0, 0.0, 9.0], 2, 7).answers == ["a", "c"]


def test_the_stage_writes_one_file_and_the_same_again(tmp_path):
    """Rewards are the reward model's own; prompts without a choice are counted, not written; equal inputs, equal bytes."""
    folder = candidates(
        tmp_path / "c", row(1, "It opens at 12. [1]", "It opens at 45.", "I do not know."), row(2, "Only one."),
        row(3, "  ", "One.", "One. "), row(4, "Yes.", "No.", "bell \x07"),
        row(5, "It is 3.", "It is 4.", given=("It was 5.",), origin="feedback"))
    report = run(tmp_path / "a", folder)
    run(tmp_path / "b", folder)
    assert tiny.names(tmp_path / "a") == ["selected.jsonl"] and sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")
    rows = read_jsonl(tmp_path / "a" / "selected.jsonl")
    assert rows[0]["id"] == "p5" and {r["id"] for r in rows} == {"p1", "p4", "p5"}
    assert all(set(r) == COLUMNS for r in rows)
    assert "It was 5." in rows[0]["answers"] and rows[0]["why"] == "feedback"
    assert next(r for r in rows if r["id"] == "p4")["answers"] == ["Yes.", "No."]
    assert {r["model"] for r in rows} == {f"sft-{sha256_tree(tiny.trained('sft'))[:12]}"} == {report.model}
    assert (report.prompts, report.selected, report.without_choice) == (5, 3, 2)
    assert report.why == {"feedback": 1, "uncertain": 2} and report.answers == {"2": 3}
    model, tokenizer = load_reward(tiny.world() / "base", tiny.trained("sft"), tiny.trained("reward"), tiny.params().compute)
    for each in rows:
        found = score(model, tokenizer, [each["messages"]] * 2, each["answers"])
        assert each["rewards"] == pytest.approx(found, abs=1e-4)


def test_three_answers_where_there_are_three(tmp_path):
    """answers: 3 shows two where there are only two."""
    folder = candidates(tmp_path / "c", row(1, "Yes.", "No.", "Perhaps so."), row(2, "Yes.", "No."))
    assert run(tmp_path / "out", folder, answers=3).answers == {"2": 1, "3": 1}
    assert sorted(len(r["answers"]) for r in read_jsonl(tmp_path / "out" / "selected.jsonl")) == [2, 3]


def test_before_any_preference_the_likelihood_decides(tmp_path):
    """An untrained reward model's score is the mean log-probability; nothing else is needed."""
    for name in ("prefs/train", "prefs/eval", "cases/pairs_correctness", "cases/pairs_style"):
        write_jsonl(tmp_path / f"{name}.jsonl", [])
    paths = tiny.inputs("reward") | {"dataset": tmp_path / "prefs", "evaluation": tmp_path / "cases"}
    tiny.run_stage("reward", tmp_path / "reward", **paths)
    run(tmp_path / "out", candidates(tmp_path / "c", row(1, "Yes.", "No.")), reward=tmp_path / "reward")
    (found,) = read_jsonl(tmp_path / "out" / "selected.jsonl")
    assert all(reward < 0 for reward in found["rewards"])


def test_nothing_to_choose_between_is_no_error(tmp_path):
    """A model that always says the same leaves an empty file and counts."""
    report = run(tmp_path / "out", candidates(tmp_path / "c", row(1, "Yes."), row(2, "Yes.")))
    assert (report.selected, report.without_choice, report.sureness, report.why) == (0, 2, None, {})
    assert read_jsonl(tmp_path / "out" / "selected.jsonl") == []


def test_candidates_bring_the_given_answers(tmp_path):
    """A prompt's own answers follow the sampled ones; one that was sampled as well is marked, not doubled."""
    (plain, *_) = read_jsonl(tiny.world() / "dataset" / "prompts" / "prompts.jsonl")
    paths = {"base": tiny.world() / "base", "sft": tiny.trained("sft")}
    write_jsonl(tmp_path / "one" / "prompts.jsonl", [plain])
    tiny.run_stage("candidates", tmp_path / "a", dataset=tmp_path / "one", **paths)
    (alone,) = read_jsonl(tmp_path / "a" / "candidates.jsonl")
    sampled = alone["answers"][0]["text"]
    write_jsonl(tmp_path / "two" / "prompts.jsonl", [{**plain, "origin": "feedback", "answers": ["It was 99.", sampled]}])
    tiny.run_stage("candidates", tmp_path / "b", dataset=tmp_path / "two", **paths)
    (found,) = read_jsonl(tmp_path / "b" / "candidates.jsonl")
    assert found.pop("origin") == "feedback"
    given = {"text": "It was 99.", "logprob": None, "given": True}
    assert found == {**alone, "answers": [{**alone["answers"][0], "given": True}, *alone["answers"][1:], given]}
