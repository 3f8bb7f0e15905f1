"""The figures of a made-up night: each goes through the stage's own Report class, so that a renamed key breaks here.

They are invented but hang together (intervals are computed, not typed).
"""

from __future__ import annotations

from pathlib import Path

from tasks.against import against
from tasks.align import AlignReport
from tasks.answers import Abstention, AnswersReport
from tasks.base import BaseReport
from tasks.candidates import CandidatesReport
from tasks.embed import EmbedReport
from tasks.evaluate import Against, EvaluateReport, Gain, Kl, Rewards
from tasks.evaluation.degenerate import Degenerate
from tasks.evaluation.fidelity import Fidelity
from tasks.evaluation.kept import Beside, Kept
from tasks.evaluation.references import References
from tasks.frozen import Frozen
from tasks.gate import GateReport, unseen
from tasks.index import IndexReport, Probes
from tasks.labelling.agreement import judgements
from tasks.merge import MergeReport
from tasks.params import load
from tasks.prepare import PrepareReport
from tasks.quantize import Calibration, Layers, Module, QuantizeReport, Sizes
from tasks.reasons import LIMIT, Reason
from tasks.release import ReleaseReport
from tasks.reports import Report, Share
from tasks.retrieve import Against as SearchAgainst
from tasks.retrieve import RetrieveReport
from tasks.reward import Bin, PairsReport, RewardReport
from tasks.select import SelectReport
from tasks.sft import SftReport
from tasks.stats import Difference, Mean, share
from tasks.training.watch import Look
from tasks.validate import Finding, Refused, ValidateReport
from tests.judgement_fixtures import many

SCRIPT = '<script>alert("model")</script>'
IMAGE = '<img src=x onerror="alert(1)">'
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
LIVE = "2026-11-22-1b2c3d4e"
MODELS = ("base", "sft", "aligned")
CASES = {"facts": 240, "context": 400, "unanswerable": 200}
RATES = {  # set → behaviour → share of base, SFT, aligned
    "facts": {"right": (0.31, 0.86, 0.85), "concise": (0.22, 0.71, 0.97), "abstains": (0.0, 0.03, 0.04),
              "preferred": (0.22, 0.71, 0.97), "ended": (0.4, 0.99, 1.0)},
    "context": {"right": (0.12, 0.79, 0.80), "cites": (0.02, 0.55, 0.91), "concise": (0.18, 0.66, 0.96),
                "abstains": (0.01, 0.06, 0.08), "preferred": (0.01, 0.41, 0.88), "ended": (0.35, 0.98, 1.0)},
    "unanswerable": {"abstains": (0.02, 0.48, 0.77), "concise": (0.2, 0.75, 0.98), "preferred": (0.01, 0.44, 0.76),
                     "ended": (0.4, 0.99, 1.0)},
}


def of(rate: float, n: int) -> Share:
    """A share near `rate` of n cases."""
    return share([i < round(rate * n) for i in range(n)])


def mean(value: float, half: float, n: int = 200) -> Mean:
    """A mean with a given half width."""
    return Mean(mean=value, low=round(value - half, 9), high=round(value + half, 9), n=n)


def languages(rate: float, n: int) -> dict[str, Share]:
    """All, and two thirds English somewhat better than one third Chinese."""
    return {"all": of(rate, n), "en": of(min(1.0, rate * 1.03), n * 2 // 3), "zh": of(rate * 0.94, n // 3)}


def each(rates: tuple[float, float, float], n: int) -> dict[str, dict[str, Share]]:
    """Model → language → share."""
    return {model: languages(rate, n) for model, rate in zip(MODELS, rates, strict=True)}


def gained(correct: float, preferred: float, cases: tuple[int, int] = (640, 600)) -> Gain:
    """Differences on so many cases."""
    return Gain(correct=difference(correct, cases[0]), preferred=difference(preferred, cases[1]))


def difference(value: float, n: int) -> Difference:
    """A paired difference in which 20 cases go either way besides."""
    better, worse = round(max(value, 0) * n) + 20, round(max(-value, 0) * n) + 20
    return Difference(difference=value, low=round(value - 0.025, 6), high=round(value + 0.025, 6), n=n, better=better,
                      worse=worse, p=0.0312, spread=round(((better + worse) / n - value * value) ** 0.5, 6))


def pairs(rate: float, n: int, **defects: float) -> PairsReport:
    """A set of pairs; a defect's name is written with _ for a space."""
    return PairsReport(accuracy=of(rate, n), mean_margin=1.37,
                       by_defect={name.replace("_", " "): of(r, n // len(defects)) for name, r in defects.items()},
                       by_language={"en": of(rate, n // 2), "zh": of(rate - 0.04, n // 2)},
                       by_length={"alike": of(rate, n // 4), "longer": of(rate - 0.1, n // 4), "shorter": of(rate, n // 2)})


def metrics(*, champion: str | None = LIVE, promote: bool = True) -> dict[str, Report]:
    """Stage → its report."""
    return {**data(), **training(), "evaluate": evaluated(champion), **served(champion), "gate": gate(champion, promote),
            "release": ReleaseReport(manifest=HASH, bytes=5_200_000, promote=promote)}


def gate(champion: str | None, promote: bool) -> GateReport:
    """The verdict: floors, one of them with hostile words, test sets, and the rules on the live release as they are judged."""
    cfg = load(Path(__file__).parent.parent / "params.yaml").gate
    reasons = [
        Reason(rule="correct", figure=0.819, limit=0.6, passed=True, refusal=None,
               why="correct: 81.9 % of answerable cases answered right; at least 60.0 % is asked"),
        Reason(rule="kl", figure=7.41, limit=20.0, passed=True, refusal=None,
               why="kl: 7.41 nats an answer from SFT to aligned model; at most 20.00 is asked"),
        Reason(rule="recall", figure=0.612 if not promote else None, limit=0.7, passed=promote,
               refusal=None if promote else LIMIT,
               why=f"recall: 61.2 % of those questions had their source {SCRIPT}; at least 70.0 % is asked")]
    found = Frozen(test_sets=dict.fromkeys(CASES, HASH), changed=[], cases=2020, rows=6413, seen=0, where=[])
    reasons += unseen(cfg, found, champion)
    if champion:
        judged = against(cfg, evaluated(champion).champion.model_dump(), champion)
        reasons += [reason for reason in judged if reason.passed or not promote]
    return GateReport(promote=promote, champion=champion, champion_search=champion, reasons=reasons, frozen=found)


def data() -> dict[str, Report]:
    """Checks and preparation."""
    return {
        "validate": ValidateReport(
            rows={"instructions": 4200, "preferences": 1640, "prompts": 300, "evaluation": 1640, "documents": 61},
            checks={"instructions": 9, "preferences": 11, "prompts": 6, "evaluation": 12, "documents": 4},
            findings=[
                Finding(kind="preferences", check="chosen and rejected differ", severity="critical", passed=True,
                        rows=3, share=0.0018, allowed=0.02,
                        where=["preferences/week-44.jsonl:17", "preferences/week-46.jsonl:9"]),
                Finding(kind="documents", check=f"the name is text {IMAGE}", severity="warning", passed=False, rows=1,
                        share=0.016, allowed=0.0, where=["documents/stores/north.pdf"])],
            refused=[Refused(where="preferences/week-44.jsonl:17", reasons=["chosen and rejected differ"])], absent=[]),
        "prepare": PrepareReport(
            read={"instructions": 4200, "preferences": 1640, "prompts": 300},
            instructions={"train": 3810, "eval": 201}, pairs={"train": 2911, "eval": 160}, prompts=288,
            prompts_from="data/prompts", feedback=3, skipped=8, flagged=6,
            evaluation={**CASES, "pairs_correctness": 400, "pairs_style": 300, "documents": 240},
            languages={"instructions": {"en": 2811, "zh": 1200}, "preferences": {"en": 2100, "zh": 971},
                       "prompts": {"en": 190, "zh": 98}, "evaluation": {"en": 1187, "zh": 593}},
            forms={"alpaca": 2000, "messages": 1200, "sharegpt": 1000, "ranking": 1400, "pair": 240},
            dropped={"exact duplicate": 88, "near duplicate": 51, "overlaps evaluation case": 12, "refused:": 3},
            ranked_prompts=812, judged=4120, judged_twice=640, agreement=0.834, overruled_votes=71, even_pairs=22,
            ties=310, capped_pairs=5, labelling=judgements(many())),
    }


def training() -> dict[str, Report]:
    """Base, the three trainings, candidates and merge."""
    bins = ((90, 0.58), (110, 0.66), (140, 0.79), (180, 0.88), (340, 0.97))
    return {
        "base": BaseReport(model="starter", revision=None, licence="Apache-2.0", architecture="LlamaForCausalLM",
                           parameters=2_562_624, vocabulary=4096, window=512, dtype="float32", chat_template="chatml",
                           fresh_embeddings=0, template_sha256=HASH, weights_sha256=HASH[::-1], end_token="<|im_end|>",
                           pad_token="<|endoftext|>"),
        "sft": SftReport(rows=3810, too_long=4, too_long_ids=["a"], eval_rows=201, answer_tokens=45100, steps=717,
                         trained_parameters=412_000, trained_share=0.16, train_loss=0.3121,
                         eval_loss_before=3.214, eval_loss=0.4013),
        "candidates": CandidatesReport(prompts=288, answers=1152, different=2.71, ended=0.99, mean_tokens=11.2),
        "reward": RewardReport(
            pairs=2911, too_long=0, steps=546, trained_parameters=824_192, trained_share=0.32, train_loss=0.2811,
            preferences=pairs(0.88, 160),
            correctness=pairs(0.81, 400, wrong_value=0.71, made_up=0.93, abstains=0.86, wrong_note=0.74),
            style=pairs(0.95, 300, no_source=0.97, verbose=0.96, the_answer_comes_last=0.92),
            held_out=of(0.87, 860),
            calibration=[Bin(low=0.5 + i / 10, high=0.6 + i / 10, n=n, predicted=round(0.55 + i / 10, 2), right=right)
                         for i, (n, right) in enumerate(bins)], calibration_error=0.021),
        "select": SelectReport(prompts=288, selected=150, without_choice=138, answers={"2": 150},
                               why={"feedback": 3, "random": 30, "uncertain": 117}, sureness=0.66, difference=0.51,
                               model="sft-0123456789ab"),
        "align": AlignReport(method="dpo", pairs=2911, too_long=0, steps=364, trained_parameters=412_000, trained_share=0.16,
                             looks=[Look(step=step, reward=step / 400, kl=step / 200, ended=1.0, end_logprob=-0.1, distinct=0.9,
                                         length=1.1, logprob=-0.5, kept=0.7) for step in (0, 100, 200, 300, 364)],
                             stopped=None, train_loss=0.2214, preferred_before=of(0.61, 160), preferred_after=of(0.84, 160),
                             gained=of(0.86, 160), chosen_logprob_before=-0.612, chosen_logprob_after=-0.431,
                             answers=64, ended=1.0, distinct=0.94),
        "merge": MergeReport(parameters=2_562_624, prompts=32, positions=2870, max_logit_difference=6.1e-6,
                             argmax_equal=True, weights_sha256=HASH, template_sha256=HASH),
    }


def evaluated(champion: str | None) -> EvaluateReport:
    """Behaviours and comparisons."""
    return EvaluateReport(
        cases=CASES,
        behaviours={model: {name: {language: {key: languages(rate[place], CASES[name])[language]
                                              for key, rate in rates.items()} for language in ("all", "en", "zh")}
                            for name, rates in RATES.items()} for place, model in enumerate(MODELS)},
        correct=each((0.19, 0.82, 0.819), 640), preferred=each((0.01, 0.42, 0.84), 600),
        abstains=each((0.02, 0.48, 0.77), 200), over_abstains=each((0.01, 0.05, 0.07), 640),
        degenerate={model: Degenerate(share=of(bad, 840), not_ended=bad, repeats=bad / 3, most_frequent=0.07)
                    for model, bad in zip(MODELS, (0.62, 0.01, 0.002), strict=True)},
        sft_over_base=gained(0.63, 0.41), aligned_over_sft=gained(-0.001, 0.42),
        sampled={model: {name: {"all": {key: of(rate[place] * 0.9, 150) for key, rate in rates.items()}}
                         for name, rates in RATES.items()} for place, model in ((1, "sft"), (2, "aligned"))},
        reward=Rewards(sft=mean(0.31, 0.06), aligned=mean(1.92, 0.05), win_rate=mean(0.78, 0.03)),
        kl=Kl(per_token=mean(0.64, 0.04), per_sequence=mean(7.41, 0.6)),
        references=References(
            cases=200, chrf={model: mean(value, 0.02) for model, value in zip(MODELS, (0.214, 0.571, 0.583), strict=True)},
            ended=dict(zip(MODELS, (of(0.4, 200), of(0.99, 200), of(1.0, 200)), strict=True)),
            sft_over_base=gained(0.357, 0).correct, aligned_over_sft=gained(0.012, 0).correct,
            aligned_over_base=gained(0.369, 0).correct),
        champion=Against(release=champion, cases=820, differing=310, win_rate=mean(0.54, 0.04), behaviours={
            name: difference(value, n) for name, value, n in (
                ("correct", 0.012, 620), ("preferred", 0.031, 600), ("abstains", -0.01, 200), ("over_abstains", 0.003, 620),
                ("degenerate", 0.0, 820), ("reference", 0.004, 200))}) if champion else None)


def layers() -> Layers:
    """Four blocks of seven layers, later and wider ones worse; one saw too little."""
    kinds = ("mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj",
             "self_attn.v_proj")
    modules = [Module(name=f"layers.{block}.{kind}", tokens=61_000, loss=None if (block, kind) == (1, "self_attn.k_proj") else
                      float(f"{1.2e-3 * (block + 1) / 4 / (place + 1) ** 2:.4g}"))
               for block in range(4) for place, kind in enumerate(kinds)]
    return Layers(quantized=28, modules=modules, fallbacks=["layers.1.self_attn.k_proj"], least_tokens=61_000,
                  worst="layers.3.mlp.down_proj", worst_loss=0.0012)


def beside(before: float, after: float, n: int) -> Beside:
    """A behaviour of both models."""
    return Beside(unquantized=of(before, n), quantized=of(after, n), lost=difference(before - after, n))


def served(champion: str | None) -> dict[str, Report]:
    """Quantization, index, retrieval and answers."""
    modes = (("dense", 0.61), ("sparse", 0.72), ("hybrid", 0.79))
    searched = gained(0.015, -0.004, (188, 188))
    return {
        "quantize": QuantizeReport(
            bits=4, group_size=64, symmetric=True, order="group", calibration=Calibration(chats=512, tokens=61_000, too_short=0),
            layers=layers(),
            sizes=Sizes(total_bytes=4_420_000, quantized_bytes=1_020_000, unquantized_bytes=3_400_000,
                        unquantized=["model.embed_tokens.weight"], merged_bytes=10_250_000, share_of_bf16=0.862,
                        bits_a_weight=4.41),
            chats=256, tokens=2913, perplexity=1.4913,
            quantized=Fidelity(kl=mean(2.2e-4, 4e-5), agreement=mean(0.991, 0.004), perplexity=1.4931,
                               identical=of(0.95, 256)),
            rounded=Fidelity(kl=mean(1.47e-3, 2e-4), agreement=mean(0.975, 0.006), perplexity=1.5022, identical=None),
            kept=Kept(right=beside(0.82, 0.814, 170), preferred=beside(0.84, 0.84, 160), abstains=beside(0.77, 0.79, 62),
                      degenerate={side: Degenerate(share=of(bad, 256), not_ended=bad, repeats=0.0, most_frequent=0.07)
                                  for side, bad in (("unquantized", 0.0), ("quantized", 0.004))})),
        "embed": EmbedReport(documents=61, problems=1, dropped=0, chunks=412, languages={"en": 301, "zh": 111},
                             formats={".md": 30, ".pdf": 31}, model="starter", weights_sha256=HASH, dim=192,
                             longest_chunk=96, cut=0, unknown={"en": 0.004, "zh": 0.012}),
        "index": IndexReport(build="b-3f1c0a9d", store="lancedb", chunks=412, dim=192,
                             probes=Probes(asked=24, chinese=12, dense_found=24, sparse_found=24)),
        "retrieve": RetrieveReport(
            questions=200, unanswerable=40, top_k=2, reranker=None, found=languages(0.86, 200),
            modes={mode: {language: {f"recall@{k}": round(r - less + 0.04 * i, 6) for i, k in enumerate((1, 2, 5, 10))}
                          | {"mrr@10": round(r - less + 0.05, 6), "ndcg@10": round(r - less + 0.07, 6)}
                          for language, less in (("all", 0.0), ("en", -0.02), ("zh", 0.04))} for mode, r in modes},
            champion=SearchAgainst(release=champion, questions=188, found=searched.correct,
                                   reciprocal_rank=searched.preferred) if champion else None),
        "answers": AnswersReport(
            questions=240, top_k=2, right=languages(0.74, 200), right_when_found=languages(0.85, 172),
            groundedness=languages(0.91, 195), cites_source=languages(0.7, 200),
            citation_precision={language: mean(value, 0.05, n) for language, value, n in
                                (("all", 0.72, 190), ("en", 0.74, 127), ("zh", 0.68, 63))},
            citation_recall=languages(0.73, 200),
            abstains=Abstention(precision=of(0.71, 45), recall=of(0.8, 40)), invented_citations=of(0.004, 240),
            ended=of(1.0, 240)),
    }
