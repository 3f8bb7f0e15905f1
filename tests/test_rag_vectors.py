"""tasks/rag/vectors.py: what is embedded, what is kept, and that no byte tells the difference."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import minigraph
import numpy as np
import pytest
import yaml

from tasks.embed import embed
from tasks.files import read_json, sha256_tree, write_json
from tasks.rag import vectors
from tasks.rag.chunks import FILE, MANIFEST, read_chunks
from tasks.rag.embedder import load_embedder
from tasks.rag.vectors import WORK, embed_all, known
from tests.rag_fixtures import ROOT, STARTER, write_word_model
from tests.test_rag_embedder import CFG, CPU


class Watched:
    """The committed model; `made` are the texts that it embedded."""

    def __init__(self):
        self._model, self.made = load_embedder(CFG, STARTER, CPU), []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def passages(self, texts):
        """As the model does, and noted."""
        self.made += texts
        return self._model.passages(texts)


@pytest.fixture
def watched(monkeypatch, tmp_path) -> Watched:
    """The model that the stage will load; work goes below a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    model = Watched()
    monkeypatch.setattr("tasks.embed.load_embedder", lambda cfg, starter, compute: model)
    return model


def write_documents(folder: Path, count: int = 20, changed: int | None = None) -> Path:
    """One document of one chunk a store; store `changed` closes earlier."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        hour = 18 - (n == changed)
        (folder / f"{n:03}.md").write_text(f"# Store {n}\n\nStore {n} opens at 8:{n % 60:02} and closes at {hour}:00.\n")
    return folder


def run(documents: Path, out: Path, before: Path | None = None, **changes):
    """Run the stage into a fresh folder."""
    out.mkdir()
    return embed(CFG.model_copy(update=changes), CPU, documents, STARTER, out, before)


def test_one_changed_document_embeds_one_chunk(watched, tmp_path, capsys):
    """19 of 20 keep their vectors; report and output are those of a run from nothing. Again: nothing is embedded."""
    documents = write_documents(tmp_path / "documents")
    run(documents, tmp_path / "first")
    assert len(watched.made) == 20 and "keep" not in capsys.readouterr().err
    write_documents(documents, changed=7)
    watched.made.clear()
    report = run(documents, tmp_path / "second", before=tmp_path / "first")
    assert len(watched.made) == 1 and "closes at 17:00" in watched.made[0]
    assert "19 of 20 chunks keep their vectors" in capsys.readouterr().err
    fresh = run(documents, tmp_path / "fresh")
    assert report == fresh and sha256_tree(tmp_path / "second") == sha256_tree(tmp_path / "fresh")
    watched.made.clear()
    run(documents, tmp_path / "third", before=tmp_path / "second")
    assert watched.made == [] and sha256_tree(tmp_path / "third") == sha256_tree(tmp_path / "fresh")
    assert not WORK.exists()


def test_a_moved_document_keeps_its_vectors(watched, tmp_path):
    """A vector belongs to a text and not to a path; equal texts are embedded once."""
    documents = write_documents(tmp_path / "documents", 3)
    run(documents, tmp_path / "first")
    (documents / "old").mkdir()
    (documents / "000.md").rename(documents / "old" / "shop.md")
    shutil.copy(documents / "001.md", documents / "copy.md")
    watched.made.clear()
    report = run(documents, tmp_path / "second", before=tmp_path / "first")
    assert report.chunks == 4 and watched.made == []
    run(documents, tmp_path / "fresh")
    assert len(watched.made) == 3 and sha256_tree(tmp_path / "second") == sha256_tree(tmp_path / "fresh")


def test_another_model_embeds_everything(watched, tmp_path, capsys):
    """Other weights or another prefix make another identity; the old vectors are not taken."""
    documents = write_documents(tmp_path / "documents", 3)
    run(documents, tmp_path / "first")
    words = load_embedder(CFG.model_copy(update={"model": str(write_word_model(tmp_path / "m", "store opens"))}), STARTER, CPU)
    told = load_embedder(CFG.model_copy(update={"passage_prefix": "passage: "}), STARTER, CPU)
    assert len(known(tmp_path / "first", watched)) == 3
    for other in (words, told):
        capsys.readouterr()
        assert known(tmp_path / "first", other) == {}
        assert "another model's: all chunks are embedded" in capsys.readouterr().err


def test_a_damaged_former_output_is_no_error(watched, tmp_path, capsys):
    """Cut short, without manifest, of another form, not what its manifest says: a line each, and all is embedded."""
    documents = write_documents(tmp_path / "documents", 3)
    run(documents, tmp_path / "good")

    def other_way(folder):
        write_json(folder / MANIFEST, read_json(folder / MANIFEST) | {"passages_sha256": "0" * 64})

    damages = {
        "cannot be read": lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:200]),
        "is missing": lambda folder: (folder / MANIFEST).unlink(),
        "cannot be used": lambda folder: (folder / MANIFEST).write_text("[1]"),
        "not those of its manifest": lambda folder: write_json(
            folder / MANIFEST, read_json(folder / MANIFEST) | {"content_sha256": "0" * 64}
        ),
        "put together in another way": other_way,
        "another model's": lambda folder: write_json(
            folder / MANIFEST, {k: v for k, v in read_json(folder / MANIFEST).items() if k != "identity"}
        ),
    }
    for number, (said, damage) in enumerate(damages.items()):
        before = Path(shutil.copytree(tmp_path / "good", tmp_path / f"before-{number}"))
        damage(before)
        watched.made.clear()
        capsys.readouterr()
        run(documents, tmp_path / f"out-{number}", before=before)
        assert len(watched.made) == 3 and said in capsys.readouterr().err
        assert sha256_tree(tmp_path / f"out-{number}") == sha256_tree(tmp_path / "good")


KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.rag import vectors
from tests.test_rag_vectors import run
real, written = vectors._write_shard, []
def write(*args):
    real(*args)
    written.append(1)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
vectors._write_shard = write
run(Path("documents"), Path("killed"), save_every=4)
"""


def test_a_killed_run_goes_on(watched, tmp_path, capsys):
    """kill -9 after three shards of 4: the next run embeds 8 of 20, with the same bytes in the end. A torn shard, and
    one of another dimension, are made again."""
    write_documents(tmp_path / "documents")
    ended = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    assert ended.returncode == -signal.SIGKILL
    work = WORK / watched.identity[:16]
    assert len(list(work.glob("*.parquet"))) == 3
    torn, other, _ = sorted(work.glob("*.parquet"))
    shutil.copytree(WORK, tmp_path / "kept")
    run(tmp_path / "documents", tmp_path / "out", save_every=4)
    assert len(watched.made) == 8 and "12 vectors are there from a run that was cut off" in capsys.readouterr().err
    assert not WORK.exists()
    run(tmp_path / "documents", tmp_path / "fresh", save_every=4)
    assert sha256_tree(tmp_path / "out") == sha256_tree(tmp_path / "fresh")
    shutil.copytree(tmp_path / "kept", WORK)
    torn.write_bytes(torn.read_bytes()[:-50])
    vectors._write_shard(work, [other.stem] * 4, np.ones((4, 5), np.float32), None)
    watched.made.clear()
    run(tmp_path / "documents", tmp_path / "again", save_every=4)
    assert len(watched.made) == 16 and sha256_tree(tmp_path / "again") == sha256_tree(tmp_path / "fresh")
    assert capsys.readouterr().err.count("cannot be used") == 2


def test_a_flipped_bit_in_a_shard_is_seen(watched):
    """Vectors have no checksum of their own; the pages of the file have."""
    embed_all(watched, [f"store {n}" for n in range(50)], {}, 50)
    (shard,) = WORK.rglob("*.parquet")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    watched.made.clear()
    embed_all(watched, ["store 1"], {}, 50)
    assert watched.made == ["store 1"]


@pytest.mark.slow  # three starts of the stage below DVC
def test_dvc_leaves_the_former_output_to_the_stage(tmp_path):
    """Real DVC, the real door, 100 documents: one changes, `dvc repro` embeds its one chunk, and the output is that of a
    repro from nothing."""
    root = minigraph.make(tmp_path)
    shutil.rmtree(root / "data")
    write_documents(root / "data" / "documents", 100)
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["embed"]
    stage["cmd"] = stage["cmd"].replace("python", sys.executable, 1).replace("starter/embedder", str(STARTER))
    stage["deps"] = ["data/documents"]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"embed": stage}}))
    shutil.copy(ROOT / "params.yaml", root)
    (root / "data.dvc").unlink()
    assert "keep their vectors" not in minigraph.dvc(root, "repro")
    write_documents(root / "data" / "documents", 100, changed=42)
    assert "99 of 100 chunks keep their vectors" in minigraph.dvc(root, "repro")
    lock, output = (root / "dvc.lock").read_bytes(), sha256_tree(root / "artifacts" / "embedded")
    assert len(read_chunks(root / "artifacts" / "embedded")[0]) == 100
    shutil.rmtree(root / "artifacts" / "embedded")
    assert "keep their vectors" not in minigraph.dvc(root, "repro", "--force")
    assert sha256_tree(root / "artifacts" / "embedded") == output and (root / "dvc.lock").read_bytes() == lock
