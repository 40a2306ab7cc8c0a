"""How well the clusters of `titrant breadth` give back tasks that are known, and where its sets stand on the ladder.

    python benchmarks/breadth_clusters.py --data ../shared/data --json breadth.json

Two collections whose tasks are known: 77 Super-NaturalInstructions tasks by their definitions (truth: their category),
and P3's T0 training templates by their rows (truth: the data set under the template). Agreement is adjusted mutual
information: 1 the same grouping, 0 no better than chance. Then the rung of eight files, with and without vectors.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from sklearn.metrics import adjusted_mutual_info_score

from titrant.backends.hf.embedding import model_folder, sentence_vectors
from titrant.core.identity import content_keys
from titrant.core.records import Example, Turn
from titrant.data.breadth import BreadthSettings, Vectors, cluster_prompts
from titrant.data.readers import read_rows
from titrant.experiment.breadth import breadth_of_file

FILES = (
    ("sentiment/yelp_polarity_sentences.jsonl.gz", None),
    ("skills/factual_webquestions.jsonl.gz", None),
    ("sentiment/sentence_sentiment_sets.jsonl.gz", "dataset"),
    ("classification/cl_benchmark_sets.jsonl.gz", "dataset"),
    ("generalist/self_instruct_seed_tasks.jsonl.gz", None),
    ("generalist/dolly_rated_3k.jsonl.gz", None),
    ("generalist/alpaca_gpt4_demo_1k.jsonl.gz", None),
    ("generalist/gpteacher_codegen.jsonl.gz", None),
)


def rows_of(prompts: Sequence[str]) -> list[Example]:
    """Rows with these prompts and nothing else."""
    return [
        Example(key=key, row_id=key, source="s", task="t", turns=(Turn(role="user", text=prompt),) * 2)
        for key, prompt in zip(content_keys(prompts), prompts, strict=True)
    ]


def agreement(
    prompts: Sequence[str], truth: Sequence[str], vectors: Vectors | None, apart: float | None = None
) -> dict[str, float]:
    """Clusters of the prompts against the truth, at the cut of the settings or at `apart`."""
    settings = BreadthSettings()
    if apart is not None:
        settings = BreadthSettings(apart_vectors=apart, apart_words=apart)
    rows = rows_of(prompts)
    known = dict(zip((row.key for row in rows), truth, strict=True))
    found = cluster_prompts(rows, vectors=vectors, settings=settings)
    pairs = [(known[key], cluster) for key, cluster in found.items()]
    score = adjusted_mutual_info_score([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return {"rows": len(pairs), "tasks": len(set(truth)), "clusters": len(set(found.values())), "agreement": score}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TITRANT_DATA_ROOT", "../shared/data")))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cuts", action="store_true", help="the two collections and the cuts only")
    said = parser.parse_args()
    superni = [row.values for row in read_rows(said.data / "superni" / "superni_tasks_full.jsonl.gz")]
    p3 = [row.values for row in read_rows(said.data / "multitask" / "p3_t0_train_templates.jsonl.gz")]
    collections = {
        "Super-NaturalInstructions": (
            [" ".join(task["Definition"]) for task in superni],
            [task["Categories"][0] for task in superni],
        ),
        "P3": ([row["instruction"] for row in p3], [row["dataset"] for row in p3]),
    }
    ways: dict[str, Vectors | None] = {"words": None, **({"vectors": sentence_vectors} if model_folder() else {})}
    result: dict[str, object] = {}
    for name, (prompts, truth) in collections.items():
        for way, vectors in ways.items():
            result[f"{name}, {way}"] = found = agreement(prompts, truth, vectors)
            print(f"{name}, by {way}: " + ", ".join(f"{key} {value:.3g}" for key, value in found.items()), flush=True)
    prompts, truth = collections["Super-NaturalInstructions"]
    for way, vectors in ways.items():
        for cut in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            found = agreement(prompts, truth, vectors, cut)
            result[f"Super-NaturalInstructions, {way}, cut at {cut}"] = found
            print(
                f"cut at {cut:g}, by {way}: agreement {found['agreement']:.2f}, {found['clusters']} clusters",
                flush=True,
            )
    for file, task in () if said.cuts else FILES:
        for way, vectors in ways.items():
            columns = {"text": "input", "label": "output"} if file.startswith(("sentiment", "class")) else None
            breadth = breadth_of_file(said.data / file, task_column=task, columns=columns, words_only=vectors is None)
            result[f"{file}, {way}"] = {"rung": breadth.rung, "effective_tasks": breadth.measure("effective_tasks")}
            print(f"{file}, by {way}: {breadth.rung}, {breadth.measure('effective_tasks'):.1f} tasks", flush=True)
    if said.json is not None:
        said.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
