"""`nightshift reproduce RELEASE`: make a release again from its commit, and say artifact by artifact whether it is the same.

    origin.py      which commit a release was made from, and its parameters where they were never committed
    workspace.py   that commit in a work tree of its own, outside the checkout, with a DVC cache of its own
    stack.py       what bytes depend on besides code and data, then and here: what is promised to be identical
    run.py         `dvc repro` there, or everything out of DVC's cache and remote
    compare.py     hashes against the release's dvc.lock and manifest; what differs where they do
    report.py      what came out, as lines and as JSON

The code that runs is that commit's; the installed packages are the present ones, and what differs is said before anything
runs. Nothing is written into the checkout but .nightshift/reproduce/ and git's list of work trees. A search store on a
server is shared, though: with index.store: weaviate the stages look for their build there, and add it where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasks import documents_release, lock, promote
from tasks.errors import ParamsError
from tasks.figures import figures_from, look_up
from tasks.reproduce import compare, origin, run, stack
from tasks.reproduce.report import Figure, Reproduction, Step, verdict_of
from tasks.reproduce.workspace import Workspace, workspace

HOME = Path(".nightshift/reproduce")


def reproduce(
    root: Path,
    release: str,
    *,
    from_cache: bool = False,
    stages: list[str] | None = None,
    within: Path | None = None,
    keep: bool = False,
    dry: bool = False,
    say: Callable[[str], None] = print,
) -> Reproduction:
    """Make `release` again and compare.

    `from_cache`: every output is taken from DVC's cache or remote and its bytes are checked; else all is computed anew.
    `stages`: only these and what they need. `within`: an existing folder for the work tree, default the temporary one; it
    is removed at the end unless `keep`. `dry` ends before anything is computed. GateError where the commit cannot be told,
    BusyError where another reproduction is running here.
    """
    record = promote.record(root, release)
    candidates = origin.commits(root, record)
    home = root / HOME
    with (
        lock.held(home / "lock", "reproduce", "another reproduction"),
        workspace(root, candidates[0], home / "folder.json", within, keep) as there,
    ):
        made = origin.Origin(candidates[0], ()) if from_cache else origin.find(there, record, candidates)
        there.lock = there.stages()
        chosen = choose(there, record, stages)
        say(f"{record['release']}: commit {made.commit[:10]}, {len(chosen)} of {len(there.lock)} stages, in {there.root}")
        for line in made.notes:
            say(line)
        different = {} if from_cache else stack.differences(there, record["manifest"]["stack"])
        promised = stack.promised(there.lock, different)
        for line in told(different, promised, chosen):
            say(line)
        artifacts: list[compare.Artifact] = []
        steps: list[Step] = []

        def ended(stage: str, seconds: float) -> None:
            found = compare.outputs(there, stage, stage in promised, record)
            artifacts.extend(found)
            steps.append(Step(stage=stage, seconds=round(seconds, 1)))
            say(f"  {stage:<12}{seconds:8.1f} s  {verdict_of(found)}")

        log, failed = root / HOME / f"{record['release']}.log", []
        if not from_cache:
            say(f"{run.forecast(root, chosen)}; what is said meanwhile: {log.relative_to(root)}")
        if not dry:
            way = run.restore if from_cache else run.compute
            failed = way(there, chosen, len(chosen) == len(there.lock), ended, log)
            artifacts += compare.parts(there, record, promised, [step.stage for step in steps])
        return Reproduction(
            release=record["release"],
            commit=made.commit,
            way="dry run" if dry else "from cache" if from_cache else "computed",
            stack=different,
            promised=[name for name in chosen if name in promised],
            params=list(made.restored),
            elsewhere=elsewhere(there, record, chosen),
            steps=steps,
            artifacts=artifacts,
            figures=[] if dry else figures(there, record, [step.stage for step in steps]),
            failed=failed,
            folder=str(there.root) if keep else None,
        )


def choose(there: Workspace, record: compare.Record, stages: list[str] | None) -> list[str]:
    """The stages to look at, each after those it needs. A release of documents alone (docs/decisions/0012) was made by
    those of its search; the night around them made another model. ParamsError for a stage that the commit has not."""
    wanted = stages or list(documents_release.MEASURED if "model_of" in record["manifest"] else there.lock)
    for name in wanted:
        if name not in there.lock:
            raise ParamsError("--stages", f"dvc.lock of that commit has no stage {name!r}", f"take from: {', '.join(there.lock)}")
    return stack.upstream(there.lock, wanted)


def elsewhere(there: Workspace, record: compare.Record, stages: list[str]) -> list[str]:
    """Parts that none of these stages makes, and whose they are."""
    of = record["manifest"].get("model_of")
    return [f"{name} ({part['path']}{f', of {of}: nightshift reproduce {of}' if of else ''})"
            for name, part in record["manifest"]["parts"].items()
            if compare.maker(there.lock, part["path"]) not in stages]  # fmt: skip


def told(different: dict[str, str], promised: set[str], stages: list[str]) -> list[str]:
    """What is promised, said before hours are spent."""
    if not different:
        return ["promised: every artifact byte-identical (the same stack, or bytes out of the cache)"]
    kept = [name for name in stages if name in promised]
    return [
        "the stack is not the release's; expected to differ because of",
        *(f"  {key}: {change}" for key, change in different.items()),
        f"promised byte-identical: {', '.join(kept) or 'nothing'}; of the rest figures are compared",
    ]


def figures(there: Workspace, record: compare.Record, stages: list[str]) -> list[Figure]:
    """The release's figures that these stages measure, then and now."""
    import yaml

    params = yaml.safe_load((there.root / "params.yaml").read_text(encoding="utf-8"))
    places = {label: place for label, place in params["release"]["figures"].items() if place.partition(".")[0] in stages}
    now = figures_from(places, there.root / "metrics")
    then = {label: look_up(record["metrics"], place.split(".")) for label, place in places.items()}
    return [Figure(label=label, released=then[label], now=value) for label, value in now.items()]
