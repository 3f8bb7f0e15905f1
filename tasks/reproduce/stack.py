"""What bytes depend on besides code, data and parameters; and so, what is promised to be identical.

    nothing differs                  everything
    only the processor differs       stages that do no sums on it: those that neither read section compute nor anything
                                     made by a stage that does
    Python or a package differs      nothing: a library may write the same thing otherwise
    made on a GPU                    as for another processor, even on the same one: some kernels have no deterministic twin

Where bytes are not promised figures are compared, and what differs is listed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tasks.errors import ServiceError
from tasks.listing import flat
from tasks.reproduce.workspace import Workspace

Stages = Mapping[str, Any]

COMPUTE = "compute"  # section of params.yaml that a stage reads if its bytes depend on the processor
SOFTWARE = ("python", "system", "packages.", "torch_build.", "installed.")  # differences that may reach every stage
ASK = """
import json
from pathlib import Path
import tasks
from tasks import environment, params
environment.apply()
compute = params.load(Path("params.yaml")).compute
getattr(environment, "pin", lambda compute: None)(compute)
from tasks.release import stack
print(json.dumps({"code": tasks.__file__, "stack": stack(compute, Path("requirements.lock"))}))
"""


def differences(there: Workspace, then: Mapping[str, Any]) -> dict[str, str]:
    """"key" → "then → now" for what differs between the stack of a manifest and the present one, as the commit's own code
    sees it; and for each pin of its requirements.lock that is not installed."""
    now = present(there)
    a, b = flat(dict(then)), flat(dict(now))
    found = {key: f"{a.get(key, 'not told')} → {b.get(key, 'not told')}" for key in {**a, **b} if a.get(key) != b.get(key)}
    if b.get("device", "cpu") == a.get("device", "cpu") != "cpu":
        found["device"] = f"{a['device']}: some of its kernels add in no fixed order"
    lock = there.root / "requirements.lock"
    return found | (installed(lock.read_text(encoding="utf-8").splitlines()) if lock.is_file() else {})


def present(there: Workspace) -> dict[str, Any]:
    """The stack that the commit's code would write down here. ServiceError where other code than the commit's would run."""
    done = there.run(sys.executable, "-c", ASK)
    if done.returncode:
        raise ServiceError("the commit's code", f"does not run here: {(done.stderr or done.stdout).strip().splitlines()[-1]}",
                           "install what its requirements.lock names")  # fmt: skip
    told = json.loads(done.stdout.strip().splitlines()[-1])
    if not Path(told["code"]).resolve().is_relative_to(there.root.resolve()):
        raise ServiceError("the commit's code", f"would not run, but {told['code']}", "look at PYTHONPATH and at .pth files")
    return told["stack"]


def installed(pins: Iterable[str]) -> dict[str, str]:
    """Pins of a requirements.lock that are not what is installed, as `differences` gives them."""
    from packaging.requirements import Requirement

    found = {}
    for line in pins:
        text = line.partition(" #")[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        pin = Requirement(text)
        if pin.marker and not pin.marker.evaluate():
            continue
        try:
            version = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            version = "not installed"
        if version == "not installed" or not pin.specifier.contains(version, prereleases=True):
            found[f"installed.{pin.name}"] = f"{str(pin.specifier).removeprefix('==')} → {version}"
    return found


def promised(stages: Stages, different: Iterable[str]) -> set[str]:
    """Names of the stages whose bytes have to be the same; `different`: keys of `differences`."""
    different = list(different)
    if not different:
        return set(stages)
    if any(key.startswith(SOFTWARE) for key in different):
        return set()
    return set(stages) - downstream(stages, {name for name in stages if COMPUTE in sections(stages[name])})


def sections(stage: Mapping[str, Any]) -> set[str]:
    """Sections of params.yaml that a stage of dvc.lock reads."""
    return {name.partition(".")[0] for file in stage.get("params", {}).values() for name in file or {}}


def downstream(stages: Stages, names: set[str]) -> set[str]:
    """These stages and all that read what they make, directly or not."""
    reached, todo = set(names), list(names)
    while todo:
        above = todo.pop()
        further = {name for name in stages if above in needs(stages, name)} - reached
        reached |= further
        todo += further
    return reached


def upstream(stages: Stages, names: Iterable[str]) -> list[str]:
    """These stages and all they need, in the order of `stages`."""
    reached, todo = set(names), list(names)
    while todo:
        further = needs(stages, todo.pop()) - reached
        reached |= further
        todo += further
    return [name for name in stages if name in reached]


def needs(stages: Stages, name: str) -> set[str]:
    """Stages whose outputs a stage reads: a path is read whole, or something in it."""
    deps = [dep["path"] for dep in stages[name].get("deps", [])]
    return {above for above, stage in stages.items() for out in stage.get("outs", [])
            if any(_within(dep, out["path"]) or _within(out["path"], dep) for dep in deps)} - {name}  # fmt: skip


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
