"""Does compute.reproducible hold on a processor of another make? Single operations and a tiny night, under emulated ones.

    apt-get install qemu-user                                             and in this project's environment:
    python -m benchmarks.processors operations                    any-x86 on Haswell (Intel) and EPYC (AMD)
    python -m benchmarks.processors operations --mode this-cpu    what happens without it
    python -m benchmarks.processors stages --cpu Broadwell
    python -m benchmarks.processors stages --native               no emulator: one line to compare with another machine's

Everything runs once natively and once under `qemu-x86_64 -cpu MODEL`, which names itself to the libraries as that
processor; every file that comes out is compared byte by byte. The emulator computes the approximations rcpps and rsqrtps
exactly, as no processor does, so code that leans on them is found too. It knows no AVX-512: that a library takes none of it
where it is told so shows in the digests of real processors. An emulated run costs 25 times the native one: operations take
minutes, stages a quarter of an hour. Run it from the repository's root; it works in a temporary folder and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import environment

ROOT = Path(__file__).resolve().parents[1]
QEMU = "qemu-x86_64"
SMALL = {"epochs": 1, "log_every": 2, "save_every": 2, "batch_size": 8}
CHANGES: dict[str, dict[str, Any]] = {  # of params.yaml
    "sft": SMALL,
    "reward": SMALL,
    "align": {"dpo": SMALL, "samples": 4, "max_new_tokens": 12, "stop": {"ended": None, "distinct": None}},
    "merge": {"prompts": 4},
    "evaluate": {"max_new_tokens": 12, "kl_prompts": 4, "reference_cases": 4},
    "quantize": {"calibration_chats": 16, "chats": 6, "max_new_tokens": 12},
}
STAGES = {  # stage → its options; names are folders of the temporary one
    "base": {"starter": ROOT / "starter/base", "templates": ROOT / "tasks/templates"},
    "sft": {"dataset": "dataset/instructions", "base": "base"},
    "reward": {"dataset": "dataset/preferences", "evaluation": "dataset/evaluation", "base": "base", "sft": "sft"},
    "align": {"dataset": "dataset/preferences", "base": "base", "sft": "sft", "reward": "reward"},
    "merge": {"base": "base", "sft": "sft", "align": "align", "prompts": "dataset/prompts"},
    "evaluate": {"dataset": "dataset/evaluation", "instructions": "dataset/instructions/eval.jsonl", "base": "base", "sft": "sft",
                 "merged": "merge", "reward": "reward", "champion": ROOT / "champion.json"},
    "quantize": {"merged": "merge", "calibration": "dataset/instructions", "evaluation": "dataset/evaluation"},
    "embed": {"documents": ROOT / "examples/documents/policies", "starter": ROOT / "starter/embedder"},
}  # fmt: skip


def operations() -> dict[str, str]:
    """Name → hash of the bytes of what a model's training, quantization and search are made of."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    draw = np.random.default_rng(0)
    done: dict[str, str] = {}

    def array(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape, dtype=np.float32)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.from_numpy(array(*shape))

    def keep(name: str, *values: Any) -> None:
        digest = hashlib.sha256()
        for value in values:
            digest.update(np.ascontiguousarray(value.detach().numpy() if isinstance(value, torch.Tensor) else value).tobytes())
        done[name] = digest.hexdigest()[:12]

    a, b = array(300, 257), array(257, 129)
    keep("numpy matmul", a @ b, a[0] @ b, a.astype(float) @ b.astype(float))
    keep("numpy functions", np.exp(a), np.log(np.abs(a) + 1), np.sqrt(np.abs(a)), np.sin(a), np.tanh(a), np.abs(a) ** 0.3)
    keep("numpy sums", a.sum(), a.sum(0), a.std(1), np.linalg.norm(a, axis=1))
    keep("numpy linalg", *np.linalg.svd(a[:40, :40]), np.linalg.solve(a[:40, :40], a[:40, 0]))
    torch.manual_seed(0)
    keep("torch random", torch.randn(1000), torch.rand(1000), torch.multinomial(torch.rand(20, 50), 3), torch.randperm(100))
    for n, k, m in ((3, 5, 7), (16, 64, 64), (128, 192, 192), (512, 192, 768), (333, 192, 4096), (1, 192, 768), (7, 2048, 31)):
        x, w = tensor(n, k).requires_grad_(), tensor(m, k).requires_grad_()
        y = x @ w.T
        y.backward(tensor(n, m))
        keep(f"matmul {n}×{k}×{m}", y)
        keep(f"matmul {n}×{k}×{m}, gradients", x.grad, w.grad)
    keep("bmm", torch.bmm(tensor(8, 40, 32), tensor(8, 32, 40)))
    x = tensor(64, 1000)
    for name in ("exp", "log", "tanh", "sigmoid", "erf", "sin", "cos", "sqrt", "rsqrt", "reciprocal"):
        keep(name, getattr(torch, name)(x.abs()))
    keep("softmax", x.softmax(-1), x.log_softmax(-1), x.logsumexp(-1))
    keep("activations", F.silu(x), F.gelu(x), F.logsigmoid(x))
    keep("norms", F.layer_norm(x, (1000,)), F.rms_norm(x, (1000,)), F.normalize(x))
    keep("sums", x.sum(), x.sum(0), x.sum(1), x.var(), x.norm(), x.cumsum(1))
    q, k, v = (tensor(4, 6, 50, 32).requires_grad_() for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    y.sum().backward()
    keep("attention", y)
    keep("attention, gradients", q.grad, k.grad, v.grad)
    logits = tensor(100, 512).requires_grad_()
    F.cross_entropy(logits, torch.arange(100)).backward()
    keep("cross entropy, gradients", logits.grad)
    for fused in (False, True):
        weight = torch.nn.Parameter(tensor(100, 100))
        optimizer = torch.optim.AdamW([weight], lr=1e-3, fused=fused)
        for _ in range(5):
            weight.grad = tensor(100, 100)
            optimizer.step()
        keep("AdamW, fused" if fused else "AdamW", weight)
    square = tensor(192, 192)
    square = square @ square.T + 192 * torch.eye(192)
    lower = torch.linalg.cholesky(square)
    keep("cholesky", lower)
    keep("inverse", torch.cholesky_inverse(lower), torch.linalg.inv(square))
    keep("matmul bf16", (tensor(64, 192).bfloat16() @ tensor(192, 192).bfloat16()).float())
    return done


def tiny_night(mode: str) -> Iterator[dict[str, str]]:
    """File → hash of what each stage writes, in the present folder; the starter's base, a few rows and steps."""
    import yaml

    from tasks.__main__ import run
    from tasks.files import sha256_file
    from tests.evaluation_fixtures import write_cases
    from tests.training_fixtures import write_dataset

    write_dataset(Path("dataset"), instructions=32, pairs=24, held_out=6)
    write_cases(Path("dataset/evaluation"), each=6)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in {**CHANGES, "compute": {"device": "cpu", "reproducible": mode}}.items():
        for name, value in values.items():
            params[section][name] = {**params[section][name], **value} if isinstance(value, dict) else value
    Path("params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")
    for stage, options in STAGES.items():
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        clock = time.process_time()
        run(stage, [*words, "--out", stage, "--metrics", f"metrics/{stage}.json"])
        print(f"{stage}: {time.process_time() - clock:.0f} CPU-s", file=sys.stderr, flush=True)
        files = sorted(path for path in Path(stage).rglob("*") if path.is_file())
        yield {str(file): sha256_file(file)[:12] for file in [*files, Path(f"metrics/{stage}.json")]}


def child(mode: str, what: str, out: Path) -> None:
    """Both, in this process and the present folder, pinned as a stage is."""
    from tasks import params

    environment.apply()
    compute = params.load(ROOT / "params.yaml").compute.model_copy(update={"device": "cpu", "reproducible": mode})
    environment.pin(compute)
    import torch

    torch.set_num_threads(compute.threads)
    found: dict[str, str] = {}
    for more in [operations()] if what == "operations" else tiny_night(mode):
        found |= more
        told = {"capability": torch.backends.cpu.get_cpu_capability(), "hashes": found, "cpu_seconds": time.process_time()}
        out.write_text(json.dumps(told))


def measure(cpu: str | None, mode: str, what: str, folder: Path) -> dict[str, Any]:
    """Run `child` in a process of its own, natively or on an emulated processor."""
    folder.mkdir()
    emulator = [QEMU, "-cpu", cpu] if cpu else []
    itself = [sys.executable, "-m", "benchmarks.processors", what, "--mode", mode, "--child", str(folder / "out.json")]
    with open(folder / "log", "w") as log:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*emulator, *itself], cwd=folder, env=env, stdout=log, stderr=log)
    if done.returncode:
        lines = [line for line in (folder / "log").read_text(errors="replace").splitlines() if "TCG doesn't" not in line]
        sys.exit("\n".join([f"{cpu or 'native'}: ended with {done.returncode}", *lines[-15:]]))
    return json.loads((folder / "out.json").read_text())


def main() -> None:
    """Print a Markdown table; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("operations", "stages"))
    parser.add_argument("--cpu", action="append", metavar="MODEL", help="of `qemu-x86_64 -cpu help`; default: Haswell, EPYC")
    parser.add_argument("--mode", choices=("any-x86", "this-cpu"), default="any-x86")
    parser.add_argument("--native", action="store_true", help="here alone: print a digest of all bytes")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.mode, given.what, given.child)
    if not given.native and not shutil.which(QEMU):
        sys.exit(f"skipped: {QEMU} is not installed (apt-get install qemu-user)")
    with tempfile.TemporaryDirectory(prefix="processors-") as folder:
        here = measure(None, given.mode, given.what, Path(folder, "native"))
        emulated = [] if given.native else given.cpu or ["Haswell", "EPYC"]
        there = {cpu: measure(cpu, given.mode, given.what, Path(folder, cpu)) for cpu in emulated}
    digest = hashlib.sha256(json.dumps(here["hashes"], sort_keys=True).encode()).hexdigest()[:16]
    print(f"{given.mode}, native: {environment.processor()}, {here['capability']}, {here['cpu_seconds']:.0f} CPU-s")
    print(f"digest of all bytes: {digest}\n")
    print("| | " + " | ".join(there) + " |\n| --- |" + " --- |" * len(there))
    for name, value in here["hashes"].items():
        cells = ["=" if one["hashes"].get(name) == value else "differs" for one in there.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("| CPU-seconds | " + " | ".join(f"{one['cpu_seconds']:.0f}" for one in there.values()) + " |")
    if any(one["hashes"] != here["hashes"] for one in there.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
