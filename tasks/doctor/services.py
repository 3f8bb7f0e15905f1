"""Label Studio, Weaviate and an embedding server, where params.yaml names them; settings that need something beside them."""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Iterator
from urllib.parse import urlsplit

from tasks import home
from tasks.doctor import schedule
from tasks.doctor.findings import Finding, Place, broken, note, ok, warning
from tasks.doctor.web import NoAnswerError, ask, listens
from tasks.errors import NightshiftError
from tasks.labelling import secrets
from tasks.serving.guard import VARIABLE as SERVICE_KEY
from tasks.serving.guard import is_loopback
from tasks.terminal import without_passwords

SECONDS = 4.0  # that Label Studio may take for an answer
WEAVIATE_KEY, EMBEDDING_KEY = "WEAVIATE_API_KEY", "EMBEDDING_API_KEY"


def secret_file(place: Place) -> Iterator[Finding]:
    """.nightshift/secrets.env is for its owner alone; whoever else can read it can write judgements."""
    path = home.shared(place.root) / secrets.FILE
    if not path.is_file():
        return
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield broken(f"{secrets.FILE} can be read by others, and so it is not used", f"chmod 600 {path}")
    else:
        yield ok(f"{secrets.FILE} is for its owner alone")


def label_studio(place: Place) -> Iterator[Finding]:
    """It answers, knows the token and has our projects."""
    if place.params is None:
        return
    cfg = place.params.labelling
    if cfg.url is None:
        yield note("labelling.url is null: nobody is asked (make label-studio, or the address of a server)")
        return
    token = secrets.value(place.root, secrets.TOKEN)
    if cfg.pseudonyms and not _set(place, secrets.SALT):
        yield broken(f"labelling.pseudonyms is true and {secrets.SALT} is not set: nothing can be collected",
                     f"export {secrets.SALT}=$(openssl rand -hex 20), the same wherever judgements are collected")
    from tasks.labelling import config
    from tasks.labelling import label_studio as studio  # the SDK takes two seconds

    quick = cfg.model_copy(update={"timeout_seconds": min(SECONDS, cfg.timeout_seconds), "attempts": 1})
    with studio.connect(cfg.url, token, quick) as server:
        found = server.find_projects()
    if absent := [project.title for kind, project in config.projects(cfg.project, cfg.overlap).items() if kind not in found]:
        yield warning(f"Label Studio at {cfg.url} knows the token and lacks {', '.join(absent)}", "make label makes them")
    else:
        yield ok(f"Label Studio at {cfg.url}: token accepted, {len(found)} projects")


def _set(place: Place, name: str) -> bool:
    try:
        return bool(secrets.value(place.root, name))
    except NightshiftError:
        return False


def weaviate(place: Place) -> Iterator[Finding]:
    """Where index.store names it: both ports answer, and the key is known."""
    if place.params is None or place.params.index.store != "weaviate":
        return
    at = place.params.index.weaviate
    base, start = f"http{'s' * at.secure}://{at.host}:{at.port}", "make up or make weaviate-server, or mend index.weaviate"
    key, kept = os.environ.get(WEAVIATE_KEY), False
    if not key and _set(place, WEAVIATE_KEY):
        key, kept = secrets.value(place.root, WEAVIATE_KEY), True
    try:
        ready = ask(f"{base}/v1/.well-known/ready")
        meta = ask(f"{base}/v1/meta", headers={"Authorization": f"Bearer {key}"} if key else {})
    except NoAnswerError as error:
        yield broken(f"Weaviate at {at.host}:{at.port} {error}", start)
        return
    if meta.status in (401, 403):
        yield broken(f"Weaviate at {at.host}:{at.port} {'refuses the key' if key else 'wants a key'}",
                     f"export {WEAVIATE_KEY} with one that the server knows")
    elif meta.status != 200 or not isinstance(meta.content, dict) or "version" not in meta.content:
        yield broken(f"{at.host}:{at.port} answers with something that is not Weaviate's (status {meta.status})", start)
    elif ready.status != 200:
        yield broken(f"Weaviate at {at.host}:{at.port} is not ready (status {ready.status})", "look at its log and its disk")
    elif not listens(at.host, at.grpc_port):
        yield broken(f"Weaviate at {at.host} does not answer at its gRPC port {at.grpc_port}", "mend index.weaviate.grpc_port")
    elif kept:
        yield note(f"Weaviate at {at.host}:{at.port} answers; its key is in {secrets.FILE}, which make up alone reads: "
                   f"export {WEAVIATE_KEY} for commands by hand")
    else:
        who = "key accepted" if key else "open to all who reach it"
        yield ok(f"Weaviate {meta.content['version']} at {at.host}:{at.port}, {who}")


def embedding(place: Place) -> Iterator[Finding]:
    """Where embed.endpoint is set: it answers and takes the key. Its list of models is asked for, which costs nothing."""
    if place.params is None or (url := place.params.embed.endpoint) is None:
        return
    shown, key, model = without_passwords(url), os.environ.get(EMBEDDING_KEY, "").strip(), place.params.embed.model
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        yield broken(f"embed.endpoint {shown} holds a name, a password or a query",
                     f"take it out; a key belongs in {EMBEDDING_KEY}")
        return
    if key and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield warning(f"{EMBEDDING_KEY} and all passages go to {parts.hostname} unencrypted", "take an https:// address")
    try:
        answer = ask(f"{url.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    except NoAnswerError as error:
        yield broken(f"embed.endpoint {shown} {error}", "start the server, or correct embed.endpoint")
        return
    listed = answer.content.get("data") if isinstance(answer.content, dict) else None
    names = [one.get("id") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else None
    if answer.status in (401, 403):
        yield broken(f"embed.endpoint {shown} {'refuses the key' if key else 'wants a key'}", f"export {EMBEDDING_KEY}=…")
    elif answer.status == 404:
        yield note(f"embed.endpoint {shown} answers and has no list of models: whether it has {model} shows when it is used")
    elif answer.status != 200 or names is None:
        yield broken(f"embed.endpoint {shown} answers with something else (status {answer.status})",
                     "correct embed.endpoint: it ends in /v1 at most servers")
    elif model not in names:
        yield warning(f"embed.endpoint {shown} does not list {model}", "correct embed.model, or load it there")
    else:
        yield ok(f"embed.endpoint {shown} has {model}")


def settings(place: Place) -> Iterator[Finding]:
    """What params.yaml asks for and something beside it has to give."""
    cfg, found = place.params, []
    if cfg is None:
        return
    if cfg.nightly.approval == "manual" and not (schedule.configured(place) or schedule.of_up(place)):
        found.append(warning(f"nightly.approval is manual and {schedule.VARIABLE} is not set: nobody can be asked",
                             f"make up, or prefect server start and export {schedule.VARIABLE}=http://127.0.0.1:4200/api"))
    if cfg.feedback.log and cfg.labelling.url is None:
        found.append(note("feedback.log is on and labelling.url is null: complaints are kept, and nobody judges them"))
    if not is_loopback(cfg.serve.host) and not os.environ.get(SERVICE_KEY):
        found.append(warning(f"serve.host is {cfg.serve.host} and {SERVICE_KEY} is not set: make serve will not start",
                             f"export {SERVICE_KEY}=$(openssl rand -hex 24), or serve.host: 127.0.0.1"))
    found += [broken(f"source {one.name}: {one.url_env} is not set, so its rows are not taken", f"export {one.url_env}=…")
              for one in cfg.sources.sql if one.url_env and not os.environ.get(one.url_env)]  # fmt: skip
    if cfg.scale.engine == "ray":
        found += list(_ray(cfg.scale.address))
    yield from found or [ok("nothing is asked for that is not there")]


def _ray(address: str | None) -> Iterator[Finding]:
    if importlib.util.find_spec("ray") is None:
        yield broken("scale.engine is ray, and the package ray is not installed", "make setup, or scale.engine: local")
    elif address is not None:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not listens(host.strip("[]"), int(port)):
            yield broken(f"scale.address {address}: nobody listens there", "start the cluster, or scale.engine: local")
