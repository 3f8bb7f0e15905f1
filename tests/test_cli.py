"""`nightshift`, on promotion files, presets and a data folder as a person meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import minigraph
import pytest
from test_promote import night

from tasks import cli, params, presets
from tasks.bootstrap import bootstrap, dvc_hash, tracked_hash
from tasks.errors import DataError, ParamsError
from tasks.files import read_json, write_json

ROOT = Path(__file__).parent.parent


def say(capsys, *words: str) -> str:
    """What `nightshift WORDS` prints."""
    assert cli.main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def released(root: Path, model: str, share: float, threads: int = 2) -> Path:
    """A night whose figure and stack are these."""
    night(root, model)
    path = root / "artifacts/release/manifest.json"
    write_json(path, {**read_json(path), "figures": {"right %": share}, "stack": {"threads": threads}})
    return root


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder that is no git repository."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_status_before_and_after_releases(root, capsys):
    """No release; one; two beside each other with the difference; a candidate that the gate holds back."""
    released(root, "1", 0.5)
    out = say(capsys, "status")
    assert "no release yet" in out and "make it live: nightshift promote" in out
    say(capsys, "promote")
    out = say(capsys, "status")
    assert out.startswith("live: 2") and "right %                  50.0" in out
    released(root, "2", 0.625)
    say(capsys, "promote")
    row = next(line for line in say(capsys, "status").splitlines() if line.startswith("right %"))
    assert row.split() == ["right", "%", "62.5", "50.0", "+12.5"]
    night(root, "3", good=False)
    assert "candidate: held back by the gate\n  correct: 3" in say(capsys, "status")


def test_promote_twice_rollback_releases_and_show(root, capsys):
    """The life of two releases by command line, and what differs between them."""
    released(root, "1", 0.5)
    first = say(capsys, "promote").split()[0]
    assert "is live already" in say(capsys, "promote")
    released(root, "2", 0.5, threads=4)
    second = say(capsys, "promote").split()[0]
    out = say(capsys, "show", second[-8:], "--compare", first[-8:])
    assert "part model: other bytes" in out and "data: the same" in out
    assert "different stacks" in out and "threads: 2 → 4" in out
    assert "made from sft: other bytes" in out
    out = say(capsys, "show", second)
    model = read_json(root / "artifacts/release/manifest.json")["parts"]["model"]["sha256"]
    assert f"  model         {model}" in out and "artifacts/sft  dvc 11.dir" in out and "gate      1 of 1 rules held" in out
    assert say(capsys, "show", first, "--card").strip() == f"reports/cards/{first}.html"
    assert "model card" in (root / f"reports/cards/{first}.html").read_text()
    minigraph.run(root, "git", "init", "--quiet")
    minigraph.dvc(root, "init", "--quiet")
    out = say(capsys, "rollback", "--no-commit")
    assert f"{first} is live again" in out and "not in this machine's cache: artifacts/int4" in out
    lines = say(capsys, "releases").splitlines()
    assert sum("rolled back" in line for line in lines) == 1 and sum(line.endswith("live") for line in lines) == 1
    assert cli.main(["promote", "--no-commit"]) == 1
    assert "was rolled back" in capsys.readouterr().err


def test_a_preset_changes_what_it_says_and_keeps_the_rest(root, capsys):
    """Comments, order, nulls and layout stay; the second time changes nothing; the way back is told and works."""
    shutil.copy(ROOT / "params.yaml", root)
    before = (root / "params.yaml").read_text()
    (root / "presets").mkdir()
    (root / "presets/small.yaml").write_text(
        "compute: {threads: 1}\nsft:\n  epochs: 1\n  lora: {r: 4}\nbase: {revision: null}\n"
    )
    out = say(capsys, "preset", "small")
    assert "preset small: 3 changes" in out and "compute.threads: 2 → 1" in out and "sft.lora.r: 16 → 4" in out
    after = (root / "params.yaml").read_text()
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert len(changed) == 3 and all(a.partition("#")[2] == b.partition("#")[2] for a, b in changed)
    assert params.load(root / "params.yaml").compute.threads == 1
    assert "has preset small already" in say(capsys, "preset", "small")
    back = out.splitlines()[-1].removeprefix("go back: ").split()
    shutil.copy(root / back[1], root / back[2])
    assert (root / "params.yaml").read_text() == before
    assert presets.apply(root, "starter") == ["params.yaml is the starter's already"]


@pytest.mark.parametrize("order", [("gemma-3-270m", "own-data"), ("own-data", "gemma-3-270m")])
def test_presets_can_be_laid_one_after_another(root, capsys, order):
    """Both are there afterwards, the later one deciding where both speak; the second way back is to the first."""
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / "presets", root / "presets")
    say(capsys, "preset", order[0])
    between = (root / "params.yaml").read_text()
    out = say(capsys, "preset", order[1])
    made = params.load(root / "params.yaml")
    assert made.base.model == "gemma-3-270m" and made.sft.epochs == 1 and made.quantize.group_size == 64
    assert made.validate_.min_rows.instructions == 20 and made.validate_.min_rows.evaluation == 0
    assert made.gate.reference_gain == 0.0 and made.gate.correct is None and made.gate.agreement == 0.95
    assert (made.sft.max_length, made.candidates.max_new_tokens, made.embed.together) == (1024, 256, "section")
    with pytest.raises(ParamsError, match=rf"holds preset (gemma-3-270m, )?{order[1]}"):
        presets.apply(root, "starter")
    back = out.splitlines()[-1].removeprefix("go back: ").split()
    shutil.copy(root / back[1], root / back[2])
    assert (root / "params.yaml").read_text() == between


def test_own_data_on_the_starter_is_not_the_starter(root):
    """The base alone does not say whether a preset lies over params.yaml."""
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / "presets", root / "presets")
    presets.apply(root, "own-data")
    with pytest.raises(ParamsError, match=r"holds preset own-data; .*git checkout"):
        presets.apply(root, "starter")


def test_a_preset_that_does_not_fit_changes_nothing(root, capsys):
    """A typo is named with its section; an unknown preset with the known ones."""
    shutil.copy(ROOT / "params.yaml", root)
    (root / "presets").mkdir()
    (root / "presets/bad.yaml").write_text("sft: {epoch: 1}\n")
    assert cli.main(["preset", "bad"]) == 1
    assert "presets/bad.yaml: does not fit" in (said := capsys.readouterr().err) and "sft.epoch" in said
    assert (root / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()
    with pytest.raises(ParamsError, match="known: starter, bad"):
        presets.apply(root, "huge")


def test_bootstrap_fills_data_once_and_only_with_the_tracked_bytes(tmp_path):
    """From examples when they are what data.dvc names; never over an existing folder; refused when they are not."""
    root = minigraph.make(tmp_path)
    assert dvc_hash(root / "data") == tracked_hash(root / "data.dvc")
    assert bootstrap(root) == "data/ is there"
    (root / "data").rename(root / "examples")
    assert "filled from examples/" in bootstrap(root)
    assert (root / "data/b.txt").read_text() == "资料\n"
    assert "outs" in minigraph.dvc(root, "status", "--json") or minigraph.dvc(root, "status", "data.dvc")
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc/cache", ignore_errors=True)
    (root / "examples/a.txt").write_text("sour\n")
    with pytest.raises(DataError, match=r"data\.dvc names .* neither examples/ nor in DVC's cache"):
        bootstrap(root)
    assert not (root / "data").exists()


def test_the_examples_are_the_data_that_data_dvc_names():
    """A fresh clone starts with exactly the committed data."""
    assert dvc_hash(ROOT / "examples") == tracked_hash(ROOT / "data.dvc")
