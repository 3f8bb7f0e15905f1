"""One pointer: flipped after all parts verify, back again, twice without harm, and whole after a kill at any line."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tasks import champion, listing, promote, records
from tasks.errors import DataError, GateError
from tasks.files import read_json, sha256_file, write_json
from tasks.lock import BusyError
from tests.killing import ended, killed_at, start

STAGES = (("evaluate", "evaluation"), ("retrieve", "retrieval"), ("release", "release"))
NIGHT, LATER = datetime(2026, 11, 24, 3, tzinfo=UTC), datetime(2026, 11, 25, 3, tzinfo=UTC)


def night(root: Path, model: str, good: bool = True) -> Path:
    """What a night leaves: artifacts, metrics, dvc.lock; `model` is the model's bytes."""
    (root / "artifacts/int4").mkdir(parents=True, exist_ok=True)
    (root / "artifacts/int4/model.safetensors").write_text(model)
    answers = {"context-1": {"set": "context", "case": "00", "answer": f"It opens at {model}."}}
    write_json(root / "artifacts/evaluation/challenger.json", {"answers": answers})
    found = {"documents-1": {"case": "00", "rank": len(model), "found": True}}
    write_json(root / "artifacts/retrieval/challenger.json", {"questions": found})
    write_json(root / "metrics/evaluate.json", {"right": 0.5})
    (root / "artifacts/sft").mkdir(exist_ok=True)
    (root / "artifacts/sft/adapter.safetensors").write_text(f"adapter of {model}")
    write_json(
        root / "artifacts/release/manifest.json",
        {
            "parts": {"model": records.part(root / "artifacts/int4", root)},
            "made_from": {"sft": records.part(root / "artifacts/sft", root)},
            "evaluation": {"evaluation": records.part(root / "artifacts/evaluation", root)},
            "metrics": {"evaluate": records.part(root / "metrics/evaluate.json", root)},
            "figures": {"right %": 0.5},
            "data": {"md5": "00"},
            "stack": {},
            "gate": {"promote": good, "reasons": [{"passed": good, "why": f"correct: {model}"}]},
        },
    )
    stages = {name: {"outs": [f"artifacts/{folder}"]} for name, folder in STAGES}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    outs = [{"path": "artifacts/int4", "md5": "00.dir"}, {"path": "artifacts/sft", "md5": "11.dir"}]
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"quantize": {"outs": outs}}}))
    (root / "params.yaml").write_text("{}\n")
    if not (root / "champion.json").exists():
        champion.write(root / "champion.json", champion.Champion(release=None))
        champion.write(root / "champion-search.json", champion.SearchChampion(release=None))
    return root


def searched(root: Path) -> champion.SearchChampion:
    """champion-search.json."""
    return champion.read(root / "champion-search.json", champion.SearchChampion)


def test_an_output_may_have_settings(tmp_path):
    """dvc.yaml writes a path, or a path with settings such as `persist`."""
    outs = {"plain": ["artifacts/a", "b"], "told": [{"artifacts/c": {"persist": True}}]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {name: {"outs": out} for name, out in outs.items()}}))
    assert records.output_of(tmp_path, "plain") == tmp_path / "artifacts/a"
    assert records.output_of(tmp_path, "told") == tmp_path / "artifacts/c"
    with pytest.raises(DataError, match="has no stage 'none' with an output folder"):
        records.output_of(tmp_path, "none")


def snapshot(root: Path) -> dict[str, bytes]:
    """Every promotion file's bytes."""
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted([*root.glob("releases/**/*"), *root.glob("champion*.json")])
        if p.is_file()
    }


def test_a_release_records_everything_and_twice_is_once(tmp_path):
    """Id from date and hash; manifest, lock, metrics; champion.json follows; again: not a byte changes."""
    root = night(tmp_path, "11:00")
    done = promote.promote(root, NIGHT)
    assert done.flipped and done.before is None
    assert done.release == f"2026-11-24-{records.candidate(root)[0][:8]}"
    record = records.record(root, done.release)
    assert record["manifest"] == records.candidate(root)[1]
    assert record["metrics"] == {"evaluate": {"right": 0.5}}
    assert record["dvc"]["outs"] == {"artifacts/int4": "00.dir", "artifacts/sft": "11.dir"}
    assert (record["published"], record["previous"], record["withdrawn"]) == ("2026-11-24T03:00:00.000Z", None, None)
    assert records.live(root) == done.release == champion.read(root / "champion.json").release
    assert champion.read(root / "champion.json").answers["context-1"].answer == "It opens at 11:00."
    assert searched(root).release == done.release and searched(root).questions["documents-1"].rank == 5
    assert {*promote.COMMITTED} == {"releases", "champion.json", "champion-search.json"}
    before = snapshot(root)
    again = promote.promote(root, datetime(2026, 11, 25, tzinfo=UTC))
    assert not again.flipped and again.release == done.release
    assert snapshot(root) == before


def test_the_same_parts_are_no_new_release(tmp_path):
    """Judged anew beside its own champion a model has another manifest; it is still what is live, or was rolled back."""
    root = night(tmp_path, "1")
    first = promote.promote(root, NIGHT).release
    path = root / "artifacts/release/manifest.json"
    write_json(path, {**read_json(path), "figures": {"right %": 0.75}})
    assert promote.promote(root, NIGHT) == promote.Promoted(first, False, first)
    second = promote.promote(night(root, "2"), NIGHT).release
    promote.rollback(root, NIGHT)
    write_json(path, {**read_json(path), "figures": {"right %": 0.75}})
    with pytest.raises(GateError, match=f"{second}: was rolled back"):
        promote.promote(root, NIGHT)


def test_changed_parts_and_a_closed_gate_are_refused(tmp_path):
    """The pointer does not move when a part is not the manifest's, or the gate said no."""
    root = night(tmp_path, "11:00")
    promote.promote(root, NIGHT)
    before = snapshot(root)
    night(root, "12:00")
    (root / "artifacts/int4/model.safetensors").write_text("13:00")
    with pytest.raises(GateError, match=r"model \(artifacts/int4\) has other bytes; restore the parts"):
        promote.promote(root, NIGHT)
    night(root, "14:00", good=False)
    with pytest.raises(GateError, match="the gate holds it back: correct: 14:00"):
        promote.promote(root, NIGHT)
    assert snapshot(root) == before


def test_rollback_flips_back_and_no_night_brings_it_again(tmp_path):
    """R1 → R2 → back to R1; promoting R2 again needs a person's word."""
    root = night(tmp_path, "1")
    first = promote.promote(root, NIGHT).release
    with pytest.raises(GateError, match="is the first release"):
        promote.rollback(root, NIGHT)
    second = promote.promote(night(root, "22"), NIGHT).release
    assert searched(root).questions["documents-1"].rank == 2
    back = promote.rollback(root, NIGHT)
    assert (searched(root).release, searched(root).questions["documents-1"].rank) == (first, 1)
    assert (back.release, back.before, records.live(root)) == (first, second, first)
    assert champion.read(root / "champion.json").answers["context-1"].answer == "It opens at 1."
    with pytest.raises(GateError, match="was rolled back on 2026-11-24T03:00"):
        promote.promote(root, NIGHT)
    assert promote.promote(root, NIGHT, again=True).release == second == records.live(root)
    assert records.record(root, second)["withdrawn"] is None
    assert promote.rollback(root, NIGHT, to=first[-8:]).release == first


def test_both_files_follow_live_and_each_alone(tmp_path):
    """One of them lost, or left behind by a kill: settle mends just that one, says so, and a second time does nothing."""
    root = night(tmp_path, "1")
    promote.promote(root, NIGHT)
    before = snapshot(root)
    for name, kind in (("champion.json", champion.Champion), ("champion-search.json", champion.SearchChampion)):
        champion.write(root / name, kind(release=None))
        assert promote.settle(root) and not promote.settle(root)
        (root / name).unlink()
        assert promote.settle(root) and not promote.settle(root)
        assert snapshot(root) == before


def test_a_release_of_before_search_was_compared(tmp_path):
    """It has no file in releases/search: champion-search.json is made empty, which is no sign of an interrupted rollback."""
    root = night(tmp_path, "1")
    first = promote.promote(root, NIGHT).release
    (root / f"releases/search/{first}.json").unlink()
    (root / "champion-search.json").unlink()
    assert not promote.settle(root) and searched(root).release is None
    second = promote.promote(night(root, "2"), NIGHT).release
    assert searched(root).release == second
    (root / "champion-search.json").unlink()
    assert promote.settle(root) and searched(root).release == second
    assert promote.rollback(root, NIGHT).release == first and searched(root).release is None


def judged(root: Path, told: dict[str, list[int]]) -> str:
    """Judgements of the candidate, as stage release writes them; their hash."""
    path = root / "artifacts/release/judgements.json"
    write_json(path, told)
    hash_ = sha256_file(path)
    named = {"sha256": hash_, "annotators": len(told), "annotations": sum(map(len, told.values()))}
    manifest = root / "artifacts/release/manifest.json"
    write_json(manifest, {**read_json(manifest), "judgements": named})
    return hash_


def test_a_release_keeps_the_judgements_that_shaped_it(tmp_path):
    """By their hash, so that nights with the same ones share a file; an older release does not tell."""
    root, told = night(tmp_path, "1"), {"annotator-01": [1, 2], "annotator-02": [3]}
    hash_ = judged(root, told)
    first = records.record(root, promote.promote(root, NIGHT).release)["manifest"]
    kept = root / f"releases/judgements/{hash_[:16]}.json"
    assert sha256_file(kept) == hash_ and records.judgements_of(root, first) == told
    judged(night(root, "2"), told)
    promote.promote(root, NIGHT)
    assert [path.name for path in (root / "releases/judgements").iterdir()] == [kept.name]
    judged(night(root, "3"), {"annotator-02": [3]})
    third = promote.promote(root, NIGHT).release
    assert records.judgements_of(root, records.record(root, third)["manifest"]) == {"annotator-02": [3]}
    assert listing.judged(first) == ["judged    3 annotations by 2 annotators"] and listing.judged({}) == []
    old = records.record(root, promote.promote(night(root, "4"), NIGHT).release)["manifest"]
    assert records.judgements_of(root, old) is None


def test_judgements_that_are_not_those_of_the_manifest_are_refused(tmp_path):
    """Nothing is written: a release that names what nobody can read back would say nothing."""
    root = night(tmp_path, "1")
    judged(root, {"annotator-01": [1]})
    write_json(root / "artifacts/release/judgements.json", {"annotator-01": [2]})
    with pytest.raises(GateError, match=r"judgements/[0-9a-f]{16}\.json: is missing, and the candidate has other judgements"):
        promote.promote(root, NIGHT)
    assert records.live(root) is None and snapshot(root).keys() <= {"champion.json", "champion-search.json"}


def test_names_of_releases(tmp_path):
    """Any unambiguous end of an id names it; others are told where to look."""
    root = night(tmp_path, "1")
    first = promote.promote(root, NIGHT).release
    second = promote.promote(night(root, "2"), NIGHT).release
    assert records.record(root, second[-8:])["release"] == second
    with pytest.raises(GateError, match="names several releases"):
        records.record(root, "2026")
    with pytest.raises(GateError, match="is no release"):
        records.record(root, "2025")
    assert {item["release"] for item in records.records(root)} == {first, second}


def look(root: Path, expected: set[str]) -> str:
    """What any reader does at any moment: LIVE names a release of these whose every file is whole; returns it."""
    live = records.live(root)
    assert live in expected
    manifest = records.record(root, live)["manifest"]
    assert manifest["gate"]["promote"] and records.origin(manifest)
    for name, kind in (("answers", champion.Champion), ("search", champion.SearchChampion)):
        assert champion.read(root / f"releases/{name}/{live}.json", kind).release == live
    assert records.judgements_of(root, manifest)["annotator-01"]
    assert listing.status(root)[0].split(",")[0] in {f"live: {release}" for release in expected}
    for made in records.records(root):
        assert listing.show(root, made["release"], live)
    for follower in promote.FOLLOWERS:
        assert champion.read(root / follower.path, follower.kind).release in expected
    return live


def three_nights(root: Path) -> Path:
    """Two releases, and a candidate that would be the third."""
    for n in (1, 2, 3):
        night(root, "x" * n)
        judged(root, {"annotator-01": [n]})
        if n < 3:
            promote.promote(root, NIGHT - timedelta(days=3 - n))
    return root


@pytest.mark.parametrize("action", ["promote", "rollback", "rollback to the first"])
def test_kill_at_any_file_operation_leaves_old_or_new_and_again_completes_it(tmp_path, action):
    """A real SIGKILL before the n-th write, fsync, rename or removal, every n: whatever is there then can be read and is
    the old or the new; the same once more ends with the bytes of an undisturbed run, and nothing is left over."""
    before = three_nights(tmp_path / "before")
    first = records.records(before)[-1]["release"]
    second = records.live(before)

    def act(root: Path) -> promote.Promoted:
        if action == "promote":
            return promote.promote(root, LATER)
        return promote.rollback(root, LATER, *([first] if "to" in action else []))

    whole = Path(shutil.copytree(before, tmp_path / "whole"))
    act(whole)
    new, wanted, moved = records.live(whole), snapshot(whole), []
    assert new != second
    for n in range(200):
        root = Path(shutil.copytree(before, tmp_path / "killed"))
        killed = killed_at(n, lambda root=root: act(root))
        moved.append(look(root, {second, new}) == new)
        if killed:
            act(root)
        assert snapshot(root) == wanted, n
        assert not (root / promote.ROLLBACK).exists()
        shutil.rmtree(root)
        if not killed:
            break
    assert not killed and n >= 30
    assert moved == sorted(moved) and {*moved} == {False, True}  # once it is the new one it stays so


def test_a_killed_rollback_goes_back_once_and_a_killed_promotion_is_no_rollback(tmp_path):
    """The journal tells the two apart: R1, R2, R3 → after a rollback that was killed behind its flip, R2 and not R1; and
    after a promotion that was, the rollback that somebody asks for goes back one."""
    root = three_nights(tmp_path)
    second = records.live(root)


    def killed_behind_its_flip(act) -> str:
        """Kill it later and later until LIVE has moved; what it names then."""
        before = records.live(root)
        for n in range(100):
            assert killed_at(n, lambda: act(root, NIGHT))
            if (now := records.live(root)) != before:
                return now
        raise AssertionError("never moved")

    third = killed_behind_its_flip(promote.promote)
    assert champion.read(root / "champion.json").release == second
    killed_behind_its_flip(promote.rollback)
    assert records.live(root) == second and (root / promote.ROLLBACK).exists()
    assert promote.rollback(root, NIGHT) == promote.Promoted(second, True, third)
    assert records.live(root) == second == champion.read(root / "champion.json").release
    assert promote.rollback(root, NIGHT).before == second and not (root / promote.ROLLBACK).exists()


def test_a_rollback_that_was_killed_before_its_flip_did_not_happen(tmp_path):
    """What is live is not marked as rolled back for long: the next look settles it."""
    root = three_nights(tmp_path)
    live = records.live(root)
    assert killed_at(2, lambda: promote.rollback(root, NIGHT), frozenset({"replace"}))  # journal, mark, then LIVE
    assert records.live(root) == live and records.record(root, live)["withdrawn"]
    assert not promote.settle(root) and records.record(root, live)["withdrawn"] is None


def test_readers_never_see_half_a_release(tmp_path):
    """Another process reads without pause while releases go live and back; it must find a whole one each time."""
    root = three_nights(tmp_path)
    ids = {item["release"] for item in records.records(root)} | {f"2026-11-25-{records.candidate(root)[0][:8]}"}
    counted, stop = tmp_path / "counted", tmp_path / "stop"

    def read() -> None:
        seen, times = set(), 0
        while not stop.exists():
            seen.add(look(root, ids))
            times += 1
        counted.write_text(f"{times} {len(seen)}")

    child = start(read)
    try:
        for _ in range(15):
            promote.promote(root, LATER, again=True)
            promote.rollback(root, LATER)
    finally:
        stop.touch()
        assert ended(child) == 0
    times, seen = map(int, counted.read_text().split())
    assert times >= 5 and seen == 2


def test_one_at_a_time(tmp_path, monkeypatch):
    """While another process promotes, a second one waits, and says who is in its way when that takes too long; a killed one
    is in nobody's way. Two at once end as one."""
    root = three_nights(tmp_path)
    monkeypatch.setattr(promote, "PATIENCE", 0.0)
    with promote.changing(root):
        for change in (promote.promote, promote.rollback, lambda root, _: promote.settle(root)):
            with pytest.raises(BusyError, match=rf"another promotion or rollback is running here \(process {os.getpid()}\)"):
                change(root, NIGHT)
    monkeypatch.setattr(promote, "PATIENCE", 60.0)
    children = [start(lambda: promote.promote(root, NIGHT)) for _ in range(3)]
    assert [ended(child) for child in children] == [0, 0, 0]
    assert len(records.records(root)) == 3
    assert records.live(root) == records.released_as(root, records.candidate(root)[1])["release"]


def test_what_it_was_made_from_is_verified_too(tmp_path):
    """Other bytes in the workspace, or made anew since by dvc.lock: refused. Gone from the workspace: dvc.lock and the cache
    have to know it; what neither has is said."""
    root = three_nights(tmp_path)
    before = snapshot(root)
    (root / "artifacts/sft/adapter.safetensors").write_text("other")
    with pytest.raises(GateError, match=r"made_from sft \(artifacts/sft\) has other bytes; restore"):
        promote.promote(root, NIGHT)
    shutil.rmtree(root / "artifacts/sft")
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    outs = lock["stages"]["quantize"]["outs"]
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"quantize": {"outs": outs[:1]}}}))
    with pytest.raises(GateError, match=r"artifacts/sft is missing, and dvc\.lock does not name it"):
        promote.promote(root, NIGHT)
    stale = {"deps": [{"path": "artifacts/sft", "md5": "22.dir"}]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {**lock["stages"], "release": stale}}))
    with pytest.raises(GateError, match=r"artifacts/sft was made anew since; dvc repro release"):
        promote.promote(root, NIGHT)
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    write_json(root / "metrics/evaluate.json", {"right": 0.6})
    with pytest.raises(GateError, match=r"metrics evaluate \(metrics/evaluate\.json\) has other bytes"):
        promote.promote(root, NIGHT)
    assert snapshot(root) == before
    write_json(root / "metrics/evaluate.json", {"right": 0.5})
    Repo.init(str(root), no_scm=True).close()
    done = promote.promote(root, NIGHT)
    assert done.notes == ("artifacts/sft is in neither the workspace nor DVC's cache: dvc fetch artifacts/sft, to trace the "
                          "release here",)
    assert promote.promote(root, NIGHT).notes == ()
