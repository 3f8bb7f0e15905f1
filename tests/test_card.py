"""The model card: what it says was measured, it says it the same way every time, and nothing in it can run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tasks import listing, records
from tasks.errors import DataError
from tasks.files import read_json, write_json
from tasks.release import release
from tasks.reporting import card, fitness
from tasks.reporting.card import Facts
from tasks.reporting.markdown import markdown, plain
from tasks.reporting.parts import Cell, Code, Paragraph, Points, Section, Table
from tests.release_fixtures import RECIPE, inputs, write_inputs
from tests.report_metrics import SCRIPT, metrics
from tests.test_report import Tree


def make(root: Path, **changes) -> tuple[str, str, Facts]:
    """README.md and card.html of a made-up night by the stage itself, and the facts they were written from."""
    write_inputs(root, metrics(**changes))
    (root / "release").mkdir()
    release(RECIPE, **inputs(root), out=root / "release")
    figures = {name: made.model_dump(mode="json") for name, made in metrics().items()}
    facts = Facts(read_json(root / "release/manifest.json"), figures)
    return (root / "release/README.md").read_text(), (root / "release/card.html").read_text(), facts


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[str, str, Facts]:
    """The card of a night that goes out."""
    return make(tmp_path_factory.mktemp("card"))


def told(facts: Facts) -> dict:
    """The record of that night, promoted."""
    return {
        "release": "2026-11-24-1b2c3d4e", "published": "2026-11-24T03:00:00.000Z", "previous": None, "withdrawn": None,
        "manifest": facts.manifest, "manifest_sha256": "aa", "params_sha256": "bb", "metrics": facts.metrics,
        "git": {"commit": "c0ffee", "uncommitted": []},
        "dvc": {"lock_sha256": "dd", "outs": {facts.manifest["made_from"]["sft"]["path"]: "ee.dir"}},
    }


def test_both_forms_say_the_same(made):
    """Each number that stands in a table of README.md stands in the page, too, and the sections have the same names."""
    text, html, _ = made
    tree = Tree(html)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == tree.said("h2")
    assert tree.said("h1") == ["larkfield-assistant"] and "\n# larkfield-assistant\n" in text
    cells = {cell.strip() for row in re.findall(r"^\|(.*)\|$", text, re.MULTILINE) for cell in row.split(" | ")}
    numbers = {cell for cell in cells if re.fullmatch(r"[\d.,]+( \([\d.]+ – [\d.]+\))?", cell)}
    assert len(numbers) > 60 and numbers <= {*tree.said("td"), *tree.said("dd")}


def test_figures_are_those_of_the_metrics(made):
    """A few looked up by hand: by language with intervals, training, quantization, hashes."""
    text, html, facts = made[0].replace("\u00a0", " "), *made[1:]
    right = metrics()["answers"].right
    shares = [f"{100 * right[code].share:.1f} ({100 * right[code].low:.1f} – {100 * right[code].high:.1f})"
              for code in ("all", "en", "zh")]
    assert f"| answered right | {' | '.join(shares)} |" in text
    assert "| peak learning rate (AdamW) | 0.004 | 0.001 | 0.002 |" in text and "sigmoid × 1, sft × 2" in text
    assert "| LoRA: rank, α, dropout | 16, 32, 0 | 32, 64, 0 | 16, 32, 0 |" in text
    # 0.74 right of 200 → 26.0 % wrong, the interval turned round
    low, high = 100 - 100 * right["all"].high, 100 - 100 * right["all"].low
    assert f"Of 200 questions that a document answers, 26.0 % ({low:.1f} – {high:.1f}) are not answered right." in text
    assert "Grey stays unquantized: model.embed_tokens.weight" in html
    for part in (*facts.manifest["parts"].values(), *facts.manifest["made_from"].values()):
        assert part["sha256"] in text and part["sha256"] in html
    assert f"Cleared for release: of {len(metrics()['gate'].reasons)} rules none failed." in text


def test_the_header_is_what_hubs_read(made):
    """Licence, languages of the training rows, tags, and results of the quantized model alone; a base that no hub knows is
    not named as if one did."""
    text, _, facts = made
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["license"], head["language"], head["pipeline_tag"]) == ("apache-2.0", ["en", "zh"], "text-generation")
    assert {"gptq", "int4"} <= set(head["tags"]) and "base_model" not in head
    [english, chinese] = head["model-index"][0]["results"]
    assert english["metrics"][0] == {"type": "accuracy", "name": "answered right, %",
                                     "value": round(100 * metrics()["answers"].right["en"].share, 2)}
    assert chinese["dataset"]["revision"] == facts.manifest["data"]["md5"]
    read = ModelCard(text).data  # by the hub's own reader
    assert (read.model_name, len(read.eval_results)) == ("larkfield-assistant", 6)
    base = {**facts.manifest["base"], "model": "Qwen/Qwen3-0.6B", "revision": "c1899de"}
    head = yaml.safe_load(card.header(Facts({**facts.manifest, "base": base}, facts.metrics)).split("---\n")[1])
    assert head["base_model"] == "Qwen/Qwen3-0.6B"


def test_a_night_that_is_held_back_says_which_rules_did_not_hold(tmp_path):
    """In words, above the table; what a rule quotes stays text in both forms."""
    text, html, _ = make(tmp_path, promote=False, champion=None)
    assert "Held back: 1 of 4 rules did not hold." in text
    assert f"- recall: 61.2 % of those questions had their source {plain(SCRIPT)}" in text and SCRIPT not in text
    assert SCRIPT not in html and "&lt;script&gt;alert(&#34;model&#34;)&lt;/script&gt;" in html


def test_the_page_needs_nothing_and_can_be_read_without_eyes(made):
    """No script, no address but its own anchors, one h1, unique ids, pictures and tables named."""
    tree = Tree(made[1])
    assert not {"script", "img", "iframe", "link", "object", "form", "base"} & {tag for tag, _ in tree.tags}
    assert all(attrs["href"].startswith("#") for attrs in tree.all("a"))
    ids = [attrs["id"] for _, attrs in tree.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and {attrs["href"][1:] for attrs in tree.all("a")} <= {*ids}
    assert len(tree.all("h1")) == 1 and len(tree.all("caption")) == len(tree.all("table")) > 10
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in tree.all("svg")) and len(tree.all("svg")) == 5


def test_nobody_is_named_and_nothing_is_dated(made):
    """Annotators are counted; a time would differ from run to run."""
    for form in made[:2]:
        assert "annotator-0" not in form and not re.search(r"\d\d:\d\d:\d\d|20\d\d-\d\d-\d\d \d\d:\d\d", form)


def test_a_released_one_has_date_commit_and_dvcs_names(made, tmp_path):
    """`nightshift show RELEASE --card` writes it from the record, and says where; again is the same."""
    record = told(made[2])
    write_json(tmp_path / f"releases/{record['release']}.json", record)
    assert listing.card(tmp_path, "1b2c3d4e") == [f"reports/cards/{record['release']}.html"]
    first = (tmp_path / f"reports/cards/{record['release']}.html").read_text()
    assert "promoted" in first and "2026-11-24 03:00 UTC, after nothing" in first and "c0ffee" in first and "ee.dir" in first
    listing.card(tmp_path, record["release"])
    assert (tmp_path / f"reports/cards/{record['release']}.html").read_text() == first


def test_new_documents_for_a_live_model(made):
    """It says whose model it is, and that its answers over these documents were not measured."""
    facts = made[2]
    metrics = {stage: figures for stage, figures in facts.metrics.items() if stage != "answers"}
    html = card.html(Facts({**facts.manifest, "model_of": "2026-11-20-aaaaaaaa"}, metrics, told(facts)))
    assert "New documents for the model of release 2026-11-20-aaaaaaaa" in html
    assert "The answers over these documents were not measured" in html and "Only the rules on search" in html
    assert "does not tell it all" not in html


def test_a_release_of_former_times_has_a_card_with_what_it_tells(made):
    """A record without origin, params and some figures: the card says what is missing, and the rest is there. Stage release,
    whose inputs are complete, refuses instead."""
    facts = made[2]
    manifest = {key: value for key, value in facts.manifest.items() if key not in ("params", *records.ORIGIN)}
    manifest["stack"] = {key: value for key, value in manifest["stack"].items() if key != "lock"}
    record = told(facts)
    html = card.html(Facts(manifest, {"gate": facts.metrics["gate"]}, {**record, "manifest": manifest}))
    assert "This release does not tell it all: metrics/base.json" in html and "c0ffee" in html
    assert facts.manifest["parts"]["model"]["sha256"] in html and "Cleared for release" in html
    with pytest.raises(DataError, match=r"manifest\.json: has no 'params'"):
        card.sections(Facts(manifest, facts.metrics))


@pytest.mark.parametrize("trained", [True, False])
def test_a_night_without_preferences(made, trained):
    """No alignment is claimed where none took place."""
    facts = made[2]
    align = {**facts.metrics["align"], **({} if trained else {"method": "none", "steps": 0, "train_loss": None})}
    html = card.html(Facts(facts.manifest, {**facts.metrics, "align": align}))
    assert ("aligned with 2,911 preference pairs" in html) is trained
    assert ("No preference training took place." in html) is not trained


def test_the_example_is_in_a_language_of_the_data(made):
    """Chinese rows alone give a Chinese example, with the prompt's own words."""
    facts = made[2]
    prepare = {**facts.metrics["prepare"], "languages": {"instructions": {"zh": 3}}}
    [code, _] = fitness.loading(Facts(facts.manifest, {**facts.metrics, "prepare": prepare}))
    assert "请根据以下资料回答用户问题" in code.text and "[1] 商店" in code.text
    compile(code.text, "card", "exec")


def test_markdown_keeps_text_text():
    """Markup of others is escaped, a fence is longer than any in the code, a cell has one line."""
    blocks = [
        Paragraph("a <b> *c* [d](e) `f` | g"), Points(["1", "2"]), Code("x = '```'\n", "python"),
        Table("t_1", ("", "n"), [("a|b\nc", Cell("1", "number")), ("d", Cell("`", "code")), ("e", Cell("f_g", "hash"))]),
    ]
    assert markdown([Section("x", "X", blocks)]) == (
        "## X\n\na \\<b\\> \\*c\\* \\[d\\](e) \\`f\\` \\| g\n\n- 1\n- 2\n\n````python\nx = '```'\n````\n\n"
        "**t\\_1**\n\n|  | n |\n|---|---:|\n| a\\|b c | 1 |\n| d | \\` |\n| e | `f_g` |\n"
    )
    assert "| none | |" in markdown([Section("x", "X", [Table("t", ("a", "b"), [])])])
