"""compose.yaml and the Dockerfile are held to the code: names, ports, versions, files, and where secrets come from."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess

import pytest
import yaml

from deploy import label_studio, weaviate
from deploy.label_studio_install import QUIET
from tests.container_fixtures import (
    COMPOSE_TEXT,
    DEPLOY,
    DOCKERFILE,
    ROOT,
    SCRIPTS,
    SERVICES,
    lineage,
    pins,
    prefect_settings,
    stages,
)

SECRET = re.compile(r"PASSWORD|_KEYS?$|TOKEN$|SECRET|SALT|AUTH_STRING")
FLAGS = {"true", "false"}
BUILT = sorted(name for name, one in SERVICES.items() if "build" in one)
EXAMPLE = (DEPLOY / "compose.env.example").read_text()


def port(service: str) -> str:
    """The port that a service listens on inside, as its health check has it."""
    return re.search(r"http://127\.0\.0\.1:(\d+)", " ".join(SERVICES[service]["healthcheck"]["test"]))[1]


def compose_is_here() -> bool:
    """Whether Compose answers; an engine need not run to check a file."""
    return bool(shutil.which("docker")) and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0


def target(service: str) -> str:
    """The stage that a service is built from, without a variable's default."""
    return re.sub(r"\$\{\w+:-(\w+)\}", r"\1", SERVICES[service]["build"]["target"])


def test_the_services_are_those_that_a_team_needs():
    """Each by its own name; the databases are two, so that neither server reads the other's."""
    assert list(SERVICES) == ["prefect-db", "prefect", "worker", "label-studio-db", "label-studio", "weaviate"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_watched_bounded_and_started_again(service):
    """Health, restarts, memory, and a log that does not fill the disk."""
    one = SERVICES[service]
    assert one["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL") and one["mem_limit"]
    assert (one["restart"], one["logging"]["options"]["max-size"]) == ("unless-stopped", "20m")


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_on_loopback(service):
    """Whoever comes from outside this machine comes by a proxy; what is published is what the service listens on."""
    published = SERVICES[service].get("ports", [])
    assert published == [f"127.0.0.1:{port(service)}:{port(service)}" for _ in published]
    assert SERVICES[service].get("network_mode") is None


def test_only_pages_for_people_are_published():
    """The databases and Weaviate are for the other services alone."""
    assert [name for name, one in SERVICES.items() if "ports" in one] == ["prefect", "label-studio"]


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_is_written_down_or_has_a_default(service):
    """A variable that holds a secret is required: compose refuses to start without it."""
    secrets = {name: value for name, value in SERVICES[service].get("environment", {}).items()
               if SECRET.search(name) and value not in FLAGS}  # fmt: skip
    assert [name for name, value in secrets.items() if not re.fullmatch(r"\$\{\w+:\?set it in deploy/\.env\}", value)] == []


def test_the_example_names_what_compose_asks_for():
    """Required variables stand there to be filled in, optional ones as comments, and nothing else does."""
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE_TEXT))
    optional = set(re.findall(r"\$\{(\w+):-", COMPOSE_TEXT))
    assert set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE)) == required
    assert set(re.findall(r"^# (\w+)=", EXAMPLE, re.MULTILINE)) == optional


def test_git_ignores_the_files_with_secrets():
    """.env and worker.env are never committed."""
    ignored = subprocess.run(["git", "check-ignore", "deploy/.env", "deploy/.env.part", "deploy/worker.env"], cwd=ROOT,
                             capture_output=True, text=True).stdout.split()  # fmt: skip
    assert ignored == ["deploy/.env", "deploy/.env.part", "deploy/worker.env"]
    assert SERVICES["worker"]["env_file"] == [{"path": "worker.env", "required": False}]


def test_prefect_reads_each_setting_that_it_is_given():
    """A misspelt setting would be ignored without a word."""
    given = {name for one in SERVICES.values() for name in one.get("environment", {}) if name.startswith("PREFECT_")}
    assert given - prefect_settings() == set() and len(given) > 10


def test_the_worker_is_given_what_something_reads():
    """Each other name of the worker is in a script of its image or in the project's code."""
    code = "".join(path.read_text() for path in [*SCRIPTS, *(ROOT / "tasks").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
    given = {name for name in SERVICES["worker"]["environment"] if not name.startswith(("PREFECT_", "<<"))}
    assert {name for name in given if not re.search(rf"\b{name}\b", code)} == set() and len(given) > 6


def test_label_studio_is_given_settings_that_are_explained():
    """As our own server has them, or as deploy/labelling/README.md does; the safe ones have the same values."""
    own = label_studio.environment(ROOT, "t", "p")
    page = (DEPLOY / "labelling" / "README.md").read_text()
    given = SERVICES["label-studio"]["environment"]
    explained = set(re.findall(r"\b([A-Z][A-Z_]{4,})=", page))
    assert {name for name in given if name not in own and name.removeprefix("LABEL_STUDIO_") not in explained
            and name not in explained} == set()  # fmt: skip
    safe = [*QUIET, *(name for name, value in own.items() if value in FLAGS and name != "USE_DEFAULT_BANNED_SUBNETS")]
    assert {name: given[name] for name in safe} == {name: own[name] for name in safe}
    assert "USE_DEFAULT_BANNED_SUBNETS" not in given  # others log in here: webhooks into the network stay refused


def test_weaviate_is_run_as_our_own_server_is():
    """The same settings but for what loopback on one machine needs; the version is the one that is tested."""
    own = weaviate.environment(ROOT, weaviate.address(8180, 50051), "${WEAVIATE_API_KEY:?set it in deploy/.env}")
    given = SERVICES["weaviate"]["environment"]
    assert {name: value for name, value in given.items() if name != "PERSISTENCE_DATA_PATH"} == {
        name: value for name, value in own.items()
        if name in given and name != "PERSISTENCE_DATA_PATH"}  # fmt: skip
    assert {name for name in own if name not in given and not name.startswith(("CLUSTER_", "RAFT_"))} == set()
    assert SERVICES["weaviate"]["image"].rpartition(":")[2] == weaviate.VERSION
    assert SERVICES["weaviate"]["volumes"] == [f"weaviate:{given['PERSISTENCE_DATA_PATH']}"]


def test_weaviate_listens_where_params_yaml_says():
    """Of index.weaviate only the host is to be changed."""
    at = yaml.safe_load((ROOT / "params.yaml").read_text())["index"]["weaviate"]
    command = SERVICES["weaviate"]["command"]
    assert (port("weaviate"), command[command.index("--port") + 1]) == (str(at["port"]), str(at["port"]))
    assert SERVICES["weaviate"]["environment"]["GRPC_PORT"] == str(at["grpc_port"])


@pytest.mark.parametrize(("server", "names"), [
    ("prefect", ["PREFECT_SERVER_DATABASE_" + part for part in ("HOST", "NAME", "USER", "PASSWORD")]),
    ("label-studio", ["POSTGRE_" + part for part in ("HOST", "NAME", "USER", "PASSWORD")]),
])  # fmt: skip
def test_a_server_and_its_database_know_the_same(server, names):
    """Host, database, user and password."""
    database = SERVICES[f"{server}-db"]["environment"]
    wanted = [f"{server}-db", *(database["POSTGRES_" + part] for part in ("DB", "USER", "PASSWORD"))]
    assert [SERVICES[server]["environment"][name] for name in names] == wanted
    assert SERVICES[server]["depends_on"] == {f"{server}-db": {"condition": "service_healthy"}}


def test_the_worker_knows_what_the_servers_know():
    """One address and one key on both sides, each written once in .env."""
    compose = yaml.safe_load(COMPOSE_TEXT)
    worker, prefect = compose["services"]["worker"]["environment"], SERVICES["prefect"]["environment"]
    assert worker["PREFECT_API_URL"] == f"http://prefect:{port('prefect')}/api"
    assert worker["PREFECT_API_AUTH_STRING"] == prefect["PREFECT_SERVER_API_AUTH_STRING"]
    assert worker["LABEL_STUDIO_API_KEY"] == SERVICES["label-studio"]["environment"]["LABEL_STUDIO_USER_TOKEN"]
    assert worker["WEAVIATE_API_KEY"] == SERVICES["weaviate"]["environment"]["AUTHENTICATION_APIKEY_ALLOWED_KEYS"]
    assert worker["NIGHTSHIFT_LABEL_STUDIO"] == f"label-studio:{port('label-studio')}"
    assert port("worker") == worker["PREFECT_WORKER_WEBSERVER_PORT"] != "8080"  # that one leads to Label Studio


def test_each_volume_is_declared_and_used():
    """A name that is misspelt on one side would be a new, empty volume."""
    used = {volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", [])}
    assert used == set(yaml.safe_load(COMPOSE_TEXT)["volumes"])


@pytest.mark.parametrize("service", BUILT)
def test_our_images_are_built_here(service):
    """From this repository, by a stage that exists, and never pulled."""
    build = SERVICES[service]["build"]
    assert ((DEPLOY / build["context"]).resolve(), (DEPLOY / build["context"] / build["dockerfile"]).resolve()) == (
        ROOT.resolve(), (DEPLOY / "Dockerfile").resolve())  # fmt: skip
    assert target(service) in stages() and SERVICES[service]["pull_policy"] == "build"


def test_both_variants_are_stages():
    """NIGHTSHIFT_VARIANT is cpu or cuda; the second file asks for a GPU."""
    on_top = yaml.safe_load((DEPLOY / "compose.cuda.yaml").read_text())["services"]["worker"]
    assert (target("worker"), on_top["build"]["target"]) == ("cpu", "cuda") and {"cpu", "cuda"} <= set(stages())
    assert on_top["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


@pytest.mark.parametrize("stage", ["cpu", "cuda", "prefect", "label-studio"])
def test_an_image_runs_without_rights(stage):
    """A user by number, which a cluster can check, and nothing after it runs as root."""
    words = lineage(stage)
    user = [line for line in words if line.startswith("USER ")]
    assert user == ["USER 10001"] and not [line for line in words[words.index(user[0]):] if line.startswith("RUN ")]


def test_what_is_copied_is_there_and_gets_through():
    """Each COPY from the context names a file that exists and that .dockerignore lets through; scripts are all copied."""
    copies = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from=" not in line]
    copied = [name for names in copies for name in names if not name.startswith("--")]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert [name for name in copied if not (ROOT / name).is_file()] == []
    assert [name for name in copied if not any(fnmatch.fnmatch(name, pattern.rstrip("/") + "*") for pattern in allowed)] == []
    unused = {path.name for path in SCRIPTS} - {name.split("/")[-1] for name in copied}
    assert unused == {"draw.sh"}  # for the machine outside


def test_what_has_to_be_compiled_can_be_and_runs_elsewhere():
    """pypcre has no wheel: the slim image gets a compiler first, and the code is not for the builder's processor alone."""
    words = [line for line in lineage("nights-packages") if not line.startswith("#")]
    sync = next(number for number, line in enumerate(words) if "sync" in line)
    assert any("install" in line and "g++" in line for line in words[:sync])
    assert "ENV PYPCRE_DISABLE_NATIVE_FLAGS=1" in words[:sync]
    assert "export PYPCRE_DISABLE_NATIVE_FLAGS := 1" in (ROOT / "Makefile").read_text().splitlines()


def test_only_what_is_needed_is_sent_to_the_builder():
    """Everything is left out but the locks and the scripts: no data, no git history, no .env."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    locks = ["!requirements.lock", "!deploy/remotes.lock", "!deploy/kubernetes.lock", "!deploy/label-studio.lock"]
    assert lines == ["*", *locks, "!deploy/containers/"]


def test_images_are_pinned():
    """No image without an exact version: Python by three numbers, PostgreSQL by two."""
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.MULTILINE)
    bases = {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")}
    assert bases - set(stages()) == {"python:${PYTHON}"}
    pulled = {one["image"] for one in SERVICES.values() if "build" not in one}
    assert all(re.search(r":\d+\.\d+(\.\d+)?(-bookworm)?$", image) for image in pulled) and len(pulled) == 2


def test_versions_agree():
    """One uv, one Prefect, and of each package that two of our locks name the same version where they meet."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"uv==([\d.]+)", DOCKERFILE) == re.findall(r"uv==([\d.]+)", makefile)
    ours, kubernetes = pins("requirements.lock"), pins("deploy/kubernetes.lock")
    assert {name: version for name, version in kubernetes.items() if ours.get(name, version) != version} == {}
    assert kubernetes["prefect"] == ours["prefect"] and "asyncpg" in kubernetes and "prefect-kubernetes" in kubernetes
    assert "psycopg-binary" in pins("deploy/label-studio.lock")


@pytest.mark.skipif(not compose_is_here(), reason="docker compose is not here")
@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.cuda.yaml"]], ids=["cpu", "cuda"])
def test_compose_itself_takes_the_files(files, tmp_path):
    """Filled in they are whole; with nothing filled in they are refused."""
    words = ["docker", "compose", *(word for name in files for word in ("--file", str(DEPLOY / name)))]
    filled = tmp_path / "filled.env"
    filled.write_text(re.sub(r"=$", "=x", EXAMPLE, flags=re.MULTILINE))
    done = [subprocess.run([*words, "--env-file", str(path), "config", "--quiet"], capture_output=True).returncode
            for path in (filled, DEPLOY / "compose.env.example")]  # fmt: skip
    assert done[0] == 0 and done[1] != 0
