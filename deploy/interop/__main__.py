"""make interop: is the quantized folder read by others as we read it?

    python -m deploy.interop                    # artifacts/int4; exit code 1 when a check fails
    python -m deploy.interop --model DIR        # any GPTQ folder

Prints a table and writes it to build/interop/result.json. The environment beside ours is installed once.
"""

from __future__ import annotations

from tasks import environment

environment.apply()

import argparse  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from deploy.checklist import as_json, table  # noqa: E402
from deploy.environments import ROOT  # noqa: E402
from deploy.interop.checks import HOME, run  # noqa: E402
from tasks.errors import NightshiftError  # noqa: E402
from tasks.files import sha256_tree, write_json  # noqa: E402
from tasks.params import load  # noqa: E402


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0, or 1 when a check failed or could not be made."""
    parser = argparse.ArgumentParser(prog="python -m deploy.interop", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("artifacts/int4"), help="a GPTQ folder (default: %(default)s)")
    given = parser.parse_args(words)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        rows, versions = run(given.model, load(ROOT / "params.yaml"))
    except NightshiftError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(HOME / "result.json", {
        "model": str(given.model), "sha256": sha256_tree(given.model), "versions": versions, "rows": as_json(rows)})
    print(table(rows))
    print(f"{sum(row.passed for row in rows)} of {len(rows)} as they should be; {HOME / 'result.json'}")
    if (HOME / "for-auto-gptq").is_dir():
        print(f"auto-gptq needs a head that is tied to the embedding written out: {HOME / 'for-auto-gptq'} has it")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
