"""docs/performance.md from docs/performance.json: no figure on the page is typed by hand.

python benchmarks/performance_page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
BARS = {"TRL default": 4.0, "transformers Trainer": 2.4}
TRL_BEST, CHOICES_BEST, CHOICES_DEFAULT, GENERATION, STUDY = 2.7, 3.0, 4.0, 1.4, 4.0

ROWS = {
    "instructions": "rows as long as those of instruction data",
    "uniform": "rows of evenly spread lengths",
    "chat": "rows of evenly spread lengths that begin with the chat template's system turn",
}

HEAD = """# Performance

Written by `make bench` and `make bench-study` from `docs/performance.json`; how each figure is measured stands at the
top of the script that measures it, in `benchmarks/`. A ratio above 1 says how many times faster this project is on
the same model, rows and loss; a bar is what was to be reached. With one thread rates are per second of CPU time.
"""

TAIL = """## Where a step's time goes

Two thirds of a step are bf16 products of linear layers and head; attention, the optimiser (which moves 28 bytes a
weight), norms, rotation and activations share the rest. So without other arithmetic about a third is left to win.

## Tried, and left out

Looked at while building, in one-off profiles that are not kept as benchmarks: directions, not figures.

- `torch.compile` of the layers: a tenth or two faster for minutes of compiling, which the runs of a study on a CPU do
  not earn back (`Numerics.compiled` is always false).
- Attention in another layout (queries by key head, scores by bf16 products with float32 sums): no gain, since products
  of parts that are cut out of larger tensors copy them first.
- Attention of many short blocks in one padded product: a tenth at best, for it is the float32 products that cost, and
  not their number.
- SiLU, and its product with the other half, inside oneDNN's linear layer while answering: none.
- PyTorch's fused attention for CPUs: slower on rows of 60 to 300 tokens, its backward most of all.
- Weights packed for the forward of a training: what products gain is spent on packing at every step.
- Transposed products (weights first) at few tokens: slower.
- Other block sizes for the optimiser: none faster.
- Large pages for the C library's heap (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`): a fiftieth at most, in training and in
  writing, and the same bits.
- Workers forked from a process that had imported everything while the study was read: no sooner at work than two fresh
  ones, which import side by side, and slower in their first step.
- A way back of our own through gated layers: no faster, but it keeps less of a step, and stayed for that.

## Not measured

There was no GPU. What runs there (flash-attn or torch's kernel for rows of many lengths, one run on each of several
GPUs) is written, and tested with stand-ins only; shared beginnings are used on CPUs alone.
"""


def main() -> None:
    """Write the page."""
    figures = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
    (DOCS / "performance.md").write_text("\n".join(_page(figures)).rstrip() + "\n", encoding="utf-8")


def _page(figures: dict[str, Any]) -> Iterator[str]:
    yield HEAD
    for kind in ROWS:  # the kind that is the default first
        for name in sorted(figures):
            if name.startswith(f"training.{kind}."):
                yield from _training(name, figures[name])
    for name in sorted(figures):
        if name.startswith("answering."):
            yield from _answering(figures[name])
    studies = {
        name: figures[f"study.{name}"] for name in ("defaults", "no_checkpointing") if f"study.{name}" in figures
    }
    if studies:
        yield from _study(studies)
    if "memory.gemma_270m" in figures:
        yield from _memory(figures["memory.gemma_270m"])
    yield TAIL


def _training(name: str, section: dict[str, Any]) -> Iterator[str]:
    facts, rivals = section["facts"], section["rivals"]
    kind = name.split(".")[1]
    like = f", {ROWS[kind]}"
    yield f"## Training, {_threads(facts)}{like}"
    yield ""
    yield "SmolLM2-135M, batches of 8 rows of about 84 prompt and 82 answer tokens; medians of"
    yield f"{facts['rounds']} rounds of {facts['steps_a_round']} optimiser steps, each rival in turn with ours."
    yield f"Of what a padded batch holds, {section['real_tokens_in_a_padded_batch']:.0%} are real tokens, the only ones"
    yield "that count; `benchmarks/bench_train.py` says how lengths are spread, and how they are in public data."
    if facts["rounds"] * facts["steps_a_round"] < 100:
        yield "**A short look**, not the 5 rounds of 20 steps that `make bench` takes: a ratio may be off by a tenth."
    yield _where(facts)
    yield ""
    yield "| | tokens/s | ours beside it | times faster | bar | peak, GiB | ours, GiB | mean loss | ours |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    tried = [rival for rival in rivals if rival.startswith("TRL") and rival not in ("TRL bf16 weights",)]
    best = min(tried, key=lambda rival: rivals[rival]["ours_is_faster"]) if len(tried) > 1 else None
    for rival, found in rivals.items():
        bars = [BARS[rival]] if rival in BARS else []
        if rival == best:
            bars.append(TRL_BEST)
        ours, ratio = found["ours"], found["ours_is_faster"]
        steps = found.get("steps_a_round", facts["steps_a_round"])
        shown = f"{rival}{' (best of TRL)' if rival == best else ''}"
        shown += f" (a short look: rounds of {steps} steps)" if steps != facts["steps_a_round"] else ""
        yield (
            f"| {shown} | {found['tokens_per_second']:.0f} |"
            f" {ours['tokens_per_second']:.0f} | {ratio:.2f} | {_bars(ratio, bars)} |"
            f" {found['peak_mib'] / 1024:.1f} | {ours['peak_mib'] / 1024:.1f} | {_loss(found)} | {_loss(ours)} |"
        )
    yield ""
    products = section["products"]
    yield (
        f"Products in bf16 reach {products['tera_per_second']:.2f} TFLOP/s at the sizes of these layers; training"
        f" runs at {products['share']:.0%} of that."
    )
    yield ""


def _answering(section: dict[str, Any]) -> Iterator[str]:
    facts = section["facts"]
    yield f"## Answering, {_threads(facts)}"
    yield ""
    yield f"Medians of {facts['rounds']} rounds, all in turn in one process, bf16. {_where(facts)}"
    yield ""
    for kind, title in (
        ("choices", "Four-choice questions of the embedded pack by likelihood, in the model's chat template"),
        ("generation", "Questions of the pack, 32 new tokens each"),
    ):
        if kind not in section:
            continue
        found = section[kind]
        yield f"{title}:"
        yield ""
        yield "| | a second | times faster | bar |"
        yield "| --- | ---: | ---: | ---: |"
        rivals = {name: one for name, one in found.items() if name != "ours"}
        best = max(rivals, key=lambda name: rivals[name]["per_second"])
        ordered = ["ours", *sorted(rivals, key=lambda name: (len(name), name))]  # batch 8 before batch 16
        for name, one in ((name, found[name]) for name in ordered):
            bars = []
            if kind == "choices" and name == "lm-eval HFLM, batch 1":
                bars.append(CHOICES_DEFAULT)
            if name == best:
                bars.append(CHOICES_BEST if kind == "choices" else GENERATION)
            ratio = one["times_slower_than_ours"]
            shown = "" if name == "ours" else f"{ratio:.2f}"
            yield f"| {name} | {one['per_second']:.1f} | {shown} | {_bars(ratio, bars)} |"
        yield ""


def _study(sections: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "## A whole study"
    yield ""
    first = next(iter(sections.values()))
    yield f"`benchmarks/study.yaml`: {first['ours']['runs']} runs, twelve of them trainings, 270 answers each; seconds"
    yield f"from reading the study to its report, on all cores. {_where(first['facts'])}"
    yield ""
    yield "Both sides take turns, and medians stand here; how many turns they had stands beside them."
    yield ""
    yield "| SFTTrainer, `generate` | seconds | training | answering | ours | times faster | bar | turns | date |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for name, section in sections.items():
        loop, ratio = section["loop"], section["ours_is_faster"]
        yield (
            f"| {'at its defaults' if name == 'defaults' else 'without checkpointing'} | {loop['seconds']:.0f} |"
            f" {loop['training_seconds']:.0f} | {loop['answering_seconds']:.0f} | {section['ours']['seconds']:.0f} |"
            f" {ratio:.2f} | {_bars(ratio, [STUDY])} | {_turns(section)} | {section['facts']['date']} |"
        )
    yield ""
    parts = [section["ours"] for section in sections.values() if "training_seconds" in section["ours"]]
    if parts:
        yield f"Of ours, {parts[0]['training_seconds']:.0f} s are training and {parts[0]['answering_seconds']:.0f} s"
        yield "answering, summed over runs, of which two go side by side; the rest is starting, waiting and the report."
        yield ""


def _turns(section: dict[str, Any]) -> str:
    ratios = sorted(one["ours_is_faster"] for one in section.get("rounds", ()))
    return f"{len(ratios)} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else "1"


def _memory(section: dict[str, Any]) -> Iterator[str]:
    workers = section["workers"]
    peaks = [one["peak_mib"] / 1024 for one in workers]
    together = sum(peaks) if len(peaks) > 1 else 2 * peaks[0]
    measured = "side by side" if len(peaks) > 1 else "one run measured, counted twice"
    yield "## Memory of two runs side by side"
    yield ""
    yield "The shape of Gemma 3 270M (262,144 entries of vocabulary), 8 rows of 512 tokens a step, then answers to 256"
    yield "questions and 256 prompts:"
    yield f"{', '.join(format(peak, '.1f') for peak in peaks)} GiB at most in a process, {together:.1f} GiB for two,"
    yield f"of the 16 that they have to fit in ({measured}; {'met' if together <= 16 else '**missed**'});"
    yield f"micro-batches of {workers[0]['micro_batch_tokens']} tokens. {_where(section['facts'])}"
    yield ""


def _bars(ratio: float, bars: list[float]) -> str:
    return ", ".join(f"{bar:g} {'met' if ratio >= bar else '**missed**'}" for bar in bars)


def _loss(found: dict[str, Any]) -> str:
    return "" if found["mean_loss"] is None else f"{found['mean_loss']:.3f}"


def _threads(facts: dict[str, Any]) -> str:
    return "one thread" if facts["threads"] == 1 else f"{facts['threads']} threads"


def _where(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    note = f" {facts['note']}" if "note" in facts else ""
    cores = f"{facts['cores']} core{'s' if facts['cores'] > 1 else ''}"
    return f"{facts['date']}, {facts['cpu']} with {cores}, Python {facts['python']}; {versions}.{note}"


if __name__ == "__main__":
    main()
