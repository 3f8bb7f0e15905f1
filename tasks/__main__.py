"""The shell door: `python -m tasks STAGE --dataset … --out … --metrics metrics/STAGE.json`.

The command line is derived from the signature of `tasks.STAGE.STAGE`:

    a parameter annotated with a section of params.yaml   is filled from that file
    `Path` parameters                                     become required options (documents → --documents)
    `out`, `*_out`                                        are output folders: the stage gets a fresh empty one, which is
                                                          fsynced and renamed into place only when it has succeeded
    `before: Path | None`                                 is no option: what lies at `out` from a former run, to read and
                                                          never to change; dvc.yaml has `persist: true` for that out
    the returned Report                                   is written to --metrics as canonical JSON
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import shutil
import sys
import time
import typing
from pathlib import Path

try:
    import pydantic  # noqa: F401  (the door checks that it opens in the right environment)
except ImportError:
    sys.exit(f"{sys.executable}: not Nightshift's environment; run `make setup`, then put .venv/bin first on PATH "
             "or use `make nightly` / `make repro`")

from tasks import environment
from tasks.errors import NightshiftError, ParamsError, full_disk

if typing.TYPE_CHECKING:
    from tasks.params import Params

STAGES = ("validate", "prepare", "base", "sft", "candidates", "reward", "select", "align", "merge", "evaluate",
          "quantize", "embed", "index", "retrieve", "answers", "gate", "release", "report")
BEFORE = "before"
FAILED = Path(".nightshift/failed")  # what refused stages had written


def stage_function(name: str) -> typing.Callable:
    """The function of a stage: tasks/<name>.py::<name>."""
    return getattr(importlib.import_module(f"tasks.{name}"), name)


def is_output(name: str) -> bool:
    """Whether a stage's parameter names an output folder."""
    return name == "out" or name.endswith("_out")


def signature(function: typing.Callable) -> dict[str, type]:
    """Parameter name → annotation, in order, of a stage function."""
    hints = typing.get_type_hints(function)
    return {name: hints[name] for name in inspect.signature(function).parameters}


def parser() -> argparse.ArgumentParser:
    """A subcommand for the stage on the command line; its module is imported only then."""
    top = argparse.ArgumentParser(prog="python -m tasks", description="Run one stage of the nightly graph.",
                                  epilog="The graph itself is in dvc.yaml: `dvc repro` runs what has changed.")
    top.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    return top


def arguments(name: str, function: typing.Callable, words: list[str]) -> argparse.Namespace:
    """Parse the options of one stage."""
    options = argparse.ArgumentParser(prog=f"python -m tasks {name}", description=inspect.getdoc(function),
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    for parameter, kind in signature(function).items():
        if kind is Path:
            help_ = "output folder, replaced when the stage has succeeded" if is_output(parameter) else "input"
            options.add_argument(f"--{parameter.replace('_', '-')}", type=Path, required=True, metavar="PATH", help=help_)
    options.add_argument("--metrics", type=Path, required=True, metavar="PATH", help="where the stage's report is written (JSON)")
    options.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="PATH", help="default: params.yaml")
    return options.parse_args(words)


def run(name: str, words: list[str]) -> None:
    """Run one stage: read its parameters, check its inputs, give it fresh outputs, put them in place."""
    from tasks import params as params_module
    from tasks.files import replace_dir, write_json

    function = stage_function(name)  # loads none of the libraries that `pin` is for; they are imported where they are used
    options = arguments(name, function, words)
    sections = params_module.load(options.params)
    environment.pin(sections.compute)
    if params_module.Compute in signature(function).values():
        check_precisions(sections)
    kinds = [kind for kind in signature(function).values() if isinstance(kind, type)]
    training = next((sections.section(kind) for kind in kinds if issubclass(kind, params_module.Training)), None)
    rank = environment.rank()
    if training and training.processes > 1 and rank is None:
        from tasks.training import launch

        for output in (getattr(options, name) for name in signature(function) if is_output(name)):
            _clear_leftovers(output)
        return launch.launch(name, words, training, sections.compute.threads)
    values: dict[str, object] = {}
    outputs: dict[Path, Path] = {}
    for parameter, kind in signature(function).items():
        if kind is Path:
            path: Path = getattr(options, parameter)
            if is_output(parameter):
                part = path.with_name(f".{path.name}.part-{os.getpid()}")
                if parameter == "out" and BEFORE in signature(function):
                    values[BEFORE] = _former(path)
                if rank is None:  # else the launcher has done it, and the others' parts lie there
                    _clear_leftovers(path)
                part.mkdir(parents=True)
                outputs[part] = path
                values[parameter] = part
            elif not path.exists():
                raise ParamsError(f"--{parameter.replace('_', '-')} {path}", "does not exist",
                                  "run the stage that writes it: dvc repro")
            else:
                values[parameter] = path
        elif parameter != BEFORE:
            values[parameter] = sections.section(kind)
    try:
        report = function(**values)
        for part, final in outputs.items():
            replace_dir(part, final)
        write_json(options.metrics, report.model_dump(mode="json"))
    except NightshiftError:
        if not rank:
            _keep(name, outputs)
        raise
    finally:
        for part in outputs:
            shutil.rmtree(part, ignore_errors=True)


def check_precisions(sections: Params) -> None:
    """Raise ModelError where any stage asks for a precision that this machine has not: the first stage of a night says so, not
    the one that would meet it hours later."""
    from tasks.params import Training

    for place, section in sections.precisions().items():
        compute = sections.compute.at(section.precision)
        if compute.precision != "fp32":
            from tasks.training.hardware import check_precision

            check_precision(compute, place, training=isinstance(section, Training))


def _keep(name: str, outputs: dict[Path, Path]) -> None:
    """Put what a refused stage had written where it can be read (Data Docs, samples), and where no stage will."""
    kept = FAILED / name
    shutil.rmtree(kept, ignore_errors=True)
    for part, final in outputs.items():
        if part.is_dir() and any(part.iterdir()):
            kept.mkdir(parents=True, exist_ok=True)
            os.replace(part, kept / final.name)
    if kept.is_dir():
        print(f"{name}: what it had written is kept in {kept}", file=sys.stderr)


def _former(path: Path) -> Path | None:
    """What a former run put at `path`; a kill between the two renames of `replace_dir` has left it beside."""
    for old in path.parent.glob(f".{path.name}.old-*"):
        if not path.exists():
            os.replace(old, path)
    return path if path.is_dir() else None


def _clear_leftovers(path: Path) -> None:
    """Remove what a killed run left beside an output."""
    for kind in ("part", "old"):
        for leftover in path.parent.glob(f".{path.name}.{kind}-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def main() -> int:
    """Entry point; a NightshiftError is one line on stderr and exit code 1."""
    environment.apply()
    (environment.die_with_parent if environment.rank() is None else environment.end_with_parent)()
    words, began = sys.argv[1:], time.time()
    name = parser().parse_args(words[:1]).stage
    try:
        with full_disk(name):
            run(name, words[1:])
            _tell(began)
    except NightshiftError as error:
        if environment.rank() is not None:
            from tasks.training import launch

            launch.tell(error)  # the launcher prints it, after torchrun's own lines
        else:
            print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def _tell(began: float) -> None:
    """When the stage was at work, to the flow that has asked for it (tasks/costs.py): no part of what is hashed."""
    if path := os.environ.get(environment.STAGE_TIMES):
        from tasks.files import write_json

        write_json(Path(path), {"began": began, "ended": time.time()})


if __name__ == "__main__":
    sys.exit(main())
