"""Write the starter's raw data: `python -m starter.examples --out examples [--seed N]`. Equal seeds, equal bytes."""

import argparse
import json
import random
from collections.abc import Iterable
from pathlib import Path

from starter.examples import evaluation, handbook, instructions, preferences, render
from tasks import environment
from tasks.files import write_atomic


def write(path: Path, rows: Iterable[dict]) -> None:
    """JSON Lines, or a JSON array with one row a line for *.json; keys in the order they were given."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "[\n" + ",\n".join(lines) + "\n]\n" if path.suffix == ".json" else "".join(line + "\n" for line in lines)
    write_atomic(path, text)


def build(out: Path, seed: int) -> dict[str, int]:
    """Write everything below `out`; returns file → rows (or bytes, for documents)."""

    def generator(part: str) -> random.Random:
        return random.Random(f"{seed} {part}")  # parts do not disturb one another's draws

    counts: dict[str, int] = {}
    docs = handbook.documents(generator("documents"))
    for doc in docs:
        data = render.render(doc)
        write_atomic(out / "documents" / doc.path, data)
        counts[f"documents/{doc.path}"] = len(data)
    sets, cases = evaluation.build(generator("evaluation"))
    sets["documents.jsonl"] = handbook.questions(docs, generator("questions"))
    rankings, prompts = preferences.files(generator("preferences"))
    log = instructions.files(generator("instructions"), cases)
    folders = {"evaluation": sets, "preferences": rankings, "prompts": {"2026-46.jsonl": prompts}, "instructions": log}
    for folder, files in folders.items():
        for name, rows in files.items():
            write(out / folder / name, rows)
            counts[f"{folder}/{name}"] = len(rows)
    return counts


def main() -> None:
    """Command line."""
    environment.apply()
    parser = argparse.ArgumentParser(prog="python -m starter.examples", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; files of the same names are replaced")
    parser.add_argument("--seed", type=int, default=46, help="seed of everything that is drawn")
    options = parser.parse_args()
    for name, count in build(options.out, options.seed).items():
        print(f"{count:8d}  {name}")


if __name__ == "__main__":
    main()
