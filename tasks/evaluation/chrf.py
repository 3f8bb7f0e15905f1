"""chrF: how much of a reference an answer says, by character n-grams (Popović 2015, eq. 1: F_β of mean precision and recall).

For answers that no rule can call right or wrong. It needs no tokenizer, so it treats Chinese like English. n runs from
1 to 6, β is 2 (recall counts twice), whitespace is removed. An order counts only where both texts have n-grams of it,
as in sacreBLEU: a short answer that equals its reference has 1. (NLTK's own sentence_chrf gives three equal characters
½, and averages F instead of precision and recall; only its n-gram counts are used.)
"""

from __future__ import annotations

ORDERS = 6
BETA = 2.0


def chrf(answer: str, reference: str) -> float:
    """chrF of one answer, 0 … 1. Two empty texts are equal: 1; one empty text has nothing of the other: 0."""
    from nltk.translate.chrf_score import chrf_precision_recall_fscore_support as counted

    said, wanted = ("".join(text.split()) for text in (answer, reference))
    orders = min(ORDERS, len(said), len(wanted))
    if not orders:
        return float(said == wanted)
    found = [counted(wanted, said, n, beta=BETA) for n in range(1, orders + 1)]
    precision, recall = (sum(each[k] for each in found) / orders for k in (0, 1))
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
