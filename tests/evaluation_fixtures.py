"""A tiny model that has learned something and evaluation sets for it, for the tests of evaluate and quantize."""

from __future__ import annotations

from pathlib import Path

from tasks.files import write_jsonl
from tasks.params import Compute
from tests.training_fixtures import TEMPLATES, instruction_rows, write_start

CPU = Compute(threads=2, precision="fp32", device="cpu", reproducible="this-cpu")


def write_base(folder: Path, start: Path) -> Path:
    """The tiny start with the chat template installed, as stage base leaves it."""
    from tasks.base import agree, install_template
    from tasks.training import sources
    from tasks.training.models import save_model

    source = sources._from_folder(write_start(start), "ours")
    install_template("chatml", source.tokenizer, TEMPLATES)
    agree(source.model, source.tokenizer)
    save_model(source.model.float(), source.tokenizer, folder)
    return folder


def teach(base: Path, out: Path, steps: int, seed: int = 0, ending: str = "") -> Path:
    """The base after some steps of plain training on the instruction rows: its answers end and look like answers.

    `ending` is what it learns to write behind each of them.
    """
    import torch

    from tasks.training.models import load_base, save_model
    from tasks.training.scoring import pad_right
    from tasks.training.tokens import encode_response

    torch.manual_seed(seed)
    model, tokenizer = load_base(base, CPU)
    chats = [row["messages"] for row in instruction_rows(64)]
    chats = [[asked, {**said, "content": said["content"] + ending}] for asked, said in chats]
    rows = [encode_response(tokenizer, chat) for chat in chats]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        batch = [rows[(step * 16 + k) % len(rows)] for k in range(16)]
        ids, mask = pad_right([row[0] for row in batch], tokenizer.pad_token_id)
        wanted, _ = pad_right([row[1] for row in batch], 0)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits[wanted[:, 1:].bool()], ids[:, 1:][wanted[:, 1:].bool()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_model(model, tokenizer, out)
    return out


def write_cases(folder: Path, each: int = 12) -> Path:
    """Evaluation sets in the form of stage prepare: `each` cases a set, a third of them called Chinese."""
    for name in ("facts", "context", "unanswerable"):
        cases = []
        for i, row in enumerate(instruction_rows(each, start=5000)):
            number = row["messages"][1]["content"].split()[3].rstrip(".")
            answer = None if name == "unanswerable" else number
            prompt = row["messages"][0]["content"]
            cases.append({
                "id": f"{name}-{i:03d}", "answer": answer, "distractors": ["100"] if answer else [],
                "cite": [1] if name == "context" else [], "language": "zh" if i % 3 == 2 else "en", "kind": "opening",
                "messages": [{"role": "user", "content": prompt.split("\n")[-1] if name == "facts" else prompt}]})
        write_jsonl(folder / f"{name}.jsonl", cases)
    return folder


def write_adapter(base: Path, out: Path, seed: int) -> Path:
    """A LoRA adapter with drawn weights: what stage sft leaves, without its training."""
    import torch
    from peft import LoraConfig, get_peft_model

    from tasks.training.models import load_base

    torch.manual_seed(seed)
    model, _ = load_base(base, CPU)
    config = LoraConfig(r=2, lora_alpha=1, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(out)
    return out


def write_reward(base: Path, sft: Path, out: Path, seed: int = 0) -> Path:
    """A reward adapter with a drawn score head: what stage reward leaves, without its training."""
    import torch
    from peft import LoraConfig, get_peft_model

    from tasks.training.models import load_policy
    from tasks.training.rewards import score_model

    torch.manual_seed(seed)
    policy, tokenizer = load_policy(base, [sft], CPU)
    config = LoraConfig(r=2, lora_alpha=1, target_modules="all-linear", init_lora_weights=False, task_type="SEQ_CLS",
                        modules_to_save=["score"])
    get_peft_model(score_model(policy, tokenizer), config).save_pretrained(out)
    return out
