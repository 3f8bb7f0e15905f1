"""A tiny embedding model for retrieval: one learned vector a token, averaged. Made in a minute, 2 MB, loads offline.

Trained to rank the passage that answers a question above the others of the batch (MultipleNegativesRankingLoss,
Henderson et al. 2017, arXiv:1705.00652, §4), where the other passages include one about the same entity. Names that
are held out never occur in it. A bag of tokens can't tell word order apart, but names and attribute words are what
retrieval needs here; the product combines it with BM25.

    python -m starter.embedder --tokenizer starter/base --out starter/embedder
"""

import argparse
import json
import random
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer

from starter import world

DIMENSIONS = 128


def pair_of_passages(e: world.Entity, lang: str, r: random.Random) -> list[tuple[list[str], str]]:
    """The entity's facts told in two passages: (attributes stated, text) of each."""
    keys = list(e["facts"])
    r.shuffle(keys)
    half = len(keys) // 2
    parts = [keys[:half], keys[half:]]
    return [(part, world.text_of(world.passage(e, part, lang, r))) for part in parts]


def training_pairs(r: random.Random, count: int) -> tuple[list[str], list[str]]:
    """`count` questions and the passages that answer them; neighbours are about the same entity."""
    questions, passages = [], []
    while len(questions) < count:
        lang = "zh" if r.random() < 0.35 else "en"
        e = world.make_entity(r.choice(list(world.KINDS)), r, lang)
        for keys, text in pair_of_passages(e, lang, r):
            questions.append(world.text_of(world.question(e, r.choice(keys), lang, r)))
            passages.append(text)
    return questions[:count], passages[:count]


def new_model(tokenizer: Path, seed: int) -> SentenceTransformer:
    """An untrained model over the starter's tokenizer."""
    torch.manual_seed(seed)
    static = StaticEmbedding(Tokenizer.from_file(str(tokenizer / "tokenizer.json")), embedding_dim=DIMENSIONS)
    return SentenceTransformer(modules=[static, Normalize()], device="cpu")


def embed(model: SentenceTransformer, texts: list[str]) -> torch.Tensor:
    """Vectors of length 1, (N, DIMENSIONS), with gradients."""
    return model(model.preprocess(texts))["sentence_embedding"]


def train(model: SentenceTransformer, steps: int, batch: int, lr: float, seed: int, temperature: float = 0.05) -> None:
    """In-batch negatives: the i-th question belongs to the i-th passage."""
    r = random.Random(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for step in range(steps):
        questions, passages = training_pairs(r, batch)
        logits = embed(model, questions) @ embed(model, passages).T / temperature  # (batch, batch)
        loss = F.cross_entropy(logits, torch.arange(batch))
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step + 1 == steps:
            print("step", step, "loss", round(loss.item(), 4), flush=True)
    model.eval()


def held_out_collection(lang: str, passages: int, seed: int) -> tuple[list[str], list[str]]:
    """Passages about distinct held-out entities, two for each, and a question for each in a held-out wording.

    Rare kinds run out of names; the rest are people.
    """
    r, taken = random.Random(f"{seed}/{lang}"), set()
    questions, texts = [], []
    while len(texts) < passages:
        kind = r.choice(list(world.KINDS))
        for _ in range(50):
            e = world.make_entity(kind, r, lang, evaluation=True)
            if e["name"] not in taken:
                break
        else:
            continue
        taken.add(e["name"])
        for keys, text in pair_of_passages(e, lang, r):
            questions.append(world.text_of(world.question(e, r.choice(keys), lang, r, "held-out")))
            texts.append(text)
    return questions[:passages], texts[:passages]


@torch.no_grad()
def recall(model: SentenceTransformer, lang: str, passages: int = 600, seed: int = 3) -> dict[str, float]:
    """Share of held-out questions whose passage comes first, or among the first three."""
    questions, texts = held_out_collection(lang, passages, seed)
    scores = embed(model, questions) @ embed(model, texts).T  # (passages, passages)
    rank = (scores > scores.diagonal()[:, None]).sum(-1)
    return {f"recall@{k}": round((rank < k).float().mean().item(), 3) for k in (1, 3)}


def main() -> None:
    """Train, save, and write the figures beside the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=512, help="pairs a step, each a negative to all others")
    parser.add_argument("--lr", type=float, default=0.03, help="Adam; falls to 0")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = new_model(args.tokenizer, args.seed)
    train(model, args.steps, args.batch, args.lr, args.seed)
    figures = {lang: recall(model, lang) for lang in ("en", "zh")}
    shutil.rmtree(args.out, ignore_errors=True)
    model.save_pretrained(str(args.out), create_model_card=False)
    (args.out / "model.safetensors").chmod(0o644)
    recipe = {"steps": args.steps, "batch": args.batch, "lr": args.lr, "seed": args.seed, "passages": 600} | figures
    (args.out / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
