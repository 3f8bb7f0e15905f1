"""tasks/prepare: the dataset that training reads, from a small data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import prepare as stage
from tasks.errors import DataError
from tasks.files import sha256_tree, write_json
from tasks.formats import read_evaluation, read_instructions, read_preferences, read_prompts
from tasks.formats.evaluation import SETS
from tasks.frozen import look
from tests.data_fixtures import TOWNS, instruction, jsonl, preparation, ranking, rows_of, seed, write_data, write_own_data

READERS = {
    "instructions": read_instructions,
    "preferences": read_preferences,
    "prompts": read_prompts,
    "evaluation": read_evaluation,
}


@pytest.fixture
def data(tmp_path) -> Path:
    """A valid data folder."""
    return write_data(tmp_path / "data")


def report_of_checks(data: Path, refused: dict[str, list[str]] | None = None) -> Path:
    """What the validate stage would have written: the rows it saw and the places it refused."""
    rows = {}
    for kind, read in READERS.items():
        found = read(data / kind)
        rows[kind] = len(found.rows) + len(found.problems)
    path = data.parent / "validate.json"
    write_json(path, {"rows": rows, "refused": [{"where": w, "reasons": r} for w, r in (refused or {}).items()]})
    return path


def run(data: Path, out: Path, refused=None, seed_value: int = 7, **changes):
    """The stage with the parameters of params.yaml and changes; (report, {relative file: rows})."""
    report = stage.prepare(preparation(**changes), seed(seed_value), data, report_of_checks(data, refused), out)
    return report, {p.relative_to(out).as_posix(): rows_of(p) for p in sorted(out.rglob("*.jsonl"))}


def dropped(files) -> dict[str, str]:
    """Place → reason."""
    return {row["source"]: row["reason"] for row in files["dropped.jsonl"]}


def test_the_dataset_has_exactly_the_contract(data, tmp_path):
    """The file set, the fields of each row, and counts that add up."""
    report, files = run(data, tmp_path / "out")
    assert list(files) == [
        "dropped.jsonl",
        *(f"evaluation/{name}.jsonl" for name in sorted(SETS)),
        "instructions/eval.jsonl",
        "instructions/train.jsonl",
        "preferences/eval.jsonl",
        "preferences/train.jsonl",
        "prompts/prompts.jsonl",
    ]
    fields = {
        "instructions/train.jsonl": {"id", "messages", "language", "source"},
        "preferences/train.jsonl": {
            "id",
            "messages",
            "chosen",
            "rejected",
            "weight",
            "annotators",
            "annotations",
            "language",
            "source",
        },
        "prompts/prompts.jsonl": {"id", "messages", "language"},
        "evaluation/context.jsonl": {"id", "messages", "answer", "distractors", "cite", "language", "kind"},
        "evaluation/pairs_style.jsonl": {"id", "messages", "chosen", "rejected", "defect", "language"},
    }
    for name, keys in fields.items():
        assert set(files[name][0]) == keys, name
    assert all(row["messages"][-1]["role"] == "assistant" for row in files["instructions/train.jsonl"])
    assert all(row["messages"][-1]["role"] == "user" for row in files["preferences/train.jsonl"])
    assert dropped(files) == {}
    # 12 alpaca + 2 chat + 1 messages + 6 completion; 12 rankings × 3 pairs + 12 pairs
    assert sum(report.instructions.values()) == 21
    assert sum(report.pairs.values()) == 48
    assert report.languages["instructions"] == {"en": 20, "zh": 1}


def test_people_who_have_withdrawn_are_left_out(data, tmp_path):
    """Their rankings and the corrections they approved, in whatever file; others' stay, and validate is not upset."""
    jsonl(data / "preferences" / "more.jsonl", [ranking(n, "annotator-02") for n in range(12)])
    said = [{"role": "user", "content": "Which bolt fits?"}, {"role": "assistant", "content": "M6."}]
    told = {"messages": said, "language": "en", "annotation": "ls1-aa"}
    jsonl(data / "instructions" / "feedback.jsonl", [{**told, "id": "one", "annotator": "annotator-02"}])
    _, before = run(data, tmp_path / "before")
    learned = [row for name in ("train", "eval") for row in before[f"instructions/{name}.jsonl"] if row["id"] == "one"]
    assert [(row["annotator"], row["annotation"]) for row in learned] == [("annotator-02", "ls1-aa")]
    jsonl(data / "withdrawn.jsonl", [{"annotator": "annotator-02", "when": "2026-11-24T00:00:00Z"}])
    report, files = run(data, tmp_path / "out")
    assert report.dropped == {"annotator withdrawn": 13} and set(dropped(files).values()) == {"annotator withdrawn"}
    names = [{who for part in ("train", "eval") for row in made[f"preferences/{part}.jsonl"] for who in row["annotators"]}
             for made in (before, files)]  # fmt: skip
    assert names[0] - names[1] == {"annotator-02"} and names[1] >= {"annotator-01"}


def test_the_same_bytes_again_and_from_files_in_another_order(data, tmp_path):
    """Deterministic; and a file's name does not decide on which side a prompt falls."""
    run(data, tmp_path / "one", eval_share=0.4)
    run(data, tmp_path / "two", eval_share=0.4)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    (data / "instructions" / "alpaca.jsonl").rename(data / "instructions" / "zzz.jsonl")
    _, files = run(data, tmp_path / "three", eval_share=0.4)
    before = {row["id"] for row in rows_of(tmp_path / "one" / "instructions" / "eval.jsonl")}
    assert {row["id"] for row in files["instructions/eval.jsonl"]} == before != set()


def test_a_prompt_is_on_one_side_in_instructions_and_preferences(data, tmp_path):
    """The same questions in both kinds, and several pairs of each: no prompt is in train and in eval."""
    shared = [{**ranking(n), "passages": instruction(n)["passages"]} for n in range(12)]
    jsonl(data / "preferences" / "shared.jsonl", shared)
    _, files = run(data, tmp_path / "out", eval_share=0.5)
    sides = {
        side: {
            row["messages"][0]["content"]
            for kind in ("instructions", "preferences")
            for row in files[f"{kind}/{side}.jsonl"]
        }
        for side in ("train", "eval")
    }
    assert sides["train"] and sides["eval"]
    assert not sides["train"] & sides["eval"]
    _, again = run(data, tmp_path / "again", eval_share=0.5, seed_value=8)
    assert again["instructions/eval.jsonl"] != files["instructions/eval.jsonl"]


def test_copies_go_and_facts_that_look_alike_stay(data, tmp_path):
    """An exact copy, one with other case and spaces, one with a greeting: gone. Another number, another town: kept."""
    row = instruction(3)
    near = [
        {**row, "instruction": row["instruction"].upper() + " "},
        {**row, "instruction": "Hello, " + row["instruction"]},
    ]
    fact = {**row, "output": row["output"].replace("13", "14")}
    jsonl(data / "instructions" / "zz.jsonl", [row, *near, fact, {**row, "output": row["output"].replace(" [1]", "")}])
    report, files = run(data, tmp_path / "out")
    assert dropped(files) == {
        "instructions/zz.jsonl:1": "exact duplicate of instructions/alpaca.jsonl:4",
        "instructions/zz.jsonl:2": "near duplicate of instructions/alpaca.jsonl:4",
        "instructions/zz.jsonl:3": "near duplicate of instructions/alpaca.jsonl:4",
    }
    assert report.dropped == {"exact duplicate": 1, "near duplicate": 2}
    assert sum(report.instructions.values()) == 23


def test_nothing_of_the_evaluation_is_learned_from(data, tmp_path):
    """Exactly, with a greeting, in a second turn, in preferences and in prompts."""
    case = rows_of(data / "evaluation" / "context.jsonl")[1]
    asked = {"instruction": case["question"], "output": "9:11", "passages": case["passages"]}
    fact = rows_of(data / "evaluation" / "facts.jsonl")[0]["question"]
    turns = [("human", "Hi."), ("gpt", "Hello."), ("human", fact), ("gpt", "9:10")]
    jsonl(
        data / "instructions" / "zz.jsonl",
        [
            asked,
            {**asked, "instruction": "Hello, " + case["question"]},
            {"conversations": [{"from": who, "value": text} for who, text in turns]},
        ],
    )
    jsonl(data / "preferences" / "zz.jsonl", [{**ranking(1), "question": fact, "passages": []}])
    jsonl(data / "prompts" / "zz.jsonl", [{"question": fact, "passages": []}])
    _, files = run(data, tmp_path / "out")
    assert dropped(files) == {
        "instructions/zz.jsonl:1": "overlaps evaluation case context-1",
        "instructions/zz.jsonl:2": "overlaps evaluation case context-1",
        "instructions/zz.jsonl:3": "overlaps evaluation case facts-0",
        "preferences/zz.jsonl:1": "overlaps evaluation case facts-0",
        "prompts/zz.jsonl:1": "overlaps evaluation case facts-0",
    }


def test_refused_unreadable_and_long_rows_are_left_out(data, tmp_path):
    """What the checks refused, by place; what cannot be read; what is longer than the bounds."""
    jsonl(data / "instructions" / "zz.jsonl", [{"foo": 1}, {"prompt": "x" * 99, "completion": "y"}])
    jsonl(data / "preferences" / "zz.jsonl", [{"prompt": "Q?", "chosen": "z" * 99, "rejected": "No."}])
    refused = {"instructions/alpaca.jsonl:2": ["no message is empty"]}
    _, files = run(data, tmp_path / "out", refused, max_answer_characters=80)
    assert dropped(files)["instructions/alpaca.jsonl:2"] == "refused: no message is empty"
    assert dropped(files)["instructions/zz.jsonl:1"].startswith("cannot be read: has keys 'foo'; a row needs")
    assert dropped(files)["preferences/zz.jsonl:1"] == "answer longer than prepare.max_answer_characters"
    _, files = run(data, tmp_path / "again", refused, max_prompt_characters=98)
    assert dropped(files)["instructions/zz.jsonl:2"] == "prompt longer than prepare.max_prompt_characters"


def test_the_same_judgement_twice_counts_once_and_ids_stay_unique(data, tmp_path):
    """A re-exported ranking is a copy; two different rows that share an id get two."""
    jsonl(data / "preferences" / "zz.jsonl", [ranking(1)])
    jsonl(data / "instructions" / "zz.jsonl", [{"id": "1", "prompt": f"Q {w}?", "completion": w} for w in ("a", "b")])
    report, files = run(data, tmp_path / "out")
    assert dropped(files) == {"preferences/zz.jsonl:1": "exact duplicate of preferences/rankings.jsonl:2"}
    ids = [row["id"] for side in ("train", "eval") for row in files[f"instructions/{side}.jsonl"]]
    assert len(ids) == len(set(ids)) == 23
    assert "1" in ids
    assert report.agreement is None


def test_annotators_and_their_agreement_are_traced(data, tmp_path):
    """A pair names whoever voted for it; 3 pairs judged twice, 2 of them alike: agreement 2/3."""
    jsonl(data / "preferences" / "zz.jsonl", [ranking(1, "annotator-02", [["B"], ["A"], ["C"]])])
    report, files = run(data, tmp_path / "out", eval_share=0.0)
    pairs = [p for p in files["preferences/train.jsonl"] if p["id"].startswith("pref-1-")]
    assert {tuple(p["annotators"]) for p in pairs} == {("annotator-01", "annotator-02")}
    assert {tuple(p["annotations"]) for p in pairs} == {(101, 102)}
    assert [p["weight"] for p in pairs] == [0.5, 0.5]
    assert (report.judged_twice, report.even_pairs, report.agreement) == (3, 1, 0.666667)


def test_a_slow_base_gets_fewer_rows_and_always_the_same(data, tmp_path):
    """At most so many of each kind, all rankings of a kept prompt together; what is over is named; new rows move nothing."""
    limits = {"max_instructions": 9, "max_ranked_prompts": 5, "max_prompts": 2, "max_cases": 3, "eval_share": 0.0}
    jsonl(data / "preferences" / "second.jsonl", [ranking(n, "annotator-02") for n in range(12)])
    report, files = run(data, tmp_path / "out", **limits)
    assert report.instructions["train"] == 9 and report.prompts == 2 and set(report.evaluation.values()) == {1, 3}
    judged = [(pair["messages"][0]["content"], len(pair["annotators"])) for pair in files["preferences/train.jsonl"]]
    assert len({prompt for prompt, _ in judged}) == 5 and 2 in {votes for _, votes in judged}
    assert report.dropped["over prepare.max_instructions"] == 21 - 9
    jsonl(data / "instructions" / "zz.jsonl", [{"prompt": "Is it late?", "completion": "Yes."}])
    _, again = run(data, tmp_path / "again", **limits | {"max_instructions": 10})
    kept, now = ({row["id"] for row in each["instructions/train.jsonl"]} for each in (files, again))
    assert len(now) == 10 and len(now & kept) >= 9


def test_the_report_must_be_about_this_data(data, tmp_path):
    """Rows that were never checked are not learned from."""
    checked = report_of_checks(data)
    jsonl(data / "instructions" / "late.jsonl", [instruction(1)])
    with pytest.raises(DataError, match=r"is about other data \(instructions: 21 rows, now 22\); dvc repro validate"):
        stage.prepare(preparation(), seed(), data, checked, tmp_path / "out")


def test_nothing_left_to_train_on_is_an_error(data, tmp_path):
    """With eval_share 1 every prompt is in eval."""
    with pytest.raises(DataError, match="leaves no row to train on"):
        run(data, tmp_path / "out", eval_share=1.0)


def test_instructions_alone_make_a_complete_dataset(tmp_path):
    """Every file is there, those without rows empty; the prompts are the held-out questions, without their answers."""
    report, files = run(write_own_data(tmp_path / "data"), tmp_path / "out", eval_share=0.3)
    empty = {"dropped", "preferences/train", "preferences/eval", *(f"evaluation/{name}" for name in SETS)}
    assert {name.removesuffix(".jsonl") for name, rows in files.items() if not rows} == empty
    held_out = files["instructions/eval.jsonl"]
    assert files["prompts/prompts.jsonl"] == [
        {"id": row["id"], "messages": row["messages"][:1], "language": "en"} for row in held_out]
    assert report.prompts_from == "instructions" and report.prompts == len(held_out) > 1
    assert report.pairs == {"train": 0, "eval": 0} and report.evaluation == {}
    report, files = run(tmp_path / "data", tmp_path / "few", eval_share=0.3, max_prompts=1)
    assert report.prompts == len(files["prompts/prompts.jsonl"]) == 1 and files["dropped.jsonl"] == []


def test_few_rows_have_one_prompt_held_out(tmp_path):
    """A share that comes to none of 20 rows still holds one out; a share of 0 holds none, and training rows are asked."""
    data = write_own_data(tmp_path / "data")
    report, _ = run(data, tmp_path / "out", eval_share=1e-6)
    assert report.instructions == {"train": 19, "eval": 1} and report.prompts == 1
    report, _ = run(data, tmp_path / "none", eval_share=0.0)
    assert report.instructions == {"train": 20, "eval": 0} and report.prompts == 20


def test_what_people_say_of_a_held_out_prompt_is_held_out_too(tmp_path):
    """Few rows have one prompt held out by choice, and where there are no prompts people are asked just that one: what they say
    is not trained on, so the test cases stay unseen."""
    data = write_own_data(tmp_path / "data")
    _, files = run(data, tmp_path / "out", eval_share=1e-6)
    (held_out,) = files["instructions/eval.jsonl"]
    asked = {key: value for key, value in ranking(1).items() if key not in ("question", "passages")}
    jsonl(data / "preferences" / "l.jsonl", [{**asked, "messages": held_out["messages"][:-1]}, ranking(2)])
    report, files = run(data, tmp_path / "judged", eval_share=1e-6)
    assert report.pairs == {"train": 3, "eval": 3}
    assert all(pair["messages"] == held_out["messages"][:-1] for pair in files["preferences/eval.jsonl"])
    found = look(tmp_path / "judged", {})
    assert (found.seen, found.cases) == (0, 1)


def test_preferences_that_are_all_refused_stay_an_error(data, tmp_path):
    """No preferences is a choice; preferences of which none is left is a mistake."""
    refused = {f"preferences/{name}.jsonl:{n}": ["bad"] for name in ("rankings", "pairs") for n in range(1, 13)}
    with pytest.raises(DataError, match=r"preferences: leaves no row to train on"):
        run(data, tmp_path / "out", refused)


def test_prompts_that_users_sent_back_go_first_and_bring_their_answers(data, tmp_path):
    """Before all others, and not lost to a copy or to max_prompts; answers of copies are gathered; others have no new field."""
    asked = {"question": f"Who manages {TOWNS[3]}?", "passages": [], "language": "en", "origin": "feedback"}
    jsonl(data / "prompts" / "zz.jsonl", [{**asked, "id": "f1", "answers": ["Nobody."]},
                                          {**asked, "id": "f2", "answers": ["Bob.", "Nobody.", "x" * 5000]}])
    report, files = run(data, tmp_path / "out")
    first, *others = files["prompts/prompts.jsonl"]
    assert (first["id"], first["origin"], first["answers"]) == ("f1", "feedback", ["Nobody.", "Bob."])
    assert len(others) == 11 and all(set(row) == {"id", "messages", "language"} for row in others)
    assert report.feedback == 1 and report.prompts == 12
    _, files = run(data, tmp_path / "few", max_prompts=3)
    assert [row.get("origin") for row in files["prompts/prompts.jsonl"]] == ["feedback", None, None]


def test_what_users_sent_back_is_first_in_line_until_it_is_judged(data, tmp_path):
    """A skip leaves it there; a judgement of the answer makes it a prompt like others; of two answers one may be left."""
    asked = {"id": "f1", "question": "Where is the saw?", "passages": [], "language": "en"}
    jsonl(data / "prompts" / "zz.jsonl", [{**asked, "origin": "feedback", "answers": ["Gone.", "Away."]}])

    def first(name: str, *judged: dict) -> dict:
        by = {"ranking": [["A"], ["B"]], "annotator": "ann-1"}
        said = [{**asked, **by, "annotation": n, **row} for n, row in enumerate(judged, 9001)]
        jsonl(data / "preferences" / "zz.jsonl", said)
        found = run(data, tmp_path / name)[1]["prompts/prompts.jsonl"]
        return next(row for row in found if row["id"] == "f1")

    gone, away = {"answers": {"A": "Aisle 9.", "B": "Gone."}}, {"answers": {"A": "Aisle 9", "B": "Away."}}
    assert first("one", {**gone, "ranking": [], "skipped": True})["answers"] == ["Gone.", "Away."]
    half = first("two", gone)
    assert (half["origin"], half["answers"]) == ("feedback", ["Away."])
    assert set(first("three", gone, {**away, "ranking": [], "flags": ["all_bad"]})) == {"id", "messages", "language"}


def test_a_first_complaint_does_not_take_the_place_of_the_instructions(tmp_path):
    """Where data/prompts holds nothing but what users sent back, held-out instructions are still asked."""
    data = write_own_data(tmp_path / "data")
    jsonl(data / "prompts" / "feedback.jsonl", [{"question": "Where is the kiln?", "origin": "feedback", "answers": ["No."]}])
    report, files = run(data, tmp_path / "out", eval_share=0.3)
    assert report.prompts_from == "instructions" and report.feedback == 1
    assert len(files["prompts/prompts.jsonl"]) == 1 + report.instructions["eval"] == report.prompts


def test_skips_and_flags_are_no_preferences_and_no_error(tmp_path):
    """The first evening of labelling may bring nothing to train on: the night goes on, and what was said is measured."""
    data = write_own_data(tmp_path / "data")
    skip = {**ranking(1), "ranking": [], "skipped": True}
    jsonl(data / "preferences" / "l.jsonl", [skip, {**ranking(2), "flags": ["all_bad"]}])
    report, files = run(data, tmp_path / "out")
    assert files["preferences/train.jsonl"] == [] and (report.skipped, report.flagged, report.ranked_prompts) == (1, 1, 0)
    assert (report.labelling.judgements, report.labelling.skipped, report.labelling.flags) == (1, 1, {"all_bad": 1})
    jsonl(data / "preferences" / "l.jsonl", [ranking(1)])
    sides = [run(data, tmp_path / str(n), seed_value=n, eval_share=0.5)[0].pairs for n in range(6)]
    assert {"train": 0, "eval": 3} in sides and {"train": 3, "eval": 0} in sides  # the only prompt may be held out


def test_prompts_with_nothing_but_skips_take_no_place_of_others(data, tmp_path):
    """max_ranked_prompts counts prompts that somebody ranked."""
    (data / "preferences" / "pairs.jsonl").unlink()
    before, _ = run(data, tmp_path / "one", max_ranked_prompts=12)
    jsonl(data / "preferences" / "aa.jsonl", [
        {**ranking(1, "annotator-02"), "question": f"Why {t}?", "id": f"s{t}", "ranking": [], "skipped": True} for t in TOWNS])
    after, _ = run(data, tmp_path / "two", max_ranked_prompts=12)
    assert after.pairs == before.pairs and after.skipped == 12


def test_of_the_same_words_said_again_the_last_counts(data, tmp_path):
    """A > B, then B > A, then A > B once more: the copy that stays is the later one, so A > B."""
    (data / "preferences" / "pairs.jsonl").unlink()
    turned = [["C"], ["B"], ["A"]]
    said = [{**ranking(1, order=order), "annotation": n, "updated": f"2026-11-24T0{n}:00:00Z"}
            for n, order in ((1, None), (2, turned), (3, None))]
    jsonl(data / "preferences" / "rankings.jsonl", said)
    report, files = run(data, tmp_path / "out", eval_share=0.0)
    assert {(p["chosen"][-1], tuple(p["annotations"])) for p in files["preferences/train.jsonl"]} == {("]", (3,)), (".", (3,))}
    assert dropped(files) == {"preferences/rankings.jsonl:1": "exact duplicate of preferences/rankings.jsonl:3"}
    assert report.labelling.pairs == 3


def test_what_a_person_approved_stays_where_the_log_says_nearly_the_same(data, tmp_path):
    """The log's row comes first by its file; the approved one, the same but for its closing word, is the one that is kept."""
    said = "Where do parcels go that nobody has asked for, and how long are they kept there before they are sent back?"
    answer = "They go to the back room of the store and are kept there for nine weeks before they are sent back"
    jsonl(data / "instructions/a-log.jsonl", [{"instruction": said, "output": answer}])
    approved = {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": f"{answer}, please"}],
                "annotator": "annotator-0123456789ab", "annotation": "ls1-00000000"}
    jsonl(data / "instructions/feedback.jsonl", [approved])
    _, files = run(data, tmp_path / "out")
    answers = [row["messages"][-1]["content"] for part in ("train", "eval") for row in files[f"instructions/{part}.jsonl"]
               if row["messages"][0]["content"] == said]
    assert answers == [f"{answer}, please"]
    assert dropped(files)["instructions/a-log.jsonl:1"] == "near duplicate of instructions/feedback.jsonl:1"
