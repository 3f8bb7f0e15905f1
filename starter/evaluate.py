"""How well the base copies: quickly (teacher-forced, while training) and really (greedy generation).

Cases use entities that training never shows, half of them with a wording that it never shows either.

    python -m starter.evaluate --model starter/base --cases 300
"""

import argparse
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from starter.documents import NOT_STATED, Case, evaluation_case

CELLS = [("en1", "en", 1), ("en2", "en", 2), ("en3", "en", 3), ("zh1", "zh", 1), ("zh2", "zh", 2), ("zh3", "zh", 3)]
MARK = re.compile(r" \(note \d+\)|（第\d+条）")  # the base's own way to name a note; not part of the value


@dataclass(frozen=True)
class Row:
    """One teacher-forced case: the value's tokens are ids[start:end]."""

    ids: list[int]
    start: int
    end: int


def quick_cases(tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 5) -> dict[str, list[Row]]:
    """`count` cases for each cell of language and number of passages."""
    r, groups = random.Random(seed), {}
    for name, lang, passages in CELLS:
        rows = []
        for i in range(count):
            case = evaluation_case(lang, r, passages, held_out_question=i % 2 == 1)
            head = tokenizer(case["prompt"])["input_ids"]
            whole = tokenizer(case["prompt"] + (" " if lang == "en" else "") + case["value"] + "\n")["input_ids"]
            assert whole[: len(head)] == head
            rows.append(Row([tokenizer.eos_token_id, *whole], len(head) + 1, len(whole)))
        groups[name] = rows
    return groups


@torch.no_grad()
def quick_accuracy(model: LlamaForCausalLM, groups: dict[str, list[Row]]) -> dict[str, float]:
    """Share of cases in which every token of the value is the most likely one: what greedy decoding would give."""
    model.eval()
    result = {}
    for name, rows in groups.items():
        rows = sorted(rows, key=lambda row: len(row.ids))
        good = 0
        for at in range(0, len(rows), 16):
            part = rows[at : at + 16]
            x = torch.zeros(len(part), max(len(row.ids) for row in part), dtype=torch.long)  # (B, T), right-padded
            for i, row in enumerate(part):
                x[i, : len(row.ids)] = torch.tensor(row.ids)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = model.model(input_ids=x, use_cache=False).last_hidden_state  # (B, T, width)
            for i, row in enumerate(part):
                logits = hidden[i, row.start - 1 : row.end - 1].float() @ model.lm_head.weight.float().T
                good += bool((logits.argmax(-1) == x[i, row.start : row.end]).all())
        result[name] = round(good / len(rows), 3)
    model.train()
    return result


@torch.no_grad()
def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[str], new: int = 16) -> list[str]:
    """The first line that generate() writes after each prompt, without the mark of a note."""
    newline = tokenizer("\n")["input_ids"][0]
    answers = []
    for at in range(0, len(prompts), 50):
        batch = tokenizer(
            [tokenizer.eos_token + p for p in prompts[at : at + 50]],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            return_token_type_ids=False,
        )
        out = model.generate(
            **batch, max_new_tokens=new, do_sample=False, eos_token_id=[newline, tokenizer.eos_token_id]
        )
        for row in out[:, batch["input_ids"].shape[1] :]:
            line = tokenizer.decode(row, skip_special_tokens=True).split("\n")[0]
            answers.append(MARK.sub("", line).strip())
    return answers


def expected(case: Case) -> str:
    """The bare answer of a case."""
    return case["value"] if case["value"] is not None else NOT_STATED[case["lang"]]


def accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    seed: int = 9,
    only: tuple[str, ...] = (),
) -> dict[str, float]:
    """Exact match by greedy generation: `count` cases a cell, and two cells that the notes cannot answer.

    Every second case has a held-out wording; these are also counted apart. `only`: the cells to do, if not all.
    """
    model.eval()
    result = {}
    cells = [(*cell, True) for cell in CELLS] + [("en2_open", "en", 2, False), ("zh2_open", "zh", 2, False)]
    for name, lang, passages, answerable in cells:
        if only and name not in only:
            continue
        r = random.Random(f"{seed}/{name}")
        cases = [evaluation_case(lang, r, passages, i % 2 == 1, answerable) for i in range(count)]
        answers = greedy(model, tokenizer, [case["prompt"] for case in cases])
        right = [answer == expected(case) for answer, case in zip(answers, cases, strict=True)]
        result[name] = round(sum(right) / count, 3)
        result[name + "_new_wording"] = round(sum(right[1::2]) / (count // 2), 3)
    return result


def main() -> None:
    """Print the figures of a model folder as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--cases", type=int, default=300, help="cases a cell")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    print(json.dumps(accuracy(model, AutoTokenizer.from_pretrained(args.model), args.cases), indent=2))


if __name__ == "__main__":
    main()
