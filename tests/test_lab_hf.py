"""The real lab trains and answers on a toy model as its protocol says."""

import math
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from titrant import lab_hf
from titrant.errors import Interrupted, RunFailed
from titrant.identity import rng_for
from titrant.lab_hf import HuggingFaceLab
from titrant.numerics import current_numerics
from titrant.records import (
    LoraSettings,
    PreparedModel,
    StepReport,
    TokenPrompt,
    TokenQuestion,
    TokenRow,
    TrainingPlan,
    TrainingSettings,
)

ANSWER = (120, 121, 122, 3)
QUESTION = TokenQuestion(key="q", prompt=(20, 21, 22, 23), choices=(ANSWER, (130, 131, 3), (140, 3)))
PROMPTS = (
    TokenPrompt(key="p", ids=QUESTION.prompt, max_new_tokens=8, end_ids=(3,)),
    TokenPrompt(key="long", ids=QUESTION.prompt * 9, max_new_tokens=5, end_ids=(3,)),
)


def plan_for(model: PreparedModel, *, method: str = "full", steps: int = 40, rate: float = 5e-3) -> TrainingPlan:
    rows = []
    for number in range(8):
        noise = tuple(int(token) for token in rng_for(number, "noise").integers(30, 100, number))
        prompt = noise + QUESTION.prompt
        rows.append(TokenRow(key=f"r{number}", source="s", ids=prompt + ANSWER, loss_from=len(prompt)))
    settings = TrainingSettings(
        method=method, learning_rate=rate, lora=LoraSettings(rank=8) if method == "lora" else None
    )
    order = [tuple((step * 4 + place) % 8 for place in range(4)) for step in range(steps)]
    return TrainingPlan(model=model, rows=tuple(rows), steps=tuple(order), settings=settings, seed=0)


def trained(lab: HuggingFaceLab, plan: TrainingPlan, folder: Path):
    return lab.train(plan, checkpoints=folder, on_step=lambda report: None, stop=lambda: None)


@pytest.fixture(params=["fp32", "bf16"])
def lab(request) -> HuggingFaceLab:
    return HuggingFaceLab(current_numerics(dtype=request.param, device="cpu"))


def test_what_training_left_free_is_given_back_before_the_copy_that_answers_is_made(
    lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titrant import lab_hf

    done: list[str] = []
    specialist = trained(lab, plan_for(toy, steps=1), tmp_path)
    give_back, copied = lab_hf.give_back_freed_memory, lab_hf.answering_model
    monkeypatch.setattr(lab_hf, "give_back_freed_memory", lambda: (done.append("given back"), give_back())[1])
    monkeypatch.setattr(lab_hf, "answering_model", lambda *a, **k: (done.append("copied"), copied(*a, **k))[1])
    specialist.choose([QUESTION])
    specialist.write(PROMPTS)
    assert done == ["given back", "copied"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_trained_specialist_has_learned_and_the_untuned_one_has_not(
    lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path, method: str
) -> None:
    untuned = lab.untuned(toy)
    before = untuned.choose([QUESTION]), untuned.write(PROMPTS)
    plan = plan_for(toy, method=method)
    specialist = trained(lab, plan, tmp_path)
    (sums,) = specialist.choose([QUESTION])
    assert sums.index(max(sums)) == 0
    assert sums[0] > before[0][0][0] + 1
    assert specialist.write(PROMPTS)[0].ids == ANSWER[:-1]
    assert specialist.write(PROMPTS)[0].stop == "end"
    assert max(specialist.losses(plan.rows)) < min(untuned.losses(plan.rows))
    assert (untuned.choose([QUESTION]), untuned.write(PROMPTS)) == before
    again = lab.untuned(toy)
    assert (again.choose([QUESTION]), again.write(PROMPTS)) == before


def test_a_rerun_gives_the_same_bits(lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path) -> None:
    plan = plan_for(toy, steps=6)
    first = trained(lab, plan, tmp_path / "a")
    second = trained(HuggingFaceLab(lab.numerics), plan, tmp_path / "b")
    assert first.choose([QUESTION]) == second.choose([QUESTION])
    assert first.losses(plan.rows) == second.losses(plan.rows)


def test_weights_are_loaded_once(
    toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: HuggingFaceLab
) -> None:
    import titrant.lab_hf

    loads = []
    load = titrant.lab_hf.load_model
    monkeypatch.setattr(titrant.lab_hf, "load_model", lambda *a, **k: loads.append(a) or load(*a, **k))
    lab.untuned(toy).close()
    trained(lab, plan_for(toy, steps=1), tmp_path / "a").close()
    trained(lab, plan_for(toy, steps=1), tmp_path / "b").close()
    lab.untuned(toy).choose([QUESTION])
    assert len(loads) == 1


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_owes_nothing_to_the_run_before_it(
    lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Memory of an earlier run is used again, and what it found out about the model is not asked again."""
    from titrant.models import allocator
    from titrant.training import forward, loop, loss

    blocks = allocator._Blocks()
    monkeypatch.setattr(allocator, "_blocks", blocks)
    monkeypatch.setattr(allocator, "_LASTING_BYTES", 1)
    monkeypatch.setattr(loss, "OWN_PAGES_BYTES", 1)
    plan = plan_for(toy, method=method, steps=4)
    alone = trained(HuggingFaceLab(lab.numerics), plan, tmp_path / "alone")
    expected = alone.choose([QUESTION]), alone.write(PROMPTS), alone.losses(plan.rows)
    trained(lab, plan_for(toy, method=method, steps=2), tmp_path / "first").close()
    for idle in blocks._idle.values():
        for memory in idle:
            memory[:] = b"\xff" * len(memory)  # NaN, in whatever type it is read
    asked: list[object] = []
    for module, name in ((forward, "ragged_refusal"), (loop, "activation_bytes_per_token")):
        monkeypatch.setattr(module, name, lambda *_: asked.append(_))
    before = blocks.idle_bytes()
    again = trained(lab, plan, tmp_path / "again")
    assert asked == []
    assert blocks.idle_bytes() < before
    assert (again.choose([QUESTION]), again.write(PROMPTS), again.losses(plan.rows)) == expected


def test_memory_is_looked_after_at_every_step_and_forward_and_moves_no_bit(
    lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titrant.models import allocator

    sizes: list[int] = []
    counts: list[int] = []

    def results(folder: Path) -> list[object]:
        sizes.clear(), counts.clear()
        specialist = trained(lab, plan, folder)
        found: list[object] = []
        for answer, asked in (
            (specialist.choose, [QUESTION]),
            (specialist.write, PROMPTS),
            (specialist.losses, plan.rows),
        ):
            counts.append(len(sizes))
            found.append(answer(asked))
        counts.append(len(sizes))
        return found

    def too_much(size: int) -> bool:
        sizes.append(size)
        return True

    plan = plan_for(toy, steps=4)
    expected = results(tmp_path / "once")
    monkeypatch.setattr(allocator._growth, "is_too_much", too_much)
    assert results(tmp_path / "again") == expected
    assert counts[0] == 4
    assert counts == sorted(set(counts)), "every kind of answer"
    assert min(sizes) > 0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_saved_specialist_answers_the_same_in_plain_transformers(
    lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path, method: str
) -> None:
    from transformers import AutoModelForCausalLM

    specialist = trained(lab, plan_for(toy, method=method, steps=8), tmp_path / "work")
    (tmp_path / "model").mkdir()
    specialist.save(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.dtype == (torch.float32 if lab.numerics.dtype == "fp32" else torch.bfloat16)
    (sums,) = specialist.choose([QUESTION])
    for choice, found in zip(QUESTION.choices, sums, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([QUESTION.prompt + choice])).logits[0].float()
        logprobs = torch.log_softmax(logits, -1)
        expected = sum(float(logprobs[3 + place, token]) for place, token in enumerate(choice))
        assert found == pytest.approx(expected, abs=1e-4 if lab.numerics.dtype == "fp32" else 0.15)
    assert (tmp_path / "model" / "adapter" / "adapter_config.json").exists() == (method == "lora")


def test_a_signal_interrupts_and_the_next_run_goes_on(toy: PreparedModel, tmp_path: Path) -> None:
    lab = HuggingFaceLab(current_numerics(dtype="fp32", device="cpu"))
    plan = plan_for(toy, steps=6)
    seen: list[int] = []
    with pytest.raises(Interrupted):
        lab.train(
            plan,
            checkpoints=tmp_path / "work",
            on_step=lambda report: seen.append(report.step),
            stop=lambda: 15 if len(seen) == 3 else None,
        )
    resumed = lab.train(
        plan, checkpoints=tmp_path / "work", on_step=lambda report: seen.append(report.step), stop=lambda: None
    )
    assert seen == [1, 2, 3, 4, 5, 6]
    assert resumed.choose([QUESTION]) == trained(lab, plan, tmp_path / "other").choose([QUESTION])


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("asked", ["choose", "write", "losses"])
def test_a_specialist_that_is_stopped_while_it_answers_need_not_train_again(
    lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path, method: str, asked: str
) -> None:
    plan = plan_for(toy, method=method, steps=3)
    questions = {"choose": [QUESTION], "write": PROMPTS, "losses": plan.rows}[asked]
    calm = getattr(trained(lab, plan, tmp_path / "calm"), asked)(questions)

    def stop() -> None:
        raise Interrupted(15)

    specialist = trained(lab, plan, tmp_path / "work")
    specialist.heed = stop
    with pytest.raises(Interrupted):
        getattr(specialist, asked)(questions)
    specialist.keep()
    specialist.close()
    specialist.keep()  # after it there is nothing to keep, and nothing to break
    steps: list[StepReport] = []
    again = lab.train(plan, checkpoints=tmp_path / "work", on_step=steps.append, stop=lambda: None)
    assert steps == []
    assert getattr(again, asked)(questions) == calm


def test_a_checkpoint_that_finds_no_room_names_its_own_folder(
    lab: HuggingFaceLab, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    specialist = trained(lab, plan_for(toy, steps=1), tmp_path / "work")
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        specialist.keep()
    assert caught.value.filename == str(tmp_path / "work")


@pytest.mark.parametrize("refusal", [None, "its rows need padding"])
def test_a_model_that_diverged_gives_no_numbers(
    toy: PreparedModel, monkeypatch: pytest.MonkeyPatch, refusal: str | None
) -> None:
    monkeypatch.setattr("titrant.lab_hf.ragged_refusal", lambda model: refusal)
    lab = HuggingFaceLab(current_numerics(dtype="fp32", device="cpu"))
    specialist = lab.untuned(toy)
    from titrant.models.load import copy_model

    specialist.model = copy_model(specialist.model, torch.float32)
    with torch.no_grad():
        specialist.model.get_input_embeddings().weight.fill_(math.nan)
    with pytest.raises(RunFailed, match="non_finite"):
        specialist.choose([QUESTION])
    with pytest.raises(RunFailed, match="non_finite"):
        specialist.losses(plan_for(toy).rows)
    with pytest.raises(RunFailed, match="non_finite"):
        specialist.write(PROMPTS)


def test_lack_of_memory_fails_the_run_and_not_the_study(toy: PreparedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*arguments: object, **options: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("titrant.lab_hf.write", lacking)
    specialist = HuggingFaceLab(current_numerics(dtype="fp32", device="cpu")).untuned(toy)
    with pytest.raises(RunFailed, match="out_of_memory"):
        specialist.write(PROMPTS)


def test_a_model_whose_rows_need_padding_is_trained_and_answers(
    toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = HuggingFaceLab(current_numerics(dtype="fp32", device="cpu"))
    ragged = lab.untuned(toy)
    expected = ragged.choose([QUESTION]), ragged.write(PROMPTS)
    monkeypatch.setattr("titrant.lab_hf.ragged_refusal", lambda model: "it is a test")
    padded = HuggingFaceLab(lab.numerics).untuned(toy)
    assert padded.choose([QUESTION])[0] == pytest.approx(expected[0][0], abs=1e-4)
    assert padded.write(PROMPTS) == expected[1]
    assert "it is a test" in caplog.text


def test_the_seam_stays_light() -> None:
    code = "import sys, titrant.lab, titrant.numerics; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_full_disk_is_an_error_of_the_system_whoever_was_writing(toy: PreparedModel, tmp_path: Path) -> None:
    lab = HuggingFaceLab(current_numerics(dtype="fp32", device="cpu"), checkpoint_seconds=0.0)
    specialist = lab.untuned(toy)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "model").mkdir()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(OSError, match="File too large") as while_training:
            trained(lab, plan_for(toy, steps=3), tmp_path / "work")
        with pytest.raises(OSError, match="File too large") as while_saving:
            specialist.save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert while_training.value.filename == str(tmp_path / "work")
    assert while_saving.value.filename == str(tmp_path / "model")
    assert not list((tmp_path / "work").iterdir())
    trained(lab, plan_for(toy, steps=3), tmp_path / "work")


def test_weights_stored_in_bf16_stay_in_half_the_memory_and_exact(
    make_toy_folder: Callable[..., Path], tmp_path: Path
) -> None:
    from titrant.models.load import load_model
    from titrant.models.prepare import prepare

    exact = load_model(prepare(str(make_toy_folder(tmp_path / "toy")), cache=tmp_path / "cache", template="plain"))
    assert lab_hf._in_half_the_memory(exact) is exact
    for weights in exact.parameters():
        weights.data = weights.data.to(torch.bfloat16).float()
    half = lab_hf._in_half_the_memory(exact)
    assert half.dtype == torch.bfloat16
    again = lab_hf.copy_model(half, torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(exact.parameters(), again.parameters(), strict=True))
