"""The model card, from the facts alone: README.md for where the model lies, card.html to look at.

Everything on it was measured or set by somebody: counts, settings, figures with their intervals, hashes. Nothing is
claimed beside them, and what nobody has measured is said to be so. Names of annotators are not on it. Written by stage
release it has no date and no commit, so that equal inputs give equal bytes; a release that was promoted has both.

A release of before something was measured has a card, too: what it does not tell, the card says in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.files import write_atomic
from tasks.reporting import fitness, making, origin, quantization, rules, verdict
from tasks.reporting.figures import percent
from tasks.reporting.markdown import markdown, plain
from tasks.reporting.page import render
from tasks.reporting.parts import Headline, Paragraph, Points, Section
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES
from tasks.reporting.words import interval, megabytes, per_cent, plural

TEXT, PAGE = "README.md", "card.html"


@dataclass(frozen=True)
class Facts:
    """What a card is written from."""

    manifest: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]  # stage → its figures
    record: Mapping[str, Any] | None = None  # of a release: id, date, commit

    def of(self, stage: str) -> Figures:
        """The figures of a stage; a key that is asked for and not there is a DataError."""
        return Figures(self.metrics.get(stage, {}), f"metrics/{stage}.json")

    @property
    def told(self) -> Figures:
        """The manifest, read the same way."""
        return Figures(self.manifest, "manifest.json")


def write(facts: Facts, folder: Path) -> None:
    """README.md and card.html in `folder`. DataError where a fact is missing, but for a release of former times."""
    content = sections(facts)
    title = facts.manifest["name"]
    write_atomic(folder / TEXT, f"{header(facts)}\n# {plain(title)}\n\n{plain(making.lead(facts))}\n\n{markdown(content)}")
    write_atomic(folder / PAGE, html(facts, content))


def html(facts: Facts, content: Sequence[Section] | None = None) -> str:
    """The card as one page that needs nothing else."""
    title, at = facts.manifest.get("name", "model"), facts.record
    return render(
        title=f"{title} · model card",
        eyebrow="Nightshift · model card" + (f" · release {at['release']}" if at else ""),
        mood="",
        heading=title,
        why=[attempt(facts, lambda: making.lead(facts), "A causal language model with the search index that it answers from.")],
        headlines=attempt(facts, lambda: headlines(facts), []),
        sections=content or sections(facts),
    )


def sections(facts: Facts) -> list[Section]:
    """The card's sections, in the order of the questions of somebody who thinks of using the model."""
    quantized = facts.of("quantize")
    parts: dict[tuple[str, str], Callable[[], Sequence[Any]]] = {
        ("about", "What it is"): lambda: making.about(facts),
        ("use", "Intended use and limits"): lambda: fitness.use(facts),
        ("loading", "How to load it"): lambda: fitness.loading(facts),
        ("data", "Training data"): lambda: making.data(facts),
        ("training", "Training"): lambda: making.training(facts),
        ("evaluation", "Evaluation"): lambda: fitness.evaluation(facts),
        ("quantization", "Quantization"): lambda: quantization.quantization(quantized).blocks,
        ("gate", "Gate"): lambda: gate(facts),
        ("stack", "Where it was made"): lambda: origin.stack(facts),
        ("provenance", "What it was made from"): lambda: origin.provenance(facts),
    }
    return [Section(name, title, attempt(facts, blocks)) for (name, title), blocks in parts.items()]


def attempt(facts: Facts, make: Callable[[], Any], instead: Any = None) -> Any:
    """What `make` gives; for a release of former times that does not tell it, `instead`, or a sentence about it."""
    try:
        return make()
    except DataError as error:
        if facts.record is None:
            raise
        return [Paragraph(f"This release does not tell it all: {error.thing} {error.what}.")] if instead is None else instead


def gate(facts: Facts) -> list[Any]:
    """The verdict in words, what was compared with, and every rule."""
    judged = facts.told["gate"]
    heading = verdict.verdict(judged)[1]
    failed, count = [reason for reason in judged["reasons"] if not reason["passed"]], plural(len(judged["reasons"]), "rule")
    said = f"{heading}: {len(failed)} of {count} did not hold." if failed else f"{heading}: of {count} none failed."
    if "model_of" in facts.manifest:
        said += " Only the rules on search were asked, for the model was live."
    if live := judged.get("champion_search") or judged.get("champion"):
        said += f" Release {live} was live then."
    return [Paragraph(said), *([Points([reason["why"] for reason in failed])] if failed else []), *rules.rules(judged).blocks]


def headlines(facts: Facts) -> list[Headline]:
    """The few figures of the quantized model itself, each with its interval."""
    told, small = facts.of("answers"), facts.of("quantize")
    found = []
    if "all" in told["right"]:
        by_language = ", ".join(
            f"{name} {percent(told['right'][code]['share'])}" for code, name in LANGUAGES.items() if code in told["right"]
        )
        found.append(Headline("Right on documents", per_cent(told["right"]["all"]["share"]), by_language))
    if "all" in told["groundedness"]:
        share = told["groundedness"]["all"]
        found.append(Headline("Says nothing beside them", per_cent(share["share"]), interval(share)))
    if (recall := told["abstains"]["recall"]) is not None:
        found.append(Headline("Says when they do not say", per_cent(recall["share"]), interval(recall)))
    agreement, sizes = small["quantized"]["agreement"], small["sizes"]
    found.append(Headline("Agrees with unquantized", per_cent(agreement["mean"]), "of answer tokens"))
    of_bf16 = f"{per_cent(sizes['share_of_bf16'])} of bfloat16"
    found.append(Headline("Size", f"{megabytes(sizes['total_bytes'])}\u00a0MB", of_bf16))
    return found


def header(facts: Facts) -> str:
    """The YAML block above a card that model hubs read. Figures in it are those of the quantized model alone."""
    import yaml

    told = facts.told
    base, bits = told["base"], told["params"]["quantize"]["bits"]
    known: dict[str, Any] = {
        "license": told["license"],
        "language": sorted(facts.of("prepare")["languages"].get("instructions", {})),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gptq", f"{bits}-bit", f"int{bits}", "rag", "conversational"],
    }
    if "/" in base["model"] and base["revision"]:  # a hub's name; others would be taken for one
        known |= {"base_model": base["model"], "base_model_relation": "finetune"}
    results = index(facts)
    if results:
        known["model-index"] = [{"name": told["name"], "results": results}]
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=1000)}---\n"


def index(facts: Facts) -> list[dict[str, Any]]:
    """Results in the form of a model index: per language, what the quantized model answered over documents."""
    told, revision = facts.of("answers"), facts.told["data"]["md5"]
    results = []
    for code in LANGUAGES:
        metrics = [
            {"type": kind, "name": name, "value": round(100 * told[key][code]["share"], 2)}
            for key, kind, name in (
                ("right", "accuracy", "answered right, %"),
                ("groundedness", "groundedness", "nothing beside passages and question, %"),
                ("cites_source", "citation", "cites the right document and no other, %"),
            )
            if code in told[key]
        ]
        if metrics:
            results.append(
                {
                    "task": {"type": "text-generation", "name": "questions on documents, answered from retrieved passages"},
                    "dataset": {
                        "type": "private",
                        "name": f"held-out questions on the team's documents, {LANGUAGES[code]}",
                        "revision": revision,
                    },
                    "metrics": metrics,
                }
            )
    return results
