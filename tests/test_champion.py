"""tasks/champion.py: the live release as the next night meets it."""

import pytest

from tasks import champion as champions
from tasks.errors import DataError


def test_nothing_released(tmp_path):
    """The first night's file reads as no release, and is written back as it was."""
    path = tmp_path / "champion.json"
    path.write_text('{\n "release": null\n}\n')
    champions.write(path, champions.read(path))
    assert path.read_text() == '{\n "release": null\n}\n'
    assert champions.read(path).answers == {}


@pytest.mark.parametrize("content", ['{"answers": {}}', '{"release": "r1", "answers": {"a": 1}}', "[]"])
def test_another_form_is_refused(tmp_path, content):
    """A broken file names itself and the remedy."""
    path = tmp_path / "champion.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"champion.json: .*git checkout champion.json"):
        champions.read(path)


def test_chosen_are_the_same_when_others_come():
    """Adding cases replaces at most as many of the chosen as were added."""
    cases = [{"id": f"case-{i}"} for i in range(50)]
    before = champions.chosen(cases, 10)
    after = champions.chosen([*cases, {"id": "new"}], 10)
    assert len(before) == len(after) == 10
    assert len(set(before) - set(after)) <= 1


def test_digest_sees_what_counts():
    """Question, value and distractors count; kind does not."""
    case = {"messages": [], "answer": "1", "distractors": [], "cite": [], "language": "en", "kind": "a"}
    assert champions.digest(case) == champions.digest({**case, "kind": "b"})
    assert champions.digest(case) != champions.digest({**case, "answer": "2"})


def test_all_cases_are_chosen_without_a_number():
    """null in params.yaml: everything travels."""
    assert champions.chosen([{"id": "b"}, {"id": "a"}], None) == ["a", "b"]


def test_digest_of_an_instruction():
    """Prompt and reference count."""
    asked = [{"role": "user", "content": "When?"}]
    assert champions.digest_told(asked, "At 8.") == champions.digest_told([dict(asked[0])], "At 8.")
    assert len({champions.digest_told(*one) for one in ((asked, "At 8."), (asked, "At 9."), ([], "At 8."))}) == 3


def test_test_sets_by_hash(tmp_path):
    """Sets with a case only; another case is another hash."""
    (tmp_path / "facts.jsonl").write_text('{"id": "a"}\n')
    (tmp_path / "context.jsonl").write_text("")
    before = champions.test_sets(tmp_path)
    assert list(before) == ["facts"] and len(before["facts"]) == 64
    (tmp_path / "facts.jsonl").write_text('{"id": "b"}\n')
    assert champions.test_sets(tmp_path)["facts"] != before["facts"]


def test_champion_from_a_night(tmp_path):
    """Promotion adds the id to what the challenger has; writing it twice gives the same bytes."""
    answered = champions.Answered(set="facts", case="0" * 16, answer="It opens at 11:00.", ended=False)
    tonight = champions.Champion(release=None, answers={"facts-1": answered}, test_sets={"facts": "f" * 64},
                                 references={"log-1": champions.Told(case="1" * 16, answer="At 8.")})
    champions.write_challenger(tmp_path, tonight)
    champion = champions.champion_from("r7", tmp_path)
    assert champion == tonight.model_copy(update={"release": "r7"})
    path = tmp_path / "champion.json"
    champions.write(path, champion)
    before = path.read_bytes()
    champions.write(path, champions.read(path))
    assert path.read_bytes() == before


def test_an_older_champion_can_still_be_met(tmp_path):
    """A release of before held-out instructions and test sets travelled: its answers count as ended, the rest is empty."""
    path = tmp_path / "champion.json"
    path.write_text('{"release": "r1", "answers": {"a": {"set": "facts", "case": "00", "answer": "x"}}}')
    champion = champions.read(path)
    assert champion.answers["a"].ended and champion.references == champion.test_sets == {}


def test_the_search_champion_is_written_the_same_way(tmp_path):
    """Its own form, its own file in the remedy; a rank is from 1, or null; the models' file is not taken for it."""
    found = champions.Found(case="0" * 16, rank=None, found=False)
    champions.write_challenger(tmp_path, champions.SearchChampion(release=None, questions={"documents-1": found}))
    champion = champions.champion_from("r7", tmp_path, champions.SearchChampion)
    assert champion == champions.SearchChampion(release="r7", questions={"documents-1": found})
    path = tmp_path / "champion-search.json"
    champions.write(path, champion)
    assert champions.read(path, champions.SearchChampion) == champion
    with pytest.raises(DataError, match=r"champion-search.json: .*git checkout champion-search.json"):
        champions.read(path)
    (tmp_path / "challenger.json").write_text('{"questions": {"documents-1": {"case": "00", "rank": 0, "found": true}}}')
    with pytest.raises(DataError, match="dvc repro retrieve"):
        champions.champion_from("r7", tmp_path, champions.SearchChampion)
