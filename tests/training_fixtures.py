"""Tiny real models and rows for the tests of training: a two-layer Llama with a trained byte-level tokenizer."""

from __future__ import annotations

import functools
import importlib
import inspect
import multiprocessing
import os
import random
import signal
from pathlib import Path

from tasks import environment
from tasks.files import write_jsonl
from tests import minigraph

SPECIAL = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
TEMPLATES = Path(__file__).parents[1] / "tasks" / "templates"
NAMES = ["Oakleigh", "Marsh", "Redford", "Ivydale", "Thornham", "Eastwick", "Kingport", "Milbury"]


def tiny_tokenizer():
    """A byte-level BPE tokenizer of 400 entries that keeps numbers whole, trained on the rows below."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\d{1,3}|\n| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, show_progress=False, min_frequency=2,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    texts = [m["content"] for row in instruction_rows(60) for m in row["messages"]] + ["user\nassistant\n"] * 20
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[0],
                                   pad_token=SPECIAL[1], clean_up_tokenization_spaces=False)


def write_start(folder: Path, seed: int = 0) -> Path:
    """A model folder as pre-training leaves it: no chat template, ended by <|endoftext|>. 30 k parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
                         tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=1)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def instruction_rows(count: int, start: int = 0) -> list[dict]:
    """Rows of artifacts/dataset/instructions: which number belongs to a name, told in one note."""
    draw = random.Random(17)
    rows = []
    for i in range(start, start + count):
        name, number = draw.choice(NAMES), draw.randrange(10, 99)
        content = f"[1] The {name} store opens at {number}.\nQuestion: When does {name} open?"
        rows.append({"id": f"row-{i}", "language": "en", "source": "instructions/tiny.jsonl", "messages": [
            {"role": "user", "content": content}, {"role": "assistant", "content": f"It opens at {number}. [1]"}]})
    return rows


def preference_rows(count: int) -> list[dict]:
    """Rows of artifacts/dataset/preferences: the short answer with its source is preferred."""
    rows = []
    for row in instruction_rows(count, start=1000):
        good = row["messages"][1]["content"]
        rows.append({"id": row["id"], "language": "en", "source": "preferences/tiny.jsonl", "weight": 1.0,
                     "annotators": ["annotator-01"], "annotations": [1], "messages": row["messages"][:1],
                     "chosen": good, "rejected": "I think that the store " + good.replace(" [1]", "")})
    return rows


def write_dataset(folder: Path, instructions: int = 48, pairs: int = 32, held_out: int = 8) -> Path:
    """A small artifacts/dataset."""
    rows, pairs_ = instruction_rows(instructions + held_out), preference_rows(pairs + held_out)
    write_jsonl(folder / "instructions" / "train.jsonl", rows[:instructions])
    write_jsonl(folder / "instructions" / "eval.jsonl", rows[instructions:])
    write_jsonl(folder / "preferences" / "train.jsonl", pairs_[:pairs])
    write_jsonl(folder / "preferences" / "eval.jsonl", pairs_[pairs:])
    write_jsonl(folder / "prompts" / "prompts.jsonl", [{"id": r["id"], "messages": r["messages"][:1], "language": "en"}
                                                        for r in rows[:6]])
    for name, defect in (("pairs_correctness", "wrong value"), ("pairs_style", "verbose")):
        write_jsonl(folder / "evaluation" / f"{name}.jsonl", [
            {"id": f"{name}-{r['id']}", "messages": r["messages"], "chosen": r["chosen"], "rejected": r["rejected"],
             "defect": defect, "language": "en"} for r in pairs_[pairs:]])
    return folder


# What follows trains once a process, in a folder of its own, and is shared by the test files that need a trained model.

SMALL_STEPS = {"epochs": 3, "log_every": 2, "save_every": 4, "batch_size": 8, "learning_rate": 5e-3}
SMALL = SMALL_STEPS | {"max_length": 128}


@functools.cache
def params():
    """params.yaml with trainings of a second each; the align gate is open, for a random model cannot pass it."""
    from tasks.params import load

    whole = load(Path(__file__).parents[1] / "params.yaml")
    base = whole.base.model_copy(update={"model": "starter", "chat_template": "chatml"})
    lora = whole.sft.lora.model_copy(update={"r": 4, "alpha": 8.0, "dropout": 0.1, "targets": "all-linear"})
    plain = lora.model_copy(update={"dropout": 0.0})
    return whole.model_copy(update={
        "base": base, "sft": whole.sft.model_copy(update={**SMALL, "lora": lora, "packing": False}),
        "candidates": whole.candidates.model_copy(update={"max_new_tokens": 12, "batch_size": 4}),
        "reward": whole.reward.model_copy(update={**SMALL, "lora": plain}),
        "align": whole.align.model_copy(update={
            "lora": plain, "max_length": 128, "samples": 4, "max_new_tokens": 12,
            "dpo": whole.align.dpo.model_copy(update={**SMALL_STEPS, "learning_rate": 1e-3}),
            "ppo": whole.align.ppo.model_copy(update={
                "epochs": 2, "rollout": 16, "batch_size": 4, "accumulate": 2, "passes": 2, "save_every": 1}),
            **{name: getattr(whole.align, name).model_copy(update={
                **SMALL_STEPS, "epochs": 1, "answers": 2}) for name in ("rloo", "grpo")},
            "stop": type(whole.align.stop)(**dict.fromkeys(type(whole.align.stop).model_fields))}),
        "merge": whole.merge.model_copy(update={"prompts": 4})})


@functools.cache
def world() -> Path:
    """A folder with start/ (a model without template), dataset/, base/, and the work folder of interrupted runs."""
    folder = minigraph.scratch("training")
    write_start(folder / "start")
    write_dataset(folder / "dataset")
    run_stage("base", folder / "base", starter=folder / "start", templates=TEMPLATES)
    return folder


@functools.cache
def trained(stage: str) -> Path:
    """The output folder of sft, reward or align, trained once."""
    folder = world() / stage
    run_stage(stage, folder, **inputs(stage))
    return folder


def inputs(stage: str) -> dict[str, Path]:
    """The path arguments of a training stage, from the shared world."""
    dataset, base = world() / "dataset", world() / "base"
    if stage == "sft":
        return {"dataset": dataset / "instructions", "base": base}
    paths = {"dataset": dataset / "preferences", "base": base, "sft": trained("sft")}
    return paths | ({"evaluation": dataset / "evaluation"} if stage == "reward" else {"reward": trained("reward")})


def run_stage(stage: str, out: Path, changes: dict | None = None, **paths: Path):
    """Run a stage function on real folders with the small parameters, `changes` applied to its own section."""
    function = getattr(importlib.import_module(f"tasks.{stage}"), stage)
    whole = params()
    cfg = getattr(whole, stage).model_copy(update=changes or {})
    values = {"cfg": cfg, "compute": whole.compute, "seed": whole.seed, "quantize": whole.quantize}
    out.mkdir(parents=True, exist_ok=True)
    here = Path.cwd()
    os.chdir(world() if stage != "base" else out.parent)  # .nightshift/work must not appear in the repository
    try:
        names = inspect.signature(function).parameters
        return function(**{k: v for k, v in values.items() if k in names}, **paths, out=out)
    finally:
        os.chdir(here)


def killed(stage: str, out: Path, at: int, changes: dict | None = None, torn: bool = False) -> None:
    """Run a stage in a process that ends by SIGKILL when its checkpoint number `at` has all but its mark; torn: not all."""
    process = multiprocessing.get_context("spawn").Process(
        target=_run_and_die, args=(world(), stage, out, at, changes, torn, inputs(stage)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _run_and_die(place: Path, stage: str, out: Path, at: int, changes: dict | None, torn: bool, paths: dict[str, Path]) -> None:
    environment.apply()
    from tasks.training import checkpoints

    mark, seen = checkpoints.mark_complete, []

    def mark_or_die(checkpoint: Path) -> None:
        seen.append(checkpoint)
        if len(seen) == at:
            if torn:
                next(checkpoint.glob("trainer_state.json")).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        mark(checkpoint)

    checkpoints.mark_complete = mark_or_die
    globals()["world"] = lambda: place
    run_stage(stage, out, changes, **paths)


def names(folder: Path) -> list[str]:
    """Relative paths of all files in a folder, sorted."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
