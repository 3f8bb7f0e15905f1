"""The expectations, one suite a kind of data.

Each says whether a failing row is left out by `prepare` (`drop`) or only counted, because a later step takes care of
it. `critical` expectations stop the night when more rows fail than the parameters allow; `warning` ones are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.params import Validate
from tasks.rag.loaders import FORMATS

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

DROP, KEEP = {"drop": True}, {"drop": False}
TURNS = r"^(?:system )?(?:user assistant )*user assistant$"


def suites(cfg: Validate) -> dict[str, ExpectationSuite]:
    """Kind → suite. GX is imported here: it takes seconds."""
    import great_expectations as gx
    import great_expectations.expectations as e

    good, exact, severe = 1 - cfg.max_bad_rows, 1.0, "critical"
    most = 1 - cfg.max_bad_documents

    def null(column: str, says: str, mostly: float = good) -> Any:
        return e.ExpectColumnValuesToBeNull(column=column, mostly=mostly, severity=severe, meta=DROP, description=says)

    def between(column: str, low: int, high: int, says: str, mostly: float = good) -> Any:
        return e.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, mostly=mostly, severity=severe, meta=DROP, description=says
        )

    def equal(a: str, b: str, says: str) -> Any:
        return e.ExpectColumnPairValuesToBeEqual(
            column_A=a,
            column_B=b,
            ignore_row_if="either_value_is_missing",
            mostly=good,
            severity=severe,
            meta=DROP,
            description=says,
        )

    def only(
        column: str, values: list, says: str, mostly: float = good, meta: dict = DROP, severity: str = severe
    ) -> Any:
        return e.ExpectColumnValuesToBeInSet(
            column=column, value_set=values, mostly=mostly, severity=severity, meta=meta, description=says
        )

    def unique(column: str, says: str, mostly: float = 1 - cfg.max_duplicates) -> Any:
        return e.ExpectColumnValuesToBeUnique(
            column=column, mostly=mostly, severity=severe, meta=KEEP, description=says
        )

    def rows(low: int) -> Any:
        return e.ExpectTableRowCountToBeBetween(
            min_value=low, severity=severe, meta=KEEP, description=f"there are {low} rows or more"
        )

    answer, asked, least = cfg.max_answer_characters, cfg.max_prompt_characters, cfg.min_rows
    apart = f"the row asks nothing that an evaluation set asks (up to {cfg.max_overlap:.1%} may)"
    twice = f"the row is there once (up to {cfg.max_duplicates:.1%} may be copies)"
    readable = null("problem", "the row can be read")
    whole = null("file_problem", "the file can be read", exact)  # else thousands of rows are lost, not one
    language = only("language", cfg.languages, f"the language is {' or '.join(cfg.languages)}")
    clean = null("control_characters", "there are no control characters and no broken encoding")
    prompt = between("prompt_characters", 1, asked, f"the prompt has 1 to {asked} characters")
    overlap = only("in_evaluation", [False], apart, 1 - cfg.max_overlap, KEEP)
    lists = {
        "instructions": [
            rows(least.instructions),
            whole,
            readable,
            language,
            clean,
            prompt,
            overlap,
            e.ExpectColumnValuesToMatchRegex(
                column="roles",
                regex=TURNS,
                mostly=good,
                severity=severe,
                meta=DROP,
                description="user and assistant take turns; the assistant has the last word",
            ),
            between("answer_characters", 1, answer, f"the answer has 1 to {answer} characters"),
            between("shortest_message", 1, asked, "no message is empty"),
            only("duplicate", [False], twice, 1 - cfg.max_duplicates, KEEP),
            unique("id", "ids differ"),
        ],
        "preferences": [
            e.ExpectColumnUniqueValueCountToBeBetween(
                column="said",
                min_value=least.preferences,
                severity=severe,
                meta=KEEP,
                description=f"there are {least.preferences} rows or more in which somebody says something",
            ),
            whole,
            readable,
            language,
            clean,
            prompt,
            overlap,
            between("answers", 2, 26, "there are at least two answers"),
            between("shortest_answer", 1, answer, "no answer is empty"),
            between("longest_answer", 1, answer, f"no answer has more than {answer} characters"),
            equal("different_answers", "answers", "all answers differ: the chosen one is not the rejected one"),
            equal("ranked_letters", "letters", "the ranking names each answer once"),
            e.ExpectColumnValueLengthsToBeBetween(
                column="annotator",
                min_value=1,
                mostly=good,
                severity=severe,
                meta=DROP,
                description="the annotator is named",
            ),
            unique("annotation", "annotation ids differ"),
            unique("judgement", "an annotator ranks the same answers to a prompt once"),
        ],
        "prompts": [
            rows(least.prompts),
            whole,
            readable,
            language,
            clean,
            prompt,
            overlap,
            unique("id", "ids differ"),
            only("duplicate", [False], twice, 1 - cfg.max_duplicates, KEEP, "warning"),
        ],
        "evaluation": [  # one wrong case measures the wrong thing: nothing is tolerated here
            rows(least.evaluation),
            whole,
            null("problem", "the row can be read", exact),
            only("language", cfg.languages, f"the language is {' or '.join(cfg.languages)}", exact),
            null("control_characters", "there are no control characters and no broken encoding", exact),
            between("prompt_characters", 1, asked, f"the prompt has 1 to {asked} characters", exact),
            between("shortest_answer", 1, answer, "no answer is empty", exact),
            unique("id", "ids differ", exact),
            only("answers_differ", [True], "the chosen answer is not the rejected one", exact),
            only("answer_as_meant", [True], "unanswerable cases have no answer, the others have one", exact),
            only("cited_note_answers", [True], "the cited notes hold the answer", exact),
            only("distractor_is_answer", [False], "no distractor is the answer", exact),
            only("source_exists", [True], "the document that answers is there", exact),
        ],
        "documents": [
            rows(1),
            only("suffix", list(FORMATS), "there is a loader for the file", severity="warning"),
            null("problem", "the document can be read", most),
            between(
                "bytes",
                1,
                round(cfg.max_document_megabytes * 2**20),
                f"the file is not empty and has at most {cfg.max_document_megabytes:g} MB",
                most,
            ),
            between(
                "characters",
                cfg.min_document_characters,
                cfg.max_document_characters,
                f"the text has {cfg.min_document_characters} to {cfg.max_document_characters} characters",
                most,
            ),
            only("duplicate", [False], "the file is there once", 1 - cfg.max_duplicates, KEEP, "warning"),
        ],
    }
    return {kind: gx.ExpectationSuite(name=kind, expectations=found) for kind, found in lists.items()}
