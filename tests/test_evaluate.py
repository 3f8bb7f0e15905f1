"""tasks/evaluate.py and tasks/evaluation on tiny real models."""

import json
import math

import pytest

from tasks import behaviours
from tasks import champion as champions
from tasks import evaluate as stage
from tasks.errors import DataError
from tasks.evaluation.chrf import chrf
from tasks.evaluation.divergence import Divergence, Spoken, compare, perplexity
from tasks.files import read_jsonl, sha256_file, write_json, write_jsonl
from tasks.params import Evaluate, Seed
from tests.evaluation_fixtures import CPU, teach, write_adapter, write_base, write_cases, write_reward
from tests.training_fixtures import instruction_rows

CFG = Evaluate(precision=None, max_new_tokens=16, batch_size=16, concise_words=12, concise_characters=24, kl_prompts=8,
               sampled_cases=3, champion_cases=5, reference_cases=6)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Base, SFT adapter, merged model, reward adapter and cases; the stage run once, before any release."""
    root = tmp_path_factory.mktemp("evaluate")
    base = teach(write_base(root / "base", root / "start"), root / "taught", steps=60)
    write_adapter(base, root / "sft", seed=1)
    teach(base, root / "merged", steps=15, seed=2)
    write_reward(base, root / "sft", root / "reward")
    write_cases(root / "cases")
    write_jsonl(root / "held-out.jsonl", instruction_rows(8, start=200))
    write_json(root / "champion.json", {"release": None})
    return root, run(root, root / "champion.json", "out")


@pytest.fixture(scope="module")
def models(world):
    """Two models of one tokenizer."""
    from tasks.training.models import load_base

    root, _ = world
    return load_base(root / "taught", CPU)[0], load_base(root / "merged", CPU)[0]


def run(root, champion, name, cases="cases", merged="merged", held_out="held-out.jsonl"):
    """The stage, as the shell door calls it: into an empty folder."""
    (root / name).mkdir()
    return stage.evaluate(CFG, CPU, Seed(value=3), root / cases, root / held_out, root / "taught", root / "sft", root / merged,
                          root / "reward", champion, root / name)


def test_sampled_answers_are_judged_beside_the_likeliest(world):
    """Three cases of each set, of the two models that are compared; the greedy figures have all of them."""
    _, report = world
    assert report.sampled.keys() == {"sft", "aligned"}
    for model in report.sampled.values():
        assert {name: table["all"]["ended"].n for name, table in model.items()} == dict.fromkeys(stage.SETS, 3)
    assert report.behaviours["sft"]["facts"]["all"]["ended"].n > 3


def test_answers_file(world):
    """One row a model and case, in their order, with every verdict; rewards where the reward model has a say."""
    root, _ = world
    rows = read_jsonl(root / "out" / "answers.jsonl")
    assert [row["model"] for row in rows] == ["base"] * 36 + ["sft"] * 36 + ["aligned"] * 36
    assert set(rows[0]) == {"model", "set", "id", "language", "prompt", "answer", "right", "cites", "concise",
                            "abstains", "preferred", "ended", "reward"}
    for row in rows:
        assert (row["reward"] is not None) == (row["model"] != "base" and row["set"] != "facts")
        assert (row["right"] is None) == (row["set"] == "unanswerable")


def test_report(world):
    """Figures by set and language, paired comparisons over the right cases, and no champion yet."""
    _, report = world
    assert report.cases == {"facts": 12, "context": 12, "unanswerable": 12}
    assert report.behaviours["sft"]["context"]["zh"]["cites"].n == 4
    assert report.correct["aligned"]["all"].n == report.sft_over_base.correct.n == 24
    assert report.aligned_over_sft.preferred.n == 24
    assert report.abstains["aligned"]["en"].n == 8
    assert report.reward.win_rate.n == 24
    assert report.kl.per_token.n == report.kl.per_sequence.n == 8
    assert report.kl.per_sequence.mean > 0
    assert report.champion is None
    assert "right" not in report.behaviours["base"]["unanswerable"]["all"]


def test_again_gives_the_same_bytes(world):
    """Answers, challenger and report depend on nothing but the inputs."""
    root, report = world
    assert run(root, root / "champion.json", "again") == report
    for name in ("answers.jsonl", "references.jsonl", champions.CHALLENGER):
        assert (root / "again" / name).read_bytes() == (root / "out" / name).read_bytes()


def test_against_itself_as_champion(world):
    """The night after a promotion with nothing new: no difference, every comparison a tie."""
    root, _ = world
    path = root / "same.json"
    champions.write(path, champions.champion_from("r1", root / "out"))
    met = run(root, path, "same").champion
    assert (met.release, met.cases, met.differing) == ("r1", 15, 0)
    assert {name: found.n for name, found in met.behaviours.items()} == {
        "correct": 10, "preferred": 10, "abstains": 5, "over_abstains": 10, "degenerate": 15, "reference": 6}
    assert all((found.difference, found.better, found.worse) == (0.0, 0, 0) for found in met.behaviours.values())
    assert (met.win_rate.mean, met.win_rate.n) == (0.5, 10)


def test_a_changed_case_leaves_the_comparison(world):
    """A case that is asked otherwise since the release is not compared; the others are."""
    root, _ = world
    path = root / "moved.json"
    champions.write(path, champions.champion_from("r1", root / "out"))
    write_cases(root / "moved")
    rows = read_jsonl(root / "moved" / "context.jsonl")
    for row in rows:
        row["answer"] = "12"
    write_jsonl(root / "moved" / "context.jsonl", rows)
    met = run(root, path, "moved-out", cases="moved").champion
    assert (met.cases, met.behaviours["correct"].n, met.behaviours["preferred"].n) == (10, 5, 5)


def test_a_changed_reference_leaves_the_comparison(world):
    """The log's answer to one of the six has been corrected since: five are compared."""
    root, _ = world
    path = root / "corrected.json"
    champion = champions.champion_from("r1", root / "out")
    champions.write(path, champion)
    rows = instruction_rows(8, start=200)
    changed = next(row for row in rows if row["id"] in champion.references)
    changed["messages"] = [*changed["messages"][:-1], {"role": "assistant", "content": "Another answer."}]
    write_jsonl(root / "corrected.jsonl", rows)
    met = run(root, path, "corrected-out", held_out="corrected.jsonl").champion
    assert met.behaviours["reference"].n == 5 and met.behaviours["correct"].n == 10


def test_no_case_left_to_compare(world):
    """All cases replaced since the release: said so, not an error."""
    root, _ = world
    path = root / "other.json"
    write_json(path, {"release": "r0", "answers": {"gone": {"set": "context", "case": "0" * 16, "answer": "x"}}})
    met = run(root, path, "other").champion
    assert (met.cases, met.behaviours, met.win_rate) == (0, {}, None)


def test_challenger_is_the_aligned_models(world):
    """Five cases of each set and all six held-out instructions travel with the release, as the aligned model answered them;
    the test sets' hashes too."""
    root, _ = world
    challenger = json.loads((root / "out" / champions.CHALLENGER).read_text())
    content = challenger["answers"]
    rows = read_jsonl(root / "out" / "answers.jsonl")
    aligned = {row["id"]: row["answer"] for row in rows if row["model"] == "aligned"}
    assert len(content) == 15
    assert all(content[name]["answer"] == aligned[name] for name in content)
    told = read_jsonl(root / "out" / "references.jsonl")
    assert {name: one["answer"] for name, one in challenger["references"].items()} == {
        row["id"]: row["answer"] for row in told if row["model"] == "aligned"}
    assert challenger["test_sets"] == {name: sha256_file(root / "cases" / f"{name}.jsonl") for name in stage.SETS}


def test_repeated_ids_are_refused(tmp_path):
    """Two cases of one id would be compared with each other's answers."""
    write_cases(tmp_path)
    rows = read_jsonl(tmp_path / "facts.jsonl")
    write_jsonl(tmp_path / "context.jsonl", rows)
    with pytest.raises(DataError, match=r"context.jsonl: id 'facts-000' occurs twice"):
        stage.read_cases(tmp_path)


def test_held_out_instructions_beside_their_references(world):
    """Six of eight, chosen by hash, by all three models; each chrF is that of the row's own texts; paired differences."""
    root, report = world
    rows, told = read_jsonl(root / "out" / "references.jsonl"), report.references
    assert [row["model"] for row in rows] == ["base"] * 6 + ["sft"] * 6 + ["aligned"] * 6
    assert {row["id"] for row in rows} == set(champions.chosen(instruction_rows(8, start=200), 6))
    assert all(row["chrf"] == round(chrf(row["answer"], row["reference"]), 6) for row in rows)
    aligned = [row["chrf"] for row in rows if row["model"] == "aligned"]
    assert told.chrf["aligned"].mean == pytest.approx(sum(aligned) / 6, abs=1e-6) and told.cases == 6
    steps = told.sft_over_base.difference + told.aligned_over_sft.difference
    assert told.aligned_over_base.difference == pytest.approx(steps, abs=2e-6)
    assert told.ended["base"].n == 6


def test_without_evaluation_sets_held_out_instructions_remain(world, capsys):
    """Tables empty, comparisons null, each absence said; chrF and KL are measured on the instructions."""
    root, _ = world
    for name in stage.SETS:
        write_jsonl(root / "none" / f"{name}.jsonl", [])
    report = run(root, root / "champion.json", "without", cases="none")
    said = capsys.readouterr().err
    assert all(f"no cases of set {name}" in said for name in stage.SETS)
    assert (report.cases, report.degenerate) == ({"facts": 0, "context": 0, "unanswerable": 0}, {})
    assert report.behaviours == report.correct == report.abstains == {"base": {}, "sft": {}, "aligned": {}}
    assert report.sft_over_base is report.aligned_over_sft is report.reward is None
    assert report.references.cases == 6 and report.kl.per_sequence.n == 6
    assert (root / "without" / "answers.jsonl").read_text() == ""
    challenger = json.loads((root / "without" / champions.CHALLENGER).read_text())
    assert (challenger["answers"], challenger["test_sets"], len(challenger["references"])) == ({}, {}, 6)


def test_one_set_alone_leaves_the_others_null(world):
    """Facts only: right answers are compared, preferred ones are not, and no reward is asked."""
    root, _ = world
    write_cases(root / "facts")
    for name in stage.GROUNDED:
        write_jsonl(root / "facts" / f"{name}.jsonl", [])
    write_jsonl(root / "nothing.jsonl", [])
    report = run(root, root / "champion.json", "facts-out", cases="facts", held_out="nothing.jsonl")
    assert report.sft_over_base.correct.n == 12 and report.sft_over_base.preferred is None
    assert report.reward is report.kl is report.references is None


class TestChrf:
    """The definition by hand."""

    @pytest.mark.parametrize("answer, reference, expected", [
        ("abcd", "abce", 0.479167),  # 3/4, 2/3, 1/2, 0/1 of 1- to 4-grams, precision as recall: their mean
        ("ab", "abab", 0.471698),  # precision 1, 1; recall 2/4, 1/3 → 5·1·0.416667 / (4·1 + 0.416667)
        ("abab", "ab", 0.78125),  # precision 2/4, 1/3; recall 1, 1 → 5·0.416667·1 / (4·0.416667 + 1)
        ("八点 开门", "八点开门", 1.0),
        ("Yes", "Yes", 1.0),
        ("xyz", "abc", 0.0),
        ("", "abc", 0.0),
        ("abc", " ", 0.0),
        (" ", "", 1.0),
    ])
    def test_by_hand(self, answer, reference, expected):
        """Character 1- to 6-grams as far as both texts have them, whitespace removed, β 2."""
        assert chrf(answer, reference) == pytest.approx(expected, abs=1e-6)


def test_facing_a_release_by_hand():
    """Four cases, the release judged anew: right 1 of 2 → 2 of 2; abstains where it should 1 of 2 → 0 of 2 (one preferred answer
    less), where it should not 1 of 2 → 0 of 2, which is better; one of its answers was cut, none of tonight's."""
    limits = stage.Limits(words=12, characters=24)
    known, ours = {}, []
    sets = {"f": ("facts", "11"), "c": ("context", "12"), "u": ("unanswerable", None), "v": ("unanswerable", None)}
    for name, (part, value) in sets.items():
        known[name] = {"id": name, "set": part, "answer": value, "distractors": [], "cite": [], "language": "en", "messages": []}
        said = f"It opens at {value or 5}."
        ours.append({**known[name], "answer": said, "ended": True, "reward": None, **behaviours.judge(said, known[name], limits)})
    said = {"f": "It opens at 11.", "c": "The notes do not say.", "u": "The notes do not say.", "v": "It opens at 5."}
    theirs = {name: champions.Answered(set=known[name]["set"], case="0", answer=text, ended=name != "v")
              for name, text in said.items()}
    met = stage.face("r1", known, theirs, {}, ours, (None, 0), limits, 0)
    found = {name: (each.n, each.better, each.worse) for name, each in met.behaviours.items()}
    assert found == {"correct": (2, 1, 0), "preferred": (3, 0, 1), "abstains": (2, 0, 1), "over_abstains": (2, 1, 0),
                     "degenerate": (4, 1, 0)}
    assert (met.cases, met.differing, met.win_rate) == (4, 2, None)  # c and u are answered otherwise


def test_degenerate_counts_each_answer_once():
    """Cut, repeating and empty: 3 bad of 4, of which one is both cut and repeating; 2 of 3 answerable say the same."""
    rows = [{"answer": "the store the store the store", "ended": False, "right": False},
            {"answer": "It opens at 11.", "ended": True, "right": True},
            {"answer": "It opens at 11.", "ended": False, "right": True},
            {"answer": " ", "ended": True, "right": None}]
    got = stage.degenerate(rows)
    assert (got.share.share, got.not_ended, got.repeats, got.most_frequent) == (0.75, 0.5, 0.25, 0.666667)


class TestDivergence:
    """Whole distributions along answers, padded in batches."""

    ROWS = (Spoken([5, 6, 7, 8, 9, 10], [20, 21, 3]), Spoken([5, 6], [30, 3]), Spoken([9] * 12, [40, 41, 42, 43, 3]))

    def test_of_itself_is_zero(self, models):
        """KL(p ‖ p) = 0 and every position agrees."""
        ((first, second, third),) = compare(models[0], [models[0]], self.ROWS, pad=1, batch_size=2)
        assert first.kl == second.kl == third.kl == 0.0
        assert (first.agree, second.agree, third.agree) == (3, 2, 5)
        assert [first.tokens, second.tokens, third.tokens] == [3, 2, 5]

    def test_agrees_with_the_definition(self, models):
        """Σ p (log p − log q) from an unpadded forward of each row, whatever the batch."""
        import torch

        p, q = models
        for size in (1, 3):
            (found,) = compare(p, [q], self.ROWS, pad=1, batch_size=size)
            for row, got in zip(self.ROWS, found, strict=True):
                ids = torch.tensor([[*row.prompt, *row.answer]])
                with torch.inference_mode():
                    a, b = (m(ids).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1) for m in (p, q))
                assert got.kl == pytest.approx(float((a.exp() * (a - b)).sum()), rel=1e-3)
                assert got.logprob_p == pytest.approx(sum(float(a[t, i]) for t, i in enumerate(row.answer)), abs=1e-3)
                assert got.logprob_q == pytest.approx(sum(float(b[t, i]) for t, i in enumerate(row.answer)), abs=1e-3)

    def test_perplexity_by_hand(self):
        """Two answers, 1 and 3 tokens, log-likelihoods −1 and −7: exp(8/4) = e²."""
        found = [Divergence(0, 0, -1.0, -2.0, 1), Divergence(0, 0, -7.0, -10.0, 3)]
        assert perplexity(found, "p") == pytest.approx(math.exp(2))
        assert perplexity(found, "q") == pytest.approx(math.exp(3))
