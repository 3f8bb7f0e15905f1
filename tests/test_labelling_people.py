"""Names that say nothing: the same person the same name, and no way back without the salt."""

from __future__ import annotations

import hashlib
import hmac

import pytest
import yaml
from data_fixtures import PARAMS

from tasks.errors import ServiceError
from tasks.labelling.people import masked, namer, pseudonym
from tasks.params import Params


def params(pseudonyms: bool) -> Params:
    """params.yaml with the switch."""
    raw = yaml.safe_load(yaml.safe_dump(PARAMS))
    raw["labelling"]["pseudonyms"] = pseudonyms
    return Params.model_validate(raw)


def test_a_pseudonym_is_a_keyed_hash():
    """The first 12 hex digits of HMAC-SHA256, as anybody with the salt can check."""
    wanted = hmac.new(b"salt", b"label-studio user 7", hashlib.sha256).hexdigest()[:12]
    assert pseudonym(7, "salt") == f"annotator-{wanted}" != pseudonym(7, "other") != pseudonym(8, "salt")


def test_the_salt_is_asked_for_only_where_it_is_needed(tmp_path, monkeypatch):
    """Plain names need none; pseudonyms without one are an error that names it, not a name without salt."""
    monkeypatch.delenv("NIGHTSHIFT_ANNOTATOR_SALT", raising=False)
    assert namer(tmp_path, params(False))(7) == "label-studio-7"
    with pytest.raises(ServiceError, match="NIGHTSHIFT_ANNOTATOR_SALT: is not set"):
        namer(tmp_path, params(True))
    monkeypatch.setenv("NIGHTSHIFT_ANNOTATOR_SALT", "salt")
    assert namer(tmp_path, params(True))(7) == pseudonym(7, "salt")


def test_addresses_are_masked():
    """Whatever stands around them."""
    assert masked('{"by": "a.b+c@example.org", "x": 1} <o@localhost>') == '{"by": "(e-mail)", "x": 1} <(e-mail)>'
