"""Of the model card: what the model is, what it was trained on, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.reporting.parts import Paragraph, Table
from tasks.reporting.reading import Figures
from tasks.reporting.samples import LANGUAGES
from tasks.reporting.words import megabytes, per_cent, plural, signed, stopped, tiny

if TYPE_CHECKING:
    from tasks.reporting.card import Facts

SETTINGS = {  # of a training, in a reader's words
    "learning_rate": "peak learning rate (AdamW)",
    "warmup": "share of the steps in which it rises",
    "weight_decay": "weight decay",
    "epochs": "passes over the rows",
    "batch_size": "rows or pairs of a forward pass",
    "accumulate": "forward passes of a step",
    "max_length": "longest row, tokens",
}


def languages(facts: Facts) -> str:
    """The languages of the instructions: "English and Chinese"."""
    names = [LANGUAGES.get(code, code) for code in facts.of("prepare")["languages"].get("instructions", {})]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "no language"


def lead(facts: Facts) -> str:
    """What it is, in a sentence or two."""
    quantize, sft, align = facts.of("quantize"), facts.of("sft"), facts.of("align")
    said = f"A language model that answers questions on a team's documents in {languages(facts)}: fine-tuned on "
    said += plural(sft["rows"], "instruction")
    if align["steps"]:
        said += f", aligned with {plural(align['pairs'], 'preference pair')}"
    return f"{said}, quantized to {quantize['bits']} bits, with the search index that it answers from."


def about(facts: Facts) -> list[Any]:
    """The chief facts in a table."""
    told, base, index, embed = facts.told, facts.of("base"), facts.of("index"), facts.of("embed")
    model = told["parts"]["model"]
    revision = f" @ {base['revision']}" if base["revision"] else ""
    rows = [
        ("licence of the weights", told["license"]),
        ("base model", f"{base['model']}{revision}; {base['licence']}"),
        ("architecture", f"{base['architecture']}, {base['parameters']:,} parameters, {base['vocabulary']:,} tokens"),
        ("reads at most", f"{base['window']:,} tokens" if base["window"] else "not stated by the base model"),
        ("chat template", f"{base['chat_template']}; an answer ends with {base['end_token']}"),
        ("languages trained", languages(facts)),
        ("model folder", f"{megabytes(model['bytes'])} MB, safetensors, GPTQ, {plural(facts.of('quantize')['bits'], 'bit')}"),
        ("search index", f"{plural(index['chunks'], 'passage')} of {plural(embed['documents'], 'document')}, {index['store']}"),
        ("embedding model", f"{embed['model']}, {plural(embed['dim'], 'number')} a vector"),
    ]
    blocks: list[Any] = []
    if of := facts.manifest.get("model_of"):
        said = f"New documents for the model of release {of}, byte for byte: what is said of training is said of that one."
        blocks.append(Paragraph(said))
    return [*blocks, Table("The model at a glance", ("", "value"), rows, words=2)]


def data(facts: Facts) -> list[Any]:
    """Counts by kind and language, what was left out, and whose judgements shaped it, without names."""
    prepare, raw, judged = facts.of("prepare"), facts.told["data"], facts.told["judgements"]
    used = prepare["languages"]
    spoken = list(dict.fromkeys(code for kind in used.values() for code in kind))
    splits = {"instructions": prepare["instructions"], "preferences": prepare["pairs"]}
    rows = [
        (
            label,
            *(f"{splits[kind][part]:,}" for part in ("train", "eval")),
            *(f"{used.get(kind, {}).get(code, 0):,}" for code in spoken),
        )
        for kind, label in (("instructions", "instructions"), ("preferences", "preference pairs"))
    ]
    held_out = sum(prepare["evaluation"].values())
    rows.append(("evaluation cases", "–", f"{held_out:,}", *(f"{used.get('evaluation', {}).get(c, 0):,}" for c in spoken)))
    said = [
        f"The team's own data, version {raw['md5']} ({plural(raw['files'], 'file')}, {megabytes(raw['bytes'])} MB). "
        "Rows that stand in an evaluation set, or nearly, are left out of training.",
        f"Training used {plural(judged['annotations'], 'judgement')} of {plural(judged['annotators'], 'annotator')}"
        + (
            f"; where two or more judged the same two answers, all agree in {per_cent(prepare['agreement'])}."
            if prepare["agreement"] is not None
            else "."
        ),
    ]
    if facts.of("align")["steps"] == 0:
        said[1] += " No preference training took place."
    dropped = [(reason.rstrip(":"), f"{count:,}") for reason, count in prepare["dropped"].items()]
    return [
        Paragraph(said[0]),
        Table("Rows", ("", "trained on", "held out", *(LANGUAGES.get(code, code) for code in spoken)), rows),
        Paragraph(said[1]),
        *([Table("Left out", ("reason", "rows"), dropped)] if dropped else []),
    ]


def training(facts: Facts) -> list[Any]:
    """Settings and outcome of the trainings, and that merging changed nothing."""
    params = facts.told["params"]
    stages = {"sft": "SFT", "reward": "reward model", "align": f"alignment ({facts.of('align')['method']})"}
    trained = {stage: facts.of(stage) for stage in stages}
    merge, sft, align = facts.of("merge"), trained["sft"], trained["align"]
    own = {stage: {**params[stage], **params[stage].get(align["method"], {})} for stage in stages}  # align's are its method's
    settings = [(words, *(_setting(own[stage].get(key, "–")) for stage in stages)) for key, words in SETTINGS.items()]
    settings.append(("LoRA: rank, α, dropout", *(_lora(params[stage]["lora"]) for stage in stages)))
    settings.append(("adapted layers", *(_targets(params[stage]["lora"]) for stage in stages)))
    outcome = [
        ("rows or pairs", *(f"{each.get('rows', each.get('pairs', 0)):,}" for each in trained.values())),
        ("too long, left out", *(f"{each['too_long']:,}" for each in trained.values())),
        ("optimizer steps", *(f"{each['steps']:,}" for each in trained.values())),
        ("trained parameters", *(f"{each['trained_parameters']:,}" for each in trained.values())),
        ("last training loss", *(_loss(each["train_loss"]) for each in trained.values())),
    ]
    head = ("", *stages.values())
    method = align["method"]
    blocks: list[Any] = [
        Paragraph(
            "Supervised fine-tuning with LoRA, the loss on answers alone; a reward model on the preference pairs; then "
            + (f"preference training of the fine-tuned model by {method.upper()}. " if align["steps"] else "no alignment. ")
            + f"Seed {params['seed']['value']}, {params['compute']['precision']}."
        ),
        Table("Settings", head, settings),
        Table("Outcome", head, outcome),
        Paragraph(
            f"Held-out answers: {sft['eval_loss_before']:.3f} nats a token before SFT, {sft['eval_loss']:.3f} after."
            + _aligned(align)
        ),
        Paragraph(
            f"Both adapters are merged into dense weights. Over {plural(merge['positions'], 'position')} the logits differ from "
            f"those of the model with its adapters by at most {tiny(merge['max_logit_difference'])}, and the likeliest token is "
            f"{'the same everywhere' if merge['argmax_equal'] else 'not everywhere the same'}."
        ),
    ]
    if method == "dpo" and align["steps"]:
        dpo = params["align"]["dpo"]
        losses = ", ".join(f"{name} × {weight:g}" for name, weight in dpo["losses"].items())
        blocks.insert(2, Paragraph(f"DPO with β = {dpo['beta']:g}; losses: {losses}."))
    if align["stopped"]:
        blocks.append(Paragraph(stopped(align["stopped"])))
    return blocks


def _aligned(align: Figures) -> str:
    if not align["steps"] or align["preferred_after"] is None:
        return ""
    before, after = (per_cent(align[key]["share"]) for key in ("preferred_before", "preferred_after"))
    said = f" The answer that people chose is the likelier one in {before} of held-out pairs before alignment, in {after} after"
    change = signed(align["chosen_logprob_after"] - align["chosen_logprob_before"], 3)
    return f"{said}; chosen answers changed by {change} nats a token."


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _lora(lora: Figures | None) -> str:
    if lora is None:
        return "none: all weights"
    return f"{lora['r']}, {lora['alpha']:g}, {lora['dropout']:g}"


def _targets(lora: Figures | None) -> str:
    targets = "–" if lora is None else lora["targets"]
    return targets if isinstance(targets, str) else ", ".join(targets)
