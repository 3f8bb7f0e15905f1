"""params.yaml is read once, strictly: complete, no typos, no wrong types."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tasks.errors import ParamsError
from tasks.params import Compute, Params, Seed, load

ROOT = Path(__file__).parent.parent


def changed(tmp_path: Path, change) -> Path:
    """params.yaml with one change, in a temporary file."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    change(raw)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True))
    return path


def test_the_committed_file_is_complete():
    """Every section is there, and a stage can ask for its section by type."""
    params = load(ROOT / "params.yaml")
    assert params.section(Compute) == params.compute
    assert params.section(Seed).value == params.seed.value


def test_a_typo_is_named_with_the_right_name_beside_it(tmp_path):
    """The message holds section, field and the nearest known field."""
    path = changed(tmp_path, lambda raw: raw["compute"].update(thread=2))
    with pytest.raises(ParamsError, match=r"compute\.thread: no such parameter \(did you mean 'threads'\?\)"):
        load(path)


def test_a_missing_value_is_no_silent_default(tmp_path):
    """A deleted line is an error, not a default."""
    path = changed(tmp_path, lambda raw: raw["compute"].pop("threads"))
    with pytest.raises(ParamsError, match=r"compute\.threads: is missing"):
        load(path)


def test_a_wrong_value_shows_what_was_found(tmp_path):
    """A value out of range is quoted back."""
    path = changed(tmp_path, lambda raw: raw["compute"].update(threads=0))
    with pytest.raises(ParamsError, match=r"compute\.threads: .*greater than or equal to 1 \(found 0\)"):
        load(path)


def test_bytes_for_any_processor_need_a_processor(tmp_path):
    """A GPU adds in an order of its own, so `device: auto` would be a promise that hangs on the machine."""
    path = changed(tmp_path, lambda raw: raw["compute"].update(reproducible="any-x86"))
    with pytest.raises(ParamsError, match=r"compute: .*reproducible: any-x86 needs device: cpu, not auto"):
        load(path)


def test_every_problem_is_listed_at_once(tmp_path):
    """Two mistakes, one run."""
    path = changed(tmp_path, lambda raw: (raw["compute"].update(threads=0), raw["seed"].update(value=-1)))
    with pytest.raises(ParamsError, match="2 problems") as error:
        load(path)
    assert "compute.threads" in str(error.value) and "seed.value" in str(error.value)


@pytest.mark.parametrize("changes, what", [
    ({"act_order": True, "act_group_aware": True}, r"quantize: .*two orders of the same columns"),
    ({"group_size": -1}, r"quantize\.group_size: .*16, 32, 64, 128, 256, 512 or 1024 \(found -1\)"),
    ({"bits": 3}, r"quantize\.bits: .*4 or 8 \(found 3\)"),
])
def test_what_cannot_be_quantized_is_refused_at_the_door(tmp_path, changes, what):
    """GPTQModel would say so in the middle of its work, or some reader of its result never."""
    with pytest.raises(ParamsError, match=what):
        load(changed(tmp_path, lambda raw: raw["quantize"].update(changes)))


@pytest.mark.parametrize("content, what", [(None, "is missing"), ("a: [", "is not YAML"), ("- 1", "holds no sections")])
def test_an_unreadable_file_is_said_to_be_so(tmp_path, content, what):
    """Missing, broken and empty files have messages of their own."""
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ParamsError, match=what):
        load(path)


def test_no_field_has_a_default_and_each_is_described():
    """A default in code would change a model without rerunning its stage; a field without a unit helps nobody."""
    def walk(model, where):
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                walk(field.annotation, f"{where}{name}.")
            else:
                assert field.is_required(), f"{where}{name} has a default"
                assert field.description, f"{where}{name} has no description"
    walk(Params, "")
