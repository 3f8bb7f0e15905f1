"""Who judged, by a name that says nothing: annotators are told apart, and nobody reads in the data who they are.

A pseudonym is a keyed hash, so without the salt nobody can try all ids of a server. With the same salt a person has the
same pseudonym on each machine; an e-mail address is in no row, no log and no message.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from pathlib import Path

from tasks.labelling import secrets
from tasks.params import Params

PLAIN = "label-studio-"
PSEUDONYM = re.compile(r"annotator-[0-9a-f]{12}|label-studio-\d+")  # names that are made here
EMAIL = re.compile(r"[^\s@\"'<>,;:()\[\]]+@[^\s@\"'<>,;:()\[\]]+")


def pseudonym(user: int, salt: str) -> str:
    """The name of a Label Studio user."""
    digest = hmac.new(salt.encode(), f"label-studio user {user}".encode(), hashlib.sha256).hexdigest()
    return f"annotator-{digest[:12]}"


def plain(user: int) -> str:
    """The name where labelling.pseudonyms is false."""
    return f"{PLAIN}{user}"


def namer(root: Path, params: Params) -> Callable[[int], str]:
    """User id → name, as params.yaml wants it. ServiceError where a salt is needed and there is none."""
    if not params.labelling.pseudonyms:
        return plain
    salt = secrets.value(root, secrets.SALT)
    return lambda user: pseudonym(user, salt)


def masked(text: str) -> str:
    """The text without e-mail addresses."""
    return EMAIL.sub("(e-mail)", text)
