"""Sections of documents and what is answered from them: embed, index, answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.fields import Count, Fraction, Natural, Positive, Precise, Section


class Embed(Precise):
    """Documents into chunks with vectors."""

    model: str = Field(description="starter | minilm | a folder | a hub id (owner/name) of a sentence-transformers model | "
                                   "with an endpoint, the name that it has there")
    revision: str | None = Field(description="commit hash of a hub id")
    query_prefix: str | None = Field(description="text put before every question; null: what the model's own settings say")
    passage_prefix: str | None = Field(description="text put before every chunk; null: what the model's own settings say")
    max_tokens: Annotated[int, Field(ge=16)] = Field(
        description="longest chunk with its heading path, in tokens of the embedding model")
    together: Literal["section", "paragraph"] = Field(
        description="what a chunk may join: all of a section, or only one paragraph, list or table of it")
    overlap_sentences: Natural = Field(
        description="sentences that a chunk repeats from the one before it, within a section")
    batch_size: Count = Field(description="chunks of one forward pass")
    unknown_warning: Fraction = Field(description="warn when the model knows less than 1 − this share of a language's tokens")
    max_megabytes: Positive = Field(description="larger documents are reported and left out")
    endpoint: str | None = Field(
        description="address of an OpenAI-compatible server that has `model`, up to /v1; null: the model runs here")
    tokenizer: str | None = Field(
        description="what counts tokens for an endpoint: a folder or hub id with tokenizer.json; null: an estimate")
    save_every: Count = Field(description="new vectors after which they are saved, for a run that is killed")
    max_seconds: Count = Field(
        description="processor seconds that reading a document may take before it is reported and left out")


class Weaviate(Section):
    """Where a Weaviate server listens. Its key comes from the environment: WEAVIATE_API_KEY."""

    host: str = Field(description="name or address, for REST and gRPC")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(description="REST port")
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = Field(description="gRPC port")
    secure: bool = Field(description="TLS on both")
    alias: Annotated[str, Field(pattern=r"^[A-Z][0-9A-Za-z]{0,60}$")] = Field(
        description="alias of the live build; the names of its collections begin with it")


class Index(Section):
    """Chunks into a search index, and how it is searched."""

    store: Literal["lancedb", "weaviate"] = Field(description="the search engine")
    folder: str = Field(description="lancedb: where stores are built, a folder a build; git-ignored, rebuilt when missing")
    weaviate: Weaviate = Field(description="weaviate: the server")
    keep: Annotated[int, Field(ge=2)] = Field(
        description="builds that are kept: the live one and the ones before it; a query may still be at the last")
    exact_below: Count = Field(description="chunks up to which dense search compares all; above, an IVF index")
    probes: Count = Field(description="chunks that must be found by their own text before a build counts as good")
    candidates: Count = Field(description="chunks that dense and sparse search each bring to a hybrid search")
    alpha: Fraction = Field(description="weight of dense search in hybrid: 0 is words alone (BM25), 1 vectors alone")


class Answers(Precise):
    """Questions looked up in the index, and answered from it by the model that would be released."""

    top_k: Count = Field(description="passages in the prompt")
    headings: Literal["path", "section", "none"] = Field(
        description="what stands above a passage in the prompt: title and headings, the innermost heading, or nothing")
    depth: Count = Field(description="ranked documents that recall, MRR and nDCG look at")
    reranker: str | None = Field(
        description="folder or hub id (owner/name) of a sentence-transformers CrossEncoder; null: hybrid order stays")
    reranker_revision: str | None = Field(description="commit hash of a hub id")
    rerank: Count = Field(description="first passages of hybrid search that the reranker puts in order")
    max_new_tokens: Count = Field(description="tokens after which an answer is cut")
    batch_size: Count = Field(description="questions of one forward pass")
    grounded_share: Fraction = Field(
        description="least share of a grounded answer's content words that stand in its passages or the question")

    @model_validator(mode="after")
    def _reranked(self) -> Answers:
        """A passage in the prompt that the reranker has not seen would stand there by another order."""
        if self.reranker is not None and self.rerank < self.top_k:
            raise ValueError(f"rerank ({self.rerank}) must be top_k ({self.top_k}) or more")
        return self
