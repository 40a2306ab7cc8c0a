"""From turns to token ids, and from rows to optimiser steps. Neither torch nor transformers is imported here."""

from titrant.tokens.rendering import Conflict, PromptEdit, Renderer, Tokenizer, load_tokenizer, renderer_for
from titrant.tokens.steps import Schedule, cut_steps, plan_steps, plan_visits, step_edges

__all__ = [
    "Conflict",
    "PromptEdit",
    "Renderer",
    "Schedule",
    "Tokenizer",
    "cut_steps",
    "load_tokenizer",
    "plan_steps",
    "plan_visits",
    "renderer_for",
    "step_edges",
]
