"""What people said: how far they agree, and what they prefer that they should not. Annotators' names are untrusted text."""

from __future__ import annotations

from tasks.reporting.figures import Dot, Group, dots, percent
from tasks.reporting.parts import Cell, Paragraph, Picture, Pictures, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES
from tasks.reporting.words import interval, per_cent, plural, signed

DRAWN = 16  # annotators in a picture; the table has them all
ROOM = 136


def judgements(prepare: Figures) -> Section:
    """Agreement, biases and speed of all annotators, from metrics/prepare.json."""
    said = prepare["labelling"]
    if said is None:
        text = "Nobody has judged an answer yet. Section “Who is asked next” has the first prompts to ask about."
        return Section("judgements", "Judgements", [Paragraph(text)])
    people = said["by_annotator"]
    blocks = [Paragraph(agreement(said)), Paragraph(made(said, prepare)), Pictures(pictures(said, people))]
    unknown = [what for what, known in (("in which order answers were shown", said["first"] is not None),
                                        ("how long it took", said["timed"])) if not known]
    if unknown:
        blocks.append(Paragraph(f"No judgement tells {' or '.join(unknown)}.", "note"))
    if said["fast"]:
        blocks.append(Paragraph(
            f"{plural(said['fast'], 'judgement was', 'judgements were')} made in less than {said['too_fast_below']:.1f} s, "
            f"where half take {said['seconds']:.1f} s or longer (log time more than 3.5 robust deviations below the median). "
            "They count like all others: look at them."))
        rows = [(each["annotator"], Cell("–" if each["annotation"] is None else str(each["annotation"]), "code"),
                 f"{each['seconds']:.1f}") for each in said["fastest"]]
        blocks.append(Table("Made much faster than usual", ("annotator", "annotation", "seconds"), rows, words=2, folded=True))
    blocks.append(Table(
        "Annotators" + ("" if said["annotators"] == len(people) else f": {len(people)} of {said['annotators']:,}, the busiest"),
        ("annotator", "judged", "skipped", "flagged", "pairs", "ties", "as the others %", "95 % interval", "longer won %",
         "shown first won %", "median s", "fast"),
        [row(person) for person in people], folded=len(people) > DRAWN))
    return Section("judgements", "Judgements", blocks)


def agreement(said: Figures) -> str:
    """Krippendorff's α and what it means."""
    alpha = said["alpha"]
    if alpha is None:
        return ("How far people agree is unknown: no two answers were judged by two people, or all judgements are the same. "
                "labelling.overlap is the share of the tasks that two people get.")
    meaning = (
        "people agree well, and one judgement can be relied on" if alpha >= 0.8
        else "people agree tolerably: what follows from few judgements is tentative" if alpha >= 0.667
        else "people agree more than by chance, but one judgement says little; see who differs, and whether what they are told "
             "to prefer is clear" if alpha > 0
        else "people agree no more than by chance, so pairs made of single judgements teach nothing")
    return (f"Krippendorff's α is {signed(alpha, 2).removeprefix('+')} over {plural(said['judged_twice'], 'pair')} of "
            f"answers that two or more people judged (1: all agree, 0: as by chance): {meaning}.")


def made(said: Figures, prepare: Figures) -> str:
    """Counts: judgements, what was not said, and what became pairs."""
    flags = ", ".join(f"{count:,} {flag}" for flag, count in said["flags"].items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in said["reasons"].items())
    all_agree = prepare["agreement"]
    return (
        f"{plural(said['judgements'], 'judgement')} by {plural(said['annotators'], 'annotator')}, and "
        f"{plural(said['skipped'], 'skip')}; flagged: {flags or 'none'}. {plural(said['pairs'], 'vote')} on two answers, and "
        f"{plural(said['ties'], 'tie')}." + (f" What decided: {reasons}." if reasons else "") + " "
        f"{plural(prepare['ranked_prompts'], 'prompt')} gave {plural(prepare['judged'], 'ordered pair')}; "
        + ("" if all_agree is None else
           f"of {plural(prepare['judged_twice'], 'pair')} that two or more ordered, all agree in {per_cent(all_agree)}; ")
        + f"{plural(prepare['overruled_votes'], 'vote was', 'votes were')} overruled, "
        f"{plural(prepare['even_pairs'], 'pair was', 'pairs were')} left out as even and "
        f"{prepare['capped_pairs']:,} because their prompt had enough."
    )


def pictures(said: Figures, people: list[Figures]) -> list[Picture]:
    """Agreement, length and place, with their intervals; a picture without a row is left out."""
    drawn = people[:DRAWN]
    agree = [dot(person["name"], person["agrees"]) for person in drawn if person["agrees"] is not None]
    longer = [dot(LANGUAGES.get(name, name), share) for name, share in said["longer"].items()]
    by_length = [dot(person["name"], person["longer"]) for person in drawn if person["longer"] is not None]
    first = [] if said["first"] is None else [dot("all", said["first"])]
    by_place = [dot(person["name"], person["first"]) for person in drawn if person["first"] is not None]
    found = []
    if agree:
        found.append(Picture(
            "Agreement with the others", dots([Group("", agree)], "Share of votes that go as the others' majority", room=ROOM),
            "Share of an annotator's ordered pairs that go as most of the others who judged them."))
    if longer:
        means = said["length_difference"]["all"]
        found.append(Picture(
            "The longer answer won", dots([Group("", longer), *grouped(by_length)], "Share of votes for the longer answer",
                                          room=ROOM),
            f"50 % where length does not matter. Length of the better answer less that of the worse: {signed(means['mean'])} "
            f"characters on average ({signed(means['low'])} to {signed(means['high'])})."))
    if first:
        found.append(Picture(
            "The answer shown first won", dots([Group("", first), *grouped(by_place)], "Share of votes for the first answer",
                                               room=ROOM),
            "50 % where place does not matter: answers are shuffled for each task."))
    return found


def grouped(rows: list[Dot]) -> list[Group]:
    """Annotators under a heading, where there are two or more."""
    return [Group("by annotator", rows)] if len(rows) > 1 else []


def dot(name: str, share: Figures) -> Dot:
    """A Share as a dot."""
    return Dot(name, share["share"], share["low"], share["high"])


def row(person: Figures) -> tuple[str, ...]:
    """An annotator's line of the table."""
    agrees, longer, first = person["agrees"], person["longer"], person["first"]
    return (
        person["name"],
        *(f"{person[key]:,}" for key in ("judgements", "skipped", "flagged", "pairs", "ties")),
        percent(agrees["share"]) if agrees else "–",
        f"{interval(agrees)} of {agrees['n']:,}" if agrees else "–",
        percent(longer["share"]) if longer else "–",
        percent(first["share"]) if first else "–",
        f"{person['seconds']:.1f}" if person["seconds"] is not None else "–",
        f"{person['fast']:,}",
    )
