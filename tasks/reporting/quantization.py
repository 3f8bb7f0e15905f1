"""What quantization costs, in likeness and in behaviour, layer by layer, and what it saves in bytes."""

from __future__ import annotations

from tasks.reporting.figures import Bar, Cell, bars, percent, shades
from tasks.reporting.parts import Paragraph, Picture, Pictures, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.words import megabytes, per_cent, plural, signed, tiny

KINDS = ("q", "k", "v", "o", "gate", "up", "down")  # in the order of a block; others follow
ORDER = {"activation": ", columns in order of activation", "group": ", groups in order of activation", "as they stand": ""}


def quantization(quantize: Figures) -> Section:
    """KL and agreement beside round-to-nearest, behaviours beside the unquantized model's, losses by layer, bytes."""
    ours, plain, sizes = quantize["quantized"], quantize["rounded"], quantize["sizes"]
    name, layers = f"int{quantize['bits']}", quantize["layers"]
    ratio = plain["kl"]["mean"] / ours["kl"]["mean"] if ours["kl"]["mean"] else 0.0
    levels = "symmetric levels" if quantize["symmetric"] else "zero-points"
    return Section(
        "quantization",
        "Quantization",
        [
            Paragraph(
                f"GPTQ to {quantize['bits']} bits in groups of {quantize['group_size']} with {levels}"
                f"{ORDER[quantize['order']]}: {plural(layers['quantized'], 'layer')}, {sizes['bits_a_weight']:.2f} bits a "
                f"weight with scales. The whole folder's tensors are {per_cent(sizes['share_of_bf16'])} of the model in bfloat16."
                + (f" Round-to-nearest at the same size strays {ratio:.1f} times as far." if ratio else "")
            ),
            Pictures(
                [
                    Picture(
                        "Size",
                        size(name, sizes),
                        f"Grey stays unquantized: {', '.join(sizes['unquantized']) or 'none of 1 % or more'}.",
                    ),
                    Picture("Loss: KL, nats a token", likeness(ours, plain), "Smaller is nearer the unquantized model."),
                    Picture(
                        "Loss by layer and block",
                        by_layer(layers),
                        f"The stronger, the larger, in steps of equal ratio: most in {layers['worst'] or 'none'}, "
                        f"{tiny(layers['worst_loss'])}. Outlined: rounded to nearest.",
                    ),
                ]
            ),
            Table(
                f"Against the unquantized model: {plural(quantize['chats'], 'chat')}, {quantize['tokens']:,} answer "
                "tokens",
                ("", f"GPTQ {name}", "round to nearest"),
                nearness(quantize),
            ),
            Table(
                "What it still does, on the same chats",
                ("", "unquantized, %", f"{name}, %", "lost, points", "95 % interval", "cases"),
                behaviours(quantize["kept"]),
            ),
            Table(
                f"Loss of each of the {plural(layers['quantized'], 'layer')}, as GPTQModel gives it",
                ("layer", "loss", "calibration tokens"),
                [
                    (module["name"], "rounded to nearest" if module["loss"] is None else tiny(module["loss"]),
                     f"{module['tokens']:,}")
                    for module in layers["modules"]
                ],
                folded=True,
            ),
            Paragraph(
                f"Layers that saw too few tokens and were rounded instead: {', '.join(layers['fallbacks']) or 'none'}. "
                f"Calibrated on {plural(quantize['calibration']['chats'], 'chat')} of the training data.",
                "note",
            ),
        ],
    )


def nearness(quantize: Figures) -> list[tuple[str, ...]]:
    """Rows of figures of GPTQ and of round-to-nearest."""
    both = (quantize["quantized"], quantize["rounded"])
    return [
        ("KL to the unquantized model, nats a token", *(tiny(f["kl"]["mean"]) for f in both)),
        ("KL, 95 % interval", *(f"{tiny(f['kl']['low'])} – {tiny(f['kl']['high'])}" for f in both)),
        ("same likeliest token, %", *(percent(f["agreement"]["mean"]) for f in both)),
        (
            "same likeliest token, 95 % interval",
            *(f"{percent(f['agreement']['low'])} – {percent(f['agreement']['high'])}" for f in both),
        ),
        (f"perplexity (unquantized: {quantize['perplexity']:.4f})", *(f"{f['perplexity']:.4f}" for f in both)),
        ("same greedy answer, %", *(percent(f["identical"]["share"]) if f["identical"] else "–" for f in both)),
    ]


def behaviours(kept: Figures) -> list[tuple[str, ...]]:
    """Rows of what both models do; what no case asks for is left out."""
    rows = []
    for key, words in (("right", "right"), ("preferred", "as people prefer"), ("abstains", "abstains when it should")):
        beside = kept[key]
        if beside is not None:
            lost = beside["lost"]
            rows.append(
                (
                    words,
                    *(percent(beside[side]["share"]) for side in ("unquantized", "quantized")),
                    signed(100 * lost["difference"]),
                    f"{signed(100 * lost['low'])} – {signed(100 * lost['high'])}",
                    f"{lost['n']:,}",
                )
            )
    bad = [kept["degenerate"][side]["share"] for side in ("unquantized", "quantized")]
    return [*rows, ("empty, cut or repeating", *(percent(side["share"]) for side in bad), "", "", f"{bad[0]['n']:,}")]


def size(name: str, sizes: Figures):
    """Bars of the merged and of the quantized model."""
    merged, total, rest = (sizes[key] for key in ("merged_bytes", "total_bytes", "unquantized_bytes"))
    return bars(
        [
            Bar("merged, fp32", [(merged, "rest")], f"{megabytes(merged)} MB"),
            Bar(name, [(sizes["quantized_bytes"], ""), (rest, "rest")], f"{megabytes(total)} MB"),
        ],
        f"Size: merged {megabytes(merged)} MB, {name} {megabytes(total)} MB, {megabytes(rest)} MB of it unquantized",
    )


def likeness(ours: Figures, plain: Figures):
    """Bars of the KL of GPTQ and of round-to-nearest."""
    return bars(
        [
            Bar("GPTQ", [(ours["kl"]["mean"], "")], tiny(ours["kl"]["mean"])),
            Bar("round to nearest", [(plain["kl"]["mean"], "rest")], tiny(plain["kl"]["mean"])),
        ],
        "KL divergence from the unquantized model: GPTQ beside round-to-nearest",
    )


def by_layer(layers: Figures):
    """The grid of losses: a row a kind of layer, a column a block."""
    cells = []
    for module in layers["modules"]:
        _, block, kind = module["name"].split(".", 2)  # layers.0.mlp.down_proj
        said = "rounded to nearest" if module["loss"] is None else tiny(module["loss"])
        hint = f"{module['name']}: {said}, {plural(module['tokens'], 'token')}"
        cells.append(Cell(kind.rsplit(".", 1)[-1].removesuffix("_proj"), block, module["loss"], hint))
    cells.sort(key=lambda cell: KINDS.index(cell.row) if cell.row in KINDS else len(KINDS))
    worst = f", most in {layers['worst']}: {tiny(layers['worst_loss'])}" if layers["worst"] else ""
    return shades(cells, f"Loss of each layer by kind and block{worst}")
