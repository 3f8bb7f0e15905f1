"""Adapters of releases: what is kept of each, and any of them compared on one base, unmerged and switched.

    nightshift adapters                         a line a release: base, method, size, whether DVC's cache has it
    nightshift adapters --compare A B --cases 100   both answer the held-out cases, on one base that is loaded once
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks import records, stored
from tasks.errors import DataError
from tasks.files import sha256_tree

Record = dict[str, Any]
REMEDY = "dvc fetch in a checkout of its commit"
STACK = ("sft", "align")  # stages whose outputs an assistant is, in the order in which they are stacked


def listing(root: Path) -> list[str]:
    """One line a release, the last first."""
    rows = [("release", "base", "alignment", "rank", "MB", "in the cache")]
    named = [record for record in records.records(root) if set(STACK) <= record["manifest"].get("made_from", {}).keys()]
    if not named:  # none at all, or all made before releases named their adapters
        return ["no release yet"]
    hashes = [[record["dvc"]["outs"].get(record["manifest"]["made_from"][stage]["path"]) for stage in STACK] for record in named]
    gone = records.not_in_cache(root, {md5: md5 for stack in hashes for md5 in stack})
    for record, stack in zip(named, hashes, strict=True):
        made, told = record["manifest"]["made_from"], record["manifest"].get("params", {})
        there = all(md5 and md5 not in gone for md5 in stack)
        ranks = "+".join(str(lora["r"]) if (lora := told.get(stage, {}).get("lora")) else "whole" for stage in STACK)
        method, size = record["metrics"].get("align", {}).get("method", "?"), sum(made[stage]["bytes"] for stage in STACK)
        rows.append((record["release"], made["base"]["sha256"][:8], str(method), ranks, f"{size / 1e6:.1f}",
                     "yes" if there else "no: dvc fetch"))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def compare(root: Path, names: Sequence[str], cases: int) -> Iterator[str]:
    """Behaviours of several releases' adapters, each switched on in its turn on one base. DataError where bases differ."""
    from tasks import behaviours, params
    from tasks.evaluate import FIGURES, answer, figures, of_each_set, read_cases
    from tasks.training.hardware import set_up
    from tasks.training.models import is_whole, load_base
    from tasks.training.shelf import Shelf

    cfg = params.load(root / "params.yaml")
    chosen = [records.record(root, name) for name in names]
    bases = {record["manifest"]["made_from"]["base"]["sha256"]: record["release"] for record in chosen}
    if len(bases) > 1:
        raise DataError(" and ".join(bases.values()), "stand on different bases", "compare releases of one base")
    set_up(cfg.compute, cfg.seed.value)
    limits = behaviours.Limits(cfg.evaluate.concise_words, cfg.evaluate.concise_characters)
    with tempfile.TemporaryDirectory(prefix="nightshift-adapters-") as temporary, stored.opened(root) as store:
        folder, first = Path(temporary), chosen[0]
        shelf = Shelf(*load_base(restored(store, first, "base", folder / "base"), cfg.compute))
        every = read_cases(restored(store, first, "dataset", folder / "dataset") / "evaluation")
        asked = of_each_set(every, cases)
        shown = [case for case in every if case["id"] in asked]
        yield f"{len(shown)} held-out cases of {first['release']}, greedy, adapters not merged, %"
        yield f"{'release':<28}" + "".join(f"  {figure}" for figure in FIGURES)
        for number, record in enumerate(chosen):
            stack = [restored(store, record, stage, folder / str(number) / stage) for stage in STACK]
            if any(map(is_whole, stack)):
                raise DataError(record["release"], "was trained whole (sft.lora: null): it is no adapter", "leave it out")
            shelf.put(record["release"], stack)
            rows = answer(cfg.evaluate, record["release"], shelf.turn(record["release"]), shelf.tokenizer, shown, limits)
            shares = {figure: f"{100 * by['all'].share:.1f}" if by else "–" for figure, by in figures(rows).items()}
            yield f"{record['release']:<28}" + "".join(f"  {share:>{len(figure)}}" for figure, share in shares.items())


def restored(store: Any, record: Record, name: str, target: Path) -> Path:
    """What a release was made from, out of DVC's object store into `target`. DataError where it is not there."""
    part = record["manifest"].get("made_from", {}).get(name)
    if not part or not stored.lay_out(store, record["dvc"]["outs"].get(part["path"]), target):
        raise DataError(f"{record['release']}: {name}", "is not in DVC's cache", REMEDY)
    if sha256_tree(target) != part["sha256"]:
        raise DataError(f"{record['release']}: {name}", "is not what was released: DVC's cache is damaged", REMEDY)
    return target
