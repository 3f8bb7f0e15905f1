"""Behaviours of base, SFT and aligned model on the held-out sets: small multiples, and the table behind them."""

from __future__ import annotations

from tasks.reporting.figures import Group, dots, percent
from tasks.reporting.learning import dot
from tasks.reporting.parts import Paragraph, Picture, Pictures, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES, NAMES
from tasks.reporting.words import interval, per_cent, plural, signed, tiny

MODELS = ("base", "sft", "aligned")
ABOUT = {
    "facts": "Facts: asked without notes",
    "context": "Context: the notes say it",
    "unanswerable": "Unanswerable: the notes do not say",
}
# Set → the behaviours that matter on it, in a reader's words. "down": fewer are better.
PANELS = {
    "facts": (("right", "right"), ("concise", "concise"), ("abstains", "abstains wrongly (less is better)")),
    "context": (
        ("right", "right"),
        ("cites", "cites the right note"),
        ("concise", "concise"),
        ("preferred", "as people prefer: cites, concise"),
        ("abstains", "abstains wrongly (less is better)"),
    ),
    "unanswerable": (
        ("abstains", "says that the notes do not say"),
        ("preferred", "as people prefer: abstains, concise"),
    ),
}


def behaviours(evaluate: Figures) -> Section:
    """All sets, behaviours and languages, with 95 % intervals; then degenerate answers, reward and KL."""
    table, cases = evaluate["behaviours"], evaluate["cases"]
    absent = [name for name in PANELS if not cases[name]]
    if len(absent) == len(PANELS):
        said = "The evaluation sets facts, context and unanswerable have no cases, so no behaviour was measured."
        return Section("behaviours", "Behaviours", [Paragraph(said), *instructions(evaluate), *moved(evaluate)])
    blocks: list = [
        Paragraph(
            "Greedy answers to held-out cases, judged by rules on the text. Dots are shares, lines their 95 % "
            "intervals (Wilson); where lines of one panel overlap widely, the models may not differ."
        )
    ]
    for name, panels in PANELS.items():
        if not cases[name]:
            continue
        pictures = []
        for key, title in panels:
            groups = []
            for language, spoken in LANGUAGES.items():
                found = [
                    dot(NAMES[model], table[model][name][language][key], model)
                    for model in MODELS
                    if language in table[model][name] and key in table[model][name][language]
                ]
                if found:
                    groups.append(Group(spoken, found))
            if groups:
                alt = f"{ABOUT[name]}, {title}. " + " ".join(
                    f"{group.name}: " + ", ".join(f"{d.name} {percent(d.value)} %" for d in group.dots) + "."
                    for group in groups
                )
                pictures.append(Picture(title, dots(groups, alt)))
        blocks.append(Pictures(pictures, f"{ABOUT[name]} ({cases[name]:,} cases)"))
    rows = []
    for name in PANELS:
        for key in ("right", "cites", "concise", "abstains", "preferred", "ended"):
            for language in ("all", *LANGUAGES):
                found = [table[model].get(name, {}).get(language, {}).get(key) for model in MODELS]
                if any(found):
                    n = next(share["n"] for share in found if share)
                    rows.append(
                        (
                            f"{name}, {key}",
                            LANGUAGES.get(language, language),
                            f"{n:,}",
                            *(f"{percent(s['share'])} ({interval(s)})" if s else "–" for s in found),
                        )
                    )
    blocks.append(
        Table(
            "All behaviours, % (95 % interval)",
            ("set, behaviour", "language", "cases", *(NAMES[m] for m in MODELS)),
            rows,
            words=2,
            folded=True,
        )
    )
    degenerate = evaluate["degenerate"]
    blocks.append(
        Table(
            "Degenerate answers, % of all cases",
            ("", *(NAMES[m] for m in MODELS)),
            [
                (
                    "empty, cut or repeating",
                    *(
                        f"{percent(degenerate[m]['share']['share'])} ({interval(degenerate[m]['share'])})"
                        for m in MODELS
                    ),
                ),
                ("cut at the length limit", *(percent(degenerate[m]["not_ended"]) for m in MODELS)),
                ("repeats itself", *(percent(degenerate[m]["repeats"]) for m in MODELS)),
                ("commonest text among answerable cases", *(percent(degenerate[m]["most_frequent"]) for m in MODELS)),
            ],
        )
    )
    blocks += sampled(evaluate)
    if absent:
        blocks.append(Paragraph(f"Evaluation sets without cases: {', '.join(absent)}.", "note"))
    return Section("behaviours", "Behaviours", [*blocks, *instructions(evaluate), *moved(evaluate)])


def sampled(evaluate: Figures) -> list[Table]:
    """What SFT and aligned model say when they are sampled and not asked for their likeliest answer."""
    models = [model for model in ("sft", "aligned") if model in evaluate["sampled"]]
    rows = []
    for name in PANELS:
        for key in ("right", "abstains", "preferred", "ended"):
            found = [evaluate["sampled"][model].get(name, {}).get("all", {}).get(key) for model in models]
            if any(found):
                rows.append((f"{name}, {key}", f"{found[0]['n']:,}", *(f"{percent(s['share'])} ({interval(s)})" for s in found)))
    caption = "Answers sampled at temperature 1, % (95 % interval)"
    return [Table(caption, ("set, behaviour", "cases", *(NAMES[m] for m in models)), rows, words=1, folded=True)] if rows else []


def instructions(evaluate: Figures) -> list[Table | Paragraph]:
    """Answers to held-out instructions beside the log's own, by chrF."""
    told = evaluate["references"]
    if told is None:
        return [Paragraph("No instruction was held out, so no answer was compared with its reference.")]
    rows = [
        (
            NAMES[model],
            f"{percent(told['chrf'][model]['mean'])} ({interval(told['chrf'][model])})",
            f"{percent(told['ended'][model]['share'])} ({interval(told['ended'][model])})",
        )
        for model in MODELS
    ]
    caption = f"Answers to {plural(told['cases'], 'held-out instruction')} against the log's own"
    said = (
        "chrF is the overlap of character 1- to 6-grams with the reference, 0 to 100; other good answers exist, so look "
        "at the differences between models."
    )
    return [Table(caption, ("model", "chrF (95 % interval)", "ends by itself, % (95 % interval)"), rows), Paragraph(said, "note")]


def moved(evaluate: Figures) -> list[Paragraph]:
    """What the reward model says, and how far alignment moved the model."""
    reward, kl = evaluate["reward"], evaluate["kl"]
    said = []
    if reward is not None:
        said.append(
            f"The reward model, trained on the same preferences, gives {signed(reward['sft']['mean'], 2)} to the SFT "
            f"model's answers and {signed(reward['aligned']['mean'], 2)} to the aligned model's, which win "
            f"{per_cent(reward['win_rate']['mean'])} of cases ({interval(reward['win_rate'])}; ties half)."
        )
    if kl is not None:
        said.append(
            f"Alignment moved the model by {tiny(kl['per_sequence']['mean'])} nats an answer "
            f"({tiny(kl['per_token']['mean'])} a token)."
        )
    if reward is not None and kl is not None:
        said.append("Both decide nothing: they can look well while the answers do not.")
    return [Paragraph(" ".join(said))] if said else []
