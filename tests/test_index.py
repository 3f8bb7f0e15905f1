"""tasks/index.py and tasks/rag/stores/builds.py: builds that are whole, found again, made again, and verified.

What every engine must do with its builds is in tests/test_builds.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import StoreError
from tasks.files import read_json, sha256_tree, write_json
from tasks.index import Probes, index, probe, sample
from tasks.params import Index
from tasks.rag.chunks import MANIFEST, Chunk, chunk_id, content_hash, write_chunks
from tasks.rag.stores.builds import build_id, open_build, open_index
from tasks.rag.stores.folders import MARKER
from tests.rag_fixtures import index_params


def write_embedded(folder: Path, changed: str = "") -> Path:
    """An artifacts/embedded of 40 chunks, ten of them Chinese, with drawn vectors."""
    chunks = []
    for n in range(40):
        zh = n % 4 == 3
        text = f"青山{n}店的退货期是{n}天。" if zh else f"The store number {n} opens at {n}:00.{changed}"
        source = f"documents/{n // 4}.md"
        chunks.append(
            Chunk(chunk_id(source, n, text), source, None, "Stores", 0, len(text), text, "zh" if zh else "en")
        )
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder.mkdir(parents=True)
    write_chunks(folder, chunks, vectors)
    write_json(
        folder / MANIFEST, {"content_sha256": content_hash(chunks, vectors, "w"), "weights_sha256": "w", "dim": 8, "chunks": 40}
    )
    return folder


@pytest.fixture
def world(tmp_path):
    """Parameters, embedded chunks and an empty output folder."""
    cfg = index_params(tmp_path / "stores")
    out = tmp_path / "index"
    out.mkdir()
    return cfg, write_embedded(tmp_path / "embedded"), out


def builds(cfg: Index) -> list[str]:
    """Names of everything in the folder of builds."""
    return sorted(p.name for p in Path(cfg.folder).iterdir())


def test_the_stage_builds_verifies_and_names(world):
    """One build, named by its content; the manifest says what was asked of it."""
    cfg, embedded, out = world
    report = index(cfg, embedded, out)
    manifest = read_json(out / MANIFEST)
    assert builds(cfg) == [report.build] == [manifest["build"]]
    assert report.chunks == 40 and report.probes == Probes(asked=8, chinese=4, dense_found=8, sparse_found=8)
    assert read_json(Path(cfg.folder) / report.build / MARKER)["chunks"] == 40
    # where builds are kept is not part of what the index is
    assert sorted(manifest["settings"]) == ["alpha", "candidates", "exact_below", "probes", "store"]
    assert sorted(p.name for p in out.iterdir()) == [MANIFEST]


def test_again_is_the_same_build_and_bytes(world, tmp_path):
    """The second run finds the build and leaves it alone; the output is the same bytes."""
    cfg, embedded, out = world
    build = index(cfg, embedded, out).build
    before = sha256_tree(Path(cfg.folder) / build)
    (tmp_path / "again").mkdir()
    index(cfg, embedded, tmp_path / "again")
    assert sha256_tree(tmp_path / "again") == sha256_tree(out)
    assert sha256_tree(Path(cfg.folder) / build) == before and builds(cfg) == [build]


def test_a_build_is_named_by_content_and_settings(world, tmp_path):
    """Other words or another kind of index are another build; another weight of dense search is not."""
    cfg, embedded, _ = world
    content = read_json(embedded / MANIFEST)["content_sha256"]
    other = read_json(write_embedded(tmp_path / "other", " Not on Sunday.") / MANIFEST)["content_sha256"]
    name = build_id(content, cfg)
    assert name != build_id(other, cfg)
    assert name != build_id(content, cfg.model_copy(update={"exact_below": 10}))
    assert name == build_id(content, cfg.model_copy(update={"alpha": 0.9, "folder": "elsewhere", "probes": 1}))


def test_open_index_makes_a_missing_store_again(world):
    """A fresh clone has the manifest and the chunks and no store."""
    cfg, embedded, out = world
    build = index(cfg, embedded, out).build
    shutil.rmtree(cfg.folder)
    store = open_index(out, embedded, cfg)
    assert store.count() == 40 and builds(cfg) == [build]
    assert store.sparse("退货期", 1)[0].chunk.language == "zh"


def test_open_index_in_another_folder(world, tmp_path):
    """A server keeps its builds where it likes."""
    cfg, embedded, out = world
    build = index(cfg, embedded, out).build
    assert open_index(out, embedded, index_params(tmp_path / "served")).count() == 40
    assert [p.name for p in (tmp_path / "served").iterdir()] == [build]


@pytest.mark.parametrize("damage", ["no marker", "wrong marker", "no table"])
def test_a_broken_build_is_made_again(world, damage):
    """Half copied, of another build, or emptied after it was complete."""
    cfg, embedded, out = world
    build = index(cfg, embedded, out).build
    folder = Path(cfg.folder) / build
    if damage == "no marker":
        (folder / MARKER).unlink()
    elif damage == "wrong marker":
        write_json(folder / MARKER, {**read_json(folder / MARKER), "build": "other"})
    else:
        shutil.rmtree(folder / "chunks.lance")
    assert open_index(out, embedded, cfg).count() == 40
    assert read_json(folder / MARKER)["build"] == build and builds(cfg) == [build]


def test_a_manifest_of_other_chunks_is_refused(world, tmp_path):
    """Index and chunks of different nights must not be mixed in silence."""
    cfg, embedded, out = world
    index(cfg, embedded, out)
    other = write_embedded(tmp_path / "other", " Changed.")
    with pytest.raises(StoreError, match=r"was built from other chunks than .*dvc checkout"):
        open_index(out, other, cfg)


def test_a_store_that_does_not_find_its_chunks_is_refused(world):
    """A probe that fails names the document; here the vectors are in a wrong order."""
    cfg, embedded, out = world
    from tasks.rag.chunks import read_chunks

    index(cfg, embedded, out)
    chunks, vectors, _ = read_chunks(embedded)
    store = open_index(out, embedded, cfg)
    assert probe(store, chunks, vectors, 8).dense_found == 8
    with pytest.raises(StoreError, match=r"dense search: does not find \d of 4 chunks in en by their own text"):
        probe(store, chunks, vectors[::-1], 8)
    lost = [Chunk("x", "documents/9.md", None, "Lost", 0, 1, "从未存入。", "zh")]
    with pytest.raises(StoreError, match=r"sparse search: does not find 1 of 1 chunks in zh .*documents/9\.md"):
        probe(store, lost, np.zeros((1, 8), np.float32), 1)


def test_one_probe_in_ten_may_be_outdone(world):
    """A text of repetitions has better matches than itself: not a reason to stop the night, unless it is the rule."""
    from tasks.rag.chunks import read_chunks

    cfg, embedded, out = world
    index(cfg, embedded, out)
    chunks, vectors, _ = read_chunks(embedded)
    store = open_index(out, embedded, cfg)
    english = [(c, v) for c, v in zip(chunks, vectors, strict=True) if c.language == "en"]
    lost = (Chunk("x", "documents/9.md", None, "", 0, 1, "Never stored.", "en"), np.zeros(8, np.float32))
    some = [*english[:9], lost]
    asked = probe(store, [c for c, _ in some], np.stack([v for _, v in some]), 10)
    assert (asked.asked, asked.dense_found, asked.sparse_found) == (10, 10, 9)
    some = [*english[:8], lost, lost]
    with pytest.raises(StoreError, match="does not find 2 of 10 chunks in en"):
        probe(store, [c for c, _ in some], np.stack([v for _, v in some]), 10)


def test_a_build_that_fails_its_check_never_gets_its_name(world):
    """What is not verified is not found by the next run either."""
    cfg, embedded, _ = world
    name = build_id(read_json(embedded / MANIFEST)["content_sha256"], cfg)

    def check(store):
        raise StoreError("documents/9.md", "is not found")

    with pytest.raises(StoreError, match="is not found"):
        open_build(name, embedded, cfg, check)
    assert builds(cfg) == []


def test_probes_are_spread_and_half_chinese():
    """8 of 40 with ten Chinese ones: 4 and 4, evenly; none are made up where there are fewer."""
    chunks = [Chunk(str(n), "s", None, "", 0, 0, "", "zh" if n < 10 else "en") for n in range(40)]
    assert sample(chunks, 8) == [0, 2, 5, 7, 10, 17, 25, 32]
    assert sample(chunks[:3], 8) == [0, 1, 2]
    assert sample(chunks[10:], 4) == [0, 7, 15, 22]
    assert len(sample(chunks[:12], 8)) == 8
