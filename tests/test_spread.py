"""tasks/spread: who does the batches changes when they are done, and no byte."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
import training_fixtures as tiny
import yaml
from pydantic import ValidationError

from tasks import spread
from tasks.candidates import candidates, sampler
from tasks.embed import embed
from tasks.errors import ModelError, ParamsError, ServiceError
from tasks.files import sha256_tree, write_jsonl
from tasks.params import Scale, load
from tasks.spread import cluster, keeper
from tasks.spread.starting import OURS, temporary
from tasks.spread.worker import MODEL
from tasks.training.generate import Sampling
from tests.rag_fixtures import ROOT, STARTER, write_transformer
from tests.test_rag_embedder import CFG, WORDS
from tests.test_rag_embedder import CPU as TWO
from tests.test_rag_vectors import write_documents
from tests.waiting import until

CPU = TWO.model_copy(update={"threads": 1})
RAY = Scale(engine="ray", address=None, workers=2, start_seconds=120)


def real_ray(test):
    """Mark a test that starts Ray on this machine: 10 to 20 seconds each."""
    there = importlib.util.find_spec("ray") is not None
    return pytest.mark.service(pytest.mark.skipif(not there, reason="needs the package ray (make setup)")(test))


def doubler(by: int):
    """A job without a model; says when it is loaded."""

    def load(folder, compute, more):
        loaded.append((folder, compute.threads))
        return lambda batch: [by * number + more for number in batch]

    loaded: list = []
    return load, loaded


def test_in_this_process_batches_are_done_one_after_the_other():
    """2·n + 1 of each batch in its place; the model is loaded once, when there is work, or not at all where it is there."""
    load, loaded = doubler(2)
    job = spread.Job(load, (Path("model"),), (1,))
    with spread.over(spread.HERE, CPU, job) as work:
        assert list(work([])) == [] and loaded == []
        assert list(work([[1, 2], [3]])) == [[3, 5], [7]]
    assert loaded == [(Path("model"), 1)]
    with spread.over(spread.HERE, CPU, job, here=lambda: sum) as work:
        assert list(work([[1, 2], [3]])) == [3, 3] and len(loaded) == 1


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    """Nothing begins, and no traceback of an import."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with (pytest.raises(ParamsError, match=r"scale\.engine: is ray, and the package ray is not installed; install it"),
          spread.over(RAY, CPU, spread.Job(doubler(2)[0], ())) as work):
        work([[1]])


@pytest.mark.parametrize("address", ["head:6379", "10.0.0.1:6379", "ray://ray-head.svc:10001", "[fd00::1]:6379"])
def test_addresses_of_clusters(address):
    """Host and port, of one of its machines or of its door for others; anything else is refused at the door, a password too."""
    assert Scale(engine="ray", address=address, workers=1, start_seconds=1).address == address
    for wrong in (f"http://{address}", f"user:word@{address}", address.rpartition(":")[0], f"{address}/"):
        with pytest.raises(ValidationError):
            Scale(engine="ray", address=wrong, workers=1, start_seconds=1)


def test_an_error_goes_from_process_to_process_as_it_is():
    """Thing, what and remedy, not one text."""
    error = pickle.loads(pickle.dumps(ModelError("base", "holds no tokenizer", "run it")))
    assert type(error) is ModelError and (error.thing, error.what, error.remedy) == ("base", "holds no tokenizer", "run it")


def test_the_keeper_ends_what_is_marked_and_removes_its_folder(tmp_path):
    """As soon as nobody holds its stdin; so it does with what has a file there open. Another's processes and folder stay; a dead
    keeper's folder goes."""
    folder, other, stale = (tmp_path / f"{keeper.PREFIX}{name}" for name in ("a", "b", "c"))
    for path in (folder, other, stale):
        path.mkdir()
    (stale / keeper.LOCK).touch()
    sleep = ["sleep", "60"]
    ours, theirs = (subprocess.Popen(sleep, env={**os.environ, keeper.MARK: str(path)}) for path in (folder, other))
    with open(folder / "log", "w") as log:
        logging = subprocess.Popen(sleep, stdout=log)
    kept = [subprocess.Popen([sys.executable, "-I", "-S", keeper.__file__, path], stdin=subprocess.PIPE)
            for path in (other, folder)]
    mine = open(folder / "mine", "w")  # noqa: SIM115  (a keeper leaves alone who has started it)
    try:
        until(lambda: not stale.exists())
        assert ours.poll() is None and logging.poll() is None and folder.exists()
        kept[1].stdin.close()
        assert ours.wait(20) == logging.wait(20) == -signal.SIGKILL and kept[1].wait(20) == 0 and not folder.exists()
        assert theirs.poll() is None and other.exists()
    finally:
        mine.close()
        theirs.kill()
        for process in kept:
            process.stdin.close()
        for process in (theirs, ours, logging, *kept):
            process.wait()


def ray_of(stage: int) -> Path | None:
    """The folder of the Ray that this process has started."""
    return next((path.parent for path in Path(temporary()).glob(f"{keeper.PREFIX}*/session_*_{stage}")), None)


def at_work() -> list[int]:
    """Workers of this process's Ray that are at a batch."""
    found = []
    for pid in keeper.marked(folder) if (folder := ray_of(os.getpid())) else []:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Worker.do"):
                found.append(pid)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """The starter base with a chat template, an adapter that leaves it as it is, 20 prompts."""
    from peft import LoraConfig, get_peft_model

    from tasks.training.models import load_base

    folder = tmp_path_factory.mktemp("world")
    tiny.run_stage("base", folder / "base", starter=ROOT / "starter" / "base", templates=tiny.TEMPLATES)
    model, _ = load_base(folder / "base", CPU)
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder / "sft")
    rows = [{"id": row["id"], "messages": row["messages"][:1], "language": "en"} for row in tiny.instruction_rows(20)]
    write_jsonl(folder / "prompts" / "prompts.jsonl", rows)
    return folder


def sample(world: Path, out: Path, scale: Scale):
    """Stage candidates on the starter's weights, in 5 batches."""
    whole = tiny.params()
    cfg = whole.candidates.model_copy(update={"batch_size": 4, "answers": 3, "max_new_tokens": 16})
    out.mkdir()
    return candidates(cfg, CPU, whole.seed, world / "prompts", world / "base", world / "sft", out, scale=scale)


@real_ray
def test_two_workers_sample_what_one_process_does_and_one_may_die(world, tmp_path):
    """kill -9 of a worker at its batch: Ray starts it again, and the bytes are those of one process."""
    alone = sample(world, tmp_path / "alone", spread.HERE)
    killed = []

    def kill() -> None:
        killed.extend(until(at_work)[:1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    together = sample(world, tmp_path / "together", RAY)
    killer.join()
    assert killed and together == alone
    assert sha256_tree(tmp_path / "together") == sha256_tree(tmp_path / "alone")


@real_ray
def test_a_killed_stage_leaves_no_ray_and_the_next_one_goes_on(tmp_path, monkeypatch, capsys):
    """Through the door, kill -9 at the first saved vectors: its Ray, which listened on loopback alone, goes with its folder. The
    next run keeps the vectors, and gives the bytes of one process."""
    write_documents(tmp_path / "documents", 300)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["compute"].update(threads=1, device="cpu")
    params["embed"].update(batch_size=2, save_every=10)
    params["scale"].update(engine="ray", address=None, workers=2)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True))
    words = [sys.executable, "-m", "tasks", "embed", "--documents", "documents", "--starter", STARTER, "--out", "out",
             "--metrics", "metrics.json"]
    stage = subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    until(lambda: list((tmp_path / ".nightshift").rglob("*.parquet")) or stage.poll() is not None)
    folder = ray_of(stage.pid)
    sockets = [one for pid in keeper.marked(folder) for one in psutil.Process(pid).net_connections() if one.status == "LISTEN"]
    assert len(sockets) > 3 and {one.laddr.ip.removeprefix("::ffff:") for one in sockets} == {"127.0.0.1"}
    assert stage.poll() is None
    stage.kill()
    stage.communicate()
    until(lambda: not folder.exists())
    assert not keeper.marked(folder)
    monkeypatch.chdir(tmp_path)
    whole = load(tmp_path / "params.yaml")
    for name, scale in {"together": whole.scale, "alone": spread.HERE}.items():
        Path(name).mkdir()
        embed(whole.embed, whole.compute, Path("documents"), STARTER, Path(name), scale=scale)
        assert ("vectors are there from a run that was cut off" in capsys.readouterr().err) == (name == "together")
    assert sha256_tree(Path("together")) == sha256_tree(Path("alone"))


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """A cluster of one machine with two processors, on loopback: its address for its own machines, and for others."""
    os.environ.update(OURS)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = Path(tempfile.mkdtemp(prefix=keeper.PREFIX, dir=temporary()))
    kept = subprocess.Popen([sys.executable, "-I", "-S", keeper.__file__, folder], stdin=subprocess.PIPE)
    ports = [str(free_port()) for _ in range(2)]
    start = [Path(sys.executable).with_name("ray"), "start", "--head", "--node-ip-address", "127.0.0.1", "--port", ports[0],
             "--ray-client-server-port", ports[1], "--num-cpus", "2", "--num-gpus", "0", "--include-dashboard", "false",
             "--temp-dir", folder, "--object-store-memory", str(2**27), "--disable-usage-stats"]
    try:  # from another folder: its workers find no code of ours but what is sent
        subprocess.run(start, cwd=folder, env={**os.environ, keeper.MARK: str(folder)}, check=True, capture_output=True)
        yield f"127.0.0.1:{ports[0]}", f"ray://127.0.0.1:{ports[1]}"
    finally:
        kept.stdin.close()
        kept.wait()


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@real_ray
def test_a_cluster_that_is_there_gives_the_same_bytes(at, tmp_path):
    """It is sent the model's folder, one with folders in it, and gives back batches of texts of one length. What a killed worker
    has left on its machine goes."""
    left = Path(tempfile.gettempdir(), f"{MODEL}left")
    left.mkdir()
    (left / keeper.LOCK).touch()
    model = write_transformer(tmp_path / "bert", " ".join(WORDS))
    documents = write_documents(tmp_path / "documents")
    made = {}
    for name, scale in {"alone": spread.HERE, "together": RAY.model_copy(update={"address": at[0]})}.items():
        (tmp_path / name).mkdir()
        with contextlib.chdir(tmp_path):
            cfg = CFG.model_copy(update={"model": str(model), "batch_size": 4})
            made[name] = embed(cfg, CPU, documents, STARTER, tmp_path / name, scale=scale)
    assert made["alone"] == made["together"] and made["alone"].chunks == 20
    assert sha256_tree(tmp_path / "alone") == sha256_tree(tmp_path / "together")
    assert not left.exists()


@real_ray
def test_what_is_wrong_at_a_cluster_is_said(at, world, monkeypatch, tmp_path):
    """An error of a worker is raised here as it was there; workers of other packages are not let in; nor is there room for
    workers of 64 threads."""
    scale = RAY.model_copy(update={"address": at[1], "workers": 1})
    (tmp_path / "nothing").mkdir()
    job = spread.Job(sampler, (world / "base", tmp_path / "nothing"), (Sampling(4),))
    with (pytest.raises(ModelError, match="holds no adapter; run the stage that writes it") as error,
          spread.over(scale, CPU, job) as work):
        list(work([[[1, 2]]]))
    assert error.value.remedy == "run the stage that writes it: dvc repro"
    short = scale.model_copy(update={"start_seconds": 15})
    with (pytest.raises(ServiceError, match=r"no worker has begun within 15 s; it needs 64 processors"),
          spread.over(short, CPU.model_copy(update={"threads": 64}), job) as work):
        list(work([[[1, 2]]]))
    here = cluster.stack(CPU)
    monkeypatch.setattr(cluster, "stack", lambda compute: {**here, "torch": "2.1"})  # of this process alone
    with (pytest.raises(ServiceError, match=rf"would give other bytes: torch {here['torch']} there, 2\.1 here; let its"),
          spread.over(scale, CPU, job) as work):
        list(work([[[1, 2]]]))


SILENT = """
import sys
from tasks.errors import ServiceError
from tasks.spread.starting import joined
try:
    with joined(sys.argv[1], 3):
        print("joined")
except ServiceError as error:
    sys.exit(str(error))
"""


@real_ray
@pytest.mark.parametrize("kind", ["", "ray://"])
def test_a_silent_address_is_given_up(kind):
    """Somebody listens there and never answers: Ray itself would ask for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{kind}127.0.0.1:{server.getsockname()[1]}"
        env = {**os.environ, **OURS, "RAY_AUTH_TOKEN": "0" * 64, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", SILENT, address], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"scale.address {address}: no Ray cluster has let us in within 3 s; start it" in done.stderr
