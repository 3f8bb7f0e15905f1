"""A training in several processes, one a GPU (or a share of a CPU), by torchrun: data parallel, each with the whole model.

The launcher starts the whole stage once a process (SPMD). Each reads the same inputs and trains on its share of every
batch; then all but the first end, and the first goes on alone: it saves, measures and writes. So a stage's code is the same for
one process and for many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tasks import environment
from tasks.errors import ModelError, NightshiftError
from tasks.params import Training


def launch(stage: str, words: list[str], cfg: Training, threads: int) -> None:
    """Run the stage in `cfg.processes` processes of so many `threads` and wait for them.

    What has ended the first of them is raised here.
    """
    by = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(cfg.processes)]
    with tempfile.TemporaryDirectory(prefix="nightshift-training-") as folder:
        told = Path(folder, "error.json")
        ended = subprocess.run(
            [sys.executable, "-m", *by, "-m", "tasks", stage, *words],
            env={**os.environ, environment.TRAINING_ERROR: str(told), "OMP_NUM_THREADS": str(threads)},
            preexec_fn=environment.end_with_parent,
        )
        if told.is_file():
            raise NightshiftError(*json.loads(told.read_text(encoding="utf-8")))
    if ended.returncode:
        raise ModelError("torchrun", f"ended with exit code {ended.returncode}", "its lines are above")


def tell(error: NightshiftError) -> None:
    """Have `launch` raise this; the first process alone is heard."""
    if environment.rank() == 0:
        told = json.dumps([error.thing, error.what, error.remedy])
        Path(os.environ[environment.TRAINING_ERROR]).write_text(told, encoding="utf-8")


def expect(processes: int) -> None:
    """ModelError unless so many processes train together."""
    import torch.distributed as dist

    found = dist.get_world_size() if dist.is_initialized() else 1
    if found != processes:
        raise ModelError("training", f"{found} processes train together, not {processes}", "see the launcher's lines above")


def agreed(value: Any) -> Any:
    """The first process's value, in all of them."""
    if environment.rank() is None:
        return value
    import torch.distributed as dist

    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def wait_for_all() -> None:
    """Until every process has come here."""
    if environment.rank() is not None:
        import torch.distributed as dist

        dist.barrier()


def leave_the_first_alone() -> None:
    """End this process unless it is the first; call it when the training is over."""
    if environment.rank() is None:
        return
    import torch.distributed as dist

    wait_for_all()
    dist.destroy_process_group()
    if environment.rank():
        sys.stdout.flush()
        sys.stderr.flush()
        raise SystemExit(0)
