"""A study of twelve trainings and the untuned model, against the same runs as a loop over TRL and `generate`.

Ours is `titrant run`, from reading the study to the report, with as many workers as the cores carry. The loop is what
one would write instead: for every run load the model, train it with SFTTrainer (bf16, all cores; at its defaults, or
without gradient checkpointing) on the same rows in the same order, and answer the same prompts with `generate` in
batches of equal length, on all cores. Both start from the prepared model and rows; wall time. They take turns, and
medians count, the ratio's too.

    python benchmarks/bench_study.py --json docs/performance.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_train import in_order, tokenizer
from performance import add_section, machine

STUDY = Path(__file__).parent / "study.yaml"


def ours(study_path: Path, pipe: Any) -> None:
    """The study, into a folder of its own that is thrown away."""
    from titrant.api import run_study
    from titrant.config.study import load_study

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        results = run_study(load_study(study_path), out=Path(folder) / "out")
        found = {"seconds": time.perf_counter() - started, "runs": len(results.design.distinct)}
        timings = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("out/runs/*/timing.json")]
        for part in ("training_seconds", "answering_seconds"):  # summed over runs, of which two went side by side
            found[part] = sum(timing[part] for timing in timings)
        pipe.send(found)


def loop(study_path: Path, arguments: argparse.Namespace, pipe: Any) -> None:
    """The same runs with TRL and generate. Reading the study is not counted."""
    import torch

    from titrant.config.study import load_study
    from titrant.experiment.design import make_design
    from titrant.experiment.prepare import prepare_study

    torch.set_num_threads(arguments.threads)
    design = make_design(prepare_study(load_study(study_path)))
    training = answering = 0.0
    for planned in design.distinct:
        started = time.perf_counter()
        model = trained(planned, design.prepared.models[planned.run.arm.model].model.folder, arguments)
        between = time.perf_counter()
        answer(model.to(torch.bfloat16), planned.requests.prompts, arguments.answer_batch)
        training += between - started
        answering += time.perf_counter() - between
    pipe.send({"seconds": training + answering, "training_seconds": training, "answering_seconds": answering})


def trained(planned: Any, folder: str, arguments: argparse.Namespace) -> Any:
    """One run's model."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if planned.plan is None:
        return model.eval()
    rows = [planned.plan.rows[index] for step in planned.plan.steps for index in step]
    examples = [
        {"input_ids": list(row.ids), "labels": [-100] * row.loss_from + list(row.ids[row.loss_from :])} for row in rows
    ]
    settings = planned.plan.settings
    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(
            output_dir=out,
            per_device_train_batch_size=settings.batch_rows,
            num_train_epochs=1,
            learning_rate=settings.learning_rate,
            gradient_checkpointing=arguments.checkpointing,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = in_order(SFTTrainer)(
            model=model, args=config, train_dataset=Dataset.from_list(examples), processing_class=tokenizer()
        )
        trainer.train()
    return model.eval()


def answer(model: Any, prompts: Any, size: int) -> None:
    """Greedy answers in length-sorted, left-padded batches."""
    import torch
    from transformers import GenerationConfig

    ordered = sorted(prompts, key=lambda prompt: len(prompt.ids))
    for first in range(0, len(ordered), size):
        some = ordered[first : first + size]
        longest = max(len(prompt.ids) for prompt in some)
        ids = torch.tensor([(0,) * (longest - len(prompt.ids)) + prompt.ids for prompt in some])
        mask = torch.tensor([[0] * (longest - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in some])
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=some[0].max_new_tokens,
            pad_token_id=0,
            eos_token_id=list(some[0].end_ids),
        )
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)


def in_process(target: Any, *arguments: Any) -> dict[str, Any]:
    """What `target` sends, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sending))
    process.start()
    sending.close()
    found: dict[str, Any] = receiving.recv()
    process.join()
    return found


def _medians(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every figure, whole where all are."""
    middle = {name: statistics.median([one[name] for one in found]) for name in found[0]}
    return {name: int(value) if value == int(value) else value for name, value in middle.items()}


def main() -> None:
    """Run both in turn, print the ratio, and add the figures to a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answer-batch", type=int, default=128, help="128 is its best of 32 to 270 here")
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 100), metavar="N")
    parser.add_argument("--checkpointing", action="store_true", help="TRL's default; without it, it is faster here")
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--json", type=Path, help="the file that the figures are added to")
    arguments = parser.parse_args()
    arguments.threads = len(os.sched_getaffinity(0))
    rounds = []
    for _ in range(arguments.rounds):
        os.environ.pop("OMP_NUM_THREADS", None)  # ours sets its own
        mine = in_process(ours, arguments.study)
        print(f"titrant run: {mine['seconds']:.0f} s for {mine['runs']} runs", flush=True)
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
        theirs = in_process(loop, arguments.study, arguments)
        ratio = theirs["seconds"] / mine["seconds"]
        print(
            f"TRL and generate: {theirs['seconds']:.0f} s ({theirs['training_seconds']:.0f} training,"
            f" {theirs['answering_seconds']:.0f} answering); ours is {ratio:.2f} times as fast",
            flush=True,
        )
        rounds.append({"ours": mine, "loop": theirs, "ours_is_faster": ratio})
    middle = {side: _medians([one[side] for one in rounds]) for side in ("ours", "loop")}
    ratio = statistics.median(one["ours_is_faster"] for one in rounds)
    print(f"median of {len(rounds)}: {ratio:.2f} times as fast")
    section = {"facts": machine(), **middle, "ours_is_faster": ratio, "rounds": rounds}
    add_section(arguments.json, f"study.{'defaults' if arguments.checkpointing else 'no_checkpointing'}", section)


if __name__ == "__main__":
    main()
