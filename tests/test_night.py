"""Whole nights on a slice of the example data: real stages, real DVC, git and Prefect, both doors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import labelling_fixtures, small_night
from tests.small_night import git, run
from tests.waiting import until

pytestmark = pytest.mark.slow

NIGHT = ("python", "-m", "flows.nightly")
REINDEX = ("python", "-m", "flows.reindex")
NIGHTSHIFT = ("python", "-m", "tasks.cli")


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """A copy after its first night through the Prefect door, with a local edit that the night must leave alone."""
    folder = small_night.make(tmp_path_factory.mktemp("flow"))
    (folder / "CHANGELOG.md").write_text("edited\n")
    done = run(folder, *NIGHT)
    (folder / ".nightshift/first.log").write_text(done.stdout)
    shutil.copy(folder / "dvc.lock", folder / ".nightshift/first.lock")
    return folder


def stages(folder: Path) -> dict:
    """The stages of dvc.lock."""
    return yaml.safe_load((folder / "dvc.lock").read_text())["stages"]


def test_the_first_night_runs_every_stage_and_commits_only_its_own(night):
    """All stages in dvc.lock, metrics and report there; the edit is still uncommitted; the night signs for itself."""
    graph = yaml.safe_load((night / "dvc.yaml").read_text())["stages"]
    assert sorted(stages(night)) == sorted(graph)
    assert sorted(p.stem for p in (night / "metrics").glob("*.json")) == sorted(graph)
    assert "<html" in (night / "reports/nightly/index.html").read_text()
    assert git(night, "log", "-1", "--format=%an %s").startswith("Nightshift Night of ")
    assert set(git(night, "show", "--name-only", "--format=", "HEAD").split()) == {
        "data.dvc", "dvc.lock", *(f"metrics/{name}.json" for name in graph)}
    assert git(night, "status", "--short", "--untracked-files=no") == "M CHANGELOG.md"


def test_a_second_night_with_nothing_new_runs_nothing(night):
    """No stage runs, nothing is committed, DVC agrees that all is up to date."""
    before = git(night, "rev-parse", "HEAD")
    done = run(night, *NIGHT)
    assert ", 0 to run" in done.stdout and re.search(r"^\d+ cached\b", done.stdout, re.MULTILINE), done.stdout
    assert git(night, "rev-parse", "HEAD") == before
    assert "up to date" in run(night, "dvc", "status").stdout


def test_the_shell_door_gives_the_same_lock_byte_for_byte(night, tmp_path_factory):
    """Another copy, `dvc repro --force --no-run-cache`, nothing shared but the machine."""
    other = small_night.make(tmp_path_factory.mktemp("shell"))
    run(other, "nightshift", "bootstrap")
    run(other, "dvc", "repro", "--force", "--no-run-cache")
    assert (other / "dvc.lock").read_bytes() == (night / ".nightshift/first.lock").read_bytes()


def test_one_changed_preference_leaves_sft_alone(night):
    """A reversed ranking reruns validation, preparation and what reads preferences; not SFT, candidates or the index."""
    path = sorted((night / "data/preferences").glob("week-*.jsonl"))[0]
    lines = path.read_text(encoding="utf-8").splitlines()
    row = yaml.safe_load(lines[0])
    row["ranking"].reverse()
    path.write_text("\n".join([json.dumps(row, ensure_ascii=False), *lines[1:]]) + "\n", encoding="utf-8")
    run(night, "dvc", "add", "--quiet", "data")
    before = stages(night)
    run(night, *NIGHT, "--stages", "candidates", "reward", "index", "--no-commit", "--no-push")
    after = stages(night)
    changed = {name for name in after if after[name]["outs"] != before[name]["outs"]}
    assert {"prepare", "reward"} <= changed
    assert not changed & {"base", "sft", "candidates", "embed", "index"}


def test_kill_9_in_mid_training_costs_nothing_but_time(night, tmp_path_factory):
    """dvc and its stage are killed after a checkpoint; the same command then ends with the hashes of the quiet run."""
    folder = small_night.make(tmp_path_factory.mktemp("killed"))
    run(folder, "nightshift", "bootstrap")
    process = subprocess.Popen(["dvc", "repro", "sft"], cwd=folder, env=small_night.environment(folder), text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: list((folder / ".nightshift/work").glob("sft-*/checkpoint-*/complete")) or process.poll() is not None,
          "no checkpoint")
    assert process.poll() is None, process.stdout.read()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = run(folder, "dvc", "repro", "sft")
    assert "resum" in again.stdout, again.stdout
    quiet = yaml.safe_load((night / ".nightshift/first.lock").read_text())["stages"]
    assert stages(folder)["sft"] == quiet["sft"]


def test_new_documents_go_live_without_training(night):
    """The reindex flow on the live release of a night: the new document is found at once, the model is the same bytes,
    stages that train are not run; and a second run has nothing to do."""
    git(night, "checkout", "--", "data.dvc")
    run(night, "dvc", "checkout", "data")
    params = (night / "params.yaml").read_text()
    head, gate, rest = re.split(r"^(?=gate:|release:)", params, flags=re.MULTILINE)
    # what minutes of training reach is another test's question; search is judged
    gate = re.sub(r"^(  (?!documents_found|alpha|nights|champion_cases)\w+: )[\d.]+", r"\1null", gate, flags=re.MULTILINE)
    for name, value in (("against_champion", "floors"), ("champion_cases", "10"), ("retrieval_loss", "0.3")):
        gate = re.sub(rf"^(  {name}: )\S+", rf"\g<1>{value}", gate, flags=re.MULTILINE)
    (night / "params.yaml").write_text(head + gate + rest)
    first = re.search(r"release: (\S+) is live", run(night, *NIGHT, "--no-push").stdout)[1]
    page = night / "data/documents/stores/quarry-lane.md"
    page.write_text("# Quarry Lane store\n\nThe Quarry Lane store opens at 7:30.\n")
    before = stages(night)
    done = run(night, *REINDEX, "--no-push").stdout
    second = re.search(rf"documents: (\S+) is live: new documents, the model of {first}", done)[1]
    changed = {name for name, stage in stages(night).items() if stage != before[name]}
    assert changed == {"data.dvc", "validate", "prepare", "embed", "index", "retrieve"} & set(before)
    parts = [json.loads((night / f"releases/{name}.json").read_text())["manifest"]["parts"] for name in (first, second)]
    assert parts[0]["model"] == parts[1]["model"] and parts[0]["index"] != parts[1]["index"]
    told = run(night, *NIGHTSHIFT, "ask", "--json", "When does the Quarry Lane store open?").stdout
    asked = json.loads(told[told.index("{\n") :])  # libraries may say something before it
    assert asked["release"] == second and "documents/stores/quarry-lane.md" in [source["source"] for source in asked["sources"]]
    again = run(night, *REINDEX, "--no-push").stdout
    assert ", 0 to run" in again and f"documents: nothing new; {second} stays live" in again


def test_releases_are_made_again_from_their_commits(night):
    """The whole release computed again as far as embeddings, with the gate's settings that were never committed; both
    releases out of the cache, the second without the model, which is the first one's."""
    second = (night / "releases/LIVE").read_text().strip()
    first = json.loads((night / f"releases/{second}.json").read_text())["previous"]
    made, cached, documents = (
        json.loads(told[told.index("{\n") :])
        for words in ([first, "--stages", "base", "embed"], [first, "--from-cache"], [second, "--from-cache"])
        for told in [run(night, *NIGHTSHIFT, "reproduce", *words, "--json").stdout]
    )
    assert sorted(step["stage"] for step in made["steps"]) == ["base", "embed"] and made["stack"] == {}
    assert made["commit"] == json.loads((night / f"releases/{first}.json").read_text())["git"]["commit"]
    assert "gate.correct: 0.6 → null" in made["params"]
    graph = yaml.safe_load((night / "dvc.yaml").read_text())["stages"]
    assert sorted(step["stage"] for step in cached["steps"]) == sorted(graph)
    assert sorted(step["stage"] for step in documents["steps"]) == ["embed", "index", "prepare", "retrieve", "validate"]
    assert sorted(line.split()[0] for line in documents["elsewhere"]) == ["chat_template", "model"]
    for found in (made, cached, documents):
        assert {one["found"] == one["released"] for one in found["artifacts"]} == {True}


def test_adapters_of_releases_take_turns_on_one_base(night):
    """Both releases' adapters are kept and listed; they are the same, so they answer alike, unmerged, on a base loaded once."""
    second = (night / "releases/LIVE").read_text().strip()
    first = json.loads((night / f"releases/{second}.json").read_text())["previous"]
    listed = run(night, *NIGHTSHIFT, "adapters").stdout.splitlines()
    assert [line.split()[0] for line in listed if line.split()[-1] == "yes"][:2] == [second, first]
    told = run(night, *NIGHTSHIFT, "adapters", "--compare", first, second, "--cases", "4").stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in told if line.startswith((first, second))}
    assert rows[first] == rows[second] and len(rows[first]) == 4


@pytest.mark.service
def test_what_people_say_is_in_the_next_release(night, label_studio, monkeypatch):
    """Answers that a night sampled are judged in a real browser. The next night takes the judgements in by itself, trains the
    reward model on them, and its release names each annotation; a person who withdraws is gone from the data for good."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    monkeypatch.setenv("NIGHTSHIFT_ANNOTATOR_SALT", "a salt of the test")
    params = (night / "params.yaml").read_text()
    params = params.replace("  url: null    ", f"  url: {label_studio.url}", 1)
    title = "Whole night"
    (night / "params.yaml").write_text(params.replace("project: Nightshift", f"project: {title}"))
    trained = json.loads((night / "metrics/reward.json").read_text())["pairs"]
    assert re.search(r"^\d+ tasks? sent", run(night, "python", "-m", "flows.label").stdout, re.MULTILINE)
    with labelling_fixtures.client(label_studio) as api:
        projects = api.get("/api/projects", params={"title": title}).json()["results"]
    [number] = [project["id"] for project in projects if project["title"] == f"{title}: compare"]
    with labelling_fixtures.annotating(label_studio) as person:
        for place, key in enumerate(("1", "2", "1", "2", "3")):
            person.open(number, place)
            person.page.keyboard.press(key)
            person.submit()
        person.begin(number)  # only who labels all tasks can skip one
        person.skip()
    said = run(night, *NIGHT, "--no-push").stdout
    assert "6 rows for preferences/label-studio.jsonl" in said, said
    rows = [json.loads(line) for line in (night / "data/preferences/label-studio.jsonl").read_text().splitlines()]
    [name] = {row["annotator"] for row in rows}
    judged = {row["annotation"] for row in rows if not row["skipped"] and len(row["ranking"]) == 2}
    assert len(rows) == 6 and len(judged) == 4 and name.startswith("annotator-")
    dataset = (night / "artifacts/dataset/preferences/train.jsonl").read_text().splitlines()
    used = {note for pair in map(json.loads, dataset) for note in pair["annotations"] if str(note).startswith("ls")}
    lineage = json.loads((night / "artifacts/release/judgements.json").read_text())
    assert used and used <= judged and set(lineage[name]) == used
    assert json.loads((night / "metrics/reward.json").read_text())["pairs"] > trained
    figures = json.loads((night / "metrics/prepare.json").read_text())["labelling"]
    mine = next(each for each in figures["by_annotator"] if each["name"] == name)
    assert (mine["judgements"], mine["skipped"], mine["ties"], mine["pairs"]) == (5, 1, 1, 4), mine
    assert "label-studio.jsonl" in run(night, *NIGHTSHIFT, "withdraw", "--annotator", name).stdout
    run(night, "python", "-m", "flows.collect", "--again", "--no-commit")
    assert name not in "".join(path.read_text() for path in (night / "data/preferences").glob("*.jsonl"))
