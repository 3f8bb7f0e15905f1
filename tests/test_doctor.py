"""`nightshift doctor` on the small repository: real git, real DVC, one thing wrong at a time. Servers: test_doctor_servers.py."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tasks import cli, git, home, lock, promote, records, worktree
from tasks.doctor import CHECKS, Check, examine, findings, leftovers, machine, place_of, project, releases, services
from tasks.doctor.findings import Finding, Place, broken, note, ok, warning
from tasks.files import read_json, write_json
from tests import minigraph

NIGHT = datetime(2026, 11, 24, 3, tzinfo=UTC)


@functools.cache
def _settled() -> Path:
    """The repository after a night: computed, released, committed."""
    root = minigraph.make(minigraph.scratch("doctor"))
    minigraph.dvc(root, "repro", "--quiet")
    promote.promote(root, NIGHT)
    git.commit(root, [*promote.COMMITTED, "dvc.lock", "metrics"], "Night")
    minigraph.dvc(root, "push", "--quiet")
    return root


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A copy of it, in which nothing from outside counts."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("PREFECT_API_URL", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    copy = Path(shutil.copytree(_settled(), tmp_path / "mini", symlinks=True))
    monkeypatch.chdir(copy)
    return copy


def of(found: list[Finding], level: str) -> list[tuple[str, str]]:
    """What is said at a level, with its remedy."""
    return [(one.what, one.remedy) for one in found if one.level == level]


def look(check, root: Path) -> list[Finding]:
    """One check, alone."""
    return list(check(place_of(root)))


def changed(root: Path, **sections: dict) -> Place:
    """The place, params.yaml having these values."""
    path = root / "params.yaml"
    told = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        told[name] |= values
    path.write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
    return place_of(root)


def test_a_repository_after_its_night_is_well(root):
    """Nothing broken, no warning; each area speaks; nothing in the folder has changed."""
    before = minigraph.run(root, "git", "status", "--porcelain")
    found = examine(place_of(root))
    assert of(found, "broken") == of(found, "warning") == []
    areas = ["machine", "project", "releases", "prefect", "labelling", "settings"]  # search: no server is named
    assert list(dict.fromkeys(one.area for one in found)) == areas
    said = {one.what for one in found if one.level == "ok"}
    live = records.live(root)
    assert {f"{live} is live, 2 parts in the cache", "champion files follow it", "data/ is what data.dvc names"} <= said
    assert before == minigraph.run(root, "git", "status", "--porcelain") == ""


def test_the_command_line_prints_areas_remedies_and_a_sum(root, capsys):
    """Exit code 0 with warnings alone, 1 with something broken; --json says the same."""
    changed(root, nightly={"approval": "manual"})
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    told = "nightly.approval is manual and PREFECT_API_URL is not set: nobody can be asked"
    assert f"\nsettings\n  warning  {told}\n           → make up, or" in out
    assert "  warning  not committed: params.yaml;" in out and out.endswith("\n\n0 broken, 2 warnings\n")
    shutil.rmtree(root / "data")
    (root / "data.dvc").unlink()
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["broken"], told["warnings"]) == (1, 1, 2)
    bad = next(one for one in told["findings"] if one["level"] == "broken")
    assert (bad["area"], bad["remedy"]) == ("project", "git checkout data.dvc, or for your own data: dvc add data")


def test_it_loads_nothing_heavy(root):
    """What takes seconds to import is not needed to say what is wrong."""
    code = ("import sys; from tasks import cli; cli.main(['doctor']); "
            "print(sorted({'torch', 'prefect', 'lancedb', 'weaviate', 'label_studio_sdk', 'pandas'} & set(sys.modules)))")
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=minigraph.environment(), capture_output=True, text=True)
    print(f"{time.monotonic() - began:.1f} s")
    assert done.stdout.endswith("0 broken, 0 warnings\n[]\n"), done.stdout + done.stderr


def test_a_check_that_fails_or_hangs_is_a_finding(root):
    """The others go on; what a check had found before stays; a secret in its error is not told."""

    def torn(place: Place) -> Iterator[Finding]:
        yield ok("half of it")
        raise KeyError("http://anna:geheim@host/x")

    def endless(place: Place) -> Iterator[Finding]:
        yield note("begun")
        time.sleep(60)

    checks = (Check("a", endless, waits=True, seconds=0.3), Check("b", torn), Check("c", endless, seconds=0.3))
    found = examine(Place(root, root), checks)
    assert [(one.area, one.level, one.what) for one in found] == [
        ("a", "note", "begun"), ("a", "broken", "check 'endless' did not end within 0 s"),
        ("b", "ok", "half of it"), ("b", "broken", "check 'torn' failed: KeyError: 'http://…@host/x'"),
        ("c", "note", "begun"), ("c", "warning", "check 'endless' did not end within 0 s")]  # fmt: skip


def test_outside_a_project_each_check_still_speaks(tmp_path, monkeypatch):
    """No traceback, and the first thing to do."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "empty").mkdir()
    found = examine(place_of(tmp_path / "empty"))
    said = [what for what, _ in of(found, "broken")]
    assert any(what.endswith("params.yaml: is missing") for what in said) and any("has no dvc.yaml" in what for what in said)
    assert not any("failed" in what for what in said)


def test_secrets_are_not_printed(root, monkeypatch):
    """Values of the environment and of the file of secrets, passwords of URLs; control characters and lines neither."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "d2f1a0c39b7e4865")
    (root / ".nightshift").mkdir(exist_ok=True)
    (root / ".nightshift/secrets.env").write_text("WEAVIATE_API_KEY=kept-secret-1\n")
    safe = findings.hiding(root)
    told = safe(broken("a d2f1a0c39b7e4865\nb\x1b[31m kept-secret-1", "see s3://me:p/w@host/b?token=abc, then x"))
    assert (told.what, told.remedy) == ("a … b[31m …", "see s3://…@host/b?… then x")


def test_lines_are_aligned_and_only_ok_is_cut(monkeypatch):
    """An ok line ends at the width; a remedy stands below what is wrong alone."""
    monkeypatch.setenv("COLUMNS", "300")  # wider than is asked for; a test before may have left another
    found = [Finding("ok", "x" * 200, area="a"), Finding("broken", "y" * 200, "do", "a"), Finding("note", "z", "unsaid", "b")]
    lines = list(findings.lines(found))
    assert lines[0] == "a" and len(lines[1]) == findings.WIDTH and lines[1].startswith("  ok       xxx")
    assert lines[2:] == [f"  broken   {'y' * 200}", "           → do", "", "b", "  note     z", "", "1 broken, 0 warnings"]


def test_machine(root, monkeypatch):
    """Python, packages, compiler, git, disk, processors: each is missed by itself."""
    (root / "pyproject.toml").write_text('[project]\nrequires-python = ">=4"\n')
    assert "asks for >=4" in of(look(machine.python, root), "broken")[0][0]
    (root / "requirements.lock").write_text("nonesuch==1.0\nhttpx==0.0.1\npyyaml>=1\n# a remark\n")
    found = look(machine.packages, root)
    assert "nonesuch" in of(found, "broken")[0][0] and "httpx (0.0.1 → " in of(found, "warning")[0][0]
    assert not of(look(machine.compiler, root), "broken")
    monkeypatch.setenv("CXX", str(root / "no-compiler"))
    assert "cannot build its kernel" in of(look(machine.compiler, root), "broken")[0][0]
    assert "knows no name here" in of(look(machine.git, root), "note")[0][0]
    minigraph.run(root, "git", "config", "user.name", "Someone")
    minigraph.run(root, "git", "config", "user.email", "some@one")
    assert [one.level for one in look(machine.git, root)] == ["ok"]
    assert [one.level for one in look(machine.disk, root)] == ["ok"]
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"sft": {"outs": [{"path": "artifacts/sft", "size": 10**16}]}}}))
    assert "a night writes up to 20,000,000.0 GB: the next one may not end" in of(look(machine.disk, root), "broken")[0][0]
    cores = int(machine.usable_cores())
    assert [one.level for one in machine.processors(changed(root, compute={"threads": 1}, nightly={"parallel": 1}))] == ["ok"]
    crowded = list(machine.processors(changed(root, nightly={"parallel": 2 * cores + 1})))
    assert of(crowded, "warning")[0][1] == f"nightly.parallel: {2 * cores} in params.yaml"
    assert of(list(machine.processors(changed(root, compute={"threads": cores + 1}))), "warning")
    write_json(root / "metrics/base.json", {"parameters": 10**15})
    assert "of memory, and a night may take" in of(look(machine.memory, root), "warning")[0][0]
    monkeypatch.setenv("PATH", str(root))
    assert of(look(machine.git, root), "broken")[0][1] == "apt-get install git"


def test_a_gpu_is_asked_of_the_driver(root, monkeypatch):
    """The driver's files name it; one that is hidden is not there; cuda without one is broken, auto is not."""
    monkeypatch.setenv("PATH", str(root))  # without nvidia-smi
    proc = root / "gpus"
    (proc / "0000:01:00.0").mkdir(parents=True)
    (proc / "0000:01:00.0/information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   17\n")
    assert machine.gpus(proc) == ["NVIDIA H100 80GB HBM3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus(proc) == []
    assert [one.level for one in machine.gpu(changed(root, compute={"device": "auto"}))] == ["ok"]
    assert [one.level for one in machine.gpu(changed(root, compute={"device": "cuda"}))] == ["broken"]
    assert list(machine.gpu(changed(root, compute={"device": "cpu"}))) == []


def test_params(root):
    """Each wrong value by itself, with the file."""
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("seed:", "sead:") + "\nextra: 1\n")
    said = [what for what, _ in of(look(project.params, root), "broken")]
    assert len(said) == 4 and any("sead: no such parameter (did you mean 'seed'?)" in what for what in said)
    assert of(examine(place_of(root)), "broken")[0][0].endswith("params.yaml: 3 problems")
    (root / "params.yaml").write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in of(look(project.params, root), "broken")[0][0]


def test_repository(root):
    """Uncommitted settings, no branch, a torn index lock, no commit, no repository."""
    (root / "dvc.yaml").write_text((root / "dvc.yaml").read_text() + "\n# newer\n")
    assert of(look(project.repository, root), "warning")[0][0] == (
        "not committed: dvc.yaml; a release could not be made again from its commit")
    minigraph.run(root, "git", "checkout", "--quiet", "--detach")
    assert "HEAD is detached" in of(look(project.repository, root), "warning")[0][0]
    index = root / ".git/index.lock"
    index.write_text("")
    assert not of(look(project.repository, root), "broken")  # somebody may be at work
    os.utime(index, (0, 0))
    assert of(look(project.repository, root), "broken")[0][1].startswith(f"rm {index}")
    shutil.rmtree(root / ".git")
    assert "no git repository" in of(look(project.repository, root), "broken")[0][0]
    minigraph.run(root, "git", "init", "--quiet")
    assert "no commit yet" in of(look(project.repository, root), "warning")[0][0]


def test_the_nights_home(root):
    """How far it is behind; what the checkout has not committed; gone."""
    there = home.make(root)
    assert place_of(root) == place_of(there.root) and place_of(root).root == there.root
    assert [one.level for one in look(project.nights_home, root)] == ["ok"]
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "\n# newer\n")
    assert of(look(project.repository, root), "warning")[0][0] == "not committed: params.yaml; nights do not have it"
    git.commit(root, ["params.yaml"], "a person's")
    assert "the next night takes in 1 commit of main" in of(look(project.nights_home, root), "note")[0][0]
    shutil.rmtree(there.root)
    assert of(look(project.nights_home, root), "broken")[0][1] == "make up"


def test_graph_and_data(root):
    """A dvc.yaml that DVC cannot read; data that has changed, was never cached, is missing."""
    assert look(project.graph, root) == [ok("dvc.yaml: 6 stages")]
    (root / "dvc.yaml").write_text("stages: {sft: {cmd: [}\n")
    assert of(examine(place_of(root), [Check("project", project.graph)]), "broken")[0][0].startswith("dvc: ")
    minigraph.run(root, "git", "checkout", "dvc.yaml")
    (root / "data/a.txt").write_text("oat milk\n")
    assert of(look(project.data, root), "note")[0][0].startswith("data/ has changed since data.dvc: the next night takes it in")
    minigraph.run(root, "git", "checkout", "data.dvc")
    minigraph.dvc(root, "checkout", "--force", "data.dvc")
    shutil.rmtree(root / ".dvc/cache")
    assert "is not in DVC's cache" in of(look(project.data, root), "warning")[0][0]
    with lock.alone(root):
        assert "somebody is at work" in of(look(project.data, root), "note")[0][0]
    (root / "releases/LIVE").unlink()
    assert [one.level for one in look(project.data, root)] == ["note"]  # as in a fresh clone
    shutil.rmtree(root / "data")
    assert of(look(project.data, root), "warning")[0][1] == "nightshift bootstrap, or dvc pull data.dvc"


def test_remote(root):
    """One that is not there, a folder, one that cannot be written to, one elsewhere, none; --remote says what it lacks."""
    shutil.rmtree(root / ".remote")
    assert "is not there, and there are releases" in of(look(project.remote, root), "warning")[0][0]
    asked = list(project.asked_remote(place_of(root, remote=True)))
    assert [one.level for one in asked] == ["warning"] and asked[0].remedy == "dvc push"
    minigraph.dvc(root, "push", "--quiet")
    assert [one.level for one in look(project.remote, root)] == ["note"]  # on the cache's own disk
    assert list(project.asked_remote(place_of(root, remote=True))) == [ok("DVC's remote has all present outputs")]
    assert list(project.asked_remote(place_of(root))) == []
    if os.geteuid():
        (root / ".remote").chmod(0o500)
        assert "cannot be written to" in of(look(project.remote, root), "broken")[0][0]
    minigraph.dvc(root, "remote", "modify", "local", "url", "s3://me:geheim@bucket/x")
    said = look(project.remote, root)
    assert len(said) == 1 and "geheim" not in said[0].what
    assert said[0].level == ("note" if project.importlib.util.find_spec("dvc_s3") else "broken")
    minigraph.dvc(root, "remote", "remove", "local")
    assert "no DVC remote" in of(look(project.remote, root), "warning")[0][0]


def test_locks(root):
    """Held ones are notes; one that DVC would wait for in vain is broken; a night that has ended has left none."""
    assert look(leftovers.locks, root) == [ok("no lock is held, none is left over")]
    with lock.alone(root), open(root / ".dvc/tmp/lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert [one.level for one in look(leftovers.locks, root)] == ["note", "note"]
        assert f"(process {os.getpid()})" in look(leftovers.locks, root)[0].what
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        rw = root / ".dvc/tmp/rwlock"
        rw.write_text(json.dumps({"write": {"artifacts/sft": {"pid": stranger.pid, "cmd": "dvc repro"}}, "read": {}}))
        assert of(look(leftovers.locks, root), "broken")[0] == (
            f"{rw} names process {stranger.pid}, which is no dvc any more: DVC waits for it for ever", f"rm {rw}")
    finally:
        stranger.kill()
        stranger.wait()
    assert not of(look(leftovers.locks, root), "broken")  # DVC drops one that has ended by itself
    rw.write_text("{")
    assert "is torn" in of(look(leftovers.locks, root), "broken")[0][0]
    rw.unlink()
    minigraph.dvc(root, "config", "core.hardlink_lock", "true")
    (root / ".dvc/tmp/lock").write_text(f"/x/lock|host|{stranger.pid}|123\n")
    assert "which has ended: DVC waits for it for ever" in of(look(leftovers.locks, root), "broken")[0][0]


def test_what_killed_runs_leave(root, tmp_path):
    """Checkpoints, old and fresh; a rollback and a reproduction that were killed; a forgotten work tree."""
    assert look(leftovers.killed, root) == [ok("killed runs have left nothing")]
    work = root / ".nightshift/work"
    for name in ("sft-0011", "align-2233"):
        (work / name).mkdir(parents=True)
        (work / name / "state").write_bytes(b"x" * 2000)
    os.utime(work / "align-2233", (0, 0))
    found = look(leftovers.killed, root)
    assert of(found, "note")[0][0] == "stage sft was ended before its end: the next run goes on from there (2 kB)"
    assert of(found, "warning")[0][1] == "rm -r .nightshift/work/align-2233"
    with lock.alone(root):
        assert look(leftovers.killed, root) == [ok("killed runs have left nothing")]  # a night uses them now
    shutil.rmtree(work)
    write_json(root / promote.ROLLBACK, {"from": "b", "to": "a"})
    assert of(look(leftovers.killed, root), "warning") == [
        ("a rollback was interrupted (from b to a)", "nightshift rollback completes it")]
    (root / promote.ROLLBACK).unlink()
    tree = worktree.add(root, tmp_path / "left/tree", "HEAD")
    write_json(root / leftovers.HOME / "folder.json", {"folder": str(tmp_path / "left")})
    assert f"left {tmp_path / 'left'}" in of(look(leftovers.killed, root), "warning")[0][0]
    shutil.rmtree(tree)
    (root / leftovers.HOME / "folder.json").unlink()
    assert of(look(leftovers.killed, root), "warning")[0][1] == "git worktree prune"


def test_releases(root):
    """No record, parts that are gone (one file of a folder is enough), a follower that lags, an interrupted rollback."""
    release = records.live(root)
    path = root / f"releases/{release}.json"
    md5 = read_json(path)["dvc"]["outs"]["artifacts/sft"]
    listed = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    one = json.loads(listed.read_text())[0]["md5"]
    (root / ".dvc/cache/files/md5" / one[:2] / one[2:]).unlink()
    said, remedy = of(look(releases.live, root), "broken")[0]
    assert said == f"{release} is live, and not in DVC's cache: artifacts/sft" and f"nightshift reproduce {release}" in remedy
    write_json(root / "champion.json", {"release": None})
    assert of(look(releases.followers, root), "warning")[0] == (
        f"champion.json is of no release, and {release} is live", f"nightshift rollback {release} settles it; a night does too")
    assert cli.main(["rollback", release, "--no-commit"]) == 0
    assert look(releases.followers, root) == [ok("champion files follow it")]  # the remedy is one
    write_json(path, {**read_json(path), "withdrawn": "2026-11-25T03:00:00.000Z"})
    assert "marked as rolled back" in of(look(releases.live, root), "warning")[0][0]
    path.unlink()
    assert "there is no such record" in of(look(releases.live, root), "broken")[0][0]
    (root / "releases/LIVE").unlink()
    assert [one.level for one in look(releases.live, root)] == ["note"]
    assert of(look(releases.followers, root), "warning")[0][0].endswith("and nothing is live")


def test_index_of_the_live_release(root):
    """Its build is looked for in the store that params.yaml names, and the store's pointer."""
    assert look(releases.index, root) == []  # the small graph has no index
    release, settings = records.live(root), {"store": "lancedb", **place_of(root).params.index.model_dump(mode="json")}
    path = root / f"releases/{release}.json"
    record = read_json(path)
    record["manifest"]["parts"]["index"] = record["manifest"]["parts"]["embed"]
    record["manifest"]["index"] = {"build": "b1", "chunks": 3, "settings": settings}
    write_json(path, record)
    assert "the store has no build b1" in of(look(releases.index, root), "warning")[0][0]
    stores = root / "stores/lancedb"
    for build in ("b1", "b2"):
        write_json(stores / build / "COMPLETE.json", {"build": build, "chunks": 3, "made": "2026-11-24T03:00:00.000Z"})
    (stores / "LIVE").write_text("b2\n")
    assert of(look(releases.index, root), "warning")[0][0] == "the store's own pointer names b2, and the live build is b1"
    (stores / "LIVE").write_text("b1\n")
    assert look(releases.index, root) == [ok("its index is there: build b1, 3 chunks")]


def test_settings(root, monkeypatch):
    """What params.yaml asks for and the environment lacks."""
    monkeypatch.delenv("NIGHTSHIFT_API_KEY", raising=False)
    source = {"name": "tickets", "url_env": "HELPDESK_URL_OF_A_TEST", "query": "select 1"}
    wanted = {"nightly": {"approval": "manual"}, "feedback": {"log": True}, "serve": {"host": "0.0.0.0"}}
    place = changed(root, **wanted, sources={"sql": [source]})
    assert [one.level for one in services.settings(place)] == ["warning", "note", "warning", "broken"]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", "0123456789")
    monkeypatch.setenv("HELPDESK_URL_OF_A_TEST", "sqlite://")
    assert [one.level for one in services.settings(place)] == ["note"]


def test_work_that_is_to_be_spread_needs_ray_and_cores(root, monkeypatch):
    """The package, a cluster that listens, and on this machine a core for each thread of each worker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        place = changed(root, scale={"engine": "ray", "address": address})
        assert [one.level for one in services.settings(place)] == ["ok"]
    assert of(list(services.settings(place)), "broken")[0][0] == f"scale.address {address}: nobody listens there"
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "the package ray is not installed" in of(list(services.settings(place)), "broken")[0][0]
    cores, one = int(machine.usable_cores()), {"threads": 1}
    assert not of(list(machine.processors(changed(root, compute=one, scale={"address": None, "workers": cores}))), "warning")
    crowded = list(machine.processors(changed(root, scale={"workers": cores + 1})))
    assert of(crowded, "warning")[0][1] == f"scale.workers: {cores} in params.yaml, or engine: local"


def test_every_remedy_is_said_where_one_is_needed():
    """`warning` and `broken` cannot be made without one."""
    assert {check.area for check in CHECKS} == {"machine", "project", "releases", "prefect", "labelling", "search", "settings"}
    for make in (warning, broken):
        with pytest.raises(TypeError):
            make("what")
