"""Adapters of releases: what is kept of each, and any of them compared on one base, unmerged and switched.

    nightshift adapters                         a line a release: base, method, size, whether DVC's cache has it
    nightshift adapters --compare A B --cases 100   both answer the held-out cases, on one base that is loaded once
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks import records
from tasks.errors import DataError
from tasks.files import sha256_tree
from tasks.lineage import cache

Record = dict[str, Any]
REMEDY = "dvc fetch in a checkout of its commit"
STACK = ("sft", "align")  # stages whose outputs an assistant is, in the order in which they are stacked


def listing(root: Path) -> list[str]:
    """One line a release, the last first."""
    rows = [("release", "base", "alignment", "rank", "MB", "in the cache")]
    for record in records.records(root):
        made, told = record["manifest"].get("made_from", {}), record["manifest"].get("params", {})
        if not set(STACK) <= made.keys():
            continue  # made before releases named their adapters
        outs = [record["dvc"]["outs"].get(made[stage]["path"]) for stage in STACK]
        there = all(md5 and cache.listing(root, md5) is not None for md5 in outs)
        ranks = "+".join(str(lora["r"]) if (lora := told.get(stage, {}).get("lora")) else "whole" for stage in STACK)
        method, size = record["metrics"].get("align", {}).get("method", "?"), sum(made[stage]["bytes"] for stage in STACK)
        rows.append((record["release"], made["base"]["sha256"][:8], str(method), ranks, f"{size / 1e6:.1f}",
                     "yes" if there else "no: dvc fetch"))
    if len(rows) == 1:
        return ["no release yet"]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def compare(root: Path, names: Sequence[str], cases: int) -> Iterator[str]:
    """Behaviours of several releases' adapters, each switched on in its turn on one base. DataError where bases differ."""
    from tasks import behaviours, params
    from tasks.evaluate import GROUNDED, of_each_set, read_cases
    from tasks.training.generate import generate
    from tasks.training.models import is_whole, load_base, set_up
    from tasks.training.shelf import Shelf

    cfg = params.load(root / "params.yaml")
    chosen = [records.record(root, name) for name in names]
    bases = {record["manifest"]["made_from"]["base"]["sha256"]: record["release"] for record in chosen}
    if len(bases) > 1:
        raise DataError(" and ".join(bases.values()), "stand on different bases", "compare releases of one base")
    set_up(cfg.compute, cfg.seed.value)
    limits = behaviours.Limits(cfg.evaluate.concise_words, cfg.evaluate.concise_characters)
    with tempfile.TemporaryDirectory(prefix="nightshift-adapters-") as name:
        folder, first = Path(name), chosen[0]
        shelf = Shelf(*load_base(restored(root, first, "base", folder / "base"), cfg.compute))
        every = read_cases(restored(root, first, "dataset", folder / "dataset") / "evaluation")
        asked = of_each_set(every, cases)
        shown = [case for case in every if case["id"] in asked]
        yield f"{len(shown)} held-out cases of {first['release']}, greedy, adapters not merged, %"
        yield f"{'release':<28}{'right':>8}{'preferred':>11}{'abstains':>10}{'over':>7}"
        for number, record in enumerate(chosen):
            stack = [restored(root, record, stage, folder / str(number) / stage) for stage in STACK]
            if any(map(is_whole, stack)):
                raise DataError(record["release"], "was trained whole (sft.lora: null): it is no adapter", "leave it out")
            shelf.put(record["release"], stack)
            said = generate(shelf.turn(record["release"]), shelf.tokenizer, [case["messages"] for case in shown],
                            max_new_tokens=cfg.evaluate.max_new_tokens, batch_size=cfg.evaluate.batch_size)  # fmt: skip
            rows = [behaviours.judge(one.text, case, limits) | {"set": case["set"]}
                    for case, (one,) in zip(shown, said, strict=True)]  # fmt: skip
            figures = ([row["right"] for row in rows if row["right"] is not None],
                       [row["preferred"] for row in rows if row["set"] in GROUNDED],
                       [row["abstains"] for row in rows if row["set"] == "unanswerable"],
                       [row["abstains"] for row in rows if row["set"] != "unanswerable"])
            shares = [f"{100 * sum(flags) / len(flags):.1f}" if flags else "–" for flags in figures]
            yield f"{record['release']:<28}{shares[0]:>8}{shares[1]:>11}{shares[2]:>10}{shares[3]:>7}"


def restored(root: Path, record: Record, name: str, target: Path) -> Path:
    """What a release was made from, out of DVC's cache into `target`. DataError where the cache does not have it."""
    part = record["manifest"].get("made_from", {}).get(name)
    md5 = record["dvc"]["outs"].get(part["path"]) if part else None
    files = cache.listing(root, md5) if md5 else None
    if files is None:
        raise DataError(f"{record['release']}: {name}", "is not in DVC's cache", REMEDY)
    for path, inner in files.items():
        source, place = cache.at(root, inner), target / path
        if source is None or ".." in place.parts:
            raise DataError(f"{record['release']}: {name}/{path}", "is not in DVC's cache", REMEDY)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    if sha256_tree(target) != part["sha256"]:
        raise DataError(f"{record['release']}: {name}", "is not what was released: DVC's cache is damaged", REMEDY)
    return target
