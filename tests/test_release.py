"""The manifest and the model card: complete, and the same bytes for the same night."""

from __future__ import annotations

import typing
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tasks import params, records
from tasks.__main__ import stage_function
from tasks.errors import DataError, ModelError
from tasks.figures import difference, figures_from, stage_of, text
from tasks.files import read_json, sha256_file, sha256_tree, size, write_json, write_jsonl
from tasks.rag.prompt import TEMPLATES, Template
from tasks.release import STAGES, pins, release, stack
from tests.release_fixtures import FILES, RECIPE, inputs, recipe, write_inputs
from tests.report_metrics import HASH, metrics

ROOT = Path(__file__).parent.parent
SECTIONS = params.load(ROOT / "params.yaml")


@pytest.fixture
def night(tmp_path, monkeypatch) -> Path:
    """What the stages before the release leave, in small; two pairs with three judgements, and a correction."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts/int4").mkdir(parents=True)
    (tmp_path / "artifacts/int4/model.safetensors").write_bytes(b"\0" * 1000)
    votes = [(["annotator-01", "annotator-02"], [11, "ls2-aa"]), (["annotator-01", "file:pairs"], [9, None])]
    pairs = [{"id": str(n), "annotators": who, "annotations": what} for n, (who, what) in enumerate(votes)]
    write_jsonl(tmp_path / "artifacts/dataset/preferences/train.jsonl", [*pairs, pairs[0]])
    learned = [{"id": "a"}, {"id": "b", "annotator": "annotator-03", "annotation": "ls7-bb"}]
    write_jsonl(tmp_path / "artifacts/dataset/instructions/train.jsonl", learned)
    write_inputs(tmp_path)
    return tmp_path


def make(out: str):
    """Run the stage with the paths of the fixture; `out` is where it writes."""
    folder = Path(out)
    folder.mkdir()
    figures = recipe(**{"correct_%": "evaluate.correct.aligned.all.share", "int8_MB": "quantize.bytes"})
    return release(figures, **inputs(Path()), out=folder)


def test_manifest_names_all_parts_and_all_they_came_from(night):
    """Hashes that sha256_tree finds again, in four groups; figures with their units, data, params, gate; no absolute path."""
    report = make("out")
    manifest = read_json(night / "out/manifest.json")
    assert {path.name for path in (night / "out").iterdir()} == FILES
    assert report.manifest == sha256_file(night / "out/manifest.json") and report.promote
    assert [sorted(manifest[group]) for group in ("parts", "made_from", "evaluation")] == [
        ["chat_template", "embedded", "index", "model"],
        ["align", "base", "dataset", "merged", "reward", "sft"],
        ["answers", "evaluation", "retrieval"]]
    assert sorted(manifest["metrics"]) == sorted(STAGES)
    for part in (*manifest["parts"].values(), *records.origin(manifest).values()):
        assert part == {"path": part["path"], "sha256": sha256_tree(Path(part["path"])), "bytes": size(Path(part["path"]))}
    assert manifest["figures"] == {"correct %": metrics()["evaluate"].correct["aligned"]["all"].share, "int8 MB": None}
    # what it was asked with goes where it goes
    assert manifest["answering"] == RECIPE.answers.model_dump(mode="json") == manifest["params"]["answers"]
    assert manifest["params"]["sft"]["lora"]["r"] == RECIPE.sft.lora.r and "serve" not in manifest["params"]
    assert {language: Template(**words) for language, words in manifest["prompt"].items()} == TEMPLATES
    assert manifest["tokens"] == {"eos_token_id": 3, "pad_token_id": 1}
    assert manifest["data"] == {"dvc": "data.dvc", "md5": f"{HASH[:32]}.dir", "files": 81, "bytes": 2100000}
    assert manifest["embedding"] == {"model": "starter", "dim": 64, "weights_sha256": HASH}
    assert manifest["index"]["build"] == "b-3f1c0a9d"
    assert manifest["gate"] == read_json(night / "metrics/gate.json")
    assert manifest["base"]["architecture"] == "LlamaForCausalLM" and manifest["base"]["path"] == "artifacts/base"
    for name in FILES:
        assert str(night) not in (night / "out" / name).read_text(), name


def test_the_manifest_names_the_judgements_that_were_trained_on(night):
    """Each annotation once with its annotator: of pairs, and of corrections; imported pairs have an annotator and no id."""
    make("out")
    told = read_json(night / "out/judgements.json")
    assert told == {"annotator-01": [11, 9], "annotator-02": ["ls2-aa"], "annotator-03": ["ls7-bb"], "file:pairs": []}
    named = read_json(night / "out/manifest.json")["judgements"]
    assert named == {"sha256": sha256_file(night / "out/judgements.json"), "annotators": 4, "annotations": 4}
    card = (night / "out/README.md").read_text()
    assert "4 judgements of 4 annotators" in card and "annotator-0" not in card  # nobody is named on it


def test_the_same_night_gives_the_same_bytes(night):
    """Nothing in the outputs varies between two runs."""
    first, second = make("one"), make("two")
    assert first == second
    assert sha256_tree(night / "one") == sha256_tree(night / "two")


def test_stack_names_processor_threads_builds_and_every_pin(tmp_path):
    """What may change the bits without a changed line; no host name. The lock by its hash, and what is there otherwise."""
    made = stack(SECTIONS.compute, ROOT / "requirements.lock")
    assert made["lock"]["sha256"] == sha256_file(ROOT / "requirements.lock") and made["lock"]["packages"] > 200
    (tmp_path / "lock").write_text("pydantic==0.1\nPyYAML_none==1.0 ; python_version < '4'\n# nothing==2\n")
    assert pins(tmp_path / "lock")["otherwise"] == {"pydantic": metadata.version("pydantic"), "PyYAML_none": "absent"}
    assert made["threads"] == SECTIONS.compute.threads
    assert made["packages"]["torch"].startswith("2.") and made["instruction_set"] and made["torch_build"]["git"]


@pytest.mark.parametrize("file, content, said", [
    ("chat_template.jinja", "{{ other }}", "is another template than artifacts/base/chat_template.jinja"),
    ("generation_config.json", '{"eos_token_id": 0, "pad_token_id": 1}', "has eos_token_id 0, and artifacts/base/"),
])
def test_another_chat_template_or_end_token_is_refused(night, file, content, said):
    """A model served with another template than it was trained with answers another language, or for ever."""
    (night / "artifacts/int4" / file).write_text(content)
    with pytest.raises(ModelError, match=f"artifacts/int4/{file}: {said}"):
        make("out")


def test_untracked_data_is_refused(night):
    """Without data.dvc nobody could say what the model was made of."""
    (night / "data.dvc").unlink()
    with pytest.raises(DataError, match=r"data\.dvc: does not name the data .*track it: dvc add data"):
        make("out")


def field(kind: object, keys: list[str]) -> object:
    """The type at a path of keys in a Report, through dictionaries; None where there is no such key."""
    if not keys:
        return kind
    for option in typing.get_args(kind) if typing.get_origin(kind) not in (dict, list) else (kind,):
        kind = option if option is not type(None) else kind
    if typing.get_origin(kind) is dict:
        return field(typing.get_args(kind)[1], keys[1:])
    if isinstance(kind, type) and issubclass(kind, BaseModel) and keys[0] in kind.model_fields:
        return field(kind.model_fields[keys[0]].annotation, keys[1:])
    return None


@pytest.mark.parametrize("label", SECTIONS.release.figures)
def test_each_figure_of_params_is_a_number_some_stage_reports(label):
    """A misspelt place would leave a silent dash in every table; and DVC must know the file as a dependency."""
    place = SECTIONS.release.figures[label]
    stage, *keys = place.split(".")
    assert field(typing.get_type_hints(stage_function(stage))["return"], keys) in (int, float), place
    assert f"metrics/{stage}.json" in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["release"]["deps"]


def test_figures_carry_their_unit(tmp_path):
    """0.8125 is 81.2 %; 2 → 2.5 MB is +0.50; what is missing is a dash and has no difference."""
    write_json(tmp_path / "a.json", {"x": {"share": 0.8125}, "n": 3, "text": "no"})
    assert figures_from({"x %": "a.x.share", "n": "a.n", "text": "a.text", "b": "b.x"}, tmp_path) == {
        "x %": 0.8125,
        "n": 3,
        "text": None,
        "b": None,
    }
    assert [text("x %", 0.8125), text("MB", 2_500_000), text("KL nats", 0.012345), text("n", 3), text("x %", None)] == [
        "81.2",
        "2.50",
        "0.01235",
        "3",
        "–",
    ]
    assert [
        difference("x %", 0.75, 0.5),
        difference("x %", 0.5, 0.75),
        difference("x", 1, 1),
        difference("x", 1, None),
    ] == ["+25.0", "−25.0", "=", ""]
    assert stage_of("evaluate.correct") == "evaluate"
