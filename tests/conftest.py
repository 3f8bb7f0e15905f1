"""Shared by all tests: the process settings, and a clear reason for each tier that cannot run here."""

from __future__ import annotations

from tasks import environment

environment.apply()

import os  # noqa: E402
import secrets  # noqa: E402

import pytest  # noqa: E402  (after the settings, as every library must be)

SERVERS = ("label_studio", "weaviate_server", "api")  # session fixtures below: one of each, not one a worker


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the gpu tier where there is no GPU (torch is only asked when such a test was collected), and for `make test`,
    where several workers share the work: a file's tests stay together, those of one server do, and the longest begin."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        server = next((name for name in SERVERS if name in item.fixturenames and item.path not in slow), None)
        item.add_marker(pytest.mark.xdist_group(server or item.path.name))
    served = {item.path for item in items if item.get_closest_marker("service")}
    items.sort(key=lambda item: (item.path not in slow, item.path not in served))
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            for item in gpu:
                item.add_marker(pytest.mark.skip(reason="tier gpu: no GPU on this machine"))


@pytest.fixture(scope="session")
def weaviate_server(tmp_path_factory):
    """A real Weaviate on loopback for the whole run, built on first use; skipped, with the reason, where it cannot be."""
    from deploy import weaviate
    from tests import rag_fixtures

    if reason := weaviate.why_not():
        pytest.skip(f"no Weaviate server here: {reason}")
    weaviate.build()
    key = secrets.token_hex(16)
    with weaviate.Server(tmp_path_factory.mktemp("weaviate") / "data", key) as server:
        os.environ["WEAVIATE_API_KEY"] = key
        rag_fixtures.SERVER.update(port=server.at.port, grpc_port=server.at.grpc_port)
        yield server
        del os.environ["WEAVIATE_API_KEY"]


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory):
    """A real Label Studio on loopback for the whole run, installed on first use: `url`, `token`, `password`, `pid`."""
    from tests import labelling_fixtures

    with labelling_fixtures.serving(tmp_path_factory.mktemp("labelling")) as server:
        yield server


@pytest.fixture(scope="session")
def api(tmp_path_factory):
    """One Prefect server for all nights of this session, with a history of its own."""
    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder))
        patch.delenv("PREFECT_API_URL", raising=False)
        from prefect.context import refresh_global_settings_context

        from flows import runs, server  # noqa: F401  (Prefect reads its environment here)

        refresh_global_settings_context()
        with server.api(folder) as url:
            yield url
