"""Text in, number out: how an answer is judged, and nothing about where it came from."""

from titrant.scoring.metrics.choices import (
    balanced_accuracy,
    choice_accuracy,
    chosen,
    graded,
    majority_accuracy,
    majority_label,
    token_probability,
)
from titrant.scoring.metrics.extension import BATCH_METRICS, BatchMetric, MacroF1, Metric, score_answer
from titrant.scoring.metrics.one_number import are_amounts, is_one_number
from titrant.scoring.metrics.score import ItemScore, ScoreReport, score_rows
from titrant.scoring.metrics.text import METRICS, TextScore, accuracy, number_in, score_text
from titrant.scoring.metrics.trial import MOST_FAILED, Trial, try_metric

__all__ = [
    "BATCH_METRICS",
    "METRICS",
    "MOST_FAILED",
    "BatchMetric",
    "ItemScore",
    "MacroF1",
    "Metric",
    "ScoreReport",
    "TextScore",
    "Trial",
    "accuracy",
    "are_amounts",
    "balanced_accuracy",
    "choice_accuracy",
    "chosen",
    "graded",
    "is_one_number",
    "majority_accuracy",
    "majority_label",
    "number_in",
    "score_answer",
    "score_rows",
    "score_text",
    "token_probability",
    "try_metric",
]
