"""Is a model that learns from preferences still whole? Looked at with every checkpoint, on held-out prompts.

Loss, margin and reward can all look perfect while the model repeats itself for ever or says one thing to everything. So its
answers are read: do they end, do they differ, are they as long as what people chose, do they say it, and is what people chose
still likely? The first rule that is broken ends the training, and the best checkpoint before it is kept.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks.files import canonical_json, read_json, read_jsonl, replace_dir, write_atomic, write_jsonl
from tasks.params import Align, Stop
from tasks.progress import log
from tasks.rag.groundedness import figures_of, words_of
from tasks.rag.prompt import abstains, strip_citations
from tasks.reports import Report
from tasks.stats import binomial
from tasks.training import trainers
from tasks.training.backbone import Judge, logps_of, undisturbed, using
from tasks.training.generate import Sampling, answer_all, read
from tasks.training.rows import Pair, one_a_prompt

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

LOOKS, ALARM, BROKEN = "looks.jsonl", "alarm.json", "broken.jsonl"
SAME = 0.6  # share of the chosen answer's content words that an answer with the same message has
CHANCE = 0.05  # a fall that happens by chance so often is none


class Look(Report):
    """A model on the held-out prompts; its answers are greedy but for the KL's."""

    step: int = Field(description="optimizer steps so far; 0 is the SFT model")
    reward: float = Field(description="mean score by the reward model")
    kl: float = Field(description="nats an answer from the SFT model, along sampled answers, exact at each token")
    ended: float = Field(description="share of the answers that end by themselves")
    end_logprob: float = Field(description="mean log-probability of the end token after the answers that people chose, nats")
    distinct: float = Field(description="different answers, as a share of the different ones that people chose")
    length: float = Field(description="mean tokens of an answer over those of the chosen ones")
    logprob: float = Field(description="nats a token of the answers that people chose")
    kept: float = Field(description="share of the answers that say what people chose, or abstain where they did")


class Stopped(Report):
    """Why a training ended before its time, and what is left of it."""

    rule: str = Field(description="of align.stop; finite for a loss that is no number")
    step: int = Field(description="optimizer step at which it was seen")
    words: str = Field(description="what was seen, in words")
    kept: int = Field(description="step of the checkpoint that is kept; 0: nothing was better, and the SFT model stays")


class Watch:
    """Looks at a training with every checkpoint and keeps its best state. Without held-out pairs it sees losses alone."""

    def __init__(self, cfg: Align, seed: int, tokenizer: PreTrainedTokenizerBase, held_out: Sequence[Pair], judge: Judge,
                 work: Path):
        """`work`: where the best state is kept, beside the checkpoints."""
        self.pairs = one_a_prompt(held_out)[:cfg.samples]
        self.cfg, self.seed, self.tokenizer, self.judge, self.work = cfg, seed, tokenizer, judge, work
        self.looks: list[Look] = []
        self.stopped: Stopped | None = None
        self.agreed: dict[int, list[bool]] = {}  # step → of each pair, whether its answer said what people chose

    def begin(self, model: PeftModel, checkpoint: Path | None) -> bool:
        """Look at the SFT model, or take up what a killed run had seen; returns whether there is anything to train."""
        if self.pairs:
            with undisturbed(model):
                self.looks.append(self._look(model, 0)[0])  # again in a run that goes on: later looks are compared with it
        self._keep(model, 0)
        if checkpoint is not None and (checkpoint / LOOKS).is_file():
            self.looks += [Look(**row) for row in read_jsonl(checkpoint / LOOKS)[1:]]
            if (checkpoint / ALARM).is_file():
                self.stopped = Stopped(**read_json(checkpoint / ALARM))
        newest = self.looks[-1].step if self.looks else 0
        for folder in self.work.glob("best-*"):
            if int(folder.name.partition("-")[2]) > newest:
                shutil.rmtree(folder)
        return self.stopped is None

    def visit(self, model: PeftModel, step: int, checkpoint: Path | None = None) -> bool:
        """Look at the model; returns whether training may go on. `checkpoint`: of this step, not marked complete yet."""
        if not self.pairs:
            return True
        for folder in self.work.glob("best-*"):  # by now a complete checkpoint says which is the best
            if folder.name != f"best-{self.best()}":
                shutil.rmtree(folder, ignore_errors=True)
        with undisturbed(model):
            look, rows = self._look(model, step)
        self.looks.append(look)
        log(f"held out: reward {look.reward:.3f}, KL {look.kl:.2f} nats, {look.ended:.0%} end, {look.kept:.0%} say what people "
            f"chose, {look.distinct:.2f} as many different")
        broken = next(self._broken(look), None)
        if broken:
            self._stop(*broken, step)
            write_jsonl(self.work / BROKEN, rows)
        elif self.best() == step:
            self._keep(model, step)
        if checkpoint is not None:
            write_jsonl(checkpoint / LOOKS, [each.model_dump() for each in self.looks])
            if self.stopped:
                write_atomic(checkpoint / ALARM, canonical_json(self.stopped.model_dump()))
        return not broken

    def end(self, model: PeftModel, step: int) -> None:
        """Look at the last state, unless its checkpoint was looked at."""
        if self.stopped is None and self.looks and self.looks[-1].step != step:
            self.visit(model, step)

    def failed(self, step: int, what: str) -> None:
        """A loss that is no number: what came after the last look is lost."""
        self._stop("finite", what, step)

    def best(self) -> int:
        """The step of the whole model that the reward model likes best, the earliest of equals."""
        whole = [look for look in self.looks if self.stopped is None or look.step < self.stopped.step]
        return max(whole, key=lambda look: (look.reward, -look.step)).step if whole else 0

    def finish(self, model: PeftModel, points: Sequence[dict[str, float]], out: Path) -> None:
        """Write the adapter, the curve and the looks: of the last state, or of the best one where a rule was broken."""
        trainers.save_adapter(model, points, out)
        if self.stopped:
            for file in (self.work / f"best-{self.stopped.kept}").iterdir():
                shutil.copyfile(file, out / file.name)
            if (self.work / BROKEN).is_file():
                shutil.copyfile(self.work / BROKEN, out / BROKEN)
        write_jsonl(out / LOOKS, [look.model_dump() for look in self.looks])

    def _stop(self, rule: str, words: str, step: int) -> None:
        self.stopped = Stopped(rule=rule, step=step, words=words, kept=0)  # so that best() passes over this look
        self.stopped = Stopped(rule=rule, step=step, words=words, kept=self.best())
        kept = f"the checkpoint of step {self.stopped.kept}" if self.stopped.kept else "the SFT model"
        log(f"stopped at step {step} by align.stop.{rule}: {words}; {kept} is kept")

    def _keep(self, model: PeftModel, step: int) -> None:
        """The adapter of this step, whole or not there."""
        part = self.work / f".best.part-{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        trainers.save_adapter(model, [], part)
        (part / "curve.jsonl").unlink()
        replace_dir(part, self.work / f"best-{step}")

    def _look(self, model: PeftModel, step: int) -> tuple[Look, list[dict]]:
        """The figures, and the answers they come from."""
        import torch

        size, pad, limit = self.cfg.samples, self.tokenizer.pad_token_id, self.cfg.max_new_tokens
        prompts = read(self.tokenizer, model.config, [pair.messages for pair in self.pairs], limit)
        chosen = [pair.chosen.ids[len(prompt):] for pair, prompt in zip(self.pairs, prompts, strict=True)]
        said, drawn = ([one for (one,) in answer_all(model, self.tokenizer, prompts, how, size)]
                       for how in (Sampling(limit), Sampling(limit, temperature=1.0, seed=self.seed)))
        with torch.no_grad():
            likely, real = logps_of(model, prompts, chosen, pad)
        rewards = self.judge.score(model, prompts, [one.ids for one in said], size)
        self.agreed[step] = [says(one.text, pair.answers[0]) for one, pair in zip(said, self.pairs, strict=True)]
        count = len(self.pairs)
        figures = {
            "reward": sum(rewards) / count, "kl": sum(kl_of(model, prompts, [one.ids for one in drawn], pad)) / count,
            "ended": sum(one.ended for one in said) / count, "end_logprob": float(likely[:, -1].mean()),
            "distinct": len({one.text for one in said}) / len({pair.answers[0] for pair in self.pairs}),
            "length": sum(one.tokens for one in said) / sum(map(len, chosen)), "logprob": float(likely.sum() / real.sum()),
            "kept": sum(self.agreed[step]) / count}
        rows = [{"id": pair.id, "messages": pair.messages, "chosen": pair.answers[0], "answer": one.text, "ended": one.ended,
                 "reward": round(reward, 6)} for pair, one, reward in zip(self.pairs, said, rewards, strict=True)]
        return Look(step=step, **{name: round(value, 6) for name, value in figures.items()}), rows

    def _broken(self, look: Look) -> Iterator[tuple[str, str]]:
        """(rule, words) of each rule that this look breaks."""
        stop, first = self.cfg.stop, self.looks[0]
        for rule, limit, broken, words in _rules(stop, first, look):
            if limit is not None and broken(limit):
                yield rule, words
        if stop.kept_loss is None:
            return
        for what, abstaining in (("what people chose", False), ("that the notes do not say where people chose that", True)):
            both = zip(self.agreed[0], self.agreed[look.step], self.pairs, strict=True)
            said = [(before, after) for before, after, pair in both
                    if abstains(pair.answers[0]) == abstaining]
            lost, won = (sum(a and not b for a, b in side) for side in (said, [(b, a) for a, b in said]))
            if said and (lost - won) / len(said) > stop.kept_loss and binomial(lost, won) < CHANCE:
                yield "kept_loss", (
                    f"of {len(said)} answers {sum(after for _, after in said)} say {what}, {sum(before for before, _ in said)} "
                    f"of the SFT model's did, while the reward went from {first.reward:.2f} to {look.reward:.2f}")


def _rules(stop: Stop, first: Look, look: Look) -> Iterator[tuple[str, float | None, Callable[[float], bool], str]]:
    """Name, limit, whether it is broken, and what was seen."""
    yield "kl", stop.kl, lambda most: look.kl > most, f"it is {look.kl:.1f} nats an answer from the SFT model"
    yield "ended", stop.ended, lambda least: look.ended < least, f"only {look.ended:.0%} of its answers end"
    yield ("end_logprob_drop", stop.end_logprob_drop, lambda most: first.end_logprob - look.end_logprob > most,
           f"the end token lost {first.end_logprob - look.end_logprob:.2f} nats where it belongs")
    yield ("distinct", stop.distinct, lambda least: look.distinct < least,
           f"it gives {look.distinct:.2f} as many different answers as people chose")
    yield ("length", stop.length, lambda times: not 1 / times <= look.length <= times,
           f"its answers are {look.length:.2f} times as long as the chosen ones")
    yield ("logprob_drop", stop.logprob_drop, lambda most: first.logprob - look.logprob > most,
           f"what people chose lost {first.logprob - look.logprob:.2f} nats a token")


def says(text: str, chosen: str) -> bool:
    """Whether an answer says what the chosen one says: both abstain, or it has its figures and most of its content words."""
    if abstains(text) or abstains(chosen):
        return abstains(text) and abstains(chosen)
    text, chosen = strip_citations(text), strip_citations(chosen)
    words = set(words_of(chosen))
    return figures_of(chosen) <= figures_of(text) and len(words & set(words_of(text))) >= SAME * len(words)


def kl_of(model: PeftModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int) -> list[float]:
    """KL(π ‖ π_SFT) in nats along each answer: at each token the exact sum over the vocabulary."""
    import torch

    from tasks.evaluation.divergence import Spoken, answer_logps

    spoken = [Spoken(prompt, said) for prompt, said in zip(prompts, answers, strict=True)]
    with torch.no_grad():
        ours = answer_logps(model, spoken, pad)
        with using(model, None):
            theirs = answer_logps(model, spoken, pad)
    return [max(0.0, float((p.exp() * (p - q)).sum())) for p, q in zip(ours, theirs, strict=True)]


def finite(values: dict[str, Any]) -> bool:
    """Whether a point of the curve holds numbers alone."""
    return all(math.isfinite(value) for value in values.values() if isinstance(value, float))
