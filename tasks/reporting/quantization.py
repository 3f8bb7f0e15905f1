"""What int4 costs in likeness, and what it saves in bytes."""

from __future__ import annotations

from tasks.reporting.figures import Bar, bars, percent
from tasks.reporting.parts import Paragraph, Picture, Pictures, Section, Table
from tasks.reporting.reading import Figures
from tasks.reporting.words import megabytes, per_cent, plural, tiny


def quantization(quantize: Figures) -> Section:
    """What int4 costs: KL and agreement beside round-to-nearest, and what the bytes are."""
    ours, plain, sizes = quantize["int4"], quantize["rounded"], quantize["sizes"]
    bits, layers = quantize["bits"], quantize["layers"]
    ratio = plain["kl"]["mean"] / ours["kl"]["mean"] if ours["kl"]["mean"] else 0.0
    rows = [
        ("KL to the unquantized model, nats a token", tiny(ours["kl"]["mean"]), tiny(plain["kl"]["mean"])),
        (
            "KL, 95 % interval",
            f"{tiny(ours['kl']['low'])} – {tiny(ours['kl']['high'])}",
            f"{tiny(plain['kl']['low'])} – {tiny(plain['kl']['high'])}",
        ),
        ("same likeliest token, %", percent(ours["agreement"]["mean"]), percent(plain["agreement"]["mean"])),
        (
            "same likeliest token, 95 % interval",
            *(f"{percent(f['agreement']['low'])} – {percent(f['agreement']['high'])}" for f in (ours, plain)),
        ),
        (
            f"perplexity (unquantized: {quantize['perplexity']:.4f})",
            f"{ours['perplexity']:.4f}",
            f"{plain['perplexity']:.4f}",
        ),
        (
            "same greedy answer, %",
            *(percent(f["identical"]["share"]) if f["identical"] else "–" for f in (ours, plain)),
        ),
    ]
    total, rest = sizes["total_bytes"], sizes["unquantized_bytes"]
    merged = sizes["merged_bytes"]
    size = bars(
        [
            Bar("merged, fp32", [(merged, "rest")], f"{megabytes(merged)} MB"),
            Bar(f"int{bits}", [(sizes["quantized_bytes"], ""), (rest, "rest")], f"{megabytes(total)} MB"),
        ],
        f"Size: merged {megabytes(merged)} MB, int{bits} {megabytes(total)} MB, {megabytes(rest)} MB of it unquantized",
    )
    kl = bars(
        [
            Bar("GPTQ", [(ours["kl"]["mean"], "")], tiny(ours["kl"]["mean"])),
            Bar("round to nearest", [(plain["kl"]["mean"], "rest")], tiny(plain["kl"]["mean"])),
        ],
        "KL divergence from the unquantized model: GPTQ beside round-to-nearest",
    )
    names = ", ".join(sizes["unquantized"]) or "none of 1 % or more"
    fallen = layers["fallbacks"]
    return Section(
        "quantization",
        "Quantization",
        [
            Paragraph(
                f"GPTQ to {bits} bits in groups of {quantize['group_size']}, {plural(layers['quantized'], 'layer')}, "
                f"{sizes['bits_a_weight']:.2f} bits a weight with scales. The whole folder's tensors are "
                f"{per_cent(sizes['share_of_bf16'])} of the model in bfloat16."
                + (f" Round-to-nearest at the same size strays {ratio:.1f} times as far." if ratio else "")
            ),
            Pictures(
                [
                    Picture("Size", size, f"Grey stays unquantized: {names}."),
                    Picture("Loss: KL, nats a token", kl, "Smaller is nearer the unquantized model."),
                ]
            ),
            Table(
                f"Against the unquantized model: {plural(quantize['chats'], 'chat')}, {quantize['tokens']:,} answer "
                "tokens",
                ("", f"GPTQ int{bits}", "round to nearest"),
                rows,
            ),
            Paragraph(
                f"Layers that saw too few tokens and were rounded instead: {', '.join(fallen) if fallen else 'none'}. "
                f"Calibrated on {plural(quantize['calibration']['chats'], 'chat')} of the training data.",
                "note",
            ),
        ],
    )
