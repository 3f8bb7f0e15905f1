"""Load, merge and save models, so that every stage sees the same weights.

Everything is loaded and merged in fp32: bf16 sums lose low bits of an adapter's update.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.files import read_json, write_json
from tasks.params import Compute
from tasks.training.hardware import device_of
from tasks.training.tokens import check_same_tokens, check_tokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = "model.safetensors"  # of a model that was trained whole


def config_of(folder: Path) -> PretrainedConfig:
    """What a model folder says of its model, without its weights."""
    from transformers import AutoConfig

    _check_config(folder)
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_base(folder: Path, compute: Compute) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A dense model in fp32, in evaluation mode, on the device of `compute`, and its checked tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(folder)
    _check_config(folder)
    quiet()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True,
                                                     trust_remote_code=False, use_safetensors=True)
    except OSError as error:
        raise ModelError(str(folder), str(error).splitlines()[0], "run the stage that writes it again") from None
    if model.get_input_embeddings().weight.shape[0] < len(tokenizer):
        raise ModelError(str(folder), f"its tokenizer has {len(tokenizer)} entries, more than its embedding has rows",
                         "take the tokenizer that belongs to these weights")
    return model.eval().to(device_of(compute)), tokenizer


def _check_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(str(folder), "holds no config.json", "run the stage that writes it: dvc repro base")


def load_policy(base: Path, adapters: Sequence[Path],
                compute: Compute) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base with each adapter merged into it in turn, in fp32 and in memory: W ← W + (α/r)·BA.

    A stage that trained the whole model has left its weights in the place of an adapter; they replace what was below.
    """
    model, tokenizer = load_base(base, compute)
    for adapter in adapters:
        model = with_weights(model, adapter) if is_whole(adapter) else with_adapter(model, adapter).merge_and_unload()
    return model.eval(), tokenizer


def is_whole(trained: Path) -> bool:
    """Whether a training stage's output is all weights of a model and not an adapter."""
    return (trained / WEIGHTS).is_file()


def with_weights(model: PreTrainedModel, trained: Path) -> PreTrainedModel:
    """The model with all of its weights replaced; ModelError where they are another model's."""
    from safetensors.torch import load_model

    try:
        load_model(model, trained / WEIGHTS, strict=True, device=str(model.device))
    except RuntimeError as error:
        raise ModelError(str(trained), f"does not fit the model below it ({str(error).splitlines()[0]})",
                         "run the stage that writes it again: dvc repro") from error
    return model


def with_adapter(model: PreTrainedModel, adapter: Path) -> Any:
    """The model as a PeftModel with a saved LoRA adapter switched on and not merged."""
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(str(adapter), "holds no adapter", "run the stage that writes it: dvc repro")
    dense_only()
    try:
        return PeftModel.from_pretrained(model, adapter, is_trainable=False).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(str(adapter), f"does not fit the model below it ({str(error).splitlines()[0]})",
                         "run the stage that writes it again: dvc repro") from error


def dense_only() -> None:
    """Tell PEFT that no layer here is GPTQModel's. To find out it would import that: 2.6 CPU-seconds, 200 MB and a banner."""
    from peft.import_utils import is_gptqmodel_available  # which keeps its first answer

    if "gptqmodel" not in sys.modules:
        sys.modules["gptqmodel"] = None  # type: ignore[assignment]  # to importlib: there is none
        try:
            is_gptqmodel_available()
        finally:
            del sys.modules["gptqmodel"]


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write a complete model folder, then reload its tokenizer and assert that nothing has changed.

    AutoTokenizer picks a class by the model's type and may ignore a custom pre-tokenizer: everything downstream would
    be trained on other tokens than it is served with.
    """
    out.mkdir(parents=True, exist_ok=True)
    check_tokenizer(tokenizer, str(out))
    quiet()
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    _plain_config(out / "tokenizer_config.json")
    check_same_tokens(tokenizer, load_tokenizer(out), str(out))


def _plain_config(path: Path) -> None:
    """Name the tokenizer's class as old and new versions of transformers know it, and drop how it was loaded."""
    settings = read_json(path)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("backend", "is_local", "local_files_only", "name_or_path"):
        settings.pop(key, None)
    write_json(path, settings)


def quiet() -> None:
    """Loading reports, progress bars and notices of the libraries off: a stage says in its own words what it does."""
    import datasets
    from transformers.utils import logging as notices

    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao, which transformers imports, is behind torch
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")


def parameter_count(model: PreTrainedModel) -> int:
    """Number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())
