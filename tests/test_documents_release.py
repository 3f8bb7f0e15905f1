"""A release of documents alone: the live model, tonight's index, judged by search; twice, held back, and rolled back."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tasks import approval, champion, documents_release, live_index, promote, records
from tasks.errors import GateError
from tasks.files import read_json, sha256_file, sha256_tree, size, write_json
from tasks.index import index
from tests import minigraph
from tests.killing import killed_at
from tests.rag_fixtures import ROOT
from tests.test_index import write_embedded
from tests.test_promote import snapshot

NIGHT, NOON = datetime(2026, 11, 24, 3, tzinfo=UTC), datetime(2026, 11, 24, 12, tzinfo=UTC)
FOLDERS = {
    "quantize": "int4",
    "evaluate": "evaluation",
    "embed": "embedded",
    "index": "index",
    "retrieve": "retrieval",
    "release": "release",
}


def search(root: Path, found: float, against: str | None = None, lost: int = 0) -> None:
    """metrics/retrieve.json and the challenger: `found` of the questions; of 300, so many `lost` against the live release."""
    difference = {"difference": -lost / 300, "low": -lost / 300, "high": 0.0, "n": 300, "better": 0, "worse": lost, "p": 1.0,
                  "spread": 0.1}
    facing = {"release": against, "found": difference} if against else None
    write_json(root / "metrics/retrieve.json", {"found": {"all": {"share": found}}, "champion": facing})
    write_json(root / "artifacts/retrieval/challenger.json", {"questions": {"q1": {"case": "00", "rank": 1, "found": True}}})


def cached(root: Path, folder: Path) -> str:
    """DVC's hash of a folder that is now in the cache of a repository there."""
    aside = root / "aside"
    if aside.is_dir() and sha256_tree(aside) == sha256_tree(folder):
        return yaml.safe_load((root / "aside.dvc").read_text())["outs"][0]["md5"]
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(folder, aside)
    if not (root / ".dvc").is_dir():
        minigraph.dvc(root, "init", "--no-scm", "--quiet")
    minigraph.dvc(root, "add", "--quiet", "aside")
    return yaml.safe_load((root / "aside.dvc").read_text())["outs"][0]["md5"]


def documents(root: Path, changed: str) -> None:
    """Tonight's chunks and their index, by the real stage, and the lock that says search was measured on it."""
    for name in ("embedded", "index"):
        shutil.rmtree(root / "artifacts" / name, ignore_errors=True)
    write_embedded(root / "artifacts/embedded", changed)
    (root / "artifacts/index").mkdir()
    index(live_index.where(root), root / "artifacts/embedded", root / "artifacts/index")
    md5 = {
        name: f"{sha256_tree(root / 'artifacts' / folder)[:8]}.dir"
        for name, folder in FOLDERS.items()
        if (root / "artifacts" / folder).is_dir()
    }
    if (root / "artifacts/int4").is_dir():
        md5["quantize"] = cached(root, root / "artifacts/int4")
    lock = {name: {"cmd": "true", "outs": [{"path": f"artifacts/{FOLDERS[name]}", "md5": value}]} for name, value in md5.items()}
    lock.setdefault("retrieve", {"cmd": "true"})["deps"] = [{"path": "artifacts/index", "md5": md5["index"]}]
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))


def model(root: Path, weights: str, good: bool = True, rule: str = "correct") -> None:
    """The model of a night with its verdict by one rule, in a candidate with the present documents."""
    part = root / "artifacts/int4"
    part.mkdir(parents=True, exist_ok=True)
    (part / "model.safetensors").write_text(weights)
    write_json(root / "artifacts/evaluation/challenger.json",
               {"answers": {"context-1": {"set": "context", "case": "00", "answer": weights}}})
    for path in ("artifacts/sft/adapter.json", "artifacts/answers/answers.json", "metrics/answers.json", "metrics/evaluate.json"):
        write_json(root / path, weights)
    parts = {name: root / "artifacts" / name for name in ("int4", "embedded", "index")}
    judgements = root / "artifacts/release/judgements.json"
    write_json(judgements, {"annotator-01": [7]} if weights == "one" else {"annotator-02": [8]})
    answering = yaml.safe_load((root / "params.yaml").read_text())["answers"]
    write_json(
        root / "artifacts/release/manifest.json",
        {
            "name": "x",
            "license": "y",
            "answering": answering,
            "data": {"md5": "00", "dvc": "data.dvc"},
            "stack": {},
            "judgements": {"sha256": sha256_file(judgements), "annotators": 1, "annotations": 1},
            "parts": {
                {"int4": "model"}.get(name, name): {"path": f"artifacts/{name}", "sha256": sha256_tree(path), "bytes": size(path)}
                for name, path in parts.items()
            },
            "index": read_json(parts["index"] / "manifest.json"),
            "embedding": {},
            "made_from": {"sft": records.part(root / "artifacts/sft", root)},
            "evaluation": {name: records.part(root / "artifacts" / name, root) for name in ("answers", "evaluation")},
            "metrics": {name: records.part(root / f"metrics/{name}.json", root) for name in ("answers", "evaluate")},
            "params": {"index": {"keep": 99}, "sft": {"epochs": 3}},
            "figures": {"right, facts %": 0.9, "documents right, English %": 0.8, "documents found %": 0.5},
            "gate": {"promote": good, "champion": None, "reasons": [{"passed": good, "rule": rule, "why": f"{rule}: 3 %"}]},
        },
    )


@pytest.fixture
def house(tmp_path, built) -> Path:
    """A fresh copy of the repository with one live release: model "one", documents "old"."""
    return Path(shutil.copytree(built, tmp_path / "house"))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """That repository, made once."""
    root = tmp_path_factory.mktemp("built")
    stages = {name: {"cmd": "true", "outs": [f"artifacts/{folder}"]} for name, folder in FOLDERS.items()}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["release"]["figures"] = {
        "right, facts %": "evaluate.x",
        "documents right, English %": "answers.x",
        "documents found %": "retrieve.found.all.share",
    }
    params["index"]["probes"] = 4
    (root / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True))
    (root / "data.dvc").write_text("outs:\n- md5: aa.dir\n  size: 1\n  nfiles: 1\n  path: data\n")
    champion.write(root / "champion.json", champion.Champion(release=None))
    champion.write(root / "champion-search.json", champion.SearchChampion(release=None))
    documents(root, "")
    model(root, "one")
    documents(root, "")
    search(root, 0.9)
    promote.promote(root, NIGHT)
    return root


def live_build(root: Path) -> str | None:
    """What the store's own pointer names."""
    return live_index.builds_for(root, records.record(root, records.live(root))["manifest"])[0].live()


def test_a_promotion_points_the_store_at_its_build(house):
    """The pointer beside the builds follows LIVE, and comes back when it was lost."""
    build = records.record(house, records.live(house))["manifest"]["index"]["build"]
    assert live_build(house) == build
    (house / "stores/lancedb/LIVE").unlink()
    assert live_index.follow(house, records.record(house, records.live(house))["manifest"]) == () and live_build(house) == build
    assert f"{build}        40 chunks" in live_index.listing(house)[0] and live_index.listing(house)[0].endswith("live")


def test_new_documents_with_the_live_model(house):
    """The model, its answers and its data's release stay; index, search figures and data are tonight's."""
    first = records.live(house)
    documents(house, " Not on Sunday.")
    search(house, 0.95, first)
    model(house, "two", good=False)  # tonight's model is held back
    done = documents_release.release(house, NOON)
    record = records.record(house, done.release)
    manifest, before = record["manifest"], records.record(house, first)["manifest"]
    assert done.flipped and done.before == first == manifest["model_of"] and records.live(house) == done.release
    assert manifest["parts"]["model"] == before["parts"]["model"]
    assert manifest["parts"]["index"]["sha256"] == sha256_tree(house / "artifacts/index") != before["parts"]["index"]["sha256"]
    # and so do the judgements that have shaped the model
    assert records.judgements_of(house, manifest) == {"annotator-01": [7]} == records.judgements_of(house, before)
    assert manifest["figures"] == {"right, facts %": 0.9, "documents right, English %": None, "documents found %": 0.95}
    assert record["dvc"]["outs"]["artifacts/int4"] == records.record(house, first)["dvc"]["outs"]["artifacts/int4"]
    assert record["dvc"]["outs"]["artifacts/index"] != records.record(house, first)["dvc"]["outs"]["artifacts/index"]
    # the model's champion is the same file: stage evaluate has nothing to do; search meets the new release
    assert champion.read(house / "champion.json").release == first
    assert champion.read(house / "champion-search.json", champion.SearchChampion).release == done.release
    assert live_build(house) == manifest["index"]["build"]


def test_the_origin_of_the_model_is_carried_over(house):
    """Adapters, evaluation, figures and settings are those of the live model, whatever lies in the workspace; of the documents
    they are tonight's; answers that were measured on the former documents are not named. An old release has no origin."""
    before = records.record(house, records.live(house))["manifest"]
    documents(house, " Not on Sunday.")
    search(house, 0.95, records.live(house))
    model(house, "two", good=False)
    record = records.record(house, documents_release.release(house, NOON).release)
    manifest = record["manifest"]
    assert manifest["made_from"] == before["made_from"] != {"sft": records.part(house / "artifacts/sft", house)}
    assert manifest["evaluation"] == {"evaluation": before["evaluation"]["evaluation"],
                                      "retrieval": records.part(house / "artifacts/retrieval", house)}
    assert manifest["metrics"] == {"evaluate": before["metrics"]["evaluate"],
                                   "retrieve": records.part(house / "metrics/retrieve.json", house)}
    assert (record["metrics"]["evaluate"], record["metrics"]["retrieve"]["found"]["all"]["share"]) == ("one", 0.95)
    assert "answers" not in record["metrics"]
    params = yaml.safe_load((house / "params.yaml").read_text())
    assert manifest["params"]["sft"] == {"epochs": 3} and manifest["params"]["index"] == params["index"]
    assert records.origin({"parts": {}}) == {}


def test_again_is_nothing_new(house):
    """Once released, there is nothing to release; without new documents neither."""
    assert documents_release.candidate(house) is None and not documents_release.release(house, NOON).flipped
    documents(house, " Not on Sunday.")
    search(house, 0.95, records.live(house))
    first = documents_release.release(house, NOON)
    assert documents_release.release(house, NOON) == promote.Promoted(first.release, False, first.release)
    assert len(records.records(house)) == 2


@pytest.mark.parametrize("found, lost, why", [(0.3, 0, "documents_found"), (0.95, 30, "retrieval_loss: worse")])
def test_search_that_lost_is_held_back(house, found, lost, why):
    """A floor, and no loss against the live release's search: nothing is written, nothing moves."""
    first, build = records.live(house), live_build(house)
    documents(house, " Not on Sunday.")
    search(house, found, first, lost)
    with pytest.raises(GateError, match=why):
        documents_release.release(house, NOON)
    assert records.live(house) == first and live_build(house) == build and len(records.records(house)) == 1


def test_what_the_whole_gate_held_back_does_not_pass_as_documents(house):
    """The live model with tonight's documents was tonight's candidate, and the gate said no."""
    documents(house, " Not on Sunday.")
    search(house, 0.95, records.live(house))
    model(house, "one", good=False)
    with pytest.raises(GateError, match="holds this model with these documents back"):
        documents_release.release(house, NOON)


def test_a_model_that_is_not_better_than_itself_keeps_no_document_back(house):
    """Nothing was trained, so tonight's candidate is the live model with new documents: the gate's no to the model, which it
    met as its own champion, says nothing of them. Again: nothing to do."""
    documents(house, " Not on Sunday.")
    search(house, 0.95, records.live(house))
    model(house, "one", good=False, rule="against_champion")
    assert documents_release.release(house, NOON).flipped
    assert not documents_release.release(house, NOON).flipped


def test_search_that_was_measured_on_another_index(house):
    """Or with other settings, or against another release: none of it counts for tonight."""
    documents(house, " Not on Sunday.")
    search(house, 0.95, "2026-01-01-aaaaaaaa")
    with pytest.raises(GateError, match="was compared with release 2026-01-01-aaaaaaaa"):
        documents_release.release(house, NOON)
    lock = yaml.safe_load((house / "dvc.lock").read_text())
    lock["stages"]["retrieve"]["deps"][0]["md5"] = "other.dir"
    (house / "dvc.lock").write_text(yaml.safe_dump(lock))
    with pytest.raises(GateError, match="search was not measured on this index; dvc repro retrieve"):
        documents_release.release(house, NOON)
    documents(house, " Not on Sunday.")
    params = yaml.safe_load((house / "params.yaml").read_text())
    params["answers"]["top_k"] += 1
    (house / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True))
    with pytest.raises(GateError, match="section answers: is not that of"):
        documents_release.release(house, NOON)


def test_rollback_to_the_former_documents(house):
    """One command back; the withdrawn documents do not come again by themselves."""
    first, build = records.live(house), live_build(house)
    documents(house, " Not on Sunday.")
    search(house, 0.95, first)
    second = documents_release.release(house, NOON).release
    assert promote.rollback(house, NOON).release == first and live_build(house) == build
    assert champion.read(house / "champion-search.json", champion.SearchChampion).release == first
    with pytest.raises(GateError, match=f"{second}: was rolled back"):
        documents_release.release(house, NOON)
    assert documents_release.release(house, NOON, again=True).release == second == records.live(house)


def test_kill_at_any_rename_leaves_the_old_or_the_new_documents(house, tmp_path):
    """A real SIGKILL before the n-th rename, every n: the old or the new release is live, whole; the same once more ends as
    undisturbed, the store's pointer included. (Every file operation: tests/test_promote.py; the writing is the same.)"""
    first = records.live(house)
    documents(house, " Not on Sunday.")
    search(house, 0.95, first)
    whole = Path(shutil.copytree(house, tmp_path / "whole"))
    second = documents_release.release(whole, NOON).release
    moved = []
    for n in range(20):
        root = Path(shutil.copytree(house, tmp_path / "killed"))
        killed = killed_at(n, lambda root=root: documents_release.release(root, NOON), frozenset({"replace"}))
        live = records.live(root)
        assert live in (first, second) and promote.settle(root) in (True, False)
        assert champion.read(root / "champion-search.json", champion.SearchChampion).release == live
        moved.append(live == second)
        documents_release.release(root, NOON)
        assert snapshot(root) == snapshot(whole) and live_build(root) == live_build(whole), n
        shutil.rmtree(root)
        if not killed:
            break
    assert not killed and moved == sorted(moved) and {*moved} == {False, True}


def test_nothing_is_live_yet(tmp_path):
    """Documents need a model to answer from them."""
    with pytest.raises(GateError, match="no model is live yet; run a night"):
        documents_release.release(tmp_path, NOON)


def test_a_flow_that_has_to_ask_releases_nothing_by_itself(house, monkeypatch):
    """nightly.approval: ask holds for documents too: they wait, and the line says for what."""
    import logging

    from flows import steps
    from tasks import params

    monkeypatch.setattr(steps, "get_run_logger", lambda: logging.getLogger("test"))  # there is no run here
    night = steps.Night(house, params.load(house / "params.yaml"), None, NIGHT)
    assert steps.release_documents.fn(night, False) is None  # nothing is new
    first = records.live(house)
    documents(house, " Not on Sunday.")
    search(house, 0.95, first)
    model(house, "two", good=False)
    assert steps.release_documents.fn(night, False) == f"wait for approval (nightshift promote --documents); {first} stays live"
    assert records.live(house) == first
    assert f"is live: new documents, the model of {first}" in steps.release_documents.fn(night, True)


def test_what_becomes_of_documents_is_told(house, api, monkeypatch):
    """That the gate refuses them, once they do; that they are live."""
    import logging

    from flows import events, steps
    from tasks import params

    monkeypatch.setattr(steps, "get_run_logger", lambda: logging.getLogger("test"))  # there is no run here
    night, first = steps.Night(house, params.load(house / "params.yaml"), None, NIGHT), records.live(house)
    documents(house, " Not on Sunday.")
    search(house, 0.1, first)
    assert "the gate holds them back" in steps.release_documents.fn(night, True)
    assert read_json(house / events.TOLD).keys() == {"documents"}
    search(house, 0.95, first)
    steps.release_documents.fn(night, True)
    assert read_json(house / events.TOLD)["live"] == records.live(house) != first


def test_documents_wait_like_a_model(house):
    """A held-back model and new documents: they are what is asked about; changed again meanwhile, nothing is done."""
    first = records.live(house)
    assert approval.waiting(house) is None
    documents(house, " Not on Sunday.")
    search(house, 0.95, first)
    model(house, "two", good=False)
    request = approval.waiting(house)
    assert (request.kind, request.live, request.manifest["model_of"]) == ("documents", first, first)
    assert "Make the live model with new documents" in approval.question(house, request, {})
    documents(house, " Not on Monday.")
    assert approval.approve(house, request, NOON) == "the documents have changed since"
    request = approval.waiting(house)
    done = approval.approve(house, request, NOON)
    assert done.release == records.live(house) == f"2026-11-24-{request.name}"
    assert approval.waiting(house) is None and documents_release.candidate(house) is None
    documents(house, " Not on Friday.")
    search(house, 0.95, done.release)
    request = approval.waiting(house)
    approval.reject(house, request, NOON, "", "")
    assert approval.waiting(house) is None
    assert approval.rejection(house, request.manifest) == "rejected on 2026-11-24"
