"""Peak resident memory of runs side by side: train and answer, as a study's workers do.

The model has the shape of Gemma 3 270M (262,144 entries of vocabulary) and random weights, stored in bf16 as models
are; steps are of 8 rows of 512 tokens, half of them answers. Then follow answers to 256 questions and 256 prompts of 20
to 400 tokens, in forwards of many sizes. Every process is a worker of its own with one thread.

    python benchmarks/bench_memory.py --processes 2 --json docs/performance.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from performance import add_section, machine, peak_mib

SHAPE = {
    "vocab_size": 262_144,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "sliding_window": 512,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}


def write_model(folder: Path) -> None:
    """The model with random weights, in bf16."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma3TextConfig

    from titrant.storage.manifests import write_manifest

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Gemma3TextConfig(**SHAPE), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    write_manifest(folder)


def work(folder: str, arguments: argparse.Namespace, number: int, pipe: Connection) -> None:
    """One worker: a training and some answers."""
    from titrant.backends.hf.backend import HuggingFaceBackend
    from titrant.core.environment import current_numerics
    from titrant.core.records import PreparedModel, TokenPrompt, TokenQuestion, TokenRow, TrainingPlan, TrainingSettings

    draw = random.Random(number)

    def some(length: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, SHAPE["vocab_size"]) for _ in range(length))

    model = PreparedModel(
        name="gemma-shaped",
        folder=folder,
        fingerprint="gemma-shaped",
        template="plain",
        chat_template=None,
        bos=None,
        eos="",
        architecture="Gemma3ForCausalLM",
        parameters=268_098_176,
        vocabulary=SHAPE["vocab_size"],
        context_tokens=32_768,
        licence=None,
        origin="bench",
    )
    count = arguments.steps * arguments.batch_rows
    plan = TrainingPlan(
        model=model,
        rows=tuple(TokenRow(key=str(n), source="bench", ids=some(512), loss_from=256) for n in range(count)),
        steps=tuple(
            tuple(range(start, start + arguments.batch_rows)) for start in range(0, count, arguments.batch_rows)
        ),
        settings=TrainingSettings(batch_rows=arguments.batch_rows),
        seed=number,
    )
    backend = HuggingFaceBackend(current_numerics(dtype="bf16", threads=1, device="cpu"))
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as checkpoints:
        language_model = backend.train(
            plan, checkpoints=Path(checkpoints), on_step=lambda step: seconds.append(step.seconds), stop=lambda: None
        )
    trained = peak_mib()
    prompts = [some(draw.randint(20, 400)) for _ in range(arguments.prompts)]
    language_model.loglikelihood(
        [TokenQuestion(key=str(n), prompt=ids, choices=(some(3), some(4))) for n, ids in enumerate(prompts)]
    )
    language_model.generate(
        [TokenPrompt(key=str(n), ids=ids, max_new_tokens=8, end_ids=()) for n, ids in enumerate(prompts)]
    )
    pipe.send(
        {
            "training_peak_mib": trained,
            "peak_mib": peak_mib(),
            "seconds_a_step": seconds,
            **{key: value for key, value in language_model.carried_out.items() if key == "micro_batch_tokens"},
        }
    )


def main() -> None:
    """Run the workers side by side, print their peaks, and add them to a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-rows", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=256, help="to choose and to write for, each")
    parser.add_argument("--json", type=Path, help="the file that the figures are added to")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        writer = context.Process(target=write_model, args=(Path(folder),))
        writer.start()
        writer.join()
        pipes = []
        for number in range(arguments.processes):
            ours, theirs = context.Pipe()
            context.Process(target=work, args=(folder, arguments, number, theirs), daemon=True).start()
            theirs.close()
            pipes.append(ours)
        found: list[dict[str, Any]] = [pipe.recv() for pipe in pipes]
    total = sum(one["peak_mib"] for one in found) / 1024
    for one in found:
        print(
            f"training {one['training_peak_mib'] / 1024:.2f} GiB, with answering {one['peak_mib'] / 1024:.2f} GiB, "
            f"micro-batches of {one['micro_batch_tokens']} tokens, steps of {max(one['seconds_a_step']):.0f} s"
        )
    print(f"together {total:.2f} GiB (pages that the processes share counted in each)")
    add_section(arguments.json, "memory.gemma_270m", {"facts": machine(), "workers": found, "together_gib": total})


if __name__ == "__main__":
    main()
