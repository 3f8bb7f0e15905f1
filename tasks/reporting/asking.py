"""Who is asked next: what stage select put in front, and why. Prompts and answers are untrusted text."""

from __future__ import annotations

from pathlib import Path

from tasks.files import read_jsonl
from tasks.reporting.figures import Line, curves
from tasks.reporting.parts import Answer, Paragraph, Picture, Pictures, Sample, Samples, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES, complete, cut, take_apart, user_text
from tasks.reporting.words import plural, signed

FIRST = 100  # places of the order that the pictures show
WHY = {
    "feedback": "users were not content",
    "uncertain": "the reward model is unsure",
    "random": "chance",
}
SURE = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def asking(select: Figures, candidates: Figures, prepare: Figures, path: Path, each: int, characters: int) -> Section:
    """Counts, the rule in words, how sure and how different the first picks are, and the first of each kind.

    `path`: selected.jsonl; `each`: prompts shown of each reason and language; longer texts than `characters` are cut.
    """
    rows = read_jsonl(path)
    complete(path, rows, ("messages", "language", "answers", "rewards", "sureness", "difference", "score", "why"))
    origin = "" if prepare["prompts_from"] == "data/prompts" else " (data/prompts holds none of its own: held-out instructions)"
    none = select["without_choice"]
    blocks: list = [Paragraph(
        f"{candidates['answers']:,} answers were sampled to {plural(candidates['prompts'], 'prompt')}{origin}, "
        f"{candidates['different']:.1f} different ones a prompt. People can be asked about {select['selected']:,}"
        + (f"; to {none:,} there are fewer than two different answers." if none else "."))]
    if not rows:
        return Section("asking", "Who is asked next", blocks)
    first = rows[:FIRST]
    blocks += [
        Paragraph(
            "Two answers are worth asking about when the reward model cannot tell which is better and they differ: their worth "
            "is the entropy of its preference, H(σ(r₁ − r₂)), times the share of characters in which they differ (1 − chrF). "
            "Prompts with an answer that users were not content with come first, then the worthiest, the languages in turn; "
            "select.random is the share of places that chance fills, so that what the model is wrongly sure of is seen as well."),
        Table(
            f"The order, and its first {FIRST} places" if len(rows) > FIRST else "The order",
            ("why", "prompts", f"among the first {FIRST}", "mean sureness", "mean difference", "mean worth in bits"),
            [counted(why, rows, first) for why in WHY if any(row["why"] == why for row in rows)]),
        Pictures([picture(why, first) for why in WHY if any(row["why"] == why for row in first)],
                 "How sure the reward model is, and how much the answers differ"),
        Samples("The first of each kind", [
            sample(place, row, characters) for why in WHY for language in LANGUAGES
            for place, row in [(n, row) for n, row in enumerate(rows, 1)
                               if row["why"] == why and row["language"] == language][:each]]),
    ]
    return Section("asking", "Who is asked next", blocks)


def counted(why: str, rows: list[dict], first: list[dict]) -> tuple[str, ...]:
    """A line of the table."""
    mine = [row for row in rows if row["why"] == why]
    means = (sum(row[key] for row in mine) / len(mine) for key in ("sureness", "difference", "score"))
    return WHY[why], f"{len(mine):,}", f"{sum(row['why'] == why for row in first):,}", *(f"{value:.2f}" for value in means)


def picture(why: str, first: list[dict]) -> Picture:
    """A dot a prompt: sureness from left to right, difference upwards."""
    points = [(row["sureness"], row["difference"]) for row in first if row["why"] == why]
    name = f"{WHY[why][0].upper()}{WHY[why][1:]}"
    alt = f"{name}: sureness and difference of {plural(len(points), 'prompt')}"
    drawn = curves([Line("a prompt", points, joined=False)], alt, bounds=(0, 1), marks=SURE)
    return Picture(name, drawn, "Right: how sure the reward model is (0.5: a coin). Up: how much the answers differ.")


def sample(place: int, row: dict, characters: int) -> Sample:
    """A prompt as people will see it, with the rewards, which they will not see."""
    question, notes = take_apart(user_text(row["messages"]))
    answers = [Answer(f"answer {n}", cut(text, characters), f"· reward {signed(reward, 2)}", None)
               for n, (text, reward) in enumerate(zip(row["answers"], row["rewards"], strict=True), 1)]
    return Sample(
        heading=f"place {place} · {WHY[row['why']]} · sureness {row['sureness']:.2f}, difference {row['difference']:.2f}",
        language=row["language"],
        question=cut(question, characters),
        notes=[cut(note, characters) for note in notes],
        wanted=None,
        answers=answers,
    )
