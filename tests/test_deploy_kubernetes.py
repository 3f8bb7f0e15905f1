"""The manifests are held to the images, to compose.yaml and to each other; secrets are named and never contained."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from tasks import home
from tests.container_fixtures import (
    DEPLOY,
    KUBERNETES,
    SERVICES,
    VARIANTS,
    lineage,
    manifests,
    prefect_settings,
    stages,
    template,
)

PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")
ELSEWHERE = "PREFECT_INTEGRATIONS_KUBERNETES_"  # settings of prefect-kubernetes, which is in the worker's image alone
NOTED = {"nightshift-prefect": {"database-password", "auth"}, "nightshift-nights": set()}


def everything(value: Any) -> Iterator[dict[str, Any]]:
    """Each mapping inside, at any depth."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything(inner)


def kinds(kind: str) -> dict[str, dict[str, Any]]:
    """Objects of a kind by name."""
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """The pods' specifications by the name of what makes them; a run's is in the job template."""
    made = {**kinds("Deployment"), **kinds("StatefulSet")}
    job = template("base")["job_configuration"]["job_manifest"]
    return {name: one["spec"]["template"]["spec"] for name, one in made.items()} | {"run": job["spec"]["template"]["spec"]}


def containers() -> list[dict[str, Any]]:
    """All containers, those that prepare included."""
    return [one for pod in pods().values() for one in [*pod.get("initContainers", []), *pod["containers"]]]


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """What a container is given by name."""
    given = container.get("env", [])
    return {} if isinstance(given, str) else {one["name"]: one.get("value", one.get("valueFrom")) for one in given}


def settings() -> dict[str, str]:
    """The literals of ConfigMap nightshift."""
    made = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["configMapGenerator"]
    return dict(line.split("=", 1) for one in made if one["name"] == "nightshift" for line in one["literals"])


def test_no_manifest_contains_a_secret():
    """There is no Secret to fill in and to commit by mistake; what is secret comes from one by name and key."""
    assert kinds("Secret") == {}
    named: dict[str, set[str]] = {}
    for one in everything([*manifests(), *map(template, VARIANTS)]):
        if reference := one.get("secretKeyRef"):
            named.setdefault(reference["name"], set()).add(reference["key"])
        if reference := one.get("secretRef"):
            named.setdefault(reference["name"], set())
    assert named == NOTED
    secret = re.compile(r"PASSWORD|AUTH_STRING$|TOKEN$|_KEY$|SALT")
    plain = [name for one in containers() for name, value in environment(one).items()
             if secret.search(name) and isinstance(value, str) and not name.startswith(ELSEWHERE)]  # fmt: skip
    assert plain == [] and not [name for name in settings() if secret.search(name)]


def test_the_page_makes_the_secrets_that_are_asked_for():
    """deploy/README.md creates both, with their keys."""
    page = (DEPLOY / "README.md").read_text()
    assert set(re.findall(r"create secret generic (\S+)", page)) == set(NOTED)
    assert NOTED["nightshift-prefect"] <= set(re.findall(r"--from-literal=([\w-]+)=", page))


def test_the_worker_tells_runs_where_the_key_is():
    """So that it is not written into each Job."""
    worker = environment(pods()["worker"]["containers"][0])
    reference = worker["PREFECT_API_AUTH_STRING"]["secretKeyRef"]
    assert reference == {"name": worker[f"{ELSEWHERE}WORKER_API_AUTH_STRING_SECRET_NAME"],
                         "key": worker[f"{ELSEWHERE}WORKER_API_AUTH_STRING_SECRET_KEY"]}  # fmt: skip


def test_settings_are_read_and_agree_with_compose():
    """Prefect knows each name; server and database are the same in both places, but for the secrets."""
    given = {name: value for one in containers() for name, value in environment(one).items() if name.startswith("PREFECT_")}
    assert {name for name in given if not name.startswith(ELSEWHERE)} - prefect_settings() == set() and len(given) > 10
    compose = {name: value for name, value in SERVICES["prefect"]["environment"].items() if "${" not in value}
    assert {name: given[name] for name in compose} == compose
    images = {one["image"] for one in containers()}
    assert SERVICES["prefect-db"]["image"] in images


def test_runs_get_what_entering_reads():
    """The names of ConfigMap nightshift are those of containers/enter.sh (and one of Prefect's own), the cache is where the
    volume is mounted."""
    script = (DEPLOY / "containers" / "enter.sh").read_text()
    assert {name for name in settings() if f"${{{name}:" not in script} == {"PREFECT_UI_URL"}
    mounts = {one["name"]: one["mountPath"] for one in pods()["run"]["containers"][0]["volumeMounts"]}
    work = next(line for line in lineage("cpu") if line.startswith("ENV NIGHTSHIFT_WORK"))
    assert mounts == {"work": re.search(r"NIGHTSHIFT_WORK=(\S+)", work)[1], "dvc-cache": settings()["NIGHTSHIFT_DVC_CACHE"]}


def test_deployments_are_told_of_the_home_that_runs_make():
    """The worker's pod has no home; a run's pod makes it at the path that was deployed."""
    told = next(one for one in pods()["worker"]["initContainers"] if one["name"] == "deployments")
    assert environment(told)["NIGHTSHIFT_HOME"] == str(PurePosixPath("/srv/nightshift/checkout") / home.FOLDER.as_posix())
    assert told["command"] == ["nightshift-enter", "--no-home", "nightshift-deploy", "kubernetes"]


def test_the_pool_is_that_of_the_deployments():
    """prefect.yaml, compose's worker and the cluster's worker name one work pool."""
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    assert {one["work_pool"]["name"] for one in deployments} == {"nightshift"}
    args = pods()["worker"]["containers"][0]["args"]
    assert args[args.index("--pool") + 1] == "nightshift" and args[args.index("--type") + 1] == "kubernetes"
    assert "python -m deploy.worker nightshift" in (DEPLOY / "containers" / "worker.sh").read_text()
    assert '"worker", "start", "--pool", pool, "--type", "process"' in (DEPLOY / "worker.py").read_text()


def test_images_are_stages_of_the_dockerfile():
    """Those that are ours; the default of runs is the variant's."""
    ours = {one["image"] for one in containers()} - {SERVICES["prefect-db"]["image"], "{{ image }}"}
    defaults = {variant: template(variant)["variables"]["properties"]["image"]["default"] for variant in VARIANTS}
    assert defaults == {"base": "nightshift-cpu:latest", "gpu": "nightshift-cuda:latest"}
    assert ours == {"nightshift-prefect", "nightshift-cpu"}
    assert {name.removeprefix("nightshift-").removesuffix(":latest") for name in (*ours, *defaults.values())} <= set(stages())


def test_the_gpu_variant_differs_in_three_defaults():
    """Image, GPUs and memory; all else is the same template."""
    base, gpu = map(template, VARIANTS)
    assert base["job_configuration"] == gpu["job_configuration"]
    before, after = base["variables"]["properties"], gpu["variables"]["properties"]
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"image", "gpus", "memory"}
    assert (before["gpus"]["default"], after["gpus"]["default"]) == (0, 1)


def test_every_variable_of_the_template_is_used_and_has_a_default():
    """A form field that does nothing would mislead; a placeholder without a field would reach the cluster as text."""
    whole = template("base")
    fields = whole["variables"]["properties"]
    assert set(PLACEHOLDER.findall(str(whole["job_configuration"]))) == set(fields)
    assert [name for name, field in fields.items() if "default" not in field] == []


@pytest.mark.parametrize("owner", ["prefect", "prefect-db", "worker", "run"])
def test_pods_run_without_rights(owner):
    """Not as root, with no capability, and with the cluster's own token where it is needed alone."""
    pod = pods()[owner]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] in (999, 10001)
    bounded = [one["securityContext"] for one in [*pod.get("initContainers", []), *pod["containers"]]]
    assert bounded == [{"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}] * len(bounded)
    assert pod.get("automountServiceAccountToken", True) == (owner == "worker")


def test_references_lead_somewhere():
    """Services select pods that exist, by ports that are open; claims and maps exist; the role is the worker's."""
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for kind in ("Deployment", "StatefulSet")
              for name, one in kinds(kind).items()}  # fmt: skip
    for name, service in kinds("Service").items():
        assert labels[name] == service["spec"]["selector"]
        assert service["spec"]["ports"][0]["port"] == pods()[name]["containers"][0]["ports"][0]["containerPort"]
    claims = {one["persistentVolumeClaim"]["claimName"] for one in pods()["run"]["volumes"]}
    assert claims == set(kinds("PersistentVolumeClaim"))
    made = {one["name"] for one in yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["configMapGenerator"]}
    named = {one["configMapRef"]["name"] for one in everything([*manifests(), template("base")]) if "configMapRef" in one}
    named |= {one["configMap"]["name"] for one in everything(manifests()) if "configMap" in one}
    assert named == made
    assert pods()["worker"]["serviceAccountName"] in kinds("ServiceAccount") and set(kinds("Role")) == {"worker"}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
@pytest.mark.parametrize("variant", VARIANTS)
def test_kustomize_puts_it_together(variant):
    """Everything is in one namespace; the template is the variant's; no cluster is asked."""
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES / variant)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in objects} == {"nightshift"}
    maps = [one["data"] for one in objects if one["kind"] == "ConfigMap" and "base-job-template" in one["metadata"]["name"]]
    assert maps == [{"base-job-template.json": (KUBERNETES / variant / "base-job-template.json").read_text()}]
