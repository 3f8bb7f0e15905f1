"""Of the model card: what the model is for, how it is loaded, and how well it does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.rag.prompt import Template, grounded
from tasks.reporting.behaviour import ABOUT, MODELS
from tasks.reporting.figures import Group, dots, percent
from tasks.reporting.learning import dot
from tasks.reporting.making import languages
from tasks.reporting.parts import Code, Paragraph, Picture, Pictures, Points, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES, NAMES
from tasks.reporting.words import interval, per_cent, plural

if TYPE_CHECKING:
    from tasks.reporting.card import Facts

ALL = {"all": "all", **LANGUAGES}
ANSWERED = {  # of the answers to questions on documents
    "right": "answered right",
    "right_when_found": "answered right, of those whose passages had it",
    "groundedness": "says nothing beside passages and question",
    "cites_source": "cites the right document and no other",
    "citation_precision": "citations that are right",
    "citation_recall": "the right document is cited",
}
SEEN = {"right": "right", "groundedness": "nothing beside", "cites_source": "cites rightly"}  # the chief of these
MODES = ("dense", "sparse", "hybrid")  # of search
MEASURES = {
    "correct": "right",
    "preferred": "as people prefer",
    "abstains": "says so when the notes do not say",
    "over_abstains": "says so although they do",
}
EXAMPLE = {"en": ("When does the shop open?", "Shop\nIt opens at 9:00."), "zh": ("商店几点开门？", "商店\n开门时间：9:00。")}
LOADING = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

question = {question}
chat = [{{"role": "user", "content": question}}]
asked = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
told = model.generate(**asked, max_new_tokens={tokens}, do_sample=False)
print(tokenizer.decode(told[0, asked["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def use(facts: Facts) -> list[Any]:
    """What it was measured at, and what the figures say against it."""
    asked, window = facts.told["answering"], facts.of("base")["window"]
    said = (
        f"It is made to answer a question in {languages(facts)} from passages that search puts before it, to name the passage, "
        f"and to say so when none of them says. So it was measured: {plural(asked['top_k'], 'passage')}, the likeliest token "
        f"each time, at most {asked['max_new_tokens']} tokens, in the words of the prompt below."
    )
    unknown = (
        "Nobody has measured: other languages, conversations of several turns, questions that have nothing to do with the "
        "documents, harmful requests, bias. It has no place where a wrong answer can do harm."
    )
    limits = [*limits_of(facts), *([f"It reads {window:,} tokens, question, passages and answer together."] if window else [])]
    return [Paragraph(said), Points([*limits, unknown])]


def limits_of(facts: Facts) -> list[str]:
    """What the quantized model got wrong, as measured."""
    if "answers" not in facts.metrics:
        return ["With these documents its answers have not been measured."]
    told, said = facts.of("answers"), []
    for key, words in (
        ("right", "Of {n} that a document answers, {wrong} are not answered right."),
        ("groundedness", "Of {n}, {wrong} say something that is neither in the passages nor in the question."),
        ("cites_source", "Of {n} that a document answers, {wrong} do not cite just the right document."),
    ):
        if "all" in told[key]:
            share = told[key]["all"]
            noun = "answer" if key == "groundedness" else "question"
            said.append(words.format(n=plural(share["n"], noun), wrong=wrong(share)))
    if (recall := told["abstains"]["recall"]) is not None:
        said.append(f"Asked {plural(recall['n'], 'question')} that no document answers, it answers {wrong(recall)} all the same.")
    return said


def wrong(share: Mapping[str, Any]) -> str:
    """The rest of a share with its interval: 0.74 → "26.0 % (20.5 – 32.6)"."""
    rest = {"low": 1 - share["high"], "high": 1 - share["low"]}
    return f"{per_cent(1 - share['share'])} ({interval(rest)})"


def loading(facts: Facts) -> list[Any]:
    """A few lines that load the folder and ask it as it was asked; they are run in the project's tests."""
    told = facts.told
    words = {language: Template(**text) for language, text in told["prompt"].items()}
    language = next((code for code in facts.of("prepare")["languages"].get("instructions", {}) if code in words), "en")
    asked, note = EXAMPLE.get(language, EXAMPLE["en"])
    lines = grounded(asked, [note], language, words).splitlines(keepends=True)
    question = "(\n" + "".join(f"    {line!r}\n" for line in lines) + ")"
    code = LOADING.format(folder=told["parts"]["model"]["path"], question=question, tokens=told["answering"]["max_new_tokens"])
    said = (
        "With the packages below (transformers loads GPTQ by way of gptqmodel and optimum). The chat template is in the folder. "
        "The search index is opened by nightshift serve and nightshift ask, which verify every part first."
    )
    return [Code(code, "python"), Paragraph(said, "note")]


def evaluation(facts: Facts) -> list[Any]:
    """The quantized model over documents, search, and the models before quantization on held-out cases; with intervals."""
    evaluate, reward = facts.of("evaluate"), facts.of("reward")
    blocks: list[Any] = [Paragraph("Shares in per cent with their 95 % intervals (Wilson; of means: bootstrap).")]
    if "answers" in facts.metrics:
        blocks += [Pictures(pictures(facts.of("answers"), evaluate)), over_documents(facts.of("answers"))]
    else:
        blocks.append(Paragraph("The answers over these documents were not measured: the model was live, the documents are new."))
    blocks += [searched(facts.of("retrieve")), *held_out(evaluate)]
    pairs = {"people's held-out pairs": "preferences", "differ in correctness": "correctness", "differ in style": "style"}
    ordered = [
        (words, shown(reward[key]["accuracy"]), f"{reward[key]['accuracy']['n']:,}")
        for words, key in pairs.items()
        if reward[key] is not None
    ]
    if ordered:
        blocks.append(Table("The reward model orders pairs rightly", ("pairs", "%", "pairs in all"), ordered))
    return blocks


def pictures(answers: Figures, evaluate: Figures) -> list[Picture]:
    """The quantized model over documents in each language, and what the trainings brought before."""
    spoken = [
        Group(name, [dot(words, answers[key][code]) for key, words in SEEN.items() if code in answers[key]])
        for code, name in LANGUAGES.items()
        if code in answers["right"]
    ]
    trained = [
        Group(words, [dot(NAMES[model], evaluate[key][model]["all"], model) for model in MODELS])
        for key, words in MEASURES.items()
        if all("all" in evaluate[key][model] for model in MODELS)
    ]
    drawn = (
        ("Over documents, quantized", spoken, 112, "What is released, asked with what search found."),
        ("On held-out cases, before quantization", trained, 62, "The last of them is better where it is small."),
    )
    return [
        Picture(title, dots(groups, f"{title}: {_spoken(groups)}", room=room), remark)
        for title, groups, room, remark in drawn
        if groups
    ]


def _spoken(groups: list[Group]) -> str:
    return "; ".join(f"{group.name}: " + ", ".join(f"{d.name} {percent(d.value)} %" for d in group.dots) for group in groups)


def over_documents(answers: Figures) -> Table:
    """What is released: the quantized model, asked with what search found."""
    spoken = {code: name for code, name in ALL.items() if code in answers["right"]}
    rows = [(words, *(shown(answers[key].get(code)) for code in spoken)) for key, words in ANSWERED.items()]
    rest = ["–"] * (len(spoken) - 1)
    rows += (
        [
            ("says so, of those that no document answers", shown(answers["abstains"]["recall"]), *rest),
            ("ends by itself", shown(answers["ended"]), *rest),
        ]
        if spoken
        else []
    )
    return Table(f"The quantized model, {plural(answers['questions'], 'question')} on documents", ("", *spoken.values()), rows)


def searched(retrieve: Figures) -> Table:
    """What search puts before it."""
    spoken = {code: name for code, name in ALL.items() if code in retrieve["found"]}
    rows = [(f"the value is among the {retrieve['top_k']} passages", *(shown(retrieve["found"][code]) for code in spoken))]
    for mode in (mode for mode in MODES if mode in retrieve["modes"]):
        by_language = retrieve["modes"][mode]
        for key in ("recall@1", "recall@5", "mrr@10", "ndcg@10"):
            if any(key in by_language.get(code, {}) for code in spoken):
                rows.append((f"{mode} search, {key}", *(_plain(by_language.get(code, {}).get(key)) for code in spoken)))
    return Table(f"Search, {plural(retrieve['questions'], 'question')}", ("", *spoken.values()), rows)


def held_out(evaluate: Figures) -> list[Any]:
    """Base, fine-tuned and aligned model, before quantization."""
    rows = []
    for key, words in MEASURES.items():
        for code, name in ALL.items():
            if any(code in evaluate[key][model] for model in MODELS):
                rows.append((words, name, *(shown(evaluate[key][model].get(code)) for model in MODELS)))
    for kind in ABOUT:
        for code, name in ALL.items():
            found = [evaluate["behaviours"][model].get(kind, {}).get(code, {}).get("right") for model in MODELS]
            if any(found):
                rows.append((f"right, {kind}", name, *map(shown, found)))
    blocks: list[Any] = []
    if rows:
        caption = f"Before quantization, {plural(sum(evaluate['cases'].values()), 'held-out case')}"
        blocks.append(Table(caption, ("", "language", *(NAMES[model] for model in MODELS)), rows, words=2, folded=True))
    if (told := evaluate["references"]) is not None:
        scores = [("chrF with the reference", *(shown(told["chrf"][model]) for model in MODELS))]
        blocks.append(Table(f"{plural(told['cases'], 'held-out instruction')}", ("", *(NAMES[m] for m in MODELS)), scores))
    return blocks


def shown(measured: Mapping[str, Any] | None) -> str:
    """A share or a mean of shares with its interval: "74.0 (67.5 – 79.6)"."""
    if measured is None:
        return "–"
    value = measured["share"] if "share" in measured else measured["mean"]
    return f"{percent(value)} ({interval(measured)})"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
