"""The top of the page: may it go out, why, and what changed since the live release."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from tasks.reporting.figures import Dot, Group, dots, percent
from tasks.reporting.parts import Headline, Paragraph, Picture, Pictures, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES
from tasks.reporting.words import interval, megabytes, per_cent, plural, signed, spoken_difference, tiny

KINDS = {"correct": "right answers", "preferred": "as people prefer"}
AGAINST = {
    **KINDS,
    "abstains": "abstains rightly",
    "over_abstains": "tries to answer",
    "degenerate": "whole answers",
    "reference": "chrF",
}
SEARCHED = {"found": "value found", "reciprocal_rank": "1/rank"}


def verdict(gate: Figures) -> tuple[bool, str, list[str]]:
    """(whether it may go out, the heading, why: a sentence, and the rules that failed, in words)."""
    reasons = gate["reasons"]
    failed = [reason for reason in reasons if not reason["passed"]]
    live = gate["champion_search"] or gate["champion"]  # documents may have changed since the model did
    count = plural(len(reasons), "rule")
    if gate["promote"]:
        beside = f"Release {live} is live." if live else "Nothing is live yet: this would be the first release."
        return True, "Cleared for release", [f"All {count} of the gate hold. {beside}"]
    beside = f"Release {live} stays live." if live else "Nothing is live yet, and nothing goes out."
    said = f"{len(failed)} of {count} of the gate {'fails' if len(failed) == 1 else 'fail'}. {beside}"
    return False, "Held back", [said, *(reason["why"] for reason in failed)]


def headlines(evaluate: Figures, reward: Figures, quantize: Figures, answers: Figures) -> list[Headline]:
    """The few figures a busy reader wants, each with what to hold it against; those that were not measured are left out."""

    def before(key: str) -> str:
        return f"SFT {share_of(evaluate[key]['sft'])}, base {share_of(evaluate[key]['base'])}"

    found = [
        Headline(title, f"{share_of(evaluate[key]['aligned'])}\u00a0%", before(key))
        for key, title in (
            ("correct", "Right answers"),
            ("preferred", "As people prefer"),
            ("abstains", "Abstains rightly"),
        )
        if "all" in evaluate[key]["aligned"]
    ]
    told = evaluate["references"]
    if told is not None:
        base, sft, aligned = (percent(told["chrf"][model]["mean"]) for model in ("base", "sft", "aligned"))
        found.append(Headline("chrF, held-out instructions", aligned, f"of 100; SFT {sft}, base {base}"))
    if reward["correctness"] is not None:
        correct = reward["correctness"]["accuracy"]
        remark = f"on correctness, {plural(correct['n'], 'pair')}"
        found.append(Headline("Reward model is right", per_cent(correct["share"]), remark))
    agreement, languages = quantize["quantized"]["agreement"], [code for code in LANGUAGES if code in answers["right"]]
    found.append(
        Headline(
            f"int{quantize['bits']} agrees",
            per_cent(agreement["mean"]),
            f"of tokens; KL {tiny(quantize['quantized']['kl']['mean'])}; {megabytes(quantize['sizes']['total_bytes'])} MB",
        )
    )
    if "all" in answers["right"]:
        remark = ", ".join(f"{LANGUAGES[code]} {percent(answers['right'][code]['share'])}" for code in languages)
        found.append(Headline("Right on documents", f"{share_of(answers['right'])}\u00a0%", remark))
    return found


def changes(evaluate: Figures, retrieve: Figures) -> Section:
    """Tonight's model and search against the live release's on shared cases, and each training step against the one
    before it."""
    blocks: list = []
    champion = evaluate["champion"]
    told = evaluate["references"] or {}
    steps = [
        (label, {**gains(evaluate[key]), **({"chrF": told[key]} if told else {})})
        for label, key in (("SFT against base", "sft_over_base"), ("aligned against SFT", "aligned_over_sft"))
    ]
    if champion is None:
        blocks.append(
            Paragraph(
                "No release is live, so there is nothing to compare with yet. "
                "The steps of this night are compared with each other instead."
            )
        )
    else:
        name = champion["release"]
        text = (
            f"Release {name} is live; its answers to {plural(champion['cases'], 'test case')} that are still asked the same "
            "way were judged again by tonight's rules."
        )
        if champion["win_rate"] is not None:
            rate = share_of_mean(champion["win_rate"])
            text += f" Tonight's reward model prefers the new answer in {rate}, ties counted half."
        if champion["behaviours"]:
            steps.insert(0, (f"tonight against {name}", gains(champion["behaviours"], AGAINST)))
        else:
            text += " Nothing is left on which the two could be compared."
        blocks.append(Paragraph(text))
    searched = retrieve["champion"]
    if searched is not None:
        found = gains(searched, SEARCHED)
        shared = plural(searched["questions"], "question")
        blocks.append(
            Paragraph(
                f"Search was compared with that of {searched['release']} on {shared} on the documents that "
                f"{'is' if searched['questions'] == 1 else 'are'} still asked the same way: whether the value was found among "
                "the passages shown, and the reciprocal rank of the document."
                if found
                else f"No question on the documents is left on which search could be compared with that of {searched['release']}."
            )
        )
        if found:
            steps.insert(1 if champion is not None and champion["behaviours"] else 0,
                         (f"search against {searched['release']}", found))
    steps = [(label, found) for label, found in steps if found]
    if not steps:
        blocks.append(
            Paragraph("There were neither evaluation cases nor held-out instructions to compare the models on.")
        )
        return Section("changes", "What changed", blocks)
    blocks.append(
        Pictures(
            [
                Picture(
                    label[0].upper() + label[1:],
                    differences(label, found),
                    "Points gained or lost, on the same cases.",
                )
                for label, found in steps
            ]
        )
    )
    blocks.append(
        Table(
            "Paired differences, in points",
            ("", "what", "difference", "95 % interval", "cases", "better", "worse", "p"),
            [
                (
                    label,
                    title,
                    signed(100 * gain["difference"]),
                    f"{signed(100 * gain['low'])} to {signed(100 * gain['high'])}",
                    f"{gain['n']:,}",
                    f"{gain['better']:,}",
                    f"{gain['worse']:,}",
                    tiny(gain["p"]),
                )
                for label, found in steps
                for title, gain in found.items()
            ],
            words=2,
        )
    )
    blocks.append(
        Paragraph(
            "Better and worse count cases on which only one side is right (or as preferred, or found), or has the higher "
            "chrF or the lower rank; p is the exact sign test. Bootstrap intervals over cases; the gate's are stricter.",
            "note",
        )
    )
    return Section("changes", "What changed", blocks)


def gains(gain: Figures | None, kinds: Mapping[str, str] = KINDS) -> dict[str, Figures]:
    """What was compared, in a reader's words → its Difference; a set without cases leaves its own out."""
    found = {} if gain is None else {title: gain.get(key) for key, title in kinds.items()}
    return {title: difference for title, difference in found.items() if difference is not None}


def differences(label: str, found: dict[str, Figures]) -> Markup:
    """Paired differences as dots about zero; the scale is the comparison's own, so that small ones can be seen."""
    widest = max(abs(difference[end]) for difference in found.values() for end in ("low", "high", "difference"))
    scale = next((limit for limit in (0.02, 0.05, 0.1, 0.2, 0.5) if widest <= limit), 1.0)
    rows = [
        Dot(title, difference["difference"], difference["low"], difference["high"])
        for title, difference in found.items()
    ]
    return dots(
        [Group("", rows)],
        f"{label}: " + "; ".join(f"{title} {spoken_difference(d)}" for title, d in found.items()),
        room=112,
        bounds=(-scale, scale),
    )


def share_of(languages: Figures) -> str:
    """The share over all languages in per cent; "–" where there is no case."""
    return percent(languages["all"]["share"]) if "all" in languages else "–"


def share_of_mean(mean: Figures) -> str:
    """A mean of shares with its interval: "61.2 % (55.0 – 67.1)"."""
    return f"{per_cent(mean['mean'])} ({interval(mean)})"
