"""Shared by all tests: the process settings, and a clear reason for each tier that cannot run here."""

from __future__ import annotations

from tasks import environment

environment.apply()

import pytest  # noqa: E402  (after the settings, as every library must be)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the gpu tier where there is no GPU. torch is only asked when such a test was collected."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            for item in gpu:
                item.add_marker(pytest.mark.skip(reason="tier gpu: no GPU on this machine"))
