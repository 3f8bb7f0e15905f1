"""Weaviate without a container: build the server once with the Go toolchain, run it on loopback.

    python -m deploy.weaviate build             # make weaviate: four minutes on two cores, 230 MB stay in build/weaviate
    python -m deploy.weaviate serve             # make weaviate-server: in the foreground; key from WEAVIATE_API_KEY

The server splits Chinese with dictionaries that it reads from the folder in which it was compiled, so what it needs of
the Go modules is kept there, and a checkout that was moved builds again. In production take Weaviate's own packages.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import end_with_parent, free_ports, refuse_taken
from tasks.errors import NightshiftError, ServiceError
from tasks.files import read_json, write_json

VERSION = "1.39.0"
MODULE = "github.com/weaviate/weaviate/cmd/weaviate-server"
ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "weaviate"
BINARY = HOME / "bin" / "weaviate-server"
MARKER = HOME / "COMPLETE.json"
DICTIONARIES = "github.com/go-ego/gse@*/data/dict"
READY_SECONDS = 120
USER = "nightshift"


def built() -> bool:
    """Whether this version was built here, in this very folder."""
    return MARKER.is_file() and BINARY.is_file() and read_json(MARKER) == {"version": VERSION, "home": str(HOME)}


def why_not() -> str | None:
    """Why the server cannot be built here; None where it can, or is already."""
    if built():
        return None
    go = shutil.which("go")
    if go is None:
        return "the Go toolchain is missing (go)"
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True).stdout.strip()
    numbers = said.removeprefix("go").split(".")[:2]
    if not all(part.isdigit() for part in numbers) or tuple(map(int, numbers)) < (1, 26):
        return f"Weaviate {VERSION} needs Go 1.26, here is {said or 'none'}"
    return None


def build() -> Path:
    """Build the server unless it is there; returns the binary. A killed build is simply begun again."""
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "build.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs side by side build it once
        if built():
            return BINARY
        if reason := why_not():
            raise ServiceError(
                "weaviate", f"cannot be built: {reason}", "install Go 1.26, or name a running server in params.yaml"
            )
        print(f"weaviate {VERSION}: building with Go (about four minutes, 4 GB of disk on the way)", flush=True)
        env = {
            **os.environ,
            "GOMODCACHE": str(HOME / "mod"),
            "GOCACHE": str(HOME / "cache"),
            "GOBIN": str(BINARY.parent),
            "GOFLAGS": "-modcacherw",  # else nobody can remove the folder
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }
        done = subprocess.run(["go", "install", f"{MODULE}@v{VERSION}"], env=env, capture_output=True, text=True)
        if done.returncode or not BINARY.is_file():
            raise ServiceError(
                "weaviate", f"go install failed: {done.stderr.strip()[-800:]}", "mend it and run make weaviate again"
            )
        _keep_dictionaries(HOME / "mod")
        shutil.rmtree(HOME / "cache", ignore_errors=True)
        write_json(MARKER, {"version": VERSION, "home": str(HOME)})
    return BINARY


def _keep_dictionaries(modules: Path) -> None:
    """Of 2 GB of Go modules keep the dictionaries, at the paths that were compiled in."""
    kept = modules.with_name("kept")
    shutil.rmtree(kept, ignore_errors=True)
    for folder in sorted(modules.glob(DICTIONARIES)):
        shutil.copytree(folder, kept / folder.relative_to(modules))
    if not kept.is_dir():
        raise ServiceError("weaviate", f"its module has no {DICTIONARIES}", "take the version that deploy/weaviate.py names")
    shutil.rmtree(modules)
    kept.rename(modules)


@dataclass(frozen=True)
class Address:
    """Where a server listens, always on loopback. One node alone needs the inner ports too."""

    port: int  # REST
    grpc_port: int
    raft: int  # and the next: on one machine the server takes raft + 1 for its RPC, whatever it is told
    gossip: int  # and the next, for data between nodes


def address(port: int | None = None, grpc_port: int | None = None) -> Address:
    """The given ports and free ones for the rest."""
    first = free_ports(6)
    return Address(port or first, grpc_port or first + 1, first + 2, first + 4)


def environment(data: Path, at: Address, key: str) -> dict[str, str]:
    """The server's settings: everything on loopback that can be, a key, no telemetry, no schema by guessing."""
    return {
        "PERSISTENCE_DATA_PATH": str(data),
        "CLUSTER_HOSTNAME": "node1",
        "CLUSTER_BIND_ADDR": "127.0.0.1",
        "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
        "CLUSTER_IN_LOCALHOST": "true",
        "CLUSTER_GOSSIP_BIND_PORT": str(at.gossip),
        "CLUSTER_DATA_BIND_PORT": str(at.gossip + 1),
        "RAFT_BOOTSTRAP_EXPECT": "1",
        "RAFT_PORT": str(at.raft),
        "RAFT_INTERNAL_RPC_PORT": str(at.raft + 1),
        "GRPC_PORT": str(at.grpc_port),
        "AUTOSCHEMA_ENABLED": "false",
        "DEFAULT_VECTORIZER_MODULE": "none",
        "ENABLE_TOKENIZER_GSE_CH": "true",
        "DISABLE_TELEMETRY": "true",
        "GO_PROFILING_DISABLE": "true",
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": key,
        "AUTHENTICATION_APIKEY_USERS": USER,
        "AUTHORIZATION_ADMINLIST_ENABLED": "true",
        "AUTHORIZATION_ADMINLIST_USERS": USER,
        "LOG_LEVEL": "warning",
    }


def command(at: Address) -> list[str]:
    """The server's command line."""
    return [str(BINARY), "--host", "127.0.0.1", "--port", str(at.port), "--scheme", "http"]


class Server:
    """A server of one's own for as long as a `with` lasts: tests and benchmarks. It is ended by its pid."""

    def __init__(self, data: Path, key: str, at: Address | None = None):
        """`data` is its folder, kept afterwards."""
        self.data, self.key, self.at = data, key, at or address()
        self._process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        """Start it and wait until it answers; ServiceError with its last words when it does not."""
        self.data.mkdir(parents=True, exist_ok=True)
        with open(self.data.with_name(f"{self.data.name}.log"), "ab") as log:
            self._process = subprocess.Popen(
                command(self.at),
                env={**_plain(os.environ), **environment(self.data, self.at, self.key)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=end_with_parent,
                cwd=self.data,
            )
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            if ready(self.at.port):
                return self
            time.sleep(0.2)
        self.stop()
        words = self.data.with_name(f"{self.data.name}.log").read_text(errors="replace")[-600:]
        raise ServiceError("weaviate", f"did not start: {words}", "free its ports, or see its log")

    def stop(self) -> None:
        """End it as an administrator would, by force after a while."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _plain(env: Mapping[str, str]) -> dict[str, str]:
    """Without settings of another Weaviate that this process may have inherited."""
    prefixes = ("AUTHENTICATION_", "AUTHORIZATION_", "CLUSTER_", "RAFT_", "PERSISTENCE_")
    return {name: value for name, value in env.items() if not name.startswith(prefixes)}


def ready(port: int) -> bool:
    """Whether a server there says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/.well-known/ready", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def serve(port: int, grpc_port: int, data: Path) -> None:
    """Become the server. It ends with Ctrl-C."""
    key = os.environ.get("WEAVIATE_API_KEY", "")
    if len(key) < 16:
        raise ServiceError(
            "WEAVIATE_API_KEY", "is missing or shorter than 16 characters", "export WEAVIATE_API_KEY=$(openssl rand -hex 24)"
        )
    for one in (port, grpc_port):
        refuse_taken("weaviate", one, "--port and --grpc-port")
    binary = build()
    data.mkdir(parents=True, exist_ok=True)
    at = address(port, grpc_port)
    print(f"weaviate {VERSION} on http://127.0.0.1:{port} (gRPC {grpc_port}), data in {data}; Ctrl-C ends it", flush=True)
    os.execve(binary, command(at), {**_plain(os.environ), **environment(data.resolve(), at, key)})


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m deploy.weaviate", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("build", help="build the server unless it is there")
    one = commands.add_parser("serve", help="run it in the foreground, on loopback")
    one.add_argument("--port", type=int, default=8180, help="REST (default: %(default)s)")
    one.add_argument("--grpc-port", type=int, default=50051, help="gRPC (default: %(default)s)")
    one.add_argument("--data", type=Path, default=ROOT / "stores" / "weaviate", help="its folder (default: stores/weaviate)")
    given = parser.parse_args(words)
    try:
        print(build()) if given.command == "build" else serve(given.port, given.grpc_port, given.data)
    except NightshiftError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
