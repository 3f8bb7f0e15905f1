"""The nightly report: it says what the metrics say, the same way every time, and nothing in it can run."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tasks import __main__ as door
from tasks.errors import DataError
from tasks.files import read_json, read_jsonl, sha256_file, write_json, write_jsonl
from tasks.params import Page
from tasks.report import PAGE, STAGES, report
from tests.judgement_fixtures import PEOPLE
from tests.report_fixtures import BAD, write
from tests.report_metrics import LIVE, metrics

VOID = {"meta", "line", "circle", "polyline", "rect", "br", "link", "img", "input"}
CFG = Page(samples=1, characters=600)
ANSWERS = ("right", "right_when_found", "groundedness", "cites_source", "citation_precision", "citation_recall")  # by language


class Tree(HTMLParser):
    """Tags with their attributes in order; AssertionError where they do not nest."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[tuple[str, str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note the tag; a void one does not stay open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """SVG shapes close themselves."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Each closing tag closes the last one opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Text with the element that it is in."""
        if data.strip():
            self.text.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, name: str) -> list[dict[str, str | None]]:
        """Attributes of all tags of a name."""
        return [attrs for tag, attrs in self.tags if tag == name]

    def said(self, name: str) -> list[str]:
        """Texts directly in elements of a name."""
        return [text for tag, text in self.text if tag == name]


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> dict[str, Path]:
    """The inputs of one made-up night."""
    return write(tmp_path_factory.mktemp("night"))


def page(paths: dict[str, Path], out: Path, cfg: Page = CFG) -> str:
    """The page as text."""
    out.mkdir()
    report(cfg, **paths, out=out)
    return (out / PAGE).read_text(encoding="utf-8")


def changed(paths: dict[str, Path], folder: Path, **stages) -> dict[str, Path]:
    """The same inputs with other metrics: stage → function that changes the JSON object in place."""
    shutil.copytree(paths["figures"], folder / "metrics")
    for stage, change in stages.items():
        file = folder / "metrics" / f"{stage}.json"
        values = read_json(file)
        change(values)
        write_json(file, values)
    return {**paths, "figures": folder / "metrics"}


def test_a_training_on_its_own_answers_that_was_stopped(night, tmp_path):
    """PPO: score and KL of its rounds in the place of DPO's margins, what the watch saw, and why it was ended."""
    curve = [{"step": 16 * n, "loss": 0.5, "score": n / 4, "kl": n / 8} for n in range(1, 6)]
    write_jsonl(tmp_path / "align.jsonl", curve)

    def stop(align):
        align |= {"method": "ppo", "stopped": {"rule": "kl", "step": 80, "words": "it is <b>21.0</b> nats away", "kept": 48}}

    shown = {**changed(night, tmp_path, align=stop), "align_curve": tmp_path / "align.jsonl"}
    tree = Tree(page(shown, tmp_path / "out"))
    captions = " ".join(tree.said("h3") + tree.said("figcaption") + tree.said("b") + tree.said("p"))
    assert "PPO: score and KL of its own answers" in captions and "DPO: margin" not in captions
    assert "Alignment: is the model whole?" in captions
    assert "stopped at step 80 by its rule kl: it is <b>21.0</b> nats away; the checkpoint of step 48 is" in captions


def test_equal_inputs_give_equal_bytes(night, tmp_path):
    """Twice in one process; nothing in the page is a date, a path of this machine or a random id."""
    one, two = page(night, tmp_path / "one"), page(night, tmp_path / "two")
    assert one == two
    assert str(tmp_path) not in one
    assert not re.search(r"\d\d:\d\d:\d\d", one)


def test_the_report_of_the_report(night, tmp_path):
    """Counts and hash are those of the page."""
    (tmp_path / "out").mkdir()
    made = report(CFG, **night, out=tmp_path / "out")
    html = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    assert [made.page, made.bytes] == [sha256_file(tmp_path / "out" / PAGE), len(html.encode())]
    assert made.promote and made.pictures == len(Tree(html).all("svg")) >= 20
    # 3 sets and the documents, each in 2 languages, each with one case as wanted and one not
    assert made.samples == {"as wanted": 10, "not": 10} and len(Tree(html).all("article")) == 20 + 6
    assert [p.name for p in (tmp_path / "out").iterdir()] == [PAGE]


def test_nothing_that_was_written_elsewhere_can_run(night, tmp_path):
    """Models, documents, questions, checks and gate reasons all hold <script> and <img onerror>: all stay text."""
    html = page(night, tmp_path / "out")
    tree = Tree(html)
    assert not {"script", "img", "iframe", "link", "object", "form", "base"} & {tag for tag, _ in tree.tags}
    assert not [attrs for _, attrs in tree.tags for name in attrs if name.startswith("on") or name == "style"]
    assert "&lt;script&gt;alert(&#34;model&#34;)&lt;/script&gt;" in html
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in html
    assert BAD in tree.said("dd")  # and nothing of the answer is lost
    for element in ("p", "td", "dd", "li"):  # question and reason, check, answer, passage
        assert any("<script>" in text or "<img" in text for text in tree.said(element)), element


def test_the_page_needs_no_network(night, tmp_path):
    """No address but anchors, the checks beside it and the model card; a policy in the page forbids all loading as well."""
    tree = Tree(page(night, tmp_path / "out"))
    links = [attrs["href"] for attrs in tree.all("a")]
    assert {link for link in links if not link.startswith("#")} == {
        "../validation/index.html", "../../artifacts/release/card.html"}
    assert not [attrs for _, attrs in tree.tags for name in attrs if name in ("src", "srcset", "xlink:href", "action")]
    policy = [attrs["content"] for attrs in tree.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    style = " ".join(tree.said("style"))
    assert "url(" not in style and "@import" not in style and "@font-face" not in style
    assert "prefers-color-scheme: dark" in style and "@media print" in style


def test_the_page_can_be_read_without_eyes(night, tmp_path):
    """One h1, no level skipped, ids unique, pictures and tables named, Chinese marked as such."""
    tree = Tree(page(night, tmp_path / "out"))
    levels = [int(tag[1]) for tag, _ in tree.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    ids = [attrs["id"] for _, attrs in tree.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in tree.all("a") if attrs["href"].startswith("#")} <= {f"#{name}" for name in ids}
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in tree.all("svg"))
    assert len(tree.all("caption")) == len(tree.all("table")) > 8
    assert all(attrs["scope"] in ("col", "row") for attrs in tree.all("th"))
    assert tree.all("html") == [{"lang": "en"}]
    assert {"class": "question", "lang": "zh"} in tree.all("p")


def test_sections_come_in_the_order_of_a_readers_questions(night, tmp_path):
    """The verdict is above them all."""
    tree = Tree(page(night, tmp_path / "out"))
    assert [attrs["id"] for attrs in tree.all("section")] == [
        "gate", "changes", "behaviours", "training", "reward", "quantization", "documents", "data",
        "judgements", "asking", "samples", "lineage", "costs"]
    assert tree.said("h1") == ["Cleared for release"]
    assert tree.said("h2")[0] == "Gate"


def test_figures_are_those_of_the_metrics(night, tmp_path):
    """A few looked up by hand: behaviours, gain against the live release, KL, sizes, data, hashes."""
    tree, made = Tree(page(night, tmp_path / "out")), metrics()
    cites = made["evaluate"].behaviours["aligned"]["context"]["zh"]["cites"]
    shares = [f"{100 * value:.1f}" for value in (cites.share, cites.low, cites.high)]
    assert "aligned: {} ({} to {})".format(*shares) in tree.said("title")  # of the dot
    assert "{} ({} – {})".format(*shares) in tree.said("td")  # of the table behind it
    assert "+1.2" in tree.said("td") and "−1.3 to +3.7" in tree.said("td")  # gain over the live release, 0.012 ± 0.025
    assert f"Tonight against {LIVE}" in tree.said("figcaption")
    assert {"0.00022", "0.00147"} <= set(tree.said("td"))
    assert any("all agree in 83.4\u00a0%" in text for text in tree.said("p"))
    assert "10.25 MB" in tree.said("text") and "4.42 MB" in tree.said("text")
    assert any("model.embed_tokens.weight" in text for text in tree.said("p"))
    assert made["release"].manifest in tree.said("td")


def test_a_refused_night_says_why_first(tmp_path):
    """The heading, the failed rule in words, and no live release to compare with."""
    html = page(write(tmp_path / "night", promote=False, champion=None), tmp_path / "out")
    tree = Tree(html)
    assert tree.said("h1") == ["Held back"]
    assert "1 of 4 rules of the gate fails. Nothing is live yet, and nothing goes out." in tree.said("p")
    assert any(text.startswith("recall: 61.2 %") for text in tree.said("li"))
    assert html.index("recall: 61.2 %") < html.index("<main")
    assert any("nothing to compare with yet" in text for text in tree.said("p"))


def test_a_release_that_shares_no_case_is_no_comparison(night, tmp_path):
    """No behaviour compared: said in words, and the steps of the night are still there."""
    def forget(values):
        values["champion"] |= {"behaviours": {}, "win_rate": None, "cases": 0}
    tree = Tree(page(changed(night, tmp_path, evaluate=forget), tmp_path / "out"))
    assert any("Nothing is left on which" in text for text in tree.said("p"))
    assert "SFT against base" in tree.said("figcaption")


def test_search_is_shown_by_mode_and_language(night, tmp_path):
    """Nine rows of dense, sparse, hybrid × all, English, Chinese; citations and groundedness with their intervals."""
    html = page(night, tmp_path / "out")
    table = html.split("<caption>Retrieval over documents")[1].split("</table>")[0]
    assert re.findall(r"<th[^>]*>([^<]+)", table) == [
        "search", "language", "recall@1", "recall@2", "recall@5", "recall@10", "MRR@10", "nDCG@10",
        *["dense", "sparse", "hybrid"] * 3]
    made = metrics()["retrieve"].modes
    rows = [re.findall(r"<td[^>]*>([^<]+)", row) for row in table.split("<tr>")[2:]]
    assert rows[5] == ["English", *(f"{made['hybrid']['en'][key]:.3f}" for key in (
        "recall@1", "recall@2", "recall@5", "recall@10", "mrr@10", "ndcg@10"))]
    assert [row[0] for row in rows] == ["all"] * 3 + ["English"] * 3 + ["Chinese"] * 3
    said = Tree(html).said("td")
    assert "67.0 – 77.0" in said and "90.8" in said  # citation precision, 0.72 ± 0.05; 177 of 195 grounded


def test_a_reranker_is_a_fourth_way_to_search(night, tmp_path):
    """A row more a language, a curve more, and the passages are said to be its."""
    def add(values):
        values["modes"]["reranked"] = values["modes"]["hybrid"]
    html = page(changed(night, tmp_path, retrieve=add), tmp_path / "out")
    assert html.count("reranked</th>") == 3 and "that reranked search puts first" in html
    assert 'class="curve four"' in html


def test_search_meets_the_live_release(night, tmp_path):
    """Its differences stand with the model's; without shared questions a sentence says so, and nothing else is shown."""
    tree = Tree(page(night, tmp_path / "out"))
    assert f"Search against {LIVE}" in tree.said("figcaption") and "value found" in tree.said("td")
    assert any(f"that of {LIVE} on 188 questions" in text for text in tree.said("p"))

    def forget(values):
        values["champion"] |= {"questions": 0, "found": None, "reciprocal_rank": None}
    tree = Tree(page(changed(night, tmp_path, retrieve=forget), tmp_path / "again"))
    assert any("No question on the documents is left" in text for text in tree.said("p"))
    assert f"Search against {LIVE}" not in tree.said("figcaption")


def test_documents_may_be_newer_than_the_model(night, tmp_path):
    """The live release is the one that search met: the documents have changed since the model did."""
    def newer(values):
        values["champion_search"] = "2026-11-23-00000000"
    tree = Tree(page(changed(night, tmp_path, gate=newer), tmp_path / "out"))
    assert any("Release 2026-11-23-00000000 is live." in text for text in tree.said("p"))


def test_a_set_without_cases_and_a_language_without_rows_leave_no_hole(night, tmp_path):
    """A user's own data may hold no trained facts and no Chinese."""
    def english_context_only(values):
        values["cases"] |= {"facts": 0}
        for model in values["behaviours"].values():
            del model["facts"]
            for table in model.values():
                del table["zh"]

    def english(values):
        for key in ANSWERS:
            del values[key]["zh"]
        values["abstains"] = {"precision": None, "recall": None}

    def english_search(values):
        del values["found"]["zh"]
        for languages in values["modes"].values():
            del languages["zh"]

    def unknown(values):
        values["agreement"] = values["labelling"]["alpha"] = None
        values["dropped"] = {}
        del values["languages"]["prompts"]

    paths = changed(night, tmp_path, evaluate=english_context_only, answers=english, retrieve=english_search,
                    prepare=unknown)
    tree = Tree(page(paths, tmp_path / "out"))
    assert not any(text.startswith("Facts:") for text in tree.said("h3"))
    assert any("How far people agree is unknown" in text for text in tree.said("p"))
    assert "No row was left out." in tree.said("p")


def test_chrf_of_held_out_instructions_is_shown(night, tmp_path):
    """Headline, table with intervals, and the paired differences between the steps."""
    tree = Tree(page(night, tmp_path / "out"))
    assert {"58.3 (56.3 – 60.3)", "57.1 (55.1 – 59.1)", "21.4 (19.4 – 23.4)"} <= set(tree.said("td"))
    assert any("Answers to 200 held-out instructions" in text for text in tree.said("caption"))
    assert "+35.7" in tree.said("td") and "of 100; SFT 57.1, base 21.4" in [text for _, text in tree.text]


def test_a_night_on_instructions_and_documents_alone(night, tmp_path):
    """No preferences, no prompts, no evaluation sets: each section says so in a sentence; no empty table, no zero."""
    def evaluate(values):
        values["cases"] = dict.fromkeys(values["cases"], 0)
        for key in ("behaviours", "correct", "preferred", "abstains", "over_abstains"):
            values[key] = {model: {} for model in values[key]}
        values |= {"degenerate": {}, "sft_over_base": None, "aligned_over_sft": None, "reward": None, "champion": None}

    def reward(values):
        values |= dict.fromkeys(("train_loss", "preferences", "correctness", "style", "held_out", "calibration_error"))
        values |= {"pairs": 0, "steps": 0, "trained_parameters": 0, "calibration": []}

    def align(values):
        values |= dict.fromkeys(("train_loss", "preferred_before", "preferred_after", "gained", "chosen_logprob_before",
                                 "chosen_logprob_after", "ended", "distinct"))
        values |= {"method": "none", "pairs": 0, "steps": 0, "trained_parameters": 0, "answers": 0}

    def answers(values):
        values |= {"questions": 0, "invented_citations": None, "ended": None, **{key: {} for key in ANSWERS}}
        values["abstains"] = {"precision": None, "recall": None}

    def retrieve(values):
        values |= {"questions": 0, "unanswerable": 0, "modes": {}, "found": {}, "champion": None}

    def prepare(values):
        values |= {"prompts_from": "instructions", "evaluation": {}, "pairs": {"train": 0, "eval": 0}, "agreement": None,
                   "labelling": None}
        values["read"] |= {"preferences": 0, "prompts": 0}

    paths = changed(night, tmp_path, evaluate=evaluate, reward=reward, align=align, answers=answers, retrieve=retrieve,
                    prepare=prepare,
                    validate=lambda values: values.update(absent=["preferences", "prompts", "evaluation"]))
    for name in ("reward_curve", "align_curve", "evaluation", "answers"):
        paths[name] = tmp_path / f"{name}.jsonl"
        write_jsonl(paths[name], [])
    shutil.copytree(night["cases"], tmp_path / "cases")
    for path in (tmp_path / "cases").iterdir():
        write_jsonl(path, [])
    tree = Tree(page({**paths, "cases": tmp_path / "cases"}, tmp_path / "out"))
    said = " ".join(tree.said("p"))
    for part in ("have no cases, so no behaviour was measured", "no preference pairs to train a reward model on",
                 "the aligned model is the SFT model", "the reward model was not measured",
                 "no questions on the documents", "allowed: preferences, prompts, evaluation",
                 "data/prompts holds none of its own: held-out instructions", "Nobody has judged",
                 "no held-out cases to show", "no questions on documents"):
        assert part in said, part
    assert "Krippendorff" not in said and "ordered pair" not in said and "none" not in tree.said("td")
    assert [text for text in tree.said("figcaption") if text.startswith(("Reward", "DPO", "NONE"))] == []
    assert len(tree.all("article")) == 4 + 6 and len(tree.all("section")) == 13


def test_judgements_are_shown_as_they_were_measured(night, tmp_path):
    """α with its reading, biases and their intervals, each annotator's line, who hurried; names are text."""
    tree, said = Tree(page(night, tmp_path / "out")), metrics()["prepare"].labelling
    assert any(f"Krippendorff's α is {said.alpha:.2f} over {said.judged_twice} pairs" in text for text in tree.said("p"))
    assert any("one judgement says little" in text for text in tree.said("p"))
    for picture in ("Agreement with the others", "The longer answer won", "The answer shown first won"):
        assert picture in tree.said("figcaption")
    dots = [f"{100 * value:.1f}" for value in (said.first.share, said.first.low, said.first.high)]
    assert "all: {} ({} to {})".format(*dots) in tree.said("title")
    hurried = f"{said.fast} judgements were made in less than {said.too_fast_below:.1f} s"
    assert any(text.startswith(hurried) for text in tree.said("p"))
    assert PEOPLE[3] in tree.said("th") and str(said.fastest[0].annotation) in tree.said("td")
    assert any("7 skips; flagged: 4 unsafe" in text for text in tree.said("p"))


@pytest.mark.parametrize("alpha, reading", [
    (0.9, "people agree well"), (0.7, "people agree tolerably"), (0.1, "one judgement says little"),
    (-0.1, "no more than by chance")])
def test_agreement_is_read_in_plain_words(night, tmp_path, alpha, reading):
    """The usual bounds, 0.8 and 0.667, and chance."""
    paths = changed(night, tmp_path, prepare=lambda values: values["labelling"].update(alpha=alpha))
    assert any(reading in text for text in Tree(page(paths, tmp_path / "out")).said("p"))


def test_unknown_places_and_times_are_said_and_not_drawn(night, tmp_path):
    """Imported pairs tell neither."""
    def forget(values):
        values["labelling"] |= {"first": None, "timed": 0, "seconds": None, "too_fast_below": None, "fast": 0, "fastest": []}
        for person in values["labelling"]["by_annotator"]:
            person |= {"first": None, "seconds": None, "fast": 0}
    tree = Tree(page(changed(night, tmp_path, prepare=forget), tmp_path / "out"))
    assert "The answer shown first won" not in tree.said("figcaption")
    assert "No judgement tells in which order answers were shown or how long it took." in tree.said("p")


def test_who_is_asked_next_and_why(night, tmp_path):
    """Counts by reason over all and over the first hundred places, a dot a prompt, and the first of each kind as text."""
    html = page(night, tmp_path / "out")
    tree, rows = Tree(html), read_jsonl(night["selected"])
    table = html.split("<caption>The order, and its first 100 places")[1].split("</table>")[0]
    lines = [re.findall(r"<t[hd][^>]*>([^<]+)", line) for line in table.split("<tr>")[2:]]
    assert [line[0] for line in lines] == ["users were not content", "the reward model is unsure", "chance"]
    first = [row["why"] for row in rows[:100]]
    assert [line[2] for line in lines] == [str(first.count(why)) for why in ("feedback", "uncertain", "random")]
    picture = html.split("<figcaption>Users were not content")[1].split("</svg>")[0]
    assert picture.count("<circle") == 1 + 3  # the legend's, and a dot a prompt
    assert any(text.startswith("place 1 · users were not content") for text in tree.said("h4"))
    assert f"answer 1 · reward {rows[0]['rewards'][0]:+.2f}".replace("-", "−") in tree.said("dt")
    assert rows[0]["answers"][1] in tree.said("dd") and "Wanted: None" not in html
    assert any("150; to 138 there are fewer than two different answers" in text for text in tree.said("p"))


def test_nobody_can_be_asked(night, tmp_path):
    """A model that always says the same: a sentence, no empty table."""
    write_jsonl(tmp_path / "selected.jsonl", [])
    html = page({**night, "selected": tmp_path / "selected.jsonl"}, tmp_path / "out")
    assert "The first of each kind" not in html and "<caption>The order" not in html


def test_another_method_of_alignment_shows_its_loss(night, tmp_path):
    """One that the page does not know (KTO, say) logs other columns than DPO: the common ones are drawn."""
    paths = changed(night, tmp_path, align=lambda values: values.update(method="kto"))
    captions = Tree(page(paths, tmp_path / "out")).said("figcaption")
    assert "KTO: loss" in captions and not any(text.startswith("DPO") for text in captions)


@pytest.mark.parametrize("place", [
    "gate.promote", "gate.reasons", "gate.frozen", "evaluate.behaviours", "evaluate.kl", "evaluate.champion", "sft.eval_loss",
    "reward.correctness", "align.preferred_after", "quantize.sizes", "answers.groundedness", "answers.citation_precision",
    "retrieve.modes", "retrieve.champion", "embed.unknown",
    "index.build", "prepare.dropped", "prepare.agreement", "validate.findings", "candidates.prompts", "merge.positions",
    "prepare.labelling", "select.without_choice",
    "base.licence", "release.manifest"])
def test_a_missing_key_is_named_with_its_file(night, tmp_path, place):
    """No traceback, no empty place: the message says what to run."""
    stage, key = place.split(".")
    paths = changed(night, tmp_path, **{stage: lambda values: values.pop(key)})
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=rf"{stage}\.json: has no '{key}'; run `dvc repro`"):
        report(CFG, **paths, out=tmp_path / "out")


def test_an_answer_without_its_verdict_is_named(night, tmp_path):
    """File, row and key, as for the metrics."""
    rows = read_jsonl(night["evaluation"])
    del rows[5]["right"]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=rf"answers\.jsonl: {rows[5]['id']}: has no 'right'"):
        report(CFG, **{**night, "evaluation": tmp_path / "answers.jsonl"}, out=tmp_path / "out")


def test_every_stage_before_it_is_read(night):
    """The page leaves no stage's metrics out."""
    assert sorted(STAGES) == sorted(set(door.STAGES) - {"report"})
    assert sorted(p.stem for p in night["figures"].glob("*.json")) == sorted(STAGES)


def test_the_shell_door_writes_page_and_metrics(night, tmp_path):
    """The options are those of the signature; the output folder appears whole."""
    options = [word for name, path in night.items() for word in (f"--{name.replace('_', '-')}", str(path))]
    door.run("report", [*options, "--out", str(tmp_path / "nightly"), "--metrics", str(tmp_path / "report.json")])
    assert read_json(tmp_path / "report.json")["page"] == sha256_file(tmp_path / "nightly" / PAGE)
