"""What `nightshift gc` removes and what it does not, byte by byte: real git, real DVC, five nights of the small graph."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks import cli, git, home, lock, promote
from tasks.errors import DataError, ParamsError
from tasks.files import write_json
from tasks.lock import BusyError
from tasks.reproduce import HOME, reproduce
from tasks.retention import gc, place, plan, sweep
from tasks.serving import parts
from tests import minigraph, retention_fixtures
from tests.retention_fixtures import CACHE, HELD, NIGHTS, OUTPUTS, collect, files, nights, objects, releases, restored, stored

__all__ = ["nights"]  # the fixture
SOMEONE = ("-c", "user.name=A", "-c", "user.email=a@b")


def counts(lines: list[str]) -> dict[str, str]:
    """Kind → what stands in its columns."""
    return {kind.strip(): " ".join(rest.split()) for line in lines if line.startswith("  ")
            for kind, _, rest in [line.strip().partition("  ")]}  # fmt: skip


def test_what_nights_left_that_were_not_released_goes(nights):
    """All that the second and fourth night alone have, objects and run cache, and nothing else; the last night is kept, although
    it was held back. A look changes nothing, and the second time there is nothing to do."""
    root, new = nights
    everything, before = files(root, root), stored(root)
    looked = list(gc(root, dry=True))
    assert files(root, root) == everything
    lines = collect(root)
    after = stored(root)
    assert before.keys() - after.keys() == new[1] | new[3]
    assert all(after[name] == before[name] for name in after)
    for held in (new[1], new[3]):  # of data and each stage a list and a file; an answer, a manifest, two of the metrics
        assert len(objects(held)) == 2 * (1 + OUTPUTS) + 4 and len(held - objects(held)) == OUTPUTS
    assert lines[: len(looked)] == looked and lines[-1].startswith(f"removed: {len(new[1] | new[3])} files")
    stays = counts(looked[: looked.index("goes:")])
    assert stays == {"releases": "2", "nights": "1", "branches and tags": "1", "work trees": "1"}
    assert collect(root)[-1] == "nothing to remove" and stored(root) == after
    assert minigraph.run(root, "git", "status", "--porcelain") == ""


def test_every_release_can_be_had_again_from_the_cache_alone(nights, tmp_path):
    """Verified hash by hash, checked out from its commit with the same bytes, and rolled back to; no remote helps."""
    root, _ = nights
    commits = {name: promote.record(root, name)["git"]["commit"] for name in releases(root)}
    before = {name: restored(root, commit, tmp_path / f"before-{name}") for name, commit in commits.items()}
    collect(root)
    for name, commit in commits.items():
        assert restored(root, commit, tmp_path / f"after-{name}") == before[name]
        made = reproduce(root, name, from_cache=True, say=lambda _: None)
        assert made.passed and {one.said for one in made.artifacts} == {"identical"}
    assert promote.rollback(root, datetime(2026, 11, 20, tzinfo=UTC)).release == releases(root)[0]
    git.commit(root, promote.COMMITTED, "back")
    assert collect(root)[-1] == "nothing to remove"  # a release that was rolled back stays


def test_nobody_is_asked_twice_and_a_no_is_a_no(nights):
    """Without a terminal somebody has to have said yes beforehand."""
    root, new = nights
    before = stored(root)
    assert list(gc(root, ask=lambda: False))[-1] == "nothing was removed"
    with pytest.raises(ParamsError, match="nobody is there to be asked; nightshift gc --yes"):
        list(gc(root))
    assert stored(root) == before
    assert list(gc(root, ask=lambda: True))[-1].startswith("removed:")
    assert before.keys() - stored(root).keys() == new[1] | new[3]


def test_the_command(nights, capsys):
    """As a person or a script calls it: exit codes, and where the lines go."""
    root, new = nights
    before = stored(root)
    minigraph.run(root, "git", "tag", "odd", "HEAD:data.dvc")  # a tag may be of anything
    assert cli.main(["gc", "--dry-run"]) == 0 and "goes:" in capsys.readouterr().out
    assert cli.main(["gc"]) == 1  # pytest's stdin is no terminal
    assert "nightshift gc: gc: nobody is there to be asked" in capsys.readouterr().err and stored(root) == before
    assert cli.main(["gc", "--yes", "--projects"]) == 0 and "removed:" in capsys.readouterr().out
    assert before.keys() - stored(root).keys() == new[1] | new[3]
    assert cli.main(["gc"]) == 0 and capsys.readouterr().out.endswith("nothing to remove\n")


def test_only_what_was_shown_goes(nights):
    """A branch that is deleted while the question stands makes more go; that is for the next time."""
    root, new = nights
    minigraph.run(root, "git", "branch", "mine", "HEAD~1")  # the fourth night
    before = stored(root)

    def ask() -> bool:
        minigraph.run(root, "git", "branch", "-D", "mine")
        return True

    list(gc(root, ask=ask))
    assert before.keys() - stored(root).keys() == new[1]
    collect(root)
    assert before.keys() - stored(root).keys() == new[1] | new[3]


def held_nights(root: Path) -> list[str]:
    """Commits of the second and fourth night."""
    made = [commit.hash for commit in reversed(git.log(root, "HEAD", "dvc.lock"))]
    assert len(made) == len(NIGHTS)
    return [made[number] for number in HELD[:2]]


@pytest.mark.parametrize("protect", [
    lambda root, commit: minigraph.run(root, "git", "branch", "mine", commit),
    lambda root, commit: minigraph.run(root, "git", *SOMEONE, "tag", "-a", "-m", "x", "v1", commit),
    lambda root, commit: minigraph.run(root, "git", "worktree", "add", "--detach", str(root.parent / "other"), commit),
    lambda root, commit: minigraph.run(root, "git", "checkout", commit, "--", "dvc.lock", "data.dvc"),  # staged
    lambda root, commit: (root / "dvc.lock").write_text(git.read(root, commit, "dvc.lock"))
                         and (root / "sub.dvc").write_text(git.read(root, commit, "data.dvc")),  # in no way known to git
], ids=["branch", "annotated tag", "work tree", "staged", "uncommitted"])  # fmt: skip
def test_what_somebody_points_at_stays(nights, protect):
    """The second night, by each of these ways; the fourth goes."""
    root, new = nights
    before = stored(root)
    protect(root, held_nights(root)[0])
    collect(root)
    assert objects(before.keys() - stored(root).keys()) == objects(new[3])


def test_a_stash_and_a_rejected_candidate_stay(nights):
    """A stash below another one; and the candidate to which a person said no, by the commit that has recorded it."""
    root, new = nights
    second, fourth = held_nights(root)
    before = stored(root)
    for commit in (second, "HEAD~2"):
        minigraph.run(root, "git", "checkout", commit, "--", "dvc.lock", "data.dvc")
        minigraph.run(root, "git", *SOMEONE, "stash")
    minigraph.run(root, "git", "checkout", "--quiet", "-b", "asked", fourth)
    write_json(root / "releases/rejected/12345678.json", {"serves": {}})
    git.commit(root, ["releases"], "Rejected")
    minigraph.run(root, "git", "checkout", "--quiet", "main")
    minigraph.run(root, "git", *SOMEONE, "merge", "--quiet", "-s", "ours", "--no-edit", "asked")
    minigraph.run(root, "git", "branch", "-D", "asked")
    assert collect(root)[-1] == "nothing to remove" and stored(root) == before
    minigraph.run(root, "git", "stash", "clear")
    collect(root)
    assert before.keys() - stored(root).keys() == new[1]


@pytest.mark.parametrize("nights_kept, gone", [("0", (1, 3)), ("2", (1,)), ("4", ())])
def test_as_many_nights_stay_as_params_yaml_says(nights, nights_kept, gone):
    """By days on which one ran; the last one is what is checked out, and stays in any case."""
    root, new = nights
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("nights: 1\n", f"nights: {nights_kept}\n"))
    before = stored(root)
    collect(root)
    assert before.keys() - stored(root).keys() == set().union(*(new[number] for number in gone))


def test_checkout_and_home_share_a_cache_and_both_keep_what_they_have(nights):
    """A night in the home, a person's own run in the checkout, neither committed; from either of the two it is the same."""
    root, new = nights
    there = retention_fixtures.with_home(root)
    for folder, says in ((there, "hold, says a night"), (root, "hold, says a person")):
        (folder / "data/a.txt").write_text(says)
        minigraph.dvc(folder, "add", "--quiet", "data")
        minigraph.dvc(folder, "repro", "--quiet")
    before = stored(root)
    workspaces = {folder: files(folder, folder / "artifacts") | files(folder, folder / "data") for folder in (root, there)}
    looked = list(gc(there, dry=True))
    assert list(gc(root, dry=True)) == looked and counts(looked)["work trees"] == "2"
    collect(there)
    assert before.keys() - stored(root).keys() == new[1] | new[3]
    for folder, had in workspaces.items():
        shutil.rmtree(folder / "artifacts")
        shutil.rmtree(folder / "data")
        minigraph.dvc(folder, "checkout", "--quiet")
        assert files(folder, folder / "artifacts") | files(folder, folder / "data") == had
    assert collect(root)[-1] == "nothing to remove"
    home.remove(root)  # its branch stays, and with it what it has committed
    collect(root)
    assert objects(stored(root)) >= objects(new[0] | new[2] | new[4])


def test_what_a_merge_of_both_will_need_stays(nights):
    """Checkout and home have parted, and each has other data: the list of what both had before is in no head."""
    root, _ = nights
    there = retention_fixtures.with_home(root)
    for folder, name in ((there, "judged.txt"), (root, "document.txt")):
        (folder / "data" / name).write_text(f"hold {name}")
        minigraph.dvc(folder, "add", "--quiet", "data")
        git.commit(folder, ["data.dvc"], name)
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("nights: 1\n", "nights: 0\n"))
    git.commit(root, ["params.yaml"], "no night is kept")
    shutil.copy(root / "params.yaml", there / "params.yaml")
    before = stored(root)
    collect(root)
    assert before.keys() - stored(root).keys()
    git.commit(there, ["params.yaml"], "no night is kept")
    assert home.take_in(there, "Night") == "took in 2 commits of main"
    assert {path.name for path in (there / "data").iterdir()} == {"a.txt", "b.txt", "judged.txt", "document.txt"}


def test_a_flow_that_holds_its_nights_lock_can_have_it_done(nights):
    """Without a question; another night would be refused meanwhile."""
    root, new = nights
    before = stored(root)
    with lock.alone(root, lock.A_NIGHT):
        with pytest.raises(BusyError):
            sweep(place.find(root))
        assert stored(root) == before
        sweep(place.find(root), held=[root])
    assert before.keys() - stored(root).keys() == new[1] | new[3]


def test_leftovers_go_by_the_rules_that_each_kind_has(nights):
    """Old checkpoints and vectors, halves of dead processes, copies that are not served, a killed reproduction's work tree,
    what a killed DVC was writing; fresh ones, and those of living processes, stay."""
    root, _ = nights
    collect(root)
    dead = subprocess.Popen(["true"])
    dead.wait()
    gone = [".nightshift/work/sft-0123456789abcdef/checkpoint-5/model", ".nightshift/embedding/0123/a.parquet",
            f"artifacts/.sft.part-{dead.pid}/model", f"artifacts/.embed.old-{dead.pid}/model", ".nightshift/gone/sft-0/model",
            ".nightshift/serving/2026-01-01-aaaaaaaa/model/w", ".nightshift/serving/.part-2026-01-01-bbbbbbbb/w",
            f"{CACHE}/aa/.0123456789-_abcdefghij.tmp"]  # fmt: skip
    stay = [".nightshift/work/align-0123456789abcdef/checkpoint-5/model", f"artifacts/.sft.part-{os.getpid()}/model",
            f"artifacts/.none.old-{dead.pid}/model", *(f".nightshift/serving/2026-01-0{n}-aaaaaaaa/model/w" for n in (2, 3)),
            f"{CACHE}/aa/mine", ".nightshift/inbox/1.json", ".nightshift/data-before-1/a.txt"]  # fmt: skip
    for name in (*gone, *stay):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("12345")
    week = time.time() - 8 * 86_400
    for name in (".nightshift/work/sft-0123456789abcdef", ".nightshift/embedding/0123", parts.SERVING / "2026-01-01-aaaaaaaa"):
        os.utime(root / name, (week, week))
    tree = root.parent / "killed"
    minigraph.run(root, "git", "worktree", "add", "--quiet", "--detach", str(tree / "tree"))
    write_json(root / HOME / "folder.json", {"folder": str(tree)})
    lines = list(gc(root, dry=True))
    assert {kind: number for kind, number in counts(lines[lines.index("goes:") + 1 :]).items() if "work tree" not in kind} == {
        "what killed dvc commands had half written": "1 5 bytes", "checkpoints that nobody took up for a week": "1 5 bytes",
        "vectors that nobody took up for a week": "1 5 bytes", "what killed stages had half written": "2 10 bytes",
        "copies of releases that are not served": "2 10 bytes", "what a killed gc has left": "1 5 bytes",
    }  # fmt: skip
    collect(root)
    assert [name for name in gone if (root / name).exists()] == [] and not tree.exists()
    assert [name for name in stay if not (root / name).is_file()] == []
    assert str(tree) not in minigraph.run(root, "git", "worktree", "list")
    assert collect(root)[-1] == "nothing to remove"


def test_a_cache_elsewhere_may_be_others_too(nights, tmp_path):
    """It has to be said whether; what the other project needs stays, and one that uses another cache is a mistake."""
    root, new = nights
    cache = Path(shutil.copytree(root / ".dvc/cache", tmp_path / "cache"))
    other = Path(shutil.copytree(root, tmp_path / "other"))
    for folder in (root, other):
        shutil.rmtree(folder / ".dvc/cache")
        minigraph.dvc(folder, "cache", "dir", "--local", str(cache))
    minigraph.run(other, "git", "branch", "mine", held_nights(other)[0])
    with pytest.raises(ParamsError, match=r"lies outside this repository.*gc --projects DIR"):
        list(gc(root, dry=True))
    with pytest.raises(ParamsError, match="no project that uses the cache"):
        list(gc(root, dry=True, projects=[tmp_path]))
    before = files(tmp_path, cache)

    def gone() -> set[str]:
        return {name.replace("cache/", ".dvc/cache/") for name in before.keys() - files(tmp_path, cache).keys()}

    collect(root, projects=[other])
    assert gone() == new[3]
    assert plan(place.find(root, [])).objects
    collect(root, projects=[])
    assert gone() == new[1] | new[3]


def test_a_list_that_is_nowhere_is_an_error_where_a_release_needs_it(nights):
    """Which files are in that folder cannot be told, so nothing goes; the remote's list will do, and a person's word."""
    root, new = nights
    commit = promote.record(root, releases(root)[0])["git"]["commit"]
    minigraph.run(root, "git", "branch", "old", commit)
    list_ = next(name for name in new[0] if name.endswith(".dir"))
    (root / list_).chmod(0o644)
    (root / list_).write_text("[]")  # torn is as bad as gone
    before = stored(root)
    with pytest.raises(DataError, match=rf"release {releases(root)[0]}: the list of files of a folder named there is neither in "
                                        r"DVC's cache nor in its remote: .*dvc fetch, with that commit checked out"):
        collect(root)
    assert stored(root) == before
    lines = collect(root, despite=True)
    assert any(line.startswith(f"note: release {releases(root)[0]}, refs/heads/old: the list") for line in lines)
    assert before.keys() - stored(root).keys() >= new[1] | new[3]
