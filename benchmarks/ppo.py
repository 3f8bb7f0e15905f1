"""Our PPO beside TRL's last one (1.12.0, in an environment of its own): reward, KL, CPU-seconds and memory, round by round.

    make nightly                       once: it needs the SFT model, the reward model and the pairs of a night
    python -m benchmarks.ppo           three seeds, 11 rounds of 128 answers each

Same policy, LoRA, prompts, reward, rollout, batches, passes, penalty and learning rate on both sides. The two draw from
generators of their own, so curves are compared and not bits. TRL gets a value model that starts at the mean score, as ours
does, and its own reward model (merged) behind the same features. Both sides count their CPU-seconds from the first sampled answer
to the last step.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks import environment

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / "build/ppo-oracle"
PINS = ("trl==1.12.0", "transformers==5.23.0", "peft==0.21.2", "torch==2.13.0", "accelerate==1.15.0", "datasets==5.2.0")


def install() -> Path:
    """The oracle's environment, made where it is not there; returns its Python."""
    python = VENV / "bin/python"
    if not (VENV / "complete").is_file():
        uv = str(ROOT / ".boot/bin/uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PINS], check=True)
        (VENV / "complete").touch()
    return python


def prepare(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write what the oracle reads: SFT model, reward model (body and head), prompts as token ids; returns the settings."""
    from safetensors.torch import save_file

    from tasks.training.models import save_model
    from tasks.training.ppo import prompts_of, rounds_of, sample
    from tasks.training.ppo_learner import begin
    from tasks.training.rewards import load_reward
    from tasks.training.tokens import encode_chat

    task = a_task(given, given.seeds[0])
    cfg = task.cfg.ppo
    save_model(task.policy, task.tokenizer, folder / "policy")
    model, _ = load_reward(given.base, given.sft, given.reward, task.compute)
    getattr(model, model.base_model_prefix).save_pretrained(folder / "reward", safe_serialization=True)
    save_file({"score": model.score.weight.detach().contiguous()}, folder / "score.safetensors")
    prompts = prompts_of(task)
    plan = rounds_of(len(prompts), cfg, task.seed)
    start = sample(task, begin(task), [prompts[i] for i in plan[0]]).figures["score"]
    question = [{"role": "user", "content": "?"}]
    with_, without = (encode_chat(task.tokenizer, question, add_generation_prompt=flag) for flag in (True, False))
    opening = with_[len(without):]
    settings = {
        "rounds": min(given.rounds, len(plan)), "rollout": cfg.rollout, "batch": cfg.batch_size * cfg.accumulate,
        "passes": cfg.passes, "learning_rate": cfg.learning_rate, "beta": cfg.kl.beta, "discount": cfg.discount,
        "trace": cfg.trace, "clip": cfg.clip, "value_clip": cfg.value_clip, "temperature": cfg.temperature,
        "missing_end": cfg.missing_end, "value": start, "lora": task.cfg.lora.model_dump(), "tokens": task.cfg.max_new_tokens,
        "opening": opening, "threads": task.compute.threads}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "prompts.json").write_text(json.dumps(prompts))
    return settings


def a_task(given: argparse.Namespace, seed: int) -> Any:
    """A task of method ppo on a night's models, unwatched."""
    from tasks.align import PAIR
    from tasks.params import load
    from tasks.training.alignment import Task
    from tasks.training.backbone import Judge
    from tasks.training.hardware import set_up
    from tasks.training.models import load_policy
    from tasks.training.rows import encode_pairs, read_rows
    from tasks.training.watch import Watch

    params = load(ROOT / "params.yaml")
    cfg = params.align.model_copy(update={"method": "ppo"})
    set_up(params.compute, seed, training=True)
    policy, tokenizer = load_policy(given.base, [given.sft], params.compute)
    path = given.dataset / "train.jsonl"
    pairs, _ = encode_pairs(tokenizer, read_rows(path, PAIR), cfg.max_length, str(path))
    judge, work = Judge(given.reward, tokenizer), Path(tempfile.gettempdir())
    watch = Watch(cfg, seed, tokenizer, [], judge, work)
    return Task(cfg, params.compute, seed, policy, tokenizer, pairs, judge, watch, work, work)


def ours(given: argparse.Namespace) -> None:
    """Our PPO on one seed: a line of JSON a round."""
    from tasks.training.ppo import prompts_of, rounds_of, sample, train
    from tasks.training.ppo_learner import begin

    task = a_task(given, given.seed)
    learner, prompts = begin(task), prompts_of(task)
    plan = rounds_of(len(prompts), task.cfg.ppo, task.seed)[:given.rounds]
    clock = time.process_time()
    for prompts_of_round in plan:
        rollout = sample(task, learner, [prompts[i] for i in prompts_of_round])
        train(task, learner, rollout, len(plan))
        learner.round += 1
        told = {name: rollout.figures[name] for name in ("score", "kl", "ended")}
        told |= {"cpu": time.process_time() - clock, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        print(json.dumps(told), flush=True)


def curve(command: list[str], threads: int) -> list[dict[str, float]]:
    """The rounds that a run tells of."""
    settings = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    env = {**os.environ, **settings, "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def reached(rounds: list[dict[str, float]], score: float) -> float | None:
    """CPU-seconds until the mean of two rounds was so high."""
    for before, now in pairwise(rounds):
        if (before["score"] + now["score"]) / 2 >= score:
            return now["cpu"]
    return None


def table(found: dict[str, list[list[dict[str, float]]]]) -> str:
    """Both sides, seed by seed, in Markdown. The score to reach: half way from the first round to the lower of both ends."""
    head = "| seed | | score, first → last two rounds | KL, nats | CPU-s | CPU-s to the same score | peak GiB |"
    lines = [head, "| --- |" + " --- |" * 6]
    for seed, (one, other) in enumerate(zip(found["ours"], found["TRL 1.12.0"], strict=True), 1):
        start = (one[0]["score"] + other[0]["score"]) / 2
        ends = [sum(each["score"] for each in rounds[-2:]) / 2 for rounds in (one, other)]
        goal = start + 0.5 * (min(ends) - start)
        for name, rounds, end in zip(found, (one, other), ends, strict=True):
            took = reached(rounds, goal)
            said = "–" if took is None else f"{took:.0f}"
            lines.append(f"| {seed} | {name} | {rounds[0]['score']:.2f} → {end:.2f} | {rounds[-1]['kl']:.2f} | "
                         f"{rounds[-1]['cpu']:.0f} | {said} (to {goal:.2f}) | {rounds[-1]['peak']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, place in (("base", "base"), ("sft", "sft"), ("reward", "reward"), ("dataset", "dataset/preferences")):
        default = Path("artifacts") / place
        parser.add_argument(f"--{name}", type=Path, default=default, metavar="PATH", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="default: 1 2 3")
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)  # of one run of ours
    given = parser.parse_args()
    environment.apply()
    if given.seed is not None:
        return ours(given)
    if not given.reward.is_dir():
        sys.exit(f"{given.reward}: is not there; make nightly makes it")
    found: dict[str, list[list[dict[str, float]]]] = {"ours": [], "TRL 1.12.0": []}
    oracle = [str(install()), str(ROOT / "benchmarks/ppo_oracle.py")]
    named = {name: getattr(given, name).resolve() for name in ("base", "sft", "reward", "dataset")}
    places = [word for name, path in named.items() for word in (f"--{name}", str(path))]
    with tempfile.TemporaryDirectory(prefix="ppo-") as folder:
        settings = prepare(given, Path(folder))
        for seed in given.seeds:
            mine = [sys.executable, "-m", "benchmarks.ppo", *places, "--rounds", str(settings["rounds"])]
            found["ours"].append(curve([*mine, "--seed", str(seed)], settings["threads"]))
            found["TRL 1.12.0"].append(curve([*oracle, folder, str(seed)], settings["threads"]))
            print(json.dumps({name: runs[-1] for name, runs in found.items()}), file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
