"""A release back to its data and judgements, a judgement forward to its releases: on real git and DVC."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lineage_fixtures as nights
import minigraph
import pytest
from data_fixtures import jsonl

from benchmarks import lineage as thousand
from tasks import cli, git
from tasks.errors import DataError, GateError, ParamsError
from tasks.files import canonical_json, read_json, write_json
from tasks.labelling import rows
from tasks.lineage import back, forward, history, words
from tasks.lineage.command import trace
from tasks.lineage.judged import Judged, outline, outlines
from tasks.lineage.night import File, Night, Stage


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> nights.Story:
    """Four nights; nobody changes them."""
    return nights.tell(tmp_path_factory.mktemp("nights"))


@pytest.fixture
def story(told, tmp_path) -> nights.Story:
    """A copy of them to spoil."""
    return nights.Story(Path(shutil.copytree(told.root, tmp_path / "copy", symlinks=True)), told.releases)


def lines(root: Path, release: str | None = None, **options) -> str:
    """What `nightshift trace` prints."""
    given = {"annotation": None, "annotator": None, "stage": None, "html": None, "as_json": False, **options}
    return "\n".join(trace(root, release, **given))


def test_a_release_back_to_its_stages(told):
    """Each part to the stage that wrote it, each stage with command, values of that night, inputs and outputs by hash."""
    found = back.trace(told.root, told.releases[0])
    lock = nights.lock_of(told.root, told.record(0))
    (night,) = found.nights
    assert {part.name: part.stage for part in found.parts} == {
        "model": "quantize", "chat_template": "quantize", "embedded": "embed"}  # fmt: skip
    assert set(night.stages) == set(lock) and list(night.stages)[-1] == "release"
    for name, stage in night.stages.items():
        assert stage.command == lock[name]["cmd"]
        assert [(item.path, item.md5, item.bytes) for item in (*stage.inputs, *stage.outputs)] == [
            (item["path"], item["md5"], item["size"]) for item in (*lock[name]["deps"], *lock[name]["outs"])]  # fmt: skip
    assert night.sources("release") == ["prepare", "embed", "evaluate", "quantize", "retrieve"]  # by path
    kinds = {item.path: night.kind(night.stages["quantize"], item.path) for item in night.stages["quantize"].inputs}
    assert kinds == {"artifacts/dataset/preferences": "prepare", "stage.py": "code"}
    assert night.kind(night.stages["evaluate"], "champion.json") == "source" and found.unclear == ()
    assert found.commit and (found.commit.hash, found.commit.subject) == (told.record(0)["git"]["commit"], "week 1")
    assert json.loads(canonical_json(found.told()))["nights"][0]["stages"]["embed"]["command"] == lock["embed"]["cmd"]


def test_parameters_are_those_of_the_night(told):
    """params.yaml was changed between the first and the second; what it says now is nobody's."""
    shares = [back.trace(told.root, name).nights[-1].stages["prepare"].params["prepare"]["eval_share"] for name in told.releases]
    assert shares[1:] == [0.25] * 3 and shares[0] != 0.25


def test_versions_of_the_data(told):
    """The release's own first, then those before it, each with what it brought; later ones are not there."""
    data = back.trace(told.root, told.releases[2]).data[0]
    assert data.md5 == told.record(2)["manifest"]["data"]["md5"] == data.versions[0].md5
    assert [version.subject.split(",")[0] for version in data.versions] == ["annotator-02 has withdrawn", "week 2", "week 1"]
    assert [version.changes for version in data.versions] == [
        history.Changes(("withdrawn.jsonl",), ("preferences/week-1.jsonl",), ("instructions/feedback.jsonl",)),
        history.Changes(("instructions/feedback.jsonl", "preferences/week-2.jsonl"), (), ()),
        None,
    ]
    assert [version.files for version in data.versions] == [4, 4, 2]
    assert len(back.trace(told.root, told.releases[3]).data[0].versions) == 4


def test_annotations_and_who_has_withdrawn(told):
    """Of the second release: five by three people, one of whom left before the third."""
    second, third = (back.trace(told.root, told.releases[n]) for n in (1, 2))
    assert second.judgements == {
        "annotator-01": [1, 2], "annotator-02": [3, "ls13-0123abcd"], "annotator-03": [3, "ls12-0123abcd"]}  # fmt: skip
    assert third.judgements == {"annotator-01": [1, 2], "annotator-03": [3, "ls12-0123abcd"]}
    assert second.withdrawn == {"annotator-02": "2026-11-25T12:00:00Z"} and third.withdrawn == {}


def test_a_release_of_documents_alone(told):
    """Its documents come from its own night, its model from another's: not from the model that stood in its own dvc.lock."""
    found, before = back.trace(told.root, None), told.record(2)
    assert found.live and found.release == told.releases[3]
    assert [(part.name, part.release) for part in sorted(found.parts, key=lambda part: part.name)] == [
        ("chat_template", told.releases[2]), ("embedded", told.releases[3]), ("model", told.releases[2])]  # fmt: skip
    own, models = found.nights
    assert set(own.stages) == {"embed"} and set(models.stages) == {"prepare", "quantize"}
    model = models.stages["quantize"].outputs[0]
    assert model.md5 == before["dvc"]["outs"]["artifacts/int4"] != told.record(3)["dvc"]["outs"]["artifacts/int4"]
    assert [data.release for data in found.data] == [told.releases[3], told.releases[2]] and found.unclear == ()


def test_the_lock_is_found_by_its_hash(story):
    """A release that names a commit which is gone, or another one, is traced through whatever has the same bytes."""
    first = story.record(0)
    story.rewrite(0, git={"commit": "f" * 40, "uncommitted": []})
    found = back.trace(story.root, first["release"])
    assert found.commit is None and found.nights[0].commit == first["git"]["commit"] and found.unclear == ()
    shutil.rmtree(story.root / ".git")
    minigraph.run(story.root, "git", "init", "--quiet")
    found = back.trace(story.root, told_of := story.releases[3])
    assert found.nights[0].where == "the work tree, not committed" and "embed" in found.nights[0].stages
    assert f"data {story.record(3)['manifest']['data']['md5']}: no commit of data.dvc names it" in found.unclear
    assert found.unclear[1].startswith("dvc.lock ") and "is not here; fetch the branch that has it" in found.unclear[1]
    assert {part.name: part.stage for part in found.parts if part.release == told_of} == {"embedded": "embed"}


def test_what_is_nowhere_is_said_with_the_reason(story, tmp_path):
    """A shallow clone; another lock in the commit; a promotion outside git. The rest is told all the same."""
    minigraph.run(tmp_path, "git", "clone", "--quiet", "--depth", "1", f"file://{story.root}", "shallow")
    found = back.trace(tmp_path / "shallow", story.releases[0])
    assert "is not in this shallow clone; git fetch --unshallow" in found.unclear[0]
    assert "the clone is shallow: git fetch --unshallow" in found.unclear[1]
    assert found.judgements and {part.stage for part in found.parts} == {None} and found.nights[0].stages == {}
    assert "└─ (unclear)" in lines(tmp_path / "shallow", story.releases[0])
    whole = story.record(0)
    story.rewrite(0, dvc={**whole["dvc"], "lock_sha256": "0" * 64})
    assert "has another one; it was promoted before it was committed" in back.trace(story.root, whole["release"]).unclear[0]
    story.rewrite(0, dvc={**whole["dvc"], "lock_sha256": "0" * 64}, git={"commit": None, "uncommitted": []})
    assert "was promoted outside git" in lines(story.root, whole["release"])


def test_judgements_that_are_not_those_recorded_prove_nothing(story):
    """A release with a changed file of judgements is traced without them; forward, nothing is claimed."""
    kept = story.root / f"releases/judgements/{story.record(0)['manifest']['judgements']['sha256'][:16]}.json"
    kept.write_text(kept.read_text().replace("annotator-01", "annotator-09"))
    found = back.trace(story.root, story.releases[0])
    assert found.judgements is None and "holds other judgements than its name says" in found.unclear[0]
    with pytest.raises(DataError, match=r"holds other judgements than its name says; restore it: git checkout releases"):
        forward.of_annotation(story.root, "1")
    kept.unlink()
    with pytest.raises(DataError, match="is missing; restore it"):
        forward.of_people(story.root, ["annotator-01"])


def test_stages_that_do_not_fit_together():
    """sft has read a dataset that prepare has not left, and prepare other data than the release names."""
    prepare = Stage("prepare", "prepare", {}, (File("data", "d1"),), (File("artifacts/dataset", "p2"),))
    sft = Stage("sft", "sft", {}, (File("artifacts/dataset", "p1"),), ())
    night = Night("r", None, "here", {"prepare": prepare, "sft": sft})
    assert list(night.breaks(["prepare", "sft"], "d2")) == [
        "stage prepare has read data as d1; what was there after it is d2",
        "stage sft has read artifacts/dataset as p1; what was there after it is p2",
    ]
    assert list(night.breaks(["prepare"], "d1")) == []


def test_an_annotation_forward(told):
    """Where it was used and as what; where it is now; a release of documents alone has its model's."""
    found = forward.of_annotation(told.root, "ls12-0123abcd")
    (one,) = found.findings
    assert [of.release for of in one.releases] == [told.releases[3], told.releases[2], told.releases[1]]
    assert [of.live for of in one.releases] == [True, False, False] and one.releases[0].model_of == told.releases[2]
    assert one.uses == (forward.Use("preference pair", "pair-p4", ("annotator-03",), "It opens at 4:15.", "It opens at 4:45."),)
    assert one.used_in == told.releases[3] and one.gone is None
    assert one.places == (forward.Place("data/preferences/week-2.jsonl:1", "preference pair", {"id": "p4", "place": "5/4"}),)
    told_of = forward.of_annotation(told.root, "ls12-0123abcd", release=told.releases[1][-8:]).findings[0]
    assert told_of.used_in == told.releases[1] and told_of.uses == one.uses


def test_a_correction_of_somebody_who_has_withdrawn(told):
    """In one release, and in no data any more."""
    (one,) = forward.of_annotation(told.root, "ls13-0123abcd").findings
    assert [of.release for of in one.releases] == [told.releases[1]] and one.places == ()
    assert one.uses == (forward.Use("approved correction", "feedback-6", ("annotator-02",), "At 6.", None),)
    assert one.gone == "2026-11-25T12:00:00Z"
    assert "annotator-02 has withdrawn (2026-11-25)" in lines(told.root, annotation="ls13-0123abcd")


def test_an_id_that_two_people_have(told):
    """Both are told, and --annotator narrows it; the row of one who has withdrawn is nobody's."""
    both = forward.of_annotation(told.root, "3").findings
    counts = [(one.annotator, len(one.releases), len(one.places)) for one in both]
    assert counts == [("annotator-03", 3, 1), ("annotator-02", 2, 0)]
    assert forward.of_annotation(told.root, "3", "annotator-02").findings == (both[1],)
    assert lines(told.root, annotation="3").startswith("2 annotators have an annotation of this id; --annotator WHO")


def test_an_annotation_that_has_shaped_nothing_yet(told):
    """It is in the data of a night whose model did not go out."""
    (one,) = forward.of_annotation(told.root, "9").findings
    assert one.releases == () and one.uses is None and one.places[0].file == "data/preferences/week-4.jsonl:1"
    assert "has shaped no release" in lines(told.root, annotation="9")


def test_unknown_names_are_errors_with_a_remedy(told):
    """Release, annotation (Label Studio's own number too), annotator, stage; and two things asked at once."""
    for options, error, message in (
        ({"release": "2027"}, GateError, "2027: is no release; see them all: nightshift releases"),
        ({"annotation": "12"}, DataError, "12: has shaped no release and is in no row of data/; did you mean ls12-0123"),
        ({"annotation": "x"}, DataError, "ids are written as in releases/judgements"),
        ({"annotation": "3", "annotator": "nobody"}, DataError, "is none of nobody's; it is by annotator-03, annotator-02"),
        ({"annotator": "anotator-01"}, DataError, "is no annotator in the data; did you mean annotator-01"),
        ({"stage": "sft"}, DataError, "--stage sft: is no stage that .* comes from; there are embed, prepare, quantize"),
        ({"annotation": "3", "stage": "sft"}, ParamsError, "are about a release, not about a judgement"),
        ({"annotator": "annotator-01", "release": "2026"}, ParamsError, "go to all releases; leave out 2026"),
    ):
        with pytest.raises(error, match=message):
            lines(told.root, **options)


def test_a_person_forward(told, capsys, monkeypatch):
    """The same releases that `withdraw` names, by the name in the data."""
    monkeypatch.chdir(told.root)
    assert cli.main(["trace", "--annotator", "annotator-02"]) == 0
    out = capsys.readouterr().out
    assert f"shaped 2 releases, {told.releases[0]} to {told.releases[1]}; the live one is not among them" in out
    assert f"{told.releases[1]}  2026-11-25 03:00 UTC  2 annotations" in out
    assert cli.main(["trace", "--annotator", "annotator-04", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"annotators": ["annotator-04"], "releases": [], "untold": 0}


def test_the_tree_names_each_stage_once(told):
    """A part, below it its stages, below them what they have read; what was told above is only named."""
    out = lines(told.root, told.releases[1])
    assert out.count("└─ quantize → ") == 1 and "├─ prepare → artifacts/dataset" in out.replace("└─", "├─")
    assert out.count("prepare → ") == 1 and "quantize (above)" in out and "judged    6 annotations by 3 annotators" in out
    assert "preferences/week-2.jsonl" in out and "withdrew 2026-11-25" in out
    stage = lines(told.root, told.releases[1], stage="prepare")
    assert "  eval_share: 0.25" in stage and "code" in stage and "artifacts/dataset" in stage
    assert json.loads(lines(told.root, told.releases[1], stage="prepare", as_json=True))["name"] == "prepare"


def test_what_others_wrote_is_text(told, tmp_path):
    """A commit's subject with an escape sequence, a change of direction and markup, in the terminal and on the page."""
    out = lines(told.root, told.releases[1])
    assert "\x1b" not in out and "\u202e" not in out and "week 2, [31mred <script>" in out
    page = tmp_path / "trace.html"
    assert lines(told.root, told.releases[1], html=page) == f"{told.releases[1]}: {page}"
    html = page.read_text()
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html and html.count("<svg ") == 2
    lines(told.root, told.releases[1], html=page)
    assert page.read_text() == html


def test_the_page_shows_every_stage_and_annotation(told, tmp_path):
    """Of a release with two nights: a picture of each, every stage with its parameters, every id."""
    lines(told.root, None, html=tmp_path / "trace.html")
    html = (tmp_path / "trace.html").read_text()
    assert html.count("Stages, night of 2026-11-2") == 2 and "Only its documents are new" in html
    assert "prepare.eval_share" in html and "ls12-0123abcd" in html and told.record(3)["dvc"]["lock_sha256"] in html
    assert words.moment(told.record(3)["published"]) in html


NASTY = {
    'a": [\n "b': ["x", 'y", "z', "1", 11, 1],
    "annotator-1": [1, "ls1-aa", "资料", "a\\b"],
    "annotator-11": [],
    "é\u2028": ["x]", " 1", "], ["],
}


def test_judgements_are_found_without_reading_them_all():
    """Names and ids that look like the file's own layout; each found as by reading the whole."""
    told = Judged(canonical_json(NASTY))
    assert told.everybody() == NASTY
    assert {who: told.of(who) for who in NASTY} == NASTY and told.of("annotator") is None and told.of("b") is None
    for id_ in {str(id_) for ids in NASTY.values() for id_ in ids} | {"2", "", "[", "ls1", "annotator-1"}:
        expected = {who: [mine for mine in ids if str(mine) == id_] for who, ids in NASTY.items()}
        assert {who: [id_] for who, id_ in told.holders(id_).items()}.keys() == {who for who, ids in expected.items() if ids}
    assert told.holders("ls1-aa") == {"annotator-1": "ls1-aa"} and told.holders("11") == {'a": [\n "b': 11}
    assert told.beginning("ls1-") == "ls1-aa" and told.beginning("ls11") is None


def test_a_record_without_its_metrics(told, tmp_path):
    """The same as reading all of it, whatever is there, and laid out by another hand too; broken JSON is said."""
    for n in range(4):
        whole = told.record(n)
        assert outline(told.root / f"releases/{told.releases[n]}.json") == {k: v for k, v in whole.items() if k != "metrics"}
    assert [item["release"] for item in outlines(told.root)] == list(reversed(told.releases))
    path, rest = tmp_path / "x.json", {"manifest": {"metrics": {"a": 1}}, "params_sha256": "p", "z": {"metrics": 2}}
    for metrics in ({}, {"sft": {}}, {"sft": {"a": {"b": 1}}, "text": "\n },\n"}):
        write_json(path, {**rest, "metrics": metrics})
        assert outline(path) == rest
        path.write_text(json.dumps({**rest, "metrics": metrics}))
        assert outline(path) == rest
    path.write_text('{\n "metrics": {\n  "a": 1\n },\n "b"')
    with pytest.raises(DataError, match=r"x\.json: is not JSON"):
        outline(path)


def test_each_file_is_read_once(tmp_path, monkeypatch):
    """Thirty releases, ten files of judgements: forty files, and none twice; of git, nothing."""
    releases, ids = thousand.repository(tmp_path, 30, annotations=600, annotators=20, every=3)
    read, real = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), real(path))[1])
    shaped, untold = forward.of_people(tmp_path, [thousand.person(0)])
    assert len(shaped) == 30 and untold == 0
    files = {*(tmp_path / "releases").glob("*.json"), *(tmp_path / "releases/judgements").iterdir()}
    assert len(read) == 40 and set(read) == files
    last = forward.of_annotation(tmp_path, ids[-1]).findings[0]
    assert [of.release for of in last.releases] == releases[:-4:-1]  # known from the last three nights on: 600 · 30 / 30
    assert len(back.trace(tmp_path, releases[0]).nights[0].stages) == 15


def test_rows_of_an_annotation(tmp_path):
    """By line or row, in any encoding; 1 is neither 11 nor true; an id within another text is none."""
    made = [nights.judged(1, "a", 1), nights.judged(2, "a", 11), nights.judged(1, "b", "1"), nights.judged(3, "c", True)]
    jsonl(tmp_path / "a.jsonl", made)
    (tmp_path / "b.json").write_text(json.dumps(made))
    (tmp_path / "c.jsonl").write_bytes("\r\n".join(map(json.dumps, made)).encode("utf-16"))
    found = {name: [(where, row["annotator"]) for where, row in rows.of_annotation(tmp_path / name, "1")]
             for name in ("a.jsonl", "b.json", "c.jsonl")}  # fmt: skip
    assert found == {"a.jsonl": [("1", "a"), ("3", "b")], "b.json": [("row 1", "a"), ("row 3", "b")],
                     "c.jsonl": [("1", "a"), ("3", "b")]}  # fmt: skip
    assert rows.author_of({}, tmp_path / "a.jsonl") == "file:a"


def test_the_past_in_a_folder_of_a_larger_repository(story, tmp_path):
    """git names files from its top; the project may lie below."""
    inner = tmp_path / "outer/inner"
    shutil.copytree(story.root, inner, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    minigraph.run(tmp_path / "outer", "git", "init", "--quiet")
    assert git.commit(inner, ["."], "all of it")
    found = back.trace(inner, story.releases[3])
    assert found.nights[0].stages and len(found.data[0].versions) == 1
    names = [f"HEAD:./{name}" for name in ("data.dvc", "none", "releases", "dvc.lock")]
    texts = git.blobs(inner, names)
    assert [text is None for text in texts] == [False, True, True, False] and texts[3] == (inner / "dvc.lock").read_bytes()


def test_a_cache_that_was_moved(story):
    """.dvc/config says where; what is in none is told as unknown."""
    (story.root / ".dvc/cache").rename(story.root / "elsewhere")
    assert forward.of_annotation(story.root, "1").findings[0].uses is None
    assert "is not in DVC's cache (at its commit: dvc fetch)" in lines(story.root, annotation="1")
    config = story.root / ".dvc/config"
    config.write_text(config.read_text() + "[cache]\n    dir = ../elsewhere\n['remote \"a\"']\n    url = b\n")
    assert forward.of_annotation(story.root, "1").findings[0].uses


def test_edited_since(story):
    """Releases of before the last change may have learned what it said then."""
    row = nights.judged(4, "annotator-03", "ls12-0123abcd", updated="2026-11-26T09:00:00.000000Z")
    jsonl(story.root / "data/preferences/week-2.jsonl", [row])
    out = lines(story.root, annotation="ls12-0123abcd")
    assert "its author changed it last on 2026-11-26: 2 of these releases may have learned what it said before" in out


def test_outside_a_repository(story, monkeypatch):
    """No git at all: the record speaks for itself, and what it names cannot be looked up."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(story.root.parent))
    shutil.rmtree(story.root / ".git")
    (story.root / "dvc.lock").unlink()
    found = back.trace(story.root, story.releases[0])
    assert found.commit is None and len(found.unclear) == 2 and found.judgements
    (story.root / "releases/LIVE").unlink()
    with pytest.raises(GateError, match="nothing is live; run a night"):
        back.trace(story.root, None)
    assert read_json(story.root / f"releases/{story.releases[0]}.json")["release"] == found.release
