"""A whole night on nothing but instructions and documents: imported, preset laid, real stages, real DVC."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tasks.__main__ import STAGES
from tasks.files import read_json, read_jsonl
from tests import small_night
from tests.small_night import run

pytestmark = pytest.mark.slow
NIGHTSHIFT = ("python", "-m", "tasks.cli")  # the copy's own code
ABSENT = ["preferences", "prompts", "evaluation"]


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """A copy after `nightshift import`, `nightshift preset own-data` and a night through DVC's door."""
    folder = small_night.make(tmp_path_factory.mktemp("own"))
    own = folder.parent / "handbook"
    own.mkdir()
    for path in sorted((folder / "examples/documents").rglob("*.md")):
        shutil.copy(path, own)
    run(folder, *NIGHTSHIFT, "bootstrap")
    said = run(folder, *NIGHTSHIFT, "import", "--instructions", "examples/instructions/handbook-inline.json",
               "--documents", str(own)).stdout
    assert "instructions: 70 rows (alpaca 70;" in said and f"absent: {', '.join(ABSENT)}" in said
    run(folder, *NIGHTSHIFT, "preset", "own-data")
    params = (folder / "params.yaml").read_text()
    for name, value in (("max_new_tokens", "24"), ("max_length", "480"),  # the starter's window is 512
                        ("reference_gain", "-1.0")):  # what seconds of training gain is another question
        params = re.sub(rf"\b{name}: -?[\d.]+", f"{name}: {value}", params)
    (folder / "params.yaml").write_text(params)
    (folder / "night.log").write_text(run(folder, "dvc", "repro").stdout)
    return folder


def test_the_night_ends_and_says_what_was_not_there(night):
    """Every stage has run; metrics, log, Data Docs and page name the absences; nothing measured is null or empty."""
    made = {path.stem: read_json(path) for path in (night / "metrics").glob("*.json")}
    assert sorted(made) == sorted(STAGES)
    assert made["validate"]["absent"] == ABSENT and made["prepare"]["prompts_from"] == "instructions"
    assert made["candidates"]["prompts"] == made["prepare"]["instructions"]["eval"] > 0
    assert made["reward"]["steps"] == made["align"]["steps"] == made["answers"]["questions"] == 0
    assert made["reward"]["held_out"] is None and made["align"]["method"] == "none"
    evaluated = made["evaluate"]
    assert evaluated["sft_over_base"] is None and evaluated["references"]["cases"] == made["prepare"]["instructions"]["eval"]
    assert evaluated["references"]["aligned_over_sft"]["difference"] == 0.0
    assert evaluated["kl"]["per_sequence"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert {reason["rule"] for reason in made["gate"]["reasons"]} == {"reference_gain", "kl", "agreement", "seen_cases"}
    log = (night / "night.log").read_text()
    for said in ("preferences: absent", "nothing is trained", "the aligned model is the SFT model", "nothing is asked"):
        assert said in log, said
    page = (night / "reports/nightly/index.html").read_text()
    assert "allowed: preferences, prompts, evaluation" in page and "held-out instruction" in page
    assert "absent" in (night / "reports/validation/index.html").read_text()


def test_what_serves_is_whole(night):
    """The merged model is the SFT model, the release names all parts, people have something to rank, status works."""
    manifest = read_json(night / "artifacts/release/manifest.json")
    assert set(manifest["parts"]) == {"model", "chat_template", "embedded", "index"} and manifest["name"] == "own-assistant"
    assert manifest["figures"]["chrF, held-out instructions %"] is not None
    assert manifest["figures"]["right, facts %"] is None
    assert all(row["answers"] for row in read_jsonl(night / "artifacts/candidates/candidates.jsonl"))
    assert "candidate:" in run(night, *NIGHTSHIFT, "status").stdout


def test_a_second_night_runs_nothing(night):
    """DVC agrees that all is up to date."""
    assert "up to date" in run(night, "dvc", "status").stdout
