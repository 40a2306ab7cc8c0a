"""From turns to token ids, and from rows to optimiser steps. Neither torch nor transformers is imported here."""

from titrant.tokens.rendering import Renderer, Tokenizer, load_tokenizer, renderer_for
from titrant.tokens.steps import Schedule, plan_steps

__all__ = ["Renderer", "Schedule", "Tokenizer", "load_tokenizer", "plan_steps", "renderer_for"]
