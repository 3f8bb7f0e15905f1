"""Chunks: what the splitter makes, the embedder gives a vector and the store keeps. And the one file they travel in.

The Parquet file is byte-deterministic: rows in reading order, one row group, fixed compression, no pandas metadata.
The content hash is taken over the values and not the bytes, so that another version of the writer does not rebuild an
index.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import DataError
from tasks.files import read_json

if TYPE_CHECKING:
    import numpy as np

FILE, MANIFEST = "chunks.parquet", "manifest.json"
SEPARATOR = " > "
_NAMESPACE = uuid.UUID("6f0f3d1e-5d0a-5c57-9d0c-8a3c1d2b7e44")  # ours, drawn once


@dataclass(frozen=True)
class Chunk:
    """A passage of a document. `start` and `end` count characters of the text that the loader gives for that page."""

    id: str  # UUID, from source, place in it and text
    source: str  # documents/…, the path below the documents folder's parent
    page: int | None  # from 1, where the format has pages
    heading: str  # the sections it stands in: Stores > Thornleigh store
    start: int
    end: int
    text: str
    language: str  # en | zh
    title: str = ""  # the document's, which is not part of `heading`

    @property
    def path(self) -> str:
        """Title and sections."""
        return SEPARATOR.join(part for part in (self.title, self.heading) if part)

    @property
    def passage(self) -> str:
        """Path and text: what is embedded and searched."""
        return f"{self.path}\n{self.text}" if self.path else self.text

    def note(self, headings: str) -> str:
        """What the model is shown: the text under its whole "path", its innermost "section", or "none" of them."""
        above = {"path": self.path, "section": self.heading.rpartition(SEPARATOR)[2], "none": ""}[headings]
        return f"{above}\n{self.text}" if above else self.text


def chunk_id(source: str, ordinal: int, text: str) -> str:
    """UUID5 of source, ordinal and text hash; Weaviate takes nothing but UUIDs."""
    return str(uuid.uuid5(_NAMESPACE, f"{source}|{ordinal}|{hashlib.sha256(text.encode()).hexdigest()}"))


def sha256_lines(lines: Iterable[str]) -> str:
    """SHA-256 over lines of text."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def content_hash(chunks: Sequence[Chunk], vectors: np.ndarray, embedder: str) -> str:
    """SHA-256 over every chunk, its vector (fp32, little endian) and the hash of the model that made it."""
    digest = hashlib.sha256(f"chunks 1 {embedder} {vectors.shape}\n".encode())
    for chunk in chunks:
        digest.update(json.dumps(asdict(chunk), ensure_ascii=False, sort_keys=True).encode() + b"\n")
    digest.update(vectors.astype("<f4").tobytes())
    return digest.hexdigest()


def write_chunks(folder: Path, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
    """Write chunks.parquet; `vectors` is (chunks, dim) fp32."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": pa.string(),
        "source": pa.string(),
        "page": pa.int32(),
        "heading": pa.string(),
        "start": pa.int64(),
        "end": pa.int64(),
        "text": pa.string(),
        "language": pa.string(),
        "title": pa.string(),
    }
    arrays = [pa.array([getattr(chunk, name) for chunk in chunks], kind) for name, kind in columns.items()]
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype("float32").ravel()), vectors.shape[1]))
    table = pa.Table.from_arrays(arrays, names=[*columns, "vector"])
    pq.write_table(
        table,
        folder / FILE,
        compression="zstd",
        compression_level=3,
        version="2.6",
        row_group_size=max(1, len(chunks)),
        store_schema=False,
    )


def read_chunks(folder: Path) -> tuple[list[Chunk], np.ndarray, dict]:
    """Chunks, vectors (chunks, dim) and manifest of an embedded folder, checked against its own content hash."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    manifest = read_json(folder / MANIFEST)
    try:
        table = pq.read_table(folder / FILE)
        rows = table.drop_columns(["vector"]).to_pylist()
        flat = table["vector"].combine_chunks().flatten() if len(rows) else pa.array([], pa.float32())
        chunks = [Chunk(**row) for row in rows]
        vectors = np.asarray(flat, dtype=np.float32).reshape(len(rows), manifest["dim"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise DataError(
            str(folder / FILE), f"cannot be read ({error})", "run the stage again: dvc repro embed"
        ) from None
    if content_hash(chunks, vectors, manifest["weights_sha256"]) != manifest["content_sha256"]:
        raise DataError(
            str(folder), "its chunks are not those of its manifest", "restore it: dvc checkout, or dvc repro embed"
        )
    return chunks, vectors, manifest
