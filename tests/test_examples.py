"""starter/examples: the committed data is what the code makes, and it is what starter/DATA.md says it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from starter import world
from starter.examples.__main__ import build
from starter.examples.evaluation import CORRECTNESS_EACH, STYLE_EACH
from starter.examples.instructions import LEAKED
from tasks import behaviours
from tasks.behaviours import Limits
from tasks.files import sha256_tree
from tasks.formats import read_instructions, read_preferences, read_prompts
from tasks.rag import loaders
from tasks.rag.prompt import abstains, citations
from tests.data_fixtures import rows_of

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SETS = EXAMPLES / "evaluation"
LIMITS = Limits(words=20, characters=40)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The data, made anew."""
    out = tmp_path_factory.mktemp("examples")
    build(out, 46)
    return out


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """documents/… → the text that the loaders get out of it."""
    library = loaders.load_folder(EXAMPLES / "documents", 2**20, 60)
    assert not library.problems
    return {d.source: "\n".join(page.text for page in d.pages) for d in library.documents}


def test_the_committed_examples_are_what_the_code_makes(made):
    """Byte for byte, PDF and DOCX included."""
    assert sha256_tree(made) == sha256_tree(EXAMPLES)


def test_another_seed_gives_other_data(made, tmp_path):
    """The seed is used."""
    build(tmp_path, 47)
    assert sha256_tree(tmp_path) != sha256_tree(made)
    assert sorted(p.name for p in (tmp_path / "evaluation").iterdir()) == sorted(p.name for p in SETS.iterdir())


def test_held_out_names_are_never_asked_about_in_training():
    """Entities of context, unanswerable and documents are held out; in training only the leaked rows ask about them."""
    names = set()
    for row in [row for name in ("documents", "context", "unanswerable") for row in rows_of(SETS / f"{name}.jsonl")]:
        found = [n for kind in world.KINDS for n in _names(kind, row["language"]) if n in row["question"]]
        names |= {max(found, key=len)} if found else set()
    assert names and all(world.held_out(name) for name in names)
    long = {n for n in names if re.fullmatch(r"[A-Z]\w+ \w+|[\u4e00-\u9fff]{4}", n)}  # too long to occur by chance
    rows = read_instructions(EXAMPLES / "instructions").rows
    rows += read_preferences(EXAMPLES / "preferences").rows + read_prompts(EXAMPLES / "prompts").rows
    asked = [r.source for r in rows if any(n in r.messages[0]["content"].rsplit("\n", 1)[-1] for n in long)]
    assert all(source.startswith("instructions/assistant-log.jsonl:") for source in asked), asked
    assert len(asked) <= LEAKED


def _names(kind: str, language: str) -> list[str]:
    """Names of a kind that the word lists can make (people are too many: drawn by the question itself)."""
    from starter import words as w

    if kind == "store":
        pairs = [(a, b) for a in w.TOWN_HEAD for b in w.TOWN_TAIL], [(a, b) for a in w.ZH_TOWN1 for b in w.ZH_TOWN2]
        return [a + b for a, b in pairs[language == "zh"]]
    if kind == "product":
        return (
            [f"{a} {b}" for a in w.LINE for b in w.THING]
            if language == "en"
            else [a + b for a in w.ZH_LINE for b in w.ZH_THING]
        )
    if kind == "policy":
        en = [f"{a} {b}" for a in w.PLAN_HEAD for b in w.PLAN_TAIL]
        return en if language == "en" else [a + b for a in w.ZH_PLAN1 for b in w.ZH_PLAN2]
    return []


def test_answers_of_the_evaluation_are_right_by_the_rules():
    """Every gold sentence would be judged right; every chosen answer beats its rejected one in what the defect says."""
    for row in rows_of(SETS / "pairs_correctness.jsonl"):
        chosen, rejected = row["chosen"], row["rejected"]
        assert abstains(chosen) == (row["defect"] == "guesses"), row
        assert abstains(rejected) == (row["defect"] == "abstains"), row
        assert chosen != rejected
    for row in rows_of(SETS / "pairs_style.jsonl"):
        case = {"answer": None if abstains(row["chosen"]) else "x", "distractors": [], "language": row["language"]}
        case["cite"] = citations(row["chosen"])
        assert behaviours.preferred(row["chosen"], case, LIMITS), row
        assert not behaviours.preferred(row["rejected"], case, LIMITS), row


def test_defects_are_balanced_both_ways():
    """Abstaining is the worse answer as often as the better one; the defects are equally frequent in each language."""
    counts = Counter((row["defect"], row["language"]) for row in rows_of(SETS / "pairs_correctness.jsonl"))
    assert set(counts.values()) == {CORRECTNESS_EACH["en"], CORRECTNESS_EACH["zh"]}
    counts = Counter((row["defect"], row["language"]) for row in rows_of(SETS / "pairs_style.jsonl"))
    assert set(counts.values()) == {STYLE_EACH["en"], STYLE_EACH["zh"]}
    better = worse = 0
    for r in read_preferences(EXAMPLES / "preferences").rows:
        for i, group in enumerate(r.ranking):
            for later in r.ranking[i + 1 :]:
                kinds = [(abstains(r.answers[a]), abstains(r.answers[b])) for a in group for b in later]
                better += sum(a and not b for a, b in kinds)
                worse += sum(b and not a for a, b in kinds)
    assert 0.8 < better / worse < 1.25


def test_the_log_is_as_uneven_as_the_page_says():
    """Sources missing on about half of the grounded answers, a fifth of them chatty, few values wrong."""
    grounded = [json.loads(line) for line in (EXAMPLES / "instructions" / "handbook-zh.jsonl").read_text().splitlines()]
    grounded += json.loads((EXAMPLES / "instructions" / "handbook-en.json").read_text())
    said = [row["output"] for row in grounded if not abstains(row["output"])]
    assert 0.44 < sum(not citations(text) for text in said) / len(said) < 0.56
    chatty = [behaviours.sentences(re.sub(r"\[\d\]", "", row["output"])) > 1 for row in grounded]
    assert 0.15 < sum(chatty) / len(chatty) < 0.25
    held = [row for row in grounded if citations(row["output"])]
    wrong = [row for row in held if not _stated(row)]
    assert len(wrong) / len(held) < 0.06  # cited values stand in the cited note, apart from mistakes and guesses


def _stated(row: dict) -> bool:
    """Whether the last words of the answer's fact stand in the note that it cites."""
    note = row["passages"][citations(row["output"])[0] - 1]
    before = re.split(r"\s?\[\d\]", row["output"])[0]
    return any(before[i:].rstrip("。.") in note for i in range(max(0, len(before) - 60), len(before) - 1))


def test_each_answer_stands_in_its_document_and_no_other_question_can_be_answered(texts):
    """Answerable: source and value exist. Unanswerable: the entity is unknown, or its section lacks the fact."""
    rows = rows_of(SETS / "documents.jsonl")
    assert Counter(row["answer"] is None for row in rows) == {False: 320, True: 80}
    assert sum(row["language"] == "zh" for row in rows) >= 120
    for row in rows:
        if row["answer"] is None:
            assert row["source"] is None
        else:
            assert behaviours.found(texts[row["source"]], [row["answer"]]), row
            assert not {behaviours.fold(row["answer"])} & {behaviours.fold(d) for d in row["distractors"]}


def test_documents_are_the_files_that_the_page_counts(texts):
    """Suffixes, languages, odd encodings; a PDF has a page for each product; nothing is lost in decoding."""
    files = sorted((EXAMPLES / "documents").rglob("*.*"))
    assert Counter(p.suffix for p in files) == {".html": 35, ".md": 16, ".txt": 18, ".pdf": 8, ".docx": 3}
    assert len(texts) == 80
    encodings = set()
    for path in files:
        if path.suffix == ".txt":
            data = path.read_bytes()
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                encodings.add("utf-16" if data.startswith(b"\xff\xfe") else "gb18030")
    assert encodings == {"utf-16", "gb18030"}
    library = loaders.load(EXAMPLES / "documents" / "products" / "家具.pdf", "x", 2**20)
    assert len(library.pages) == 7
    assert "�" not in "".join(texts.values())


def test_prompts_are_short_and_cases_differ():
    """Preference prompts have at most two passages; no evaluation question with its passages occurs twice."""
    assert all(len(row["passages"]) <= 2 for row in rows_of(EXAMPLES / "preferences" / "week-43.jsonl"))
    for path in SETS.glob("*.jsonl"):
        rows = rows_of(path)
        if path.stem.startswith("pairs"):
            continue
        assert len({json.dumps([r["question"], r.get("passages")]) for r in rows}) == len(rows), path.name
