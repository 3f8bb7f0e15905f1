"""A person's judgements out: from every file, the inbox and the quarantine, for good, and nobody else's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import minigraph
import pytest
from collect_fixtures import OWNER, SALT, Server, choices, house, question, rows
from data_fixtures import jsonl, ranking
from test_promote import judged, night

from tasks import cli, lock, promote, withdrawn
from tasks.bootstrap import tracked_hash
from tasks.errors import DataError, ParamsError, ServiceError
from tasks.labelling import collect, inbox, people, quarantine
from tasks.labelling import rows as files
from tasks.labelling.withdraw import resolve, shaped, withdraw

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """(root, params): two people in three files, one in an array, one in UTF-16 with Windows line ends."""
    monkeypatch.setenv("NIGHTSHIFT_ANNOTATOR_SALT", SALT)
    root, params = house(tmp_path)
    both = [ranking(n, f"annotator-0{1 + n % 2}") for n in range(6)]
    jsonl(root / "data/preferences/week-43.jsonl", both)
    (root / "data/preferences/array.json").write_text(json.dumps(both, indent=2))
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in both) + "\r\n"
    (root / "data/preferences/windows.jsonl").write_bytes(lines.encode("utf-16"))
    (root / "data/preferences/other.jsonl").write_text('{"prompt": "p",  "chosen": "a", "rejected": "b"}\nannotator-02, broken\n')
    minigraph.dvc(root, "add", "--quiet", "data")
    return root, params


def names(root: Path) -> set[str]:
    """Who is named in the preferences."""
    return {name for path in (root / "data/preferences").iterdir() for name in files.annotators(path)}


def test_their_rows_go_and_no_other_byte(made):
    """Line by line as it was; counted by file; the name is in data/withdrawn.jsonl; DVC knows."""
    root, _ = made
    other = (root / "data/preferences/other.jsonl").read_bytes()
    kept = [line for line in (root / "data/preferences/week-43.jsonl").read_text().splitlines(True) if "annotator-01" in line]
    before = tracked_hash(root / "data.dvc")
    lines = withdraw(root, "annotator-02", NOW)
    assert lines[:4] == ["annotator-02: 9 rows are gone", "  preferences/array.json: 3", "  preferences/week-43.jsonl: 3",
                         "  preferences/windows.jsonl: 3"]  # fmt: skip
    assert names(root) == {"annotator-01"} and (root / "data/preferences/week-43.jsonl").read_text() == "".join(kept)
    assert (root / "data/preferences/other.jsonl").read_bytes() == other
    windows = (root / "data/preferences/windows.jsonl").read_bytes().decode("utf-16")
    assert windows.count("\r\n") == 3 == windows.count("\n")
    assert rows(root, withdrawn.FILE) == [{"annotator": "annotator-02", "when": "2026-11-25T09:00:00Z"}]
    assert tracked_hash(root / "data.dvc") != before and "up to date" in minigraph.dvc(root, "status", "data.dvc")
    assert any("nightshift gc" in line for line in lines)


def test_twice_is_harmless_and_dry_is_nothing(made):
    """The second time nothing changes, the first moment stays; a dry run says the same numbers."""
    root, _ = made
    before = tracked_hash(root / "data.dvc")
    assert withdraw(root, "annotator-02", NOW, dry=True)[0] == "annotator-02: 9 rows would go"
    assert names(root) == {"annotator-01", "annotator-02"} and not (root / "data" / withdrawn.FILE).exists()
    withdraw(root, "annotator-02", NOW)
    after = tracked_hash(root / "data.dvc")
    lines = withdraw(root, "annotator-02", datetime(2027, 1, 1, tzinfo=UTC))
    assert lines[:2] == ["annotator-02: 0 rows are gone", "annotator-02 had withdrawn before"]
    assert tracked_hash(root / "data.dvc") == after != before and rows(root, withdrawn.FILE)[0]["when"][:4] == "2026"


def test_what_waits_and_what_is_in_quarantine_goes_too(made):
    """And a new collection brings nothing of theirs."""
    root, params = made
    server, name = Server(), people.pseudonym(1, SALT)
    a, b, c = server.send(question(1), question(2), question(3))
    server.annotate(a, choices(verdict="A"), user=1)
    server.annotate(b, [], user=1)
    server.annotate(c, choices(verdict="A"), user=2)
    collect.collect(root, params, server)
    lines = withdraw(root, name, NOW)
    assert "  batches that wait in the inbox with rows of theirs: 1" in lines and "  in quarantine: 1" in lines
    assert quarantine.everything(root) == {}
    assert {row["annotator"] for path in inbox.batches(root) for row in inbox.read(path).rows} == {people.pseudonym(2, SALT)}
    collect.collect(root, params, server, again=True)
    inbox.admit(root, params)
    assert {row["annotator"] for row in rows(root)} == {people.pseudonym(2, SALT)}


def test_a_kill_before_dvc_knows_is_mended_by_the_same_command(made, monkeypatch):
    """The name is written first: whatever is left of the rows is not learned from."""
    from tasks import tracked

    root, _ = made
    with monkeypatch.context() as patch:
        patch.setattr(tracked, "track", lambda root: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            withdraw(root, "annotator-02", NOW)
    assert withdrawn.names(root / "data") == {"annotator-02"}
    withdraw(root, "annotator-02", NOW)
    assert "up to date" in minigraph.dvc(root, "status", "data.dvc") and names(root) == {"annotator-01"}


def test_people_by_id_and_by_address(made, monkeypatch):
    """Both lead to the name in the data; the address is in no message and nowhere on disk."""
    root, params = made
    assert resolve(root, params, "7") == [people.pseudonym(7, SALT)]
    jsonl(root / "data/preferences/plain.jsonl", [ranking(1, "label-studio-07") | {"annotator": "label-studio-7"}])
    assert resolve(root, params, "7") == [people.pseudonym(7, SALT), "label-studio-7"]  # before pseudonyms were switched on
    with pytest.raises(ParamsError) as caught:
        resolve(root, params, OWNER)
    assert "labelling.url names no server" in str(caught.value) and OWNER not in str(caught.value)
    params.labelling.__dict__["url"] = "http://127.0.0.1:9"

    class Known:
        """What a server says of its users."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def users(self):
            return {3: "someone@else.org", 7: OWNER.upper()}

    monkeypatch.setattr(collect, "opened", lambda *_: Known())
    assert resolve(root, params, OWNER)[0] == people.pseudonym(7, SALT)
    with pytest.raises(DataError, match="is nobody's e-mail address in Label Studio") as caught:
        resolve(root, params, "no@body.org")
    assert "no@body" not in str(caught.value)


def test_a_name_that_nobody_has_is_refused(made):
    """With the nearest one: a typo must not pass for a withdrawal. A pseudonym may have no rows yet."""
    root, params = made
    with pytest.raises(DataError, match=r"is no annotator in the data; did you mean annotator-0[12]"):
        withdraw(root, "anotator-02", NOW)
    assert resolve(root, params, "annotator-0123456789ab") == ["annotator-0123456789ab"]


def test_nobody_withdraws_in_the_middle_of_a_night(made):
    """One lock."""
    root, _ = made
    with lock.alone(root), pytest.raises(ServiceError, match="another night is running here"):
        withdraw(root, "annotator-02", NOW)
    assert names(root) == {"annotator-01", "annotator-02"}


def test_releases_that_they_have_shaped_are_named(tmp_path):
    """With the number of annotations, which one is live, and how many do not tell."""
    root, made = tmp_path, []
    promote.promote(night(root, "0"), NOW)
    for model, told in (("1", {"a": [1, 2], "b": [3]}), ("2", {"b": [3]}), ("3", {"a": []})):
        judged(night(root, model), told)
        made.append(promote.promote(root, NOW).release)
    first, second, third = made
    lines = shaped(root, ["a"])
    assert lines[0] == "releases that they have shaped:" and f"  {first}: 2 annotations" in lines
    assert f"  {third}: 0 annotations, LIVE: the next night trains without them" in lines  # imported pairs tell no id
    assert not any(second in line for line in lines)
    assert lines[-1] == "  1 older releases do not tell whose judgements they were trained on"
    assert shaped(root, ["c"])[0] == "no release that tells its judgements was trained on theirs"


def test_the_command(made, monkeypatch, capsys):
    """nightshift withdraw --annotator."""
    root, _ = made
    monkeypatch.chdir(root)
    assert cli.main(["withdraw", "--annotator", "annotator-02"]) == 0
    assert "annotator-02: 9 rows are gone" in capsys.readouterr().out
    assert cli.main(["withdraw", "--annotator", "nobody"]) == 1
    assert "is no annotator in the data" in capsys.readouterr().err
