"""One pointer: flipped after all parts verify, back again, twice without harm, and whole after a kill at any line."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tasks import champion, listing, promote, records
from tasks.errors import DataError, GateError
from tasks.files import read_json, sha256_file, sha256_tree, size, write_json

ROOT = Path(__file__).parent.parent
STAGES = (("evaluate", "evaluation"), ("retrieve", "retrieval"), ("release", "release"))
NIGHT = datetime(2026, 11, 24, 3, tzinfo=UTC)


def night(root: Path, model: str, good: bool = True) -> Path:
    """What a night leaves: artifacts, metrics, dvc.lock; `model` is the model's bytes."""
    (root / "artifacts/int4").mkdir(parents=True, exist_ok=True)
    (root / "artifacts/int4/model.safetensors").write_text(model)
    answers = {"context-1": {"set": "context", "case": "00", "answer": f"It opens at {model}."}}
    write_json(root / "artifacts/evaluation/challenger.json", answers)
    found = {"documents-1": {"case": "00", "rank": len(model), "found": True}}
    write_json(root / "artifacts/retrieval/challenger.json", found)
    write_json(root / "metrics/evaluate.json", {"right": 0.5})
    part = root / "artifacts/int4"
    write_json(
        root / "artifacts/release/manifest.json",
        {
            "parts": {"model": {"path": "artifacts/int4", "sha256": sha256_tree(part), "bytes": size(part)}},
            "figures": {"right %": 0.5},
            "data": {"md5": "00"},
            "stack": {},
            "gate": {"promote": good, "reasons": [{"passed": good, "why": f"correct: {model}"}]},
        },
    )
    stages = {name: {"outs": [f"artifacts/{folder}"]} for name, folder in STAGES}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / "dvc.lock").write_text("stages: {quantize: {outs: [{path: artifacts/int4, md5: 00.dir}]}}\n")
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
    assert record["dvc"]["outs"] == {"artifacts/int4": "00.dir"}
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


KILLED = """
    import os, signal, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from tasks import promote
    left, real = int(sys.argv[1]), os.replace
    def replace(source, target):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        real(source, target)
    os.replace = replace
    getattr(promote, sys.argv[2])(Path.cwd(), datetime(2026, 11, 24, 3, tzinfo=UTC))
"""


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_kill_at_any_file_leaves_old_or_new_and_again_completes_it(tmp_path, action):
    """A real SIGKILL at the n-th rename, every n: LIVE names a whole release, and once more ends as undisturbed."""
    root = night(tmp_path / "killed", "1")
    whole = night(tmp_path / "whole", "1")
    for folder in (root, whole):
        judged(folder, {"annotator-01": [1]})
        promote.promote(folder, NIGHT)
        judged(night(folder, "2"), {"annotator-01": [1, 2]})
        if action == "rollback":
            promote.promote(folder, NIGHT)
    old = records.live(root)
    getattr(promote, action)(whole, NIGHT)
    for n in range(20):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(n), action],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        live = records.live(root)
        assert live in (old, records.live(whole))
        assert records.record(root, live)["release"] == live
        if done.returncode == 0 and live == records.live(whole):
            break
        assert done.returncode == -9, done.stderr
    else:
        pytest.fail("never came through")
    assert n >= 3
    assert {k: v for k, v in snapshot(root).items() if "part-" not in k} == snapshot(whole)
