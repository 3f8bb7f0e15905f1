"""Proximal policy optimization on r − β·KL(π ‖ π_SFT) (Schulman et al. 2017; Ziegler et al. 2019; Stiennon et al. 2020).

TRL has no PPO any more, so it is ours. A round samples answers to some prompts, has them judged by the reward model, and
trains policy and value on them a few times. All four models of the method are one backbone: the policy and the value are an
adapter each, the reward model's is laid on while it scores, and the reference is the backbone with none of them.

An answer's tokens are the actions, each a step of the episode; the KL is paid on every token, the score comes with the last.
Policy and value go forward and backward one after the other, so that one graph at a time is in memory. Dropout is off: the
ratio of new to old probabilities compares two states of one function. Every draw has a seed of its own (round, prompt), so
that a killed run goes on from its newest checkpoint to the same bytes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.errors import DataError
from tasks.params import Ppo
from tasks.progress import log
from tasks.training import checkpoints
from tasks.training.alignment import Outcome, Task
from tasks.training.backbone import POLICY, answer_mask, body_of, logps_of, using
from tasks.training.generate import Sampling, answer_all, cut, pad_left
from tasks.training.hardware import autocast
from tasks.training.ppo_learner import VALUE, Learner, begin, load, rate, save
from tasks.training.ppo_terms import advantages_of, masked_mean, policy_loss, token_rewards, value_loss, whiten
from tasks.training.scoring import pad_right
from tasks.training.tokens import encode_chat

if TYPE_CHECKING:
    import torch

KEPT = 2**28  # bytes of prompts that stay read between the passes over a round


@dataclass
class Rollout:
    """A round's answers and what was known of them before training on them; tensors are (N, T), tokens flush right."""

    prompts: list[list[int]]
    answers: list[tuple[int, ...]]
    mask: torch.Tensor
    old: torch.Tensor  # log-probabilities under the policy that drew them
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    figures: dict[str, float]  # of the curve


def ppo(task: Task) -> Outcome:
    """Train the policy's adapter and leave it, with its curve, in `task.out`."""
    cfg = task.cfg.ppo
    learner, prompts = begin(task), prompts_of(task)
    plan = rounds_of(len(prompts), cfg, task.seed)
    newest = checkpoints.newest_complete(task.work)
    checkpoints.say_resume(newest)
    goes_on = task.watch.begin(learner.model, newest)
    if newest is not None:
        load(learner, newest)
    while goes_on and learner.round < len(plan):
        rollout = sample(task, learner, [prompts[i] for i in plan[learner.round]])
        figures = rollout.figures | train(task, learner, rollout, len(plan))
        learner.penalty.steer(figures["kl"], cfg.rollout)
        learner.round += 1
        if wrong := [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]:
            task.watch.failed(learner.step, ", ".join(wrong))
            break
        learner.points.append({"step": learner.step, **{name: round(value, 6) for name, value in figures.items()}})
        log(f"round {learner.round}/{len(plan)}: score {figures['score']:.3f}, KL {figures['kl']:.2f} nats, "
            f"{figures['ended']:.0%} end, {figures['tokens']:.1f} tokens")
        if learner.round % cfg.save_every == 0:
            goes_on = save(task, learner)
    else:
        if goes_on:
            task.watch.end(learner.model, learner.step)
    task.watch.finish(learner.model, learner.points, task.out)
    trained = sum(p.numel() for name, p in learner.weights().items() if f".{POLICY}." in name)
    return Outcome(learner.step, trained, learner.points)


def prompts_of(task: Task) -> list[list[int]]:
    """The different prompts of the training pairs, as token ids, that leave room for an answer."""
    seen: dict[str, list[int]] = {}
    for pair in task.pairs:
        ids = encode_chat(task.tokenizer, pair.messages, add_generation_prompt=True)
        if len(ids) + task.cfg.max_new_tokens <= task.cfg.max_length:
            seen.setdefault(",".join(map(str, ids)), ids)
    if not seen:
        raise DataError("preference pairs", f"no prompt leaves room for an answer of {task.cfg.max_new_tokens} tokens",
                        "raise align.max_length or lower align.max_new_tokens")
    return list(seen.values())


def rounds_of(count: int, cfg: Ppo, seed: int) -> list[list[int]]:
    """Which prompts each round answers: `epochs` passes in orders of their own, cut into rounds; what does not fill the last
    round is left out, and fewer prompts than one round holds come more than once."""
    order: list[int] = []
    for epoch in range(cfg.epochs):
        order += random.Random(f"{seed}/{epoch}").sample(range(count), count)
    while len(order) < cfg.rollout:
        order += order
    return [order[start:start + cfg.rollout] for start in range(0, len(order) - cfg.rollout + 1, cfg.rollout)]


def sample(task: Task, learner: Learner, prompts: list[list[int]]) -> Rollout:
    """A round's answers, judged."""
    import torch

    cfg, model, pad = task.cfg.ppo, learner.model, task.tokenizer.pad_token_id
    with autocast(task.compute):
        batches = cut(prompts, cfg.batch_size)
        how = Sampling(task.cfg.max_new_tokens, temperature=cfg.temperature, seed=task.seed + learner.round)
        said = [one for (one,) in answer_all(model, task.tokenizer, prompts, how, cfg.batch_size)]
        answers = [one.ids for one in said]
        scores = torch.tensor(task.judge.score(model, prompts, answers, cfg.batch_size), device=model.device)
        if not learner.round:  # values begin at the mean score: clipped steps would take many rounds to get there
            torch.nn.init.constant_(learner.head.bias, float(scores.mean()))
        width = max(map(len, answers))
        old, reference, values = (torch.zeros(len(prompts), width, device=model.device) for _ in range(3))
        with torch.no_grad():
            for batch in batches:
                asked, told = [prompts[i] for i in batch], [answers[i] for i in batch]
                place = batch, slice(width - max(map(len, told)), width)
                old[place] = logps_of(model, asked, told, pad, cfg.temperature)[0]
                with using(model, None):
                    reference[place] = logps_of(model, asked, told, pad, cfg.temperature)[0]
                values[place] = values_of(model, learner.head, asked, told, pad)
    mask = answer_mask(answers, width, model.device)
    ended = torch.tensor([one.ended for one in said], device=model.device)
    rewards = token_rewards(scores, ended, old - reference, mask, learner.penalty.beta, cfg.missing_end)
    if cfg.whiten_rewards:
        rewards = whiten(rewards, mask, center=False)
    advantages, returns = advantages_of(rewards, values, mask, cfg.discount, cfg.trace)
    kl = ((old - reference) * mask).sum(1)  # (N,) of each answer, from the tokens that were drawn
    beta = learner.penalty.beta
    figures = {"score": float(scores.mean()), "reward": float((scores - beta * kl).mean()), "kl": float(kl.mean()), "beta": beta,
               "ended": float(ended.float().mean()), "tokens": float(mask.sum(1).mean()),
               "distinct": len(set(answers)) / len(answers),
               "explained": float(1 - masked_mean((returns - values) ** 2, mask)
                                  / masked_mean((returns - masked_mean(returns, mask)) ** 2, mask).clamp(min=1e-8))}
    return Rollout(prompts, answers, mask, old, values, whiten(advantages, mask), returns, figures)


@dataclass
class Read:
    """Prompts as the frozen backbone reads them, all but their last tokens."""

    mask: torch.Tensor  # (B, L), flush right
    layers: list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of each

    def size(self) -> int:
        """Bytes."""
        return sum(part.nbytes for layer in self.layers for part in layer)


def read(model: Any, prompts: Sequence[Sequence[int]], pad: int) -> Read:
    """Keys and values of the prompts, without gradients."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()  # whole, also of layers with a window: the answers' masks are cut from all of it
    ids, mask = (t.to(model.device) for t in pad_left([prompt[:-1] for prompt in prompts], pad))
    with torch.no_grad(), using(model, None):
        body_of(model)(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), past_key_values=cache,
                       use_cache=True)  # fmt: skip
    return Read(mask, [(layer.keys, layer.values) for layer in cache.layers])


def values_of(model: Any, head: torch.nn.Linear, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int,
              known: Read | None = None) -> torch.Tensor:
    """V of what stands before each answer token, (B, T), tokens flush right. `known`: the prompts, where they were read before.

    The value adapter is on from the prompt's last token; what stands before is read as the frozen backbone reads it, without
    gradients. Nine tenths of the tokens are prompt, and values need no reading of their own of them.
    """
    import torch
    from transformers import DynamicCache

    known = known or read(model, prompts, pad)
    cache, mask, width = DynamicCache(), known.mask, max(map(len, answers))
    for number, (keys, values) in enumerate(known.layers):
        cache.update(keys, values, number)
    states, real = pad_right([[prompt[-1], *said[:-1]] for prompt, said in zip(prompts, answers, strict=True)], pad)  # (B, T)
    states, real = states.to(model.device), real.to(model.device)
    with using(model, VALUE):
        hidden = body_of(model)(
            input_ids=states, attention_mask=torch.cat([mask, real], 1), past_key_values=cache, use_cache=True,
            position_ids=mask.sum(1)[:, None] + torch.arange(width, device=model.device)).last_hidden_state
    with torch.autocast(hidden.device.type, enabled=False):  # values differ in digits that bf16 does not have
        values = head(hidden.float())[:, :, 0]  # (B, T), flush left
    shift = torch.arange(width, device=model.device) - (width - real.sum(1))[:, None]
    return values.gather(1, shift.clamp(min=0)) * (shift >= 0)


def train(task: Task, learner: Learner, rollout: Rollout, rounds: int) -> dict[str, float]:
    """`passes` over a round's answers; a batch holds answers of like length, and the batches come in an order of their own."""
    import torch

    cfg = task.cfg.ppo
    lengths = [len(p) + len(a) for p, a in zip(rollout.prompts, rollout.answers, strict=True)]
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batches = [order[start:start + cfg.batch_size] for start in range(0, len(order), cfg.batch_size)]
    steps = cfg.passes * len(batches) // cfg.accumulate * rounds
    known: dict[int, Read] = {}  # prompts that the values have read already, by the first answer of their batch
    sums: dict[str, float] = {}
    for number in range(cfg.passes):
        random.Random(f"{task.seed}/{learner.round}/{number}").shuffle(batches)
        for start in range(0, len(batches), cfg.accumulate):
            together = batches[start:start + cfg.accumulate]
            tokens = sum(float(rollout.mask[batch].sum()) for batch in together)
            for group in learner.optimizer.param_groups:
                group["lr"] = group["peak"] * rate(learner.step, steps, cfg.warmup)
            learner.optimizer.zero_grad()
            found = [backward(task, learner, rollout, batch, tokens, known) for batch in together]
            learner.scaler.unscale_(learner.optimizer)
            for group in learner.optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            learner.scaler.step(learner.optimizer)
            learner.scaler.update()
            learner.step += 1
            for figures in found:
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
    count = cfg.passes * len(batches) // cfg.accumulate
    figures = {name: value / count for name, value in sums.items()}
    return {"loss": figures["policy_loss"] + figures["value_loss"], **figures,
            "learning_rate": learner.optimizer.param_groups[0]["lr"]}


def backward(task: Task, learner: Learner, rollout: Rollout, batch: list[int], tokens: float,
             known: dict[int, Read]) -> dict[str, float]:
    """Gradients of both losses on one batch, as its part of a step over so many tokens."""
    cfg, model, pad = task.cfg.ppo, learner.model, task.tokenizer.pad_token_id
    prompts, answers = [rollout.prompts[i] for i in batch], [rollout.answers[i] for i in batch]
    width = max(map(len, answers))
    mask, old, values, advantages, returns = (part[batch][:, -width:] for part in (
        rollout.mask, rollout.old, rollout.values, rollout.advantages, rollout.returns))
    with autocast(task.compute):
        logps, _ = logps_of(model, prompts, answers, pad, cfg.temperature)
        each, clipped = policy_loss(logps, old, advantages, mask, cfg.clip)
    loss = each.sum() / tokens
    learner.scaler.scale(loss).backward()
    with autocast(task.compute):
        there = known.get(batch[0]) or read(model, prompts, pad)
        if sum(each.size() for each in known.values()) + there.size() <= KEPT:
            known[batch[0]] = there
        found = values_of(model, learner.head, prompts, answers, pad, there)
    value = value_loss(found, values, returns, mask, cfg.value_clip).sum() / tokens
    with using(model, VALUE):
        learner.scaler.scale(value).backward()
    return {"policy_loss": float(loss.detach()), "value_loss": float(value.detach()), "clipped": float(clipped.sum() / tokens)}
