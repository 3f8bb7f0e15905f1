"""Environments beside ours: a lock is exact and names no address, an installation is whole or does not count."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.environments import Environment, plain
from tasks.errors import ServiceError

LOCKS = sorted((Path(__file__).parent.parent / "deploy").glob("*.lock"))
SMALL = "colorama==0.4.6\n"


def test_a_program_hears_no_name_by_chance():
    """HOST, PORT, DEBUG, CI and a database of another program would be read; what a program needs to run stays."""
    assert plain({"PATH": "/bin", "HOST": "0.0.0.0", "DEBUG": "1", "POSTGRE_HOST": "x", "LABEL_STUDIO_PASSWORD": "y"}) == {
        "PATH": "/bin", "PYTHONNOUSERSITE": "1"}  # fmt: skip


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_every_pin_and_no_index(lock):
    """What is installed is decided here: one exact version a line, and no address."""
    lines = lock.read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^\s;]+", line) for line in lines) and len(lines) > 30


@pytest.mark.service
def test_an_environment_is_whole_or_does_not_count(tmp_path):
    """Without the marker (killed), with another lock (changed) or in another place (moved) all is made again."""
    lock = tmp_path / "lock"
    lock.write_text(SMALL)
    here = Environment(target="small", package="colorama", size="small", lock=lock, home=tmp_path / "home")
    assert not here.installed()
    where = here.install()
    assert here.installed() and list(where.glob("lib/*/site-packages/colorama/__init__.py"))
    debris = where / "debris"
    debris.touch()
    assert here.install() == where and debris.exists()  # nothing to do
    (here.home / "COMPLETE.json").unlink()
    assert not here.installed()
    here.install()
    assert here.installed() and not debris.exists()
    lock.write_text("colorama==99999\n")
    with pytest.raises(ServiceError, match=r"(?s)small: .*needs a package registry once: .*make small again"):
        here.install()
    assert not here.installed()
    lock.write_text(SMALL)
    assert not here.installed()
    here.install()
    shutil.move(here.home, tmp_path / "moved")
    assert not replace(here, home=tmp_path / "moved").installed()
