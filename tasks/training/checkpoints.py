"""Checkpoints that a killed training resumes from, bit for bit.

They live in `.nightshift/work/<stage>-<fingerprint>/`, outside everything that is hashed. The fingerprint covers the
settings, the input files, this package's code and the libraries, so a changed run never resumes from another's state.
The trainer's own auto-resume takes the highest number and fails on a folder that was half written when the power went;
here a checkpoint counts only with its marker, which is written last, after everything else has reached the disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from tasks import environment
from tasks.files import canonical_json, sha256_file, sha256_tree, write_atomic
from tasks.progress import log
from tasks.training import launch

if TYPE_CHECKING:
    from transformers import TrainerCallback

WORK = Path(".nightshift") / "work"
MARKER = "complete"
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers")
KEPT = 2  # checkpoints: the newest, and the one before it while that is written
Look = Callable[[Any, int, Path], bool]
STALE = 7 * 24 * 3600  # seconds after which work that nobody resumed is thrown away


def fingerprint(stage: str, settings: Mapping[str, BaseModel], inputs: Mapping[str, Path]) -> str:
    """16 hex digits that change with anything that could change the training: settings, inputs, code, libraries."""
    here = Path(__file__).parent
    code = {p.name: sha256_file(p) for p in sorted([*here.glob("*.py"), here.parent / f"{stage}.py"]) if p.is_file()}
    named = {
        "stage": stage,
        "settings": {name: section.model_dump(mode="json") for name, section in settings.items()},
        "inputs": {name: sha256_tree(path) for name, path in inputs.items()},
        "code": code,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(canonical_json(named).encode()).hexdigest()[:16]


def open_work(stage: str, settings: Mapping[str, BaseModel], inputs: Mapping[str, Path]) -> Path:
    """The work folder of exactly this run, new or with what a killed run left in it."""
    folder = WORK / f"{stage}-{fingerprint(stage, settings, inputs)}"
    for other in WORK.glob(f"{stage}-*"):
        if other != folder and time.time() - other.stat().st_mtime > STALE:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def close_work(folder: Path) -> None:
    """Throw the work folder away, once the stage has its result."""
    shutil.rmtree(folder, ignore_errors=True)


def mark_complete(checkpoint: Path) -> None:
    """Flush every file of a checkpoint to disk, then write its marker."""
    for file in sorted(p for p in checkpoint.rglob("*") if p.is_file()):
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    write_atomic(checkpoint / MARKER, "")


def newest_complete(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step, or None. Incomplete ones are removed: the trainer trips on them."""
    complete: list[tuple[int, Path]] = []
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        step = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
        if step and (checkpoint / MARKER).is_file():
            complete.append((int(step[1]), checkpoint))
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(complete)[1] if complete else None


def forget_old(folder: Path) -> None:
    """Remove all checkpoints but the newest ones."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for checkpoint in found[:-KEPT]:
        shutil.rmtree(checkpoint, ignore_errors=True)


def marker_callback(look: Look | None = None) -> TrainerCallback:
    """A callback for the trainer that marks each checkpoint once it is whole.

    `look` is asked before, by the first process alone, whether the training may go on: (model, step, checkpoint) → bool.
    """
    from transformers import TrainerCallback

    class Marker(TrainerCallback):
        """Marks on save; the trainer has written everything by then."""

        def on_save(self, args, state, control, model=None, **_):
            """`checkpoint-<step>` is complete when every process has written its part."""
            launch.wait_for_all()
            goes_on = True
            if not environment.rank():
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                goes_on = look is None or look(model, state.global_step, checkpoint)
                mark_complete(checkpoint)
            control.should_training_stop |= not launch.agreed(goes_on)

    return Marker()


def say_resume(checkpoint: Path | None) -> None:
    """One line where a killed run is taken up."""
    if checkpoint is not None:
        log(f"resuming from {checkpoint.name}")
