"""`nightshift gc` where something is in its way: others at work, kill -9, what is missing, damaged, or written by a stranger."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.memory import MemoryFileSystem

from tasks import git, lock, promote
from tasks.errors import DataError, ParamsError, ServiceError
from tasks.reproduce import HOME
from tasks.retention import cache, check, gc, history, needed, place, plan, remove, room, sweep
from tests import minigraph, retention_fixtures
from tests.killing import killed_at
from tests.retention_fixtures import at, collect, files, night, nights, objects, outputs, releases, stored

__all__ = ["nights"]  # the fixture
REMOTE = ".remote/files/md5"


@contextlib.contextmanager
def repro(root: Path):
    """A person's `dvc repro` in the middle of a stage, when DVC has let go of its lock."""
    (root / "data/a.txt").write_text("new")
    process = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], cwd=root, stdout=subprocess.DEVNULL,
                               env=minigraph.environment(MINI_SLEEP="prepare=60"))  # fmt: skip
    entries = root / ".dvc/tmp/rwlock"
    while not (entries.is_file() and "artifacts/prepare" in entries.read_text()):
        time.sleep(0.05)
    time.sleep(0.5)
    yield
    process.kill()
    process.wait()


@pytest.mark.parametrize("holder, said", [
    (lambda root, there: lock.alone(there, lock.A_NIGHT), "a night is running here"),
    (lambda root, there: lock.alone(root), "another night is running here"),
    (lambda root, there: promote.changing(there), "a promotion or rollback is running here"),
    (lambda root, there: lock.held(there / HOME / "lock", "reproduce", "another"), "a reproduction is running here"),
    (lambda root, there: Repo(str(root)).lock, "dvc: is at work in .*mini;"),
    (lambda root, there: repro(there), r"dvc: is at work in .*home \(process \d+\)"),
], ids=["night", "night in the checkout", "promotion", "reproduction", "dvc", "dvc in a stage"])  # fmt: skip
def test_nothing_goes_while_somebody_is_at_work(nights, monkeypatch, holder, said):
    """In the checkout or in its home, wherever one asks; afterwards it goes."""
    root, _ = nights
    monkeypatch.setattr(lock, "MOMENT", 0)
    there = retention_fixtures.with_home(root)
    before = stored(root)
    with holder(root, there):
        with pytest.raises(lock.BusyError, match=said):
            collect(root)
        with pytest.raises(lock.BusyError, match=said):
            sweep(place.find(root))
        assert before.items() <= stored(root).items()
    assert collect(root)[-1].startswith("removed:")


@pytest.mark.slow
def test_kill_9_at_any_line_loses_nothing_and_the_next_call_completes_it(nights, tmp_path):
    """At each file that goes, in cache, run cache, remote and Nightshift's own folder: what is needed is there, byte by byte,
    no list of a folder is left without its files, and the same command ends as a quiet one."""
    root, new = nights
    retention_fixtures.push(root)
    work = root / ".nightshift/work/sft-0"
    (work / "checkpoint-1").mkdir(parents=True)
    (work / "checkpoint-1/model").write_text("1")
    os.utime(work, (0, 0))
    goes = new[1] | new[3]
    kept = {name: content for name, content in stored(root).items() if name not in goes}
    pushed = files(root, root / ".remote")
    kept |= {name: content for name, content in pushed.items() if name.replace(REMOTE, retention_fixtures.CACHE) in kept}
    shutil.copytree(root, tmp_path / "whole", symlinks=True)
    where = place.find(root)
    what, n = plan(where, remote=True), 0
    while killed_at(n, lambda: remove(where, what)):
        left = stored(root) | files(root, root / ".remote")
        assert kept.items() <= left.items(), n
        for name in left:
            if name.endswith(".dir") and not name.startswith(REMOTE):
                assert all(at(entry["md5"]) in left for entry in json.loads(left[name])), n
        assert not (work / "checkpoint-1").is_dir() or (work / "checkpoint-1/model").is_file(), n
        if n % 10 == 0:
            remove(where, plan(where, remote=True))
            assert stored(root) | files(root, root / ".remote") == kept and not work.exists(), n
        for folder in (".dvc/cache", ".remote", ".nightshift"):
            shutil.rmtree(root / folder)
            shutil.copytree(tmp_path / "whole" / folder, root / folder)
        n += 1
    assert n > 2 * (len(goes) - 4) and stored(root) | files(root, root / ".remote") == kept


def test_a_killed_one_leaves_no_lock(nights):
    """Killed at its first and at later files; who comes next is not kept waiting."""
    root, new = nights
    before = stored(root)
    for n in (0, 20, 15):
        assert killed_at(n, lambda: sweep(place.find(root)), frozenset({"unlink"}))
        assert before.keys() - stored(root).keys() < new[1] | new[3]
    collect(root)
    assert before.keys() - stored(root).keys() == new[1] | new[3]


def test_the_remote_is_left_alone_until_told(nights):
    """Then just the same goes there; and what a later night makes again is pushed again."""
    root, new = nights
    retention_fixtures.push(root)
    before = files(root, root / ".remote")
    collect(root)
    assert files(root, root / ".remote") == before
    assert any("outputs, in DVC's remote local" in line for line in gc(root, remote=True, dry=True))
    assert files(root, root / ".remote") == before
    collect(root, remote=True)
    left = files(root, root / ".remote")
    gone = {name.replace(REMOTE, retention_fixtures.CACHE) for name in before.keys() - left.keys()}
    stages = {name for name in objects(new[1] | new[3]) if name in gone}  # DVC pushes no metrics
    assert gone == stages and len(gone) == len(objects(new[1] | new[3])) - 4
    assert collect(root, remote=True)[-1] == "nothing to remove"
    made = night(root, 12, "hold the milk")
    assert outputs(root, made) - {name.replace(REMOTE, retention_fixtures.CACHE) for name in left}
    minigraph.dvc(root, "push", "--quiet")
    there = {name.replace(REMOTE, retention_fixtures.CACHE) for name in files(root, root / ".remote")}
    assert outputs(root, made) - metrics_of(root, made) <= there


def test_the_remote_is_left_alone_where_git_has_more_than_this_clone(nights, tmp_path):
    """A release made in another clone and pushed: this one has to know it first, and then keeps it there."""
    root, new = nights
    retention_fixtures.push(root)
    minigraph.run(tmp_path, "git", "clone", "--quiet", "--bare", str(root), "shared")
    minigraph.run(root, "git", "remote", "add", "origin", str(tmp_path / "shared"))
    other = Path(shutil.copytree(root, tmp_path / "other", symlinks=True))
    minigraph.dvc(other, "remote", "modify", "--local", "local", "url", str(root / ".remote"))
    made = night(other, 14, "tea")
    minigraph.dvc(other, "push", "--quiet")
    minigraph.run(other, "git", "push", "--quiet", "origin", "main")
    minigraph.run(root, "git", "fetch", "--quiet", "origin", "main:refs/elsewhere/main")
    minigraph.run(root, "git", "update-ref", "-d", "refs/elsewhere/main")
    minigraph.run(root, "git", "update-ref", "-d", "refs/remotes/origin/main")
    before = files(root, root / ".remote")
    with pytest.raises(ServiceError, match=r"git remote origin: has refs/heads/main in another state .*git fetch --tags origin"):
        collect(root, remote=True)
    assert files(root, root / ".remote") == before
    minigraph.run(root, "git", "fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
    collect(root, remote=True)
    left = {name.replace(REMOTE, retention_fixtures.CACHE) for name in files(root, root / ".remote")}
    assert outputs(other, made) - metrics_of(other, made) <= left and not left & objects(new[1] | new[3])
    minigraph.run(root, "git", "remote", "set-url", "origin", str(tmp_path / "nowhere"))
    with pytest.raises(ServiceError, match=r"git ls-remote: .*nowhere"):
        collect(root, remote=True)


def test_a_remote_that_is_no_folder():
    """Listed with sizes, read and emptied by DVC's own libraries: here in memory, elsewhere in a bucket."""
    odb = HashFileDB(MemoryFileSystem(), "/bucket/files/md5", hash_name="md5")
    list_, file, foreign = f"{'a' * 32}.dir", "b" * 32, "/bucket/files/md5/README"
    for path, content in ((odb.oid_to_path(list_), b"[]"), (odb.oid_to_path(file), b"12345"), (foreign, b"x")):
        odb.fs.makedirs(odb.fs.parent(path), exist_ok=True)
        odb.fs.pipe_file(path, content)
    remote = cache.Remote("bucket", odb)
    assert remote.objects() == {list_: 2, file: 5}
    assert remote.lists([list_, f"{'c' * 32}.dir"]) == {list_: b"[]"}
    remote.forget()
    remote.remove([file, list_])
    assert remote.objects() == {} and odb.fs.exists(foreign)
    with pytest.raises(ServiceError, match="DVC's remote bucket"):
        remote.remove([file])


def test_a_list_that_the_remote_has_will_do(nights):
    """Of a folder that a release needs, gone from the cache: its file is told by the remote's list, and stays."""
    root, new = nights
    retention_fixtures.push(root)
    list_ = next(name for name in sorted(new[0]) if name.endswith(".dir"))
    file = at(json.loads((root / list_).read_text())[0]["md5"])
    (root / list_).unlink()
    before = stored(root)
    collect(root)
    assert objects(before.keys() - stored(root).keys()) == objects(new[1] | new[3]) and (root / file).is_file()
    minigraph.dvc(root, "remote", "remove", "local")
    with pytest.raises(DataError, match=r"nor in its remote \(dvc: has no default remote here\)"):
        collect(root)
    with pytest.raises(ServiceError, match="has no default remote here; dvc remote default NAME"):
        collect(root, remote=True, despite=True)


def test_a_release_whose_commit_is_not_here_stays_by_its_record(nights):
    """And the record of a stranger, or half of one, is no option of git: it protects what it names, and that is all."""
    root, new = nights
    first = root / "releases" / f"{releases(root)[0]}.json"
    record = json.loads(first.read_text())
    data = yaml.safe_load(git.read(root, record["git"]["commit"], "data.dvc"))["outs"][0]["md5"]
    record["git"]["commit"], record["manifest"]["data"] = "f" * 40, {"md5": data}
    first.write_text(json.dumps(record))
    odd = {"--help.json": '{"git": {"commit": "--output=pwned"}}', "\x1b[31mred.json": '{"git":{"commit":"HEAD\\nHEAD"}}',
           "torn.json": '{"git": {"commit": ["' + "e" * 40, "none.json": '{"git": {"commit": null}, "dvc": 3}',
           "tree.json": json.dumps({"git": {"commit": git.ask(root, "rev-parse", "HEAD^{tree}").stdout.decode().strip()}})}
    for name, text in odd.items():
        (root / "releases" / name).write_text(text)
    before = stored(root)
    lines = collect(root)
    assert before.keys() - stored(root).keys() == new[1] | new[3]
    said = "\n".join(lines)
    assert "is not in this clone: what the record names stays" in said and "\x1b" not in said
    assert list(root.parent.rglob("pwned")) == []


def test_a_shallow_clone_without_outputs_has_nothing_to_lose(nights, tmp_path):
    """What it cannot read it says; nothing is there that could go."""
    root, _ = nights
    clone = tmp_path / "clone"
    minigraph.run(root, "git", "clone", "--quiet", "--depth", "1", f"file://{root}", str(clone))
    with pytest.raises(DataError, match=r"release .*, what .* has checked out: the list of files of a folder"):
        list(gc(clone, dry=True))
    lines = list(gc(clone, dry=True, despite=True))
    assert lines[-1] == "nothing to remove" and any("is not in this clone" in line for line in lines)


def test_work_trees_that_are_broken_and_such_as_have_a_cache_of_their_own(nights, tmp_path):
    """What a broken one has checked out cannot be told, so nothing goes; what another's cache has need not be in this one."""
    root, new = nights
    old = [commit.hash for commit in git.log(root, "HEAD", "dvc.lock")][1]
    minigraph.run(root, "git", "worktree", "add", "--quiet", "--detach", str(tmp_path / "mine"), old)
    (root / next(name for name in sorted(new[3]) if name.endswith(".dir"))).unlink()
    assert any(line.startswith("note: ") and "mine has checked out: the list" in line for line in gc(root, dry=True))
    there = retention_fixtures.with_home(root)
    before, file = stored(root), (there / ".git").read_text()
    (there / ".git").unlink()
    with pytest.raises(ServiceError, match=r"home is a work tree no more; cd .*mini && git worktree repair"):
        collect(root)
    (there / ".git").write_text(file)
    (tmp_path / "mine/.git").unlink()
    with pytest.raises(ServiceError, match=r"mine is not a git repository"):
        collect(root)
    with pytest.raises(ParamsError, match=r"has no dvc\.yaml; run from the repository's root"):
        collect(root / "data")
    assert stored(root) == before


@pytest.mark.parametrize("blind", ["named", "hashes"])
def test_were_this_code_wrong_nothing_would_go(nights, monkeypatch, blind):
    """Blind to what commits, or lists and records, name, it would remove what DVC uses; it is asked first."""
    root, _ = nights
    monkeypatch.setattr(needed, blind, lambda content: frozenset())
    before = stored(root)
    with pytest.raises(DataError, match=r"gc: would have removed .*nothing was removed"):
        collect(root, despite=True)
    assert stored(root) == before


def test_what_is_asked_before_anything_goes(nights):
    """DVC about work trees and commits, files of their folders too; the records about releases that no commit knows."""
    root, new = nights
    commits = [promote.record(root, name)["git"]["commit"] for name in releases(root)]
    (root / "data/a.txt").write_text("not committed")
    minigraph.dvc(root, "add", "--quiet", "data")
    where, kept = place.find(root), plan(place.find(root)).kept
    assert kept.trees == [root] and set(commits) <= set(kept.commits)
    fresh = yaml.safe_load((root / "data.dvc").read_text())["outs"][0]["md5"]
    released = sorted(objects(new[0]) - metrics_of(root, commits[0]))
    for hash_ in (fresh, json.loads((root / at(fresh)).read_text())[0]["md5"],
                  *(name.removeprefix(f"{retention_fixtures.CACHE}/").replace("/", "") for name in released)):  # fmt: skip
        with pytest.raises(DataError, match="would have removed 1 objects"):
            check.check({hash_}, where, kept)
    (root / "releases/2020-01-01-00000000.json").write_text(json.dumps({"dvc": {"outs": {"x": "0" * 32}}}))
    with pytest.raises(DataError, match="a release recorded in"):
        check.check({"0" * 32}, where, kept)
    assert check.check({"1" * 32}, where, kept) == len(set(kept.commits))
    assert check.spread([str(number) for number in range(1000)], 8) == ["0", "1", "2", "3", "4", "253", "502", "751"]


def metrics_of(root: Path, commit: str) -> set[str]:
    """Objects that DVC has for its run cache alone."""
    stages = yaml.safe_load(git.read(root, commit, "dvc.lock"))["stages"].values()
    return {at(out["md5"]) for stage in stages for out in stage["outs"] if out["path"].startswith("metrics")}


def test_pointers_of_many_commits_as_git_lists_them(tmp_path, monkeypatch):
    """Wherever they lie, and no link, submodule or folder of that name; a tag may be of anything. What is damaged is an
    error."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root = minigraph.make(tmp_path)
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/资料.dvc").write_text("outs: []\n")
    (root / "deep/dvc.lock").write_text("schema: '2.0'\n")
    (root / "folder.dvc").mkdir()
    (root / "folder.dvc/x").write_text("")
    (root / "link.dvc").symlink_to("data.dvc")
    minigraph.run(root, "git", "add", "--all")
    minigraph.run(root, "git", "update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},sub.dvc")
    minigraph.run(root, "git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "more")
    minigraph.run(root, "git", "tag", "blob", "HEAD:data.dvc")
    head, before = git.head(root), git.resolve(root, "HEAD~1")
    listed = [line.split() for line in minigraph.run(root, "git", "ls-tree", "-r", head).splitlines()]
    wanted = {words[2] for words in listed if words[0] == "100644" and words[3].strip('"').endswith((".dvc", "dvc.lock"))}
    found = history.pointers(root, [head, before, "f" * 40, history.heads(root)["refs/tags/blob"]])
    assert found == {head: wanted, before: frozenset({git.objects(root, ["HEAD:data.dvc"])[0].hash})} and len(wanted) == 3
    tree = minigraph.run(root, "git", "rev-parse", "HEAD:deep/er").strip()
    (root / ".git/objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(ServiceError, match=f"lacks tree {tree}"):
        history.pointers(root, [head])
    (root / ".git/refs/heads/broken").write_text(f"{'b' * 40}\n")
    with pytest.raises(ServiceError, match=r"lacks what refs/heads/broken names"):
        history.heads(root)


def test_a_disk_that_is_full_to_the_last_byte_is_said_to_be(tmp_path):
    """gc is what one calls then; it wants room for locks itself."""
    with pytest.raises(ServiceError, match=r"so full that nobody can even take a lock; remove something small by hand"), (
            room(tmp_path)), open("/dev/full", "w") as file:
        file.write("1")
        file.flush()
    with pytest.raises(FileNotFoundError), room(tmp_path):
        (tmp_path / "no").read_text()


def test_outputs_are_told_from_inputs_and_hashes_from_their_like():
    """Of a stage of dvc.lock, a .dvc file, a merge that is half done; SHA-256 and parts of longer words are none."""
    a, b, c, d = (letter * 32 for letter in "abcd")
    stage = (f"stages:\n  sft:\n    cmd: x\n    deps:\n    - path: code\n      md5: {a}.dir\n    - path: y\n      md5: {b}\n"
             f"    outs:\n    - path: out\n      md5: {c}.dir\n  next:\n    deps:\n    - path: out\n      md5: {c}.dir\n"
             f"    outs:\n    - md5: '{d}'\n")  # fmt: skip
    assert needed.named(stage.encode()) == {f"{c}.dir", d}
    assert needed.named(f"deps:\n- md5: {a}\nouts:\n- md5: {b}.dir\n  path: data\n".encode()) == {f"{b}.dir"}
    half = f"<<<<<<< HEAD\n      md5: {a}\n=======\n      md5: {b}\n>>>>>>> main\n"
    assert needed.named(half.encode()) == {a, b}
    assert needed.named(f"x: {'e' * 64}\ny: {'f' * 33}\nz: {a}0\n".encode()) == frozenset()


def test_a_file_with_another_name_frees_nothing(nights):
    """As copies for serving are; it goes all the same, from the cache."""
    root, new = nights
    name = next(name for name in sorted(objects(new[1])) if not name.endswith(".dir"))
    before = sum(plan(place.find(root)).objects.values())
    os.link(root / name, root / "elsewhere")
    assert sum(plan(place.find(root)).objects.values()) == before - (root / "elsewhere").stat().st_size
    collect(root)
    assert not (root / name).exists() and (root / "elsewhere").is_file()
    shutil.rmtree(root / ".dvc/cache")
    assert collect(root, despite=True)[-1] == "nothing to remove"
