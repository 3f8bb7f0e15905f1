"""`make up` for tests: a checkout of the small graph with everything up, and the Prefect server in it."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from deploy.processes import free_ports
from tasks import home
from tests import killing, minigraph
from tests.waiting import until

ROOT = Path(__file__).parent.parent
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Up:
    """A checkout with everything up, and its Prefect server."""

    def __init__(self, checkout: Path, port: int):
        """`port`: of the server."""
        self.checkout, self.port = checkout, port
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{port}/api", trust_env=False, timeout=30)

    def make(self, *words: str, check: bool = True) -> str:
        """What `make up`, `down` and `status` run, there; `check`: that it does not fail."""
        return minigraph.run(self.checkout, sys.executable, "-m", "deploy.up", *words, check=check, PYTHONPATH=str(self.checkout),
                             PREFECT_HOME=str(self.checkout.parent / "prefect"))  # fmt: skip

    def start(self, name: str, **options: object) -> httpx.Response:
        """Ask for a run of the flow and deployment `name`, as the UI's form does."""
        for pause in (1, 3, 10):
            found = self.api.get(f"/deployments/name/{name}/{name}").json()
            answer = self.api.post(f"/deployments/{found['id']}/create_flow_run",
                                   json={"parameters": {"options": options}, "enforce_parameter_schema": True})  # fmt: skip
            if not answer.is_server_error:  # SQLite is locked now and then on a busy machine
                break
            time.sleep(pause)
        return answer

    def wait(self, run: str, *types: str) -> dict:
        """The state of a run once it is of one of these types, or has ended."""
        def state() -> dict:
            return self.api.get(f"/flow_runs/{run}").json()["state"]

        return until(lambda: found if (found := state())["type"] in {*types, *ENDED} else None, state)

    def night(self, **options: object) -> dict:
        """A night from its request to its end; its last state."""
        return self.wait(self.start("nightly", **options).json()["id"])

    def told(self, run: str, awaited: str = "") -> str:
        """Its last lines, once they match `awaited`: they come behind the state."""
        asked = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_DESC"}
        for _ in range(100):
            text = "\n".join(line["message"] for line in self.api.post("/logs/filter", json=asked).json())
            if re.search(awaited, text):
                break
            time.sleep(0.2)
        return text

    def processes(self) -> dict[int, str]:
        """Every process that says in its environment that it belongs here, with its command."""
        return killing.marked(f"NIGHTSHIFT_HOME={self.checkout / home.FOLDER}")

    def one(self, part: str) -> int:
        """The process, not its guard, whose command has this."""
        return max(number for number, command in self.processes().items() if part in command and "guard.py" not in command)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Up]:
    """A checkout that has the flows' code with it, up, with no Label Studio; by the clock nothing starts."""
    checkout = minigraph.make(folder)
    for name in ("flows", "tasks", "deploy"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    plan = checkout / "deploy/prefect.yaml"  # a test's own runs alone
    plan.write_text(re.sub(r"(?m)^( +)(- cron: .+)$", r"\1\2\n\1  active: false", plan.read_text()))
    commit(checkout, ".")
    made = Up(checkout, free_ports(1))
    try:
        said = made.make("up", "--port", str(made.port), "--without", "label-studio")
        assert f"nights live in {checkout / home.FOLDER} (git branch nights)" in said and f"http://127.0.0.1:{made.port}" in said
        yield made
    finally:
        made.make("down")


def commit(root: Path, *paths: str) -> None:
    """A person's commit."""
    minigraph.run(root, "git", "add", *paths)
    minigraph.run(root, "git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a person's")


def block(api: httpx.Client, named: str, **data: Any) -> None:
    """A block on a Prefect server, by type/name, as a person makes it there."""
    kind, _, name = named.partition("/")
    type_id = api.get(f"/block_types/slug/{kind}").json()["id"]
    schemas = {"block_schemas": {"block_type_id": {"any_": [type_id]}}}
    schema = api.post("/block_schemas/filter", json=schemas).json()[0]["id"]
    made = {"name": name, "block_type_id": type_id, "block_schema_id": schema, "data": data}
    assert api.post("/block_documents/", json=made).status_code == 201
