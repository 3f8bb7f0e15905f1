"""Sections of what comes in: sources, validate, prepare."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tasks.params.fields import Count, Fraction, Natural, Positive, Section


class SqlSource(Section):
    """One SQL query whose rows become documents."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = Field(description="name of its snapshot: a-z 0-9 - _")
    url: str | None = Field(None, description="SQLAlchemy URL without a password; in its place url_env")
    url_env: str | None = Field(None, description="environment variable that holds the URL")
    query: str = Field(description="one SELECT, or WITH … SELECT")
    title: str | None = Field(None, description="column that names a row; absent: by its name (title, name, subject, …)")
    text: str | None = Field(None, description="column with long text; absent: by its name (text, content, body, …)")

    @model_validator(mode="after")
    def _one_address(self) -> SqlSource:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("needs either url or url_env")
        return self


class Sources(Section):
    """Databases whose rows are snapshotted into data/documents before a night; never part of a stage's inputs."""

    sql: list[SqlSource] = Field(description="queries, each with its database")
    max_rows: Count = Field(description="rows of a query; one that gives more is refused")
    max_seconds: Positive = Field(description="seconds to connect and read")

    @model_validator(mode="after")
    def _apart(self) -> Sources:
        names = [source.name for source in self.sql]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are called {twice[0]}")
        return self


class MinRows(Section):
    """Rows that each kind of data needs at least. 0: the night can do without this kind, and says so."""

    instructions: Count = Field(description="rows of data/instructions")
    preferences: Natural = Field(description="rows of data/preferences; without any, nothing is aligned")
    prompts: Natural = Field(description="rows of data/prompts; without any, held-out instructions are asked instead")
    evaluation: Natural = Field(description="cases of all sets in data/evaluation; with 0 a set may be missing")


class Validate(Section):
    """Checks of the raw data. Rows that fail within a bound are left out by prepare; beyond it the night stops."""

    languages: Annotated[list[str], Field(min_length=1)] = Field(description="language codes that rows may have")
    min_rows: MinRows = Field(description="kind of data → rows that it needs at least")
    max_bad_rows: Fraction = Field(description="share of a kind's rows that may fail a check (evaluation: none may)")
    max_bad_documents: Fraction = Field(description="share of the documents that may fail a check")
    max_duplicates: Fraction = Field(description="share of the rows that may be there twice")
    max_overlap: Fraction = Field(description="share of the training rows that may ask what an evaluation set asks")
    max_prompt_characters: Count = Field(description="characters of all messages before the answer")
    max_answer_characters: Count = Field(description="characters of an answer")
    max_document_megabytes: Positive = Field(description="size of a document's file, in 2^20 bytes")
    max_document_seconds: Count = Field(description="processor seconds that reading a document may take")
    min_document_characters: Count = Field(description="characters of text in a document, at least")
    max_document_characters: Count = Field(description="characters of text in a document, at most")


class Prepare(Section):
    """Canonical rows, deduplication, splits, pairs."""

    eval_share: Fraction = Field(description="share of the prompts kept apart to watch training by")
    max_prompt_characters: Count = Field(description="characters of all messages before the answer; longer rows are left out")
    max_answer_characters: Count = Field(description="characters of an answer; longer ones are left out")
    similarity: Fraction = Field(description="Jaccard similarity of 3-token shingles from which rows may be near duplicates")
    added_words: Natural = Field(
        description="words by which near duplicates may differ; numbers, negations and changed words always keep both")
    pairs_per_prompt: Count = Field(description="preference pairs made of one prompt's rankings, at most")
    prompt_weight: Positive = Field(description="loss weight of a prompt, shared equally by its pairs")
    max_instructions: Count | None = Field(description="instruction rows that training gets, at most; null: all")
    max_ranked_prompts: Count | None = Field(description="prompts whose pairs training gets, at most; null: all")
    max_prompts: Count | None = Field(description="prompts to sample answers for, at most; null: all")
    max_cases: Count | None = Field(description="cases of each evaluation set, at most; null: all")
