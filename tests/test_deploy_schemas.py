"""compose.yaml and the manifests by the tools' own schemas: Compose's loader, the API of Kubernetes, its worker's template."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.environments import Environment
from tests.container_fixtures import DEPLOY, KUBERNETES, ROOT, VARIANTS

pytestmark = pytest.mark.service
COMPOSE_GO = "github.com/compose-spec/compose-go/v2@v2.16.2"
VALIDATE = "kubernetes-validate==1.37.0"
VERSIONS = ("1.28", "1.32", "1.37")  # of the API
LOADER = """package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithOsEnv)
	if err == nil {
		_, err = options.LoadProject(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
"""
RENDER = """
import asyncio, json, sys, uuid
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration
template = json.load(open(sys.argv[1]))
made = asyncio.run(KubernetesWorkerJobConfiguration.from_template_and_values(base_job_template=template, values={"gpus": 2}))
made.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="a-run"))
print(json.dumps(made.job_manifest))
"""


@pytest.fixture(scope="module")
def loader(tmp_path_factory) -> Path:
    """Compose's own loader as a program: what `docker compose config` checks with."""
    if not shutil.which("go"):
        pytest.skip("the Go toolchain is missing (go)")
    folder = tmp_path_factory.mktemp("loader")
    (folder / "main.go").write_text(LOADER)
    for words in (["mod", "init", "loader"], ["get", COMPOSE_GO], ["mod", "tidy"], ["build", "-o", "loader", "."]):
        done = subprocess.run(["go", *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-800:]
    return folder / "loader"


def load(loader: Path, *files: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The loader's verdict."""
    whole = {"HOME": os.environ["HOME"], **env}
    return subprocess.run([str(loader), *map(str, files)], env=whole, capture_output=True, text=True)


def test_compose_takes_the_files_and_only_whole_ones(loader, tmp_path):
    """Filled in they load, with and without a GPU; a missing secret is refused by name, and so is a misspelt key."""
    names = re.findall(r"^(\w+)=$", (DEPLOY / "compose.env.example").read_text(), re.MULTILINE)
    env = {name: "x" for name in names}
    compose, cuda = DEPLOY / "compose.yaml", DEPLOY / "compose.cuda.yaml"
    for files in ((compose,), (compose, cuda)):
        done = load(loader, *files, env=env)
        assert (done.returncode, done.stderr) == (0, "")
    for name in names:
        refused = load(loader, compose, env={other: "x" for other in names if other != name})
        assert refused.returncode == 1 and f"required variable {name} is missing a value: set it in deploy/.env" in refused.stderr
    misspelt = tmp_path / "compose.yaml"
    misspelt.write_text(compose.read_text().replace("mem_limit: 4g", "memlimit: 4g"))
    assert load(loader, misspelt, env=env).returncode == 1


@pytest.fixture(scope="module")
def validate(tmp_path_factory):
    """A function: what the API's schemas say against a file; None where it is valid."""
    folder = tmp_path_factory.mktemp("validate")
    uv = shutil.which("uv") or shutil.which(str(ROOT / ".boot" / "bin" / "uv"))
    if not uv:
        pytest.skip("uv is missing")

    def check(path: Path, version: str) -> str | None:
        words = [uv, "tool", "run", "--quiet", "--isolated", "--from", VALIDATE, "kubernetes-validate", "--strict"]
        done = subprocess.run([*words, "--kubernetes-version", version, str(path)], cwd=folder, capture_output=True, text=True)
        return done.stdout + done.stderr if done.returncode else None

    return check


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_takes_the_manifests(variant, validate, tmp_path):
    """Strictly, by three versions; a misspelt field is refused."""
    made = subprocess.run(["kubectl", "kustomize", str(KUBERNETES / variant)], capture_output=True, text=True, check=True).stdout
    whole = tmp_path / "all.yaml"
    whole.write_text(made)
    assert {version: validate(whole, version) for version in VERSIONS} == dict.fromkeys(VERSIONS)
    whole.write_text(made.replace("restartPolicy", "restartpolicy").replace("replicas: 1", "replicaz: 1"))
    assert "replicaz" in validate(whole, VERSIONS[-1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_worker_makes_a_job_that_the_api_takes(variant, validate, tmp_path):
    """The template with its worker's own code, from the lock of its image. Two fields are Prefect's, and no schema has them."""
    side = Environment(target="test", package="prefect-kubernetes", size="0.2 GB", lock=DEPLOY / "kubernetes.lock",
                       home=ROOT / "build" / "kubernetes")  # fmt: skip
    side.install()
    words = [str(side.python), "-c", RENDER, str(KUBERNETES / variant / "base-job-template.json")]
    job = json.loads(side.run(words, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, tmp_path))
    pod = job["spec"]["template"]["spec"]
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    assert pod["containers"][0]["command"] == ["nightshift-enter"]
    assert pod["containers"][0]["args"] == ["prefect", "flow-run", "execute"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(job | {"metadata": job["metadata"] | {"name": "a-run"}}))
    assert {version: validate(path, version) for version in VERSIONS} == dict.fromkeys(VERSIONS)
