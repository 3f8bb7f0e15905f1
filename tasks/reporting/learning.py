"""What was learned: sections on the learning curves and on the reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.files import read_jsonl
from tasks.reporting.figures import Dot, Group, Line, curves, dots, percent
from tasks.reporting.parts import Paragraph, Picture, Pictures, Section, Table
from tasks.reporting.reading import Figures, column
from tasks.reporting.words import interval, per_cent, plural, signed, stopped

COIN = 0.5  # accuracy of a coin on pairs
SAMPLED = {"ppo": "score", "rloo": "reward", "grpo": "reward"}  # methods that learn from their own answers → the score's key


def training(sft: Figures, reward: Figures, align: Figures, curve: Mapping[str, Path]) -> Section:
    """Loss and reward curves. `curve`: stage (sft, reward, align) → its curve.jsonl."""
    rows = {stage: read_jsonl(path) for stage, path in curve.items()}

    def points(stage: str, key: str) -> list[tuple[float, float]]:
        return column(rows[stage], "step", key, curve[stage])

    steps, before, after = sft["steps"], sft["eval_loss_before"], sft["eval_loss"]
    pictures = [
        Picture(
            "SFT: loss",
            curves(
                [
                    Line("training", points("sft", "loss")),
                    Line("held out", [(0, before), (steps, after)], "two", joined=False),
                ],
                f"SFT loss over {steps} steps; held-out loss {before:.3f} before, {after:.3f} after",
            ),
            f"Nats a token, answers only. Held out, before and after: {before:.3f} → {after:.3f}.",
        ),
    ]
    pictures += [] if not reward["steps"] else [
        Picture(
            "Reward model: accuracy",
            curves(
                [Line("training pairs", points("reward", "accuracy"))],
                "Reward model: share of training pairs ordered rightly, over steps",
                bounds=(0, 1),
                level=COIN,
            ),
            "Share of training pairs ordered as people did; dotted: a coin.",
        ),
        Picture(
            "Reward model: margin",
            curves(
                [Line("margin", points("reward", "margin")), Line("loss", points("reward", "loss"), "two")],
                "Reward model: margin and loss over steps",
            ),
            "Margin: r(chosen) − r(rejected). Loss: 0.693 is a coin.",
        ),
    ]
    method = align["method"]
    name = method.upper()
    pictures += [] if not align["steps"] else [
        Picture(
            f"{name}: loss",
            curves([Line("training", points("align", "loss"))], f"{name} loss over steps"),
            f"{plural(align['pairs'], 'pair')}, {plural(align['steps'], 'step')}.",
        )
    ]
    if method in SAMPLED and align["steps"]:
        pictures.append(
            Picture(
                f"{name}: score and KL of its own answers",
                curves(
                    [Line("score", points("align", SAMPLED[method])), Line("KL", points("align", "kl"), "two")],
                    f"{name}: score of the answers sampled in training and their KL, over steps",
                ),
                "Mean score by the reward model of the answers it is trained on; KL to the SFT model, in nats.",
            )
        )
    if method == "dpo" and align["steps"]:
        pictures += [
            Picture(
                "DPO: margin",
                curves(
                    [
                        Line("chosen", points("align", "rewards/chosen")),
                        Line("rejected", points("align", "rewards/rejected"), "two"),
                        Line("margin", points("align", "rewards/margins"), "three"),
                    ],
                    "DPO: implicit rewards of chosen and rejected answers and their margin, over steps",
                ),
                "Implicit reward: β · log π/π_ref. A margin that comes only of rejected answers sinking is a warning.",
            ),
            Picture(
                "DPO: log-probability of chosen answers",
                curves(
                    [Line("whole answer", points("align", "logps/chosen"))],
                    "DPO: log-probability of chosen answers over steps",
                ),
                f"Nats an answer. Held out, a token: {signed(align['chosen_logprob_before'], 3)} → "
                f"{signed(align['chosen_logprob_after'], 3)}; a fall means that even preferred answers become "
                "unlikely.",
            ),
        ]
    pictures += watched(align["looks"]) if align["steps"] else []
    table = Table(
        "Training in figures",
        ("stage", "rows or pairs", "too long, left out", "steps", "trained parameters", "last loss"),
        [
            (
                label,
                f"{part['rows' if 'rows' in part else 'pairs']:,}",
                f"{part['too_long']:,}",
                f"{part['steps']:,}",
                f"{part['trained_parameters']:,}",
                f"{part['train_loss']:.4f}" if part["train_loss"] is not None else "–",
            )
            for label, part in (("SFT", sft), ("reward model", reward), (f"alignment ({method})", align))
        ],
    )
    blocks = [Pictures(pictures), *map(Paragraph, untrained(reward, align))]
    if align["stopped"]:
        blocks.append(Paragraph(stopped(align["stopped"])))
    if align["preferred_after"] is not None:
        blocks.append(Paragraph(held_out(align)))
    return Section("training", "Training", [*blocks, table])


def untrained(reward: Figures, align: Figures) -> list[str]:
    """A sentence on each training that did not take place."""
    said = []
    if not reward["steps"]:
        said.append(
            "There were no preference pairs to train a reward model on: its score is the mean log-probability that the "
            "SFT model gives an answer."
        )
    if not align["steps"]:
        said.append("No preference training (no pairs, or align.method none): the aligned model is the SFT model.")
    return said


def watched(looks: Sequence[Figures]) -> list[Picture]:
    """What the watch saw on held-out prompts in the course of alignment."""
    def points(key: str) -> list[tuple[float, float]]:
        return [(look["step"], look[key]) for look in looks]

    if len(looks) < 2:
        return []
    first, last = looks[0], looks[-1]
    return [
        Picture(
            "Alignment: reward and KL, held out",
            curves(
                [Line("reward", points("reward")), Line("KL", points("kl"), "two")],
                f"Reward of held-out answers from {first['reward']:.2f} to {last['reward']:.2f}, "
                f"KL to {last['kl']:.2f} nats, over steps",
            ),
            "Mean score by the reward model; KL to the SFT model, nats an answer.",
        ),
        Picture(
            "Alignment: is the model whole?",
            curves(
                [
                    Line("end", points("ended")),
                    Line("as people chose", points("kept"), "two"),
                    Line("differ", points("distinct"), "three"),
                ],
                "Shares of held-out answers that end, that say what people chose, and that differ, over steps",
                bounds=(0, max(1, *(look["distinct"] for look in looks))),
            ),
            "Greedy answers to held-out prompts: that end by themselves, say what people chose, differ. Reward that rises while "
            "these fall is no gain.",
        ),
    ]


def held_out(align: Figures) -> str:
    """What alignment did to people's held-out pairs and to the text itself."""
    after = align["preferred_after"]
    return (
        "On held-out pairs the SFT model finds the preferred answer likelier in "
        f"{per_cent(align['preferred_before']['share'])}, the aligned model in {per_cent(after['share'])} "
        f"({interval(after)}). Of {plural(align['answers'], 'prompt')} answered at the end, "
        f"{per_cent(align['ended'])} end by themselves; {align['distinct']:.2f} as many answers are different as "
        "people chose."
    )


def reward_model(reward: Figures) -> Section:
    """Accuracy of the reward model on held-out pairs, by set, defect and language, and its calibration."""
    parts = {
        "people's pairs": reward["preferences"],
        "differ in correctness": reward["correctness"],
        "differ in style": reward["style"],
    }
    sets = {name: part for name, part in parts.items() if part is not None}
    if not sets:
        said = "There were no held-out pairs, neither people's nor evaluation sets, so the reward model was not measured."
        return Section("reward", "Reward model", [Paragraph(said)])
    overall = [dot(name, part["accuracy"]) for name, part in sets.items()]
    pictures = [
        Picture(
            "By set of pairs",
            dots([Group("", overall)], "Reward model accuracy by set of pairs", room=140),
            "Share of held-out pairs whose better answer scores higher.",
        )
    ]
    for title, part in (
        ("Correctness pairs, by defect", parts["differ in correctness"]),
        ("Style pairs, by defect", parts["differ in style"]),
    ):
        defects = [dot(name, share) for name, share in part["by_defect"].items()] if part is not None else []
        if defects:
            pictures.append(
                Picture(
                    title,
                    dots([Group("", defects)], f"Reward model accuracy: {title}", room=140),
                    "The defect is that of the rejected answer.",
                )
            )
    rows = [
        (
            name,
            *shares(part["accuracy"]),
            signed(part["mean_margin"], 3),
            *(
                percent(part["by_language"][language]["share"]) if language in part["by_language"] else "–"
                for language in ("en", "zh")
            ),
        )
        for name, part in sets.items()
    ]
    rows.append(("all held-out pairs", *shares(reward["held_out"]), "", "", ""))
    bins = [
        (
            f"{b['low']:.2f} – {b['high']:.2f}",
            f"{b['n']:,}",
            f"{b['predicted']:.3f}" if b["n"] else "–",
            f"{b['right']:.3f}" if b["n"] else "–",
        )
        for b in reward["calibration"]
    ]
    if reward["calibration"]:
        seen = [(b["predicted"], b["right"]) for b in reward["calibration"] if b["n"]]
        pictures.append(
            Picture(
                "Calibration",
                curves(
                    [Line("observed", seen), Line("as sure as right", [(0.5, 0.5), (1.0, 1.0)], "two")],
                    "Reward model: share of pairs it orders rightly, over how sure it is",
                    bounds=(0, 1),
                ),
                "How sure it is of its choice (across), how often it is right (up). Expected error "
                f"{reward['calibration_error']:.3f}.",
            )
        )
    by_length = [dot(f"chosen {name}" if name != "alike" else "about as long", share) for name, share in
                 (parts["people's pairs"]["by_length"].items() if parts["people's pairs"] is not None else ())]
    if by_length:
        pictures.append(
            Picture(
                "People's pairs, by length",
                dots([Group("", by_length)], "Reward model accuracy by the length of the chosen answer", room=140),
                "A model that only likes short answers is right where the chosen one is shorter.",
            )
        )
    without = [name for name in parts if name not in sets]
    note = [Paragraph(f"Without pairs: {', '.join(without)}.", "note")] if without else []
    return Section(
        "reward",
        "Reward model",
        [
            Pictures(pictures),
            *note,
            Table(
                "Accuracy on held-out pairs",
                ("pairs", "right %", "95 % interval", "n", "mean margin", "English %", "Chinese %"),
                rows,
            ),
            Table(
                "Calibration: how sure it is, how often it is right (expected error "
                f"{reward['calibration_error']:.3f})",
                ("certainty σ(|margin|)", "pairs", "predicted", "right"),
                bins,
                folded=True,
            ),
        ],
    )


def dot(name: str, share: Figures, kind: str = "") -> Dot:
    """A Share as a dot."""
    return Dot(name, share["share"], share["low"], share["high"], kind)


def shares(share: Figures) -> tuple[str, str, str]:
    """A Share as three cells: per cent, interval, n."""
    return percent(share["share"]), interval(share), f"{share['n']:,}"
