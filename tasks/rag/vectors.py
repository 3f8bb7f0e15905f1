"""Vectors that are kept: a passage is embedded once by a model, however often the stage runs.

Two places hold what there is already. The stage's own former output (DVC leaves it in place: `persist` in dvc.yaml) is
the cache between nights. Shards in `.nightshift/embedding/<identity>/`, written while the stage works, are what a run
leaves behind that is killed; they go when it succeeds. A vector is found by the SHA-256 of the text that was embedded,
under the identity of the model that did it, so neither the place of a chunk nor the way documents are split matters.

A cache may not be able to fail: whatever is wrong with either place, a line says so and the texts are embedded again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.files import write_atomic
from tasks.progress import bar, log
from tasks.rag.chunks import read_chunks, sha256_lines
from tasks.rag.embedder import Embedder, probe_of, same_model

if TYPE_CHECKING:
    import numpy as np

WORK = Path(".nightshift") / "embedding"
PROBE = b"probe"  # in a shard's metadata


def text_hash(passage: str) -> str:
    """The name of a text's vector."""
    return hashlib.sha256(passage.encode(errors="surrogatepass")).hexdigest()


def passages_hash(passages: Iterable[str]) -> str:
    """One hash for all embedded texts of a folder.

    The folder holds chunks; should another version of this code put a passage together in another way, its texts would
    be taken for those that were embedded. This hash shows it.
    """
    return sha256_lines(text_hash(passage) for passage in passages)


def known(folder: Path | None, embedder: Embedder) -> dict[str, np.ndarray]:
    """Text hash → vector of an embedded folder; nothing where another model made it or it cannot be used."""
    if folder is None:
        return {}
    try:
        chunks, vectors, manifest = read_chunks(folder)
        passages = [chunk.passage for chunk in chunks]
        if manifest.get("identity") != embedder.identity or not same_model(embedder, manifest.get("probe")):
            log("the vectors that are there are another model's: all chunks are embedded")
            return {}
        if manifest.get("passages_sha256") != passages_hash(passages):
            log("the vectors that are there are of texts that were put together in another way: all chunks are embedded")
            return {}
    except Exception as error:  # missing, torn, of another version: all the same to a cache
        log(f"the vectors that are there cannot be used ({error}): all chunks are embedded")
        return {}
    return dict(zip(map(text_hash, passages), vectors, strict=True))


def embed_all(
    embedder: Embedder,
    passages: Sequence[str],
    kept: dict[str, np.ndarray],
    save_every: int,
    work: Callable[[list[list[str]]], Iterable[np.ndarray]] | None = None,
) -> np.ndarray:
    """(n, dim) fp32 vectors of the passages; those in `kept`, or in the shards of a killed run, are not made again.

    Equal passages are embedded once; every `save_every` new vectors reach the disk. `work` makes the vectors of batches, one
    result a batch and in their order; the embedder does where it is None.
    """
    import numpy as np

    hashes = [text_hash(passage) for passage in passages]
    folder = WORK / embedder.identity[:16]
    have = _read_shards(folder, embedder) | kept
    there = sum(name in have for name in hashes)
    if there:
        log(f"{there:,} of {len(hashes):,} chunks keep their vectors")
    # shortest first: texts of like length share batches
    missing = sorted(
        {name: text for name, text in zip(hashes, passages, strict=True) if name not in have}.items(),
        key=lambda item: (len(item[1]), item[0]),
    )
    batches = embedder.batches([text for _, text in missing])
    names = [missing[place][0] for batch in batches for place in batch]
    made = (work or functools.partial(map, embedder.passages))([[missing[place][1] for place in batch] for batch in batches])
    waiting: dict[str, np.ndarray] = {}
    vectors = bar(chain.from_iterable(made), "embedding", total=len(names), unit="chunk")
    for number, (name, vector) in enumerate(zip(names, vectors, strict=True), 1):
        waiting[name] = vector
        if len(waiting) == save_every or number == len(names):
            _write_shard(folder, list(waiting), np.stack(list(waiting.values())), probe_of(embedder))
            have.update(waiting)
            waiting = {}
    out = np.zeros((len(hashes), embedder.dim), np.float32)
    for row, name in enumerate(hashes):
        out[row] = have[name]
    return out


def forget() -> None:
    """Remove all shards, once the stage has its output."""
    shutil.rmtree(WORK, ignore_errors=True)


def _write_shard(
    work: Path, names: Sequence[str], vectors: np.ndarray, probe: list[float] | None
) -> None:
    """One Parquet file of hashes and vectors, whole or not at all, each page with a checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.table({"sha256": list(names), "vector": flat}).replace_schema_metadata({PROBE: json.dumps(probe)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    write_atomic(work / f"{names[0][:16]}.parquet", buffer.getvalue())


def _read_shards(work: Path, embedder: Embedder) -> dict[str, np.ndarray]:
    """What a killed run had made; a shard that cannot be used is removed."""
    import numpy as np
    import pyarrow.parquet as pq

    have: dict[str, np.ndarray] = {}
    for path in sorted(work.glob("*.parquet")):
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            probe = json.loads((table.schema.metadata or {})[PROBE])
            flat = np.asarray(table["vector"].combine_chunks().flatten(), dtype=np.float32)
            vectors = flat.reshape(table.num_rows, embedder.dim)
            if not same_model(embedder, probe) or not np.isfinite(vectors).all():
                raise ValueError("of another model")
            have.update(zip(table["sha256"].to_pylist(), vectors, strict=True))
        except Exception as error:  # as above
            log(f"{path} cannot be used ({error}); its chunks are embedded again")
            path.unlink(missing_ok=True)
    if have:
        log(f"{len(have):,} vectors are there from a run that was cut off")
    return have
