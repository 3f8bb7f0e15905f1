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


def test_champion_from_a_night(tmp_path):
    """Promotion adds the id to the challenger's answers; writing it twice gives the same bytes."""
    answered = champions.Answered(set="facts", case="0" * 16, answer="It opens at 11:00.")
    champions.write_challenger(tmp_path, {"facts-1": answered})
    champion = champions.champion_from("r7", tmp_path)
    assert champion == champions.Champion(release="r7", answers={"facts-1": answered})
    path = tmp_path / "champion.json"
    champions.write(path, champion)
    before = path.read_bytes()
    champions.write(path, champions.read(path))
    assert path.read_bytes() == before


def test_the_search_champion_is_written_the_same_way(tmp_path):
    """Its own form, its own file in the remedy; a rank is from 1, or null; the models' file is not taken for it."""
    found = champions.Found(case="0" * 16, rank=None, found=False)
    champions.write_challenger(tmp_path, {"documents-1": found})
    champion = champions.champion_from("r7", tmp_path, champions.SearchChampion)
    assert champion == champions.SearchChampion(release="r7", questions={"documents-1": found})
    path = tmp_path / "champion-search.json"
    champions.write(path, champion)
    assert champions.read(path, champions.SearchChampion) == champion
    with pytest.raises(DataError, match=r"champion-search.json: .*git checkout champion-search.json"):
        champions.read(path)
    (tmp_path / "challenger.json").write_text('{"documents-1": {"case": "00", "rank": 0, "found": true}}')
    with pytest.raises(DataError, match="dvc repro retrieve"):
        champions.champion_from("r7", tmp_path, champions.SearchChampion)
