"""The Label Studio server in an environment of its own: its pins and ours cannot live in one.

The empty database is whole or not there, as the environment is: the server needs a minute to lay it out, which is done
once here and copied from then on.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deploy.environments import ROOT, Environment, alone, plain
from tasks.files import sha256_file

LOCK = ROOT / "deploy" / "label-studio.lock"
HOME = ROOT / "build" / "label-studio"
SERVER = Environment(target="label-studio", package="label-studio", size="0.8 GB", lock=LOCK, home=HOME)
DATABASE = "label_studio.sqlite3"  # its name in a data folder
QUIET = {"LATEST_VERSION_CHECK": "false", "COLLECT_ANALYTICS": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}


def empty_database(server: Environment = SERVER) -> Path:
    """A database with tables and nobody in it, made once for a lock by the server itself."""
    where = server.install()
    kept = server.home / f"empty-{sha256_file(server.lock)[:12]}.sqlite3"
    with alone(server.home):
        if not kept.is_file():
            part = server.home / "empty.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            print("label-studio: laying out an empty database (once; about a minute)", flush=True)
            settings = {"LABEL_STUDIO_BASE_DATA_DIR": str(part), **QUIET}
            server.run([str(where / "bin" / "label-studio"), "init", "--quiet"], {**plain(os.environ), **settings}, part)
            os.replace(part / DATABASE, kept)
            shutil.rmtree(part)
    return kept
