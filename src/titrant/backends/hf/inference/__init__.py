"""Answers of a model, in token ids: likelihood of choices, greedy text, loss of given answers.

model        a copy of a model to answer with: its dtype, its head in float32, whether rows go without padding
batches      which rows share a forward: by the rows alone, so that a rerun gives the same bits
likelihood   log-probabilities of choices and of given answers
generation   greedy text, or drawn
screening    the likeliest token, without float32 logits of the whole vocabulary
"""

from titrant.backends.hf.inference.generation import generate
from titrant.backends.hf.inference.likelihood import loglikelihood, losses
from titrant.backends.hf.inference.model import AnsweringModel, answering_model

__all__ = ["AnsweringModel", "answering_model", "generate", "loglikelihood", "losses"]
