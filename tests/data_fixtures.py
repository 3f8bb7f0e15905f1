"""A small raw data folder, valid in every check; tests spoil what they look at."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tasks.params import Prepare, Seed, Validate

ROOT = Path(__file__).parent.parent
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
TOWNS = [
    "Ashford",
    "Bradton",
    "Cranfield",
    "Dunwick",
    "Eastham",
    "Fairbury",
    "Goldleigh",
    "Hartport",
    "Ivymouth",
    "Kingate",
    "Langworth",
    "Mildale",
]


def checks(**changes: object) -> Validate:
    """The validate section of params.yaml with changes; those to min_rows kind by kind."""
    least = {**PARAMS["validate"]["min_rows"], **changes.pop("min_rows", {})}
    return Validate.model_validate({**PARAMS["validate"], **changes, "min_rows": least})


def preparation(**changes: object) -> Prepare:
    """The prepare section of params.yaml with changes."""
    return Prepare.model_validate({**PARAMS["prepare"], **changes})


def seed(value: int = 7) -> Seed:
    """A seed section."""
    return Seed(value=value)


def jsonl(path: Path, rows: list[dict]) -> Path:
    """Write rows, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict]:
    """Read rows, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def passage(n: int, offset: int = 0) -> str:
    """What the nth store's note says."""
    return f"The {TOWNS[n]} store opens at {6 + offset}:{n + 10}. Its manager is {TOWNS[n - 1]} Hale."


def instruction(n: int) -> dict:
    """An Alpaca row with a note."""
    row = {
        "instruction": f"When does the {TOWNS[n]} store open?",
        "input": "",
        "output": f"It opens at 6:{n + 10}. [1]",
    }
    return {**row, "passages": [passage(n)], "language": "en"}


def ranking(n: int, annotator: str = "annotator-01", order: list[list[str]] | None = None) -> dict:
    """A ranking of three answers; A is right and sourced, B right, C abstains."""
    answers = {"A": f"It opens at 8:{n + 10}. [1]", "B": f"It opens at 8:{n + 10}.", "C": "The notes do not say."}
    return {
        "id": f"pref-{n}",
        "question": f"When does the {TOWNS[n]} store open?",
        "passages": [passage(n, 2)],
        "language": "en",
        "answers": answers,
        "ranking": order or [["A"], ["B"], ["C"]],
        "annotator": annotator,
        "annotation": 100 * n + int(annotator[-2:]),
    }


def write_own_data(folder: Path) -> Path:
    """What a newcomer has: twenty Alpaca rows and one document, below `folder`."""
    told = [{"instruction": f"Say the town of number {n}, please.", "output": f"It is {TOWNS[n % 12]} {n}."} for n in range(20)]
    jsonl(folder / "instructions" / "alpaca.jsonl", told)
    (folder / "documents").mkdir()
    (folder / "documents" / "handbook.md").write_text("# Handbook\n\nThe kiln stands in aisle 9, beside the clay.\n")
    return folder


def write_data(folder: Path) -> Path:
    """Instructions in four forms, rankings, pairs, prompts, six evaluation sets and two documents, below `folder`."""
    log = folder / "instructions"
    jsonl(log / "alpaca.jsonl", [instruction(n) for n in range(12)])
    told = [("What is the colour of the sky?", "It is blue."), ("你们几点开门？", "八点开门。")]
    share = [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, a in told]
    (log / "chat.json").write_text(json.dumps(share, ensure_ascii=False))
    said = [{"role": "user", "content": "Name a tool."}, {"role": "assistant", "content": "A drill."}]
    jsonl(log / "messages.jsonl", [{"messages": said}])
    jsonl(log / "completion.jsonl", [{"prompt": f"Spell the {n}th town.", "completion": TOWNS[n]} for n in range(6)])
    jsonl(folder / "preferences" / "rankings.jsonl", [ranking(n) for n in range(12)])
    pair = [{"prompt": f"Is {town} far?", "chosen": "No.", "rejected": "Nobody can say."} for town in TOWNS]
    jsonl(folder / "preferences" / "pairs.jsonl", pair)
    asked = [
        {"id": f"p{n}", "question": f"Who manages {t}?", "passages": [], "language": "en"} for n, t in enumerate(TOWNS)
    ]
    jsonl(folder / "prompts" / "prompts.jsonl", asked)
    sets = folder / "evaluation"
    for name, missing in (("facts", False), ("context", False), ("unanswerable", True)):
        rows = []
        for n in range(4):
            value = None if missing else f"9:{n + 10}"
            note = f"The {TOWNS[n]} shop opens at 9:{n + 10}." if not missing else f"The {TOWNS[n]} shop has no door."
            rows.append(
                {
                    "id": f"{name}-{n}",
                    "question": f"When does the {TOWNS[n]} shop open? ({name})",
                    "language": "en",
                    "passages": [] if name == "facts" else [note],
                    "answer": value,
                    "distractors": ["4:44"],
                    "cite": [1] if name == "context" else [],
                    "kind": "store.opening",
                }
            )
        jsonl(sets / f"{name}.jsonl", rows)
    for name in ("pairs_correctness", "pairs_style"):
        jsonl(
            sets / f"{name}.jsonl",
            [
                {
                    "id": f"{name}-{n}",
                    "question": f"When does the {t} {name} kiosk open?",
                    "passages": [f"The {t} kiosk opens at 7:15."],
                    "language": "en",
                    "chosen": "It opens at 7:15. [1]",
                    "rejected": "It opens at 8:45.",
                    "defect": "wrong value",
                }
                for n, t in enumerate(TOWNS[:4])
            ],
        )
    asked = {"id": "d1", "question": "Where is the kiln?", "answer": "Aisle 9", "distractors": [], "language": "en"}
    jsonl(sets / "documents.jsonl", [{**asked, "source": "documents/handbook.md"}])
    (folder / "documents").mkdir()
    (folder / "documents" / "handbook.md").write_text("# Handbook\n\nThe kiln stands in aisle 9, beside the clay.\n")
    (folder / "documents" / "手册.txt").write_bytes(
        "本店八点开门，晚上九点关门，周日休息，欢迎光临。\n".encode("gb18030")
    )
    return folder
