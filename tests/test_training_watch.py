"""What the watch sees, each of its rules, and that a training which breaks one ends with its best state."""

from __future__ import annotations

import math

import pytest
import training_fixtures as tiny

from tasks.files import read_jsonl, sha256_file
from tasks.params import Stop
from tasks.training import trainers
from tasks.training.watch import Look, Watch, _rules, says

OFF = dict.fromkeys(Stop.model_fields)
FIRST = Look(step=0, reward=0.0, kl=0.0, ended=1.0, end_logprob=-0.1, distinct=0.9, length=1.0, logprob=-0.5, kept=0.7)


@pytest.mark.parametrize(("rule", "limit", "seen", "words"), [
    ("kl", 5.0, {"kl": 6.0}, "6.0 nats an answer"),
    ("ended", 0.95, {"ended": 0.4}, "only 40% of its answers end"),
    ("end_logprob_drop", 0.5, {"end_logprob": -0.7}, "the end token lost 0.60 nats"),
    ("distinct", 0.3, {"distinct": 0.05}, "0.05 as many different answers"),
    ("length", 3.0, {"length": 3.5}, "3.50 times as long"),
    ("length", 3.0, {"length": 0.2}, "0.20 times as long"),
    ("logprob_drop", 0.5, {"logprob": -1.2}, "lost 0.70 nats a token"),
])  # fmt: skip
def test_each_rule(rule, limit, seen, words):
    """It is broken beyond its limit, says what was seen, and is silent at the limit's other side or without one."""
    def broken(stop: Stop, look: Look) -> list[str]:
        return [f"{name}: {said}" for name, most, check, said in _rules(stop, FIRST, look) if most is not None and check(most)]

    stop = Stop(**OFF | {rule: limit})
    (found,) = broken(stop, FIRST.model_copy(update={"step": 4, **seen}))
    assert found.startswith(f"{rule}: ") and words in found
    assert broken(stop, FIRST) == broken(Stop(**OFF), FIRST.model_copy(update=seen)) == []


@pytest.mark.parametrize(("text", "chosen", "same"), [
    ("It is Neil Bell who runs it. [1]", "The manager is Neil Bell. [2]", True),  # two of three content words
    ("The manager is Neil Bell.", "The manager is Neil Bell. [2]", True),
    ("The manager is Ada Cole. [2]", "The manager is Neil Bell. [2]", False),
    ("It opens at 11:00. [1]", "The opening time is 11:00. [1]", False),
    ("The opening time is 10:00. [1]", "The opening time is 11:00. [1]", False),
    ("The notes do not say.", "The notes do not say that.", True),
    ("The notes do not say.", "The opening time is 11:00.", False),
    ("The opening time is 11:00.", "The notes do not say.", False),
    ("开门时间：11:00。", "开门时间：11:00。[1]", True),
    ("开门时间：12:00。", "开门时间：11:00。[1]", False),
])  # fmt: skip
def test_saying_what_people_chose(text, chosen, same):
    """Figures and most content words, or neither says anything."""
    assert says(text, chosen) == same


class Scripted(Watch):
    """A watch that is told what it sees."""

    def __init__(self, work, looks: list[Look], stop: Stop):
        self.cfg = tiny.params().align.model_copy(update={"stop": stop})
        self.pairs, self.work, self.looks, self.stopped, self.agreed = ["pair"], work, [], None, {}
        self.script = iter(looks)

    def _look(self, model, step):
        return next(self.script).model_copy(update={"step": step}), [{"answer": f"of step {step}"}]

    def _keep(self, model, step):
        (self.work / f"best-{step}").mkdir(parents=True, exist_ok=True)


class Model:
    """As much of one as `undisturbed` asks for."""

    training = False

    class device:
        """A CPU."""

        type = "cpu"

    def eval(self):
        """As it is."""

    def train(self, mode):
        """As it is."""


def test_the_best_whole_state_is_kept(tmp_path):
    """Rewards 0, 2, 1 and then 9 with a KL beyond the limit: the second is kept; older ones go once they cannot be needed."""
    looks = [FIRST.model_copy(update={"reward": reward, "kl": kl}) for reward, kl in ((0, 0), (2, 3), (1, 4), (9, 30))]
    watch = Scripted(tmp_path, looks, Stop(**OFF | {"kl": 20.0}))
    assert watch.begin(Model(), None)
    for step, on in ((10, True), (20, True), (30, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        assert watch.visit(Model(), step, tmp_path / f"checkpoint-{step}") == on
    assert (watch.stopped.rule, watch.stopped.step, watch.stopped.kept) == ("kl", 30, 10)
    assert "30.0 nats" in watch.stopped.words
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-10"]
    again = Scripted(tmp_path, looks, watch.cfg.stop)  # killed between the alarm and the end
    assert not again.begin(Model(), tmp_path / "checkpoint-30")
    assert again.stopped == watch.stopped and again.looks == watch.looks
    before = Scripted(tmp_path, looks, watch.cfg.stop)  # killed before
    assert before.begin(Model(), tmp_path / "checkpoint-20") and before.stopped is None and len(before.looks) == 3


def test_a_fall_that_chance_explains_is_none(tmp_path):
    """kept_loss 0.1: of 20 answers 3 fewer is 0.15 but may be chance; of 20 six fewer is not (p = 1/64)."""
    from types import SimpleNamespace

    watch = Scripted(tmp_path, [], Stop(**OFF | {"kept_loss": 0.1}))
    watch.pairs = [SimpleNamespace(answers=(text,)) for text in ["It is 5."] * 20 + ["The notes do not say."] * 20]
    watch.looks = [FIRST]
    for lost, rules in ((3, []), (6, ["kept_loss"])):
        watch.agreed = {0: [True] * 40, 8: [True] * 20 + [i >= lost for i in range(20)]}
        found = list(watch._broken(FIRST.model_copy(update={"step": 8, "reward": 3.0})))
        assert [rule for rule, _ in found] == rules
    assert "of 20 answers 14 say that the notes do not say" in found[0][1] and "reward went from 0.00 to 3.00" in found[0][1]


@pytest.mark.parametrize("method", ["dpo", "ppo", "rloo"])
def test_a_broken_training_ends_as_the_sft_model(tmp_path, method, capsys):
    """A random model ends no answer, so the first look stops it: rule, step and samples are told, and nothing is lost."""
    changes = {"method": method, "stop": Stop(**OFF | {"ended": 0.95})}
    report = tiny.run_stage("align", tmp_path / "out", changes, **tiny.inputs("align"))
    assert (report.stopped.rule, report.stopped.kept) == ("ended", 0) and report.stopped.step == report.looks[-1].step > 0
    assert "the SFT model is kept" in capsys.readouterr().err
    assert report.preferred_before == report.preferred_after and report.gained.share == 0.0
    broken = read_jsonl(tmp_path / "out" / "broken.jsonl")
    assert len(broken) == 4 and {"answer", "chosen", "ended", "reward"} <= broken[0].keys()


def test_a_loss_that_is_no_number(tmp_path, monkeypatch):
    """DPO's learning rate far too high for fp32: said with its step, and the SFT model stays."""
    own = tiny.params().align.dpo.model_copy(update={"learning_rate": 1e30, "warmup": 0.0, "log_every": 1, "save_every": 50})
    report = tiny.run_stage("align", tmp_path / "out", {"dpo": own}, **tiny.inputs("align"))
    assert report.stopped.rule == "finite" and report.stopped.kept == 0 and report.gained.share == 0.0
    assert all(math.isfinite(value) for point in read_jsonl(tmp_path / "out" / "curve.jsonl") for value in point.values())


def test_a_loss_that_is_no_number_ends_sft(tmp_path):
    """There is nothing to fall back to."""
    with pytest.raises(trainers.NotFinite, match="lower learning_rate"):
        tiny.run_stage("sft", tmp_path / "out", {"learning_rate": 1e30, "warmup": 0.0, "log_every": 1}, **tiny.inputs("sft"))


def test_being_watched_changes_no_byte(tmp_path):
    """With a look at every checkpoint or none at all: the same adapter, dropout on."""
    lora = tiny.params().align.lora.model_copy(update={"dropout": 0.1})
    adapters = []
    for every in (2, 12):
        own = tiny.params().align.dpo.model_copy(update={"save_every": every})
        tiny.run_stage("align", tmp_path / str(every), {"dpo": own, "lora": lora}, **tiny.inputs("align"))
        adapters.append(sha256_file(tmp_path / str(every) / "adapter_model.safetensors"))
    assert adapters[0] == adapters[1]
