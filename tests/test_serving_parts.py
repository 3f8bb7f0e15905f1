"""tasks/serving/parts.py and releases.py: whole and verified on disk or not there; one manifest's parts in memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tasks import records
from tasks.errors import GateError, StoreError
from tasks.files import read_json, sha256_tree, write_json
from tasks.rag.prompt import TEMPLATES
from tasks.serving import parts, releases
from tests import minigraph
from tests.serving_fixtures import Two, folders, sections, two_releases


@pytest.fixture
def made(tmp_path) -> Two:
    """A repository with two releases, the later one live."""
    return two_releases(tmp_path)


def change(root: Path, release: str, **manifest: object) -> None:
    """Write into a record's manifest; a value of None takes the key away."""
    path = root / records.RELEASES / f"{release}.json"
    record = read_json(path)
    record["manifest"] = {k: v for k, v in {**record["manifest"], **manifest}.items() if v is not None}
    write_json(path, record)


def test_parts_come_from_dvcs_cache_by_hard_link(made):
    """The workspace may be gone: three folders with the manifest's hashes, no bytes twice, and again does nothing."""
    shutil.rmtree(made.root / "artifacts")
    for release in (made.one, made.two):
        record = records.record(made.root, release)
        folder, handle = parts.materialise(made.root, record)
        os.close(handle)
        assert {path.name for path in folder.iterdir()} == set(parts.PARTS)
        for name in parts.PARTS:
            assert sha256_tree(folder / name) == record["manifest"]["parts"][name]["sha256"]
        assert all(file.stat().st_nlink > 1 for file in folder.rglob("*") if file.is_file())
        before = (folder / "model").stat().st_ino
        again, handle = parts.materialise(made.root, record)
        os.close(handle)
        assert (again, (again / "model").stat().st_ino) == (folder, before)
    assert folders(made.root) == {made.one, made.two}


def test_the_workspace_helps_where_the_cache_lacks_bytes(made):
    """Only with exactly these bytes, and by copy: the next night writes there."""
    shutil.rmtree(made.root / ".dvc/cache")
    folder, handle = parts.materialise(made.root, records.record(made.root, made.two))
    os.close(handle)
    assert all(file.stat().st_nlink == 1 for file in folder.rglob("*") if file.is_file())
    with pytest.raises(StoreError) as error:
        parts.materialise(made.root, records.record(made.root, made.one))
    commit = records.record(made.root, made.one)["git"]["commit"]
    assert "artifacts/int4, artifacts/embedded, artifacts/index are in neither DVC's cache nor the workspace" in str(error.value)
    assert f"at commit {commit}: dvc fetch artifacts/int4 artifacts/embedded artifacts/index" in str(error.value)
    assert folders(made.root) == {made.two}


def test_damaged_objects_and_folders_are_not_used(made):
    """A changed object of the cache is noticed by the hash; a changed folder is made again."""
    record = records.record(made.root, made.one)
    folder, handle = parts.materialise(made.root, record)
    os.close(handle)
    (folder / "index/manifest.json").unlink()
    (folder / "index/manifest.json").write_text("{}")
    parts.materialise(made.root, record)
    assert sha256_tree(folder / "index") == record["manifest"]["parts"]["index"]["sha256"]
    shutil.rmtree(folder)
    for file in (made.root / ".dvc/cache").rglob("*"):
        if file.is_file() and file.stat().st_size > 10_000:  # the weights
            file.chmod(0o644)
            file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(StoreError, match="artifacts/int4 is in neither DVC's cache nor the workspace, or damaged"):
        parts.materialise(made.root, record)
    assert folders(made.root) == set()


KILLED = """
    import os, shutil, signal, sys
    from pathlib import Path
    import dvc.repo
    from tasks import files, records
    from tasks.serving import parts
    root, last = Path.cwd(), 0
    record = records.record(root, sys.argv[1])
    for n in range(40):
        pid = os.fork()
        if pid == 0:
            left = n
            def dying(real):
                def call(*words, **more):
                    global left
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    return real(*words, **more)
                return call
            os.link, os.replace, os.utime = map(dying, (os.link, os.replace, os.utime))
            parts.materialise(root, record)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        folder = root / parts.SERVING / record["release"]
        if folder.exists():
            assert all(files.sha256_tree(folder / p) == record["manifest"]["parts"][p]["sha256"] for p in parts.PARTS)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, status
    assert {p.name for p in folder.parent.iterdir()} == {".lock", folder.name}
    print(n)
"""


def test_kill_at_any_line_leaves_nothing_half_used(made):
    """A real SIGKILL at the n-th link or rename, every n: the folder is whole or not there, and once more completes it."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), made.one], cwd=made.root, text=True,
                          env=minigraph.environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


def test_old_folders_go_and_what_is_used_stays(made):
    """Live, in use, and the last two others stay; what another process holds is in use; twice changes nothing."""
    for n in range(5):
        folder = made.root / parts.SERVING / f"old-{n}"
        folder.mkdir(parents=True)
        os.utime(folder, (n, n))
    code = "import sys, time; from pathlib import Path; from tasks.serving import parts; h = parts._hold(Path(sys.argv[1])); " \
           "print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(made.root / parts.SERVING / "old-0")],
                              env=minigraph.environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert parts.prune(made.root, "old-1") == ["old-2"]
        assert parts.prune(made.root, "old-1") == []
        assert folders(made.root) == {"old-0", "old-1", "old-3", "old-4"}
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert parts.prune(made.root, "old-1") == ["old-0"]


def test_one_manifest_decides(made):
    """Its settings and words, whatever params.yaml says today; its folder is in use while it is loaded."""
    cfg = sections()
    today = cfg.model_copy(update={"answers": cfg.answers.model_copy(update={"top_k": 7, "max_new_tokens": 99})})
    loaded = releases.load(made.root, today, made.one[-8:])
    assert (loaded.id, loaded.answering, loaded.templates) == (made.one, cfg.answers, TEMPLATES)
    assert [hit.chunk.source for hit in loaded.search("When does Oakleigh open?")] == ["documents/one/oakleigh.md"]
    assert parts._in_use(made.root / parts.SERVING / made.one)
    del loaded
    import gc

    gc.collect()
    assert not parts._in_use(made.root / parts.SERVING / made.one)
    assert releases.load(made.root, today).id == made.two


def test_releases_from_before_and_from_after(made):
    """Without words and settings today's hold; with ones that nobody knows here there is an error that says so."""
    change(made.root, made.one, prompt=None, answering=None)
    loaded = releases.load(made.root, sections(), made.one)
    assert (loaded.answering, loaded.templates) == (sections().answers, TEMPLATES)
    for manifest, what in (
        ({"answering": {"top_k": 1, "wisdom": 3}}, r"answering\.wisdom"),
        ({"answering": {"top_k": 0}}, r"answering\.top_k"),
        ({"answering": {}, "prompt": {"en": {"head": "Hi"}}}, r"prompt\.en\."),
    ):
        change(made.root, made.one, **manifest)
        with pytest.raises(StoreError, match=rf"settings that this version cannot use \({what}"):
            releases.load(made.root, sections(), made.one)


def test_nothing_live_and_unknown_names(made):
    """Said before anything is loaded."""
    with pytest.raises(GateError, match="2031: is no release"):
        releases.load(made.root, sections(), "2031")
    (made.root / records.RELEASES / "LIVE").unlink()
    with pytest.raises(GateError, match="nothing is live; run a night"):
        releases.load(made.root, sections())
