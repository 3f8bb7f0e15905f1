"""A release in which only the documents are new: the live model with tonight's index.

New documents must not wait for a model that passes the gate. What is judged is what has changed: the gate's rules on
search, against the live release's search. The model, its prompt and its settings are the live ones, byte for byte, so
champion.json stays as it is; figures that nobody has measured again on the new documents are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tasks import champion, live_index, params, promote, records
from tasks.errors import GateError
from tasks.figures import figures_from, stage_of
from tasks.files import canonical_json, read_json, sha256_tree
from tasks.gate import on_search
from tasks.rag.chunks import MANIFEST
from tasks.release import data_hash, facts
from tasks.verify import measured

NEW = ("embedded", "index")  # the parts that come from tonight
MADE = ("embed", "index")  # stages that made them
MEASURED = (*MADE, "retrieve")  # stages whose figures are tonight's; validate and prepare speak of the model's data, too
OUTDATED = ("answers",)  # stages that measured the live model on the former documents
ASKED = ("top_k", "headings", "reranker", "reranker_revision", "rerank")  # settings that search was measured with

Record = dict[str, Any]


def candidate(root: Path) -> tuple[Record, list[str]] | None:
    """Manifest of the live release with tonight's documents, and why the gate holds it back (mostly nothing).

    None when nothing is live or nothing is new. GateError when search was not measured on tonight's index.
    """
    live = records.live(root)
    if live is None:
        return None
    record, cfg = records.record(root, live), params.load(root / "params.yaml")
    base = record["manifest"]
    if not set(NEW) <= set(base["parts"]):
        return None  # that release has no index
    folders = {"embedded": records.output_of(root, "embed"), "index": records.output_of(root, "index")}
    parts = {name: records.part(folder, root) for name, folder in folders.items()}
    if all(parts[name]["sha256"] == base["parts"].get(name, {}).get("sha256") for name in NEW):
        return None
    _check_measured(root)
    asked = {key: base.get("answering", {}).get(key) for key in ASKED}
    if asked != {key: getattr(cfg.answers, key) for key in ASKED}:
        raise GateError("section answers", f"is not that of {live}: search was measured otherwise", "run a night: make nightly")
    file = root / "metrics" / "retrieve.json"
    searched = champion.read(root / "champion-search.json", champion.SearchChampion).release
    reasons = on_search(cfg.gate, read_json(file), searched, file)
    places = cfg.release.figures
    tonight = {label: place for label, place in places.items() if stage_of(place) in MEASURED}
    outdated = {label for label, place in places.items() if stage_of(place) in OUTDATED}
    manifest = {
        **base,
        "parts": {**base["parts"], **parts},
        "embedding": facts(folders["embedded"] / MANIFEST),
        "index": facts(folders["index"] / MANIFEST),
        "figures": {
            **{label: None if label in outdated else value for label, value in base["figures"].items()},
            **figures_from(tonight, root / "metrics"),
        },
        "gate": {
            "promote": all(reason.passed for reason in reasons),
            "champion": base["gate"].get("champion"),
            "champion_search": searched,
            "reasons": [reason.model_dump(mode="json") for reason in reasons],
        },
        "data": {**data_hash(root / "data"), "dvc": base["data"].get("dvc", "data.dvc")},
        **_origin(root, base, cfg),
        "model_of": base.get("model_of", live),
    }
    return manifest, records.refusals(manifest)


def held_back_as_a_whole(root: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether tonight's own candidate has these very parts: then its gate has already spoken about them. What it said of the
    model beside the live one does not count, for that is what the model is."""
    found = records.candidate(root)

    def parts(of: Mapping[str, Any]) -> dict[str, str]:
        return {name: part["sha256"] for name, part in of["parts"].items()}

    return found is not None and parts(found[1]) == parts(manifest) and any(
        not reason["passed"] and "champion" not in reason.get("rule", "") for reason in found[1]["gate"]["reasons"])


def release(root: Path, now: datetime, again: bool = False) -> promote.Promoted:
    """Make the live model with tonight's documents live. Doing it twice does nothing the second time.

    GateError when nothing is live, when the gate's rules on search or tonight's own gate hold it back, when a part is not
    there, or when it was rolled back before (`again` releases it nevertheless). BusyError while another promotion or
    rollback is running.
    """
    with promote.changing(root):
        before = records.live(root)
        if before is None:
            raise GateError("documents", "cannot be released alone: no model is live yet", "run a night: make nightly")
        found = candidate(root)
        if found is None:
            return promote.Promoted(before, False, before, promote.finish(root))
        manifest, why = found
        if why:
            raise GateError("documents", f"the gate holds them back: {'; '.join(why)}", "metrics/retrieve.json has the figures")
        if held_back_as_a_whole(root, manifest):
            raise GateError(
                "documents", "the gate holds this model with these documents back", "metrics/gate.json has the reasons"
            )
        known = records.released_as(root, manifest)
        promote.check_withdrawn(known, again)
        former = records.record(root, before)
        dvc = _dvc(root, former["dvc"]["outs"], manifest)
        _check_model(root, manifest, dvc)
        live_index.ready(root, manifest)
        digest = hashlib.sha256(canonical_json(manifest).encode()).hexdigest()
        name = known["release"] if known else f"{now.astimezone(UTC):%Y-%m-%d}-{digest[:8]}"
        answers = champion.read(root / records.RELEASES / "answers" / f"{before}.json")
        search = champion.champion_from(name, records.output_of(root, "retrieve"), champion.SearchChampion)
        metrics = {stage: figures for stage, figures in former["metrics"].items() if stage not in OUTDATED}
        metrics |= measured(root, manifest, _new(root)["metrics"])
        return promote.publish(root, now, name, digest, manifest, [answers, search], dvc, metrics)


def _origin(root: Path, base: Record, cfg: params.Params) -> Record:
    """Where it comes from: the live model's origin, and of search tonight's; nothing where the record is too old to tell."""
    if not set(records.ORIGIN) <= set(base):
        return {}
    new = _new(root)
    kept = {stage: file for stage, file in base["metrics"].items() if stage not in OUTDATED}
    return {
        "evaluation": {**{name: it for name, it in base["evaluation"].items() if name not in OUTDATED}, **new["evaluation"]},
        "metrics": {**kept, **new["metrics"]},
        "params": {**base.get("params", {}), **{name: getattr(cfg, name).model_dump(mode="json") for name in MADE}},
    }


def _new(root: Path) -> dict[str, Record]:
    """What tonight's index is and was judged by."""
    figures = {stage: root / "metrics" / f"{stage}.json" for stage in MEASURED}
    return {
        "evaluation": {"retrieval": records.part(records.output_of(root, "retrieve"), root)},
        "metrics": {stage: records.part(path, root) for stage, path in figures.items() if path.is_file()},
    }


def _dvc(root: Path, former: Mapping[str, str], manifest: Mapping[str, Any]) -> Record:
    """DVC's names of all bytes: tonight's of what is new, the former ones of the rest."""
    dvc, new = records.lock(root), [manifest["parts"][name] for name in NEW]
    new += [part for group in _new(root).values() for part in group.values()]
    dvc["outs"] = {**former, **{part["path"]: dvc["outs"].get(part["path"]) for part in new}}
    return dvc


def _check_measured(root: Path) -> None:
    """GateError unless stage retrieve has run on just this index (dvc.lock knows)."""
    stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    index = records.output_of(root, "index").relative_to(root).as_posix()
    built = {out["path"]: out["md5"] for out in stages.get("index", {}).get("outs", [])}.get(index)
    asked = {dep["path"]: dep["md5"] for dep in stages.get("retrieve", {}).get("deps", [])}.get(index)
    if built is None or built != asked:
        raise GateError("documents", "search was not measured on this index", "dvc repro retrieve")


def _check_model(root: Path, manifest: Mapping[str, Any], dvc: Mapping[str, Any]) -> None:
    """GateError unless the live model's bytes are at hand: in the workspace, or in DVC's cache."""
    model = manifest["parts"].get("model")
    if model is None or ((root / model["path"]).exists() and sha256_tree(root / model["path"]) == model["sha256"]):
        return
    if records.missing_parts(root, {"manifest": {"parts": {"model": model}}, "dvc": dvc}):
        raise GateError("documents", "the live model is not in DVC's cache", "fetch it: dvc fetch at the live release's commit")
