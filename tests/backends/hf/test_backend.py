"""The real backend trains and answers on a toy model as its protocol says."""

import math
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from titrant.backends.hf import backend as backend_module
from titrant.backends.hf.backend import HuggingFaceBackend
from titrant.backends.protocol import LanguageModel
from titrant.core.environment import current_numerics
from titrant.core.errors import Interrupted, RunFailed
from titrant.core.identity import rng_for
from titrant.core.records import (
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


def trained(backend: HuggingFaceBackend, plan: TrainingPlan, folder: Path):
    return backend.train(plan, checkpoints=folder, on_step=lambda report: None, stop=lambda: None)


@pytest.fixture(params=["fp32", "bf16"])
def backend(request) -> HuggingFaceBackend:
    return HuggingFaceBackend(current_numerics(dtype=request.param, device="cpu"))


def test_what_training_left_free_is_given_back_before_the_copy_that_answers_is_made(
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    done: list[str] = []
    language_model = trained(backend, plan_for(toy, steps=1), tmp_path)
    give_back, copied = backend_module.give_back_freed_memory, backend_module.answering_model
    monkeypatch.setattr(backend_module, "give_back_freed_memory", lambda: (done.append("given back"), give_back())[1])
    monkeypatch.setattr(backend_module, "answering_model", lambda *a, **k: (done.append("copied"), copied(*a, **k))[1])
    language_model.loglikelihood([QUESTION])
    language_model.generate(PROMPTS)
    assert done == ["given back", "copied"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_trained_specialist_has_learned_and_the_untuned_one_has_not(
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, method: str
) -> None:
    untuned = backend.untuned(toy)
    before = untuned.loglikelihood([QUESTION]), untuned.generate(PROMPTS)
    plan = plan_for(toy, method=method)
    language_model = trained(backend, plan, tmp_path)
    (sums,) = language_model.loglikelihood([QUESTION])
    assert sums.index(max(sums)) == 0
    assert sums[0] > before[0][0][0] + 1
    assert language_model.generate(PROMPTS)[0].ids == ANSWER[:-1]
    assert language_model.generate(PROMPTS)[0].stop == "end"
    assert max(language_model.losses(plan.rows)) < min(untuned.losses(plan.rows))
    assert (untuned.loglikelihood([QUESTION]), untuned.generate(PROMPTS)) == before
    again = backend.untuned(toy)
    assert (again.loglikelihood([QUESTION]), again.generate(PROMPTS)) == before


def test_a_rerun_gives_the_same_bits(backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path) -> None:
    plan = plan_for(toy, steps=6)
    first = trained(backend, plan, tmp_path / "a")
    second = trained(HuggingFaceBackend(backend.numerics), plan, tmp_path / "b")
    assert first.loglikelihood([QUESTION]) == second.loglikelihood([QUESTION])
    assert first.losses(plan.rows) == second.losses(plan.rows)


def test_weights_are_loaded_once(
    toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: HuggingFaceBackend
) -> None:
    import titrant.backends.hf.backend

    loads = []
    load = titrant.backends.hf.backend.load_model
    monkeypatch.setattr(titrant.backends.hf.backend, "load_model", lambda *a, **k: loads.append(a) or load(*a, **k))
    backend.untuned(toy).close()
    trained(backend, plan_for(toy, steps=1), tmp_path / "a").close()
    trained(backend, plan_for(toy, steps=1), tmp_path / "b").close()
    backend.untuned(toy).loglikelihood([QUESTION])
    assert len(loads) == 1


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_owes_nothing_to_the_run_before_it(
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Memory of an earlier run is used again, and what it found out about the model is not asked again."""
    from titrant.backends.hf.models import allocator
    from titrant.backends.hf.training import forward, loop, loss

    blocks = allocator._Blocks()
    monkeypatch.setattr(allocator, "_blocks", blocks)
    monkeypatch.setattr(allocator, "_LASTING_BYTES", 1)
    monkeypatch.setattr(loss, "OWN_PAGES_BYTES", 1)
    plan = plan_for(toy, method=method, steps=4)
    alone = trained(HuggingFaceBackend(backend.numerics), plan, tmp_path / "alone")
    expected = alone.loglikelihood([QUESTION]), alone.generate(PROMPTS), alone.losses(plan.rows)
    trained(backend, plan_for(toy, method=method, steps=2), tmp_path / "first").close()
    for idle in blocks._idle.values():
        for memory in idle:
            memory[:] = b"\xff" * len(memory)  # NaN, in whatever type it is read
    asked: list[object] = []
    for module, name in ((forward, "ragged_refusal"), (loop, "activation_bytes_per_token")):
        monkeypatch.setattr(module, name, lambda *_: asked.append(_))
    before = blocks.idle_bytes()
    again = trained(backend, plan, tmp_path / "again")
    assert asked == []
    assert blocks.idle_bytes() < before
    assert (again.loglikelihood([QUESTION]), again.generate(PROMPTS), again.losses(plan.rows)) == expected


def test_memory_is_looked_after_at_every_step_and_forward_and_moves_no_bit(
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titrant.backends.hf.models import allocator

    sizes: list[int] = []
    counts: list[int] = []

    def results(folder: Path) -> list[object]:
        sizes.clear(), counts.clear()
        language_model = trained(backend, plan, folder)
        found: list[object] = []
        for answer, asked in (
            (language_model.loglikelihood, [QUESTION]),
            (language_model.generate, PROMPTS),
            (language_model.losses, plan.rows),
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
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, method: str
) -> None:
    from transformers import AutoModelForCausalLM

    language_model = trained(backend, plan_for(toy, method=method, steps=8), tmp_path / "work")
    (tmp_path / "model").mkdir()
    language_model.save(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.dtype == (torch.float32 if backend.numerics.dtype == "fp32" else torch.bfloat16)
    (sums,) = language_model.loglikelihood([QUESTION])
    for choice, found in zip(QUESTION.choices, sums, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([QUESTION.prompt + choice])).logits[0].float()
        logprobs = torch.log_softmax(logits, -1)
        expected = sum(float(logprobs[3 + place, token]) for place, token in enumerate(choice))
        assert found == pytest.approx(expected, abs=1e-4 if backend.numerics.dtype == "fp32" else 0.15)
    assert (tmp_path / "model" / "adapter" / "adapter_config.json").exists() == (method == "lora")


def test_a_signal_interrupts_and_the_next_run_goes_on(toy: PreparedModel, tmp_path: Path) -> None:
    backend = HuggingFaceBackend(current_numerics(dtype="fp32", device="cpu"))
    plan = plan_for(toy, steps=6)
    seen: list[int] = []
    with pytest.raises(Interrupted):
        backend.train(
            plan,
            checkpoints=tmp_path / "work",
            on_step=lambda report: seen.append(report.step),
            stop=lambda: 15 if len(seen) == 3 else None,
        )
    resumed = backend.train(
        plan, checkpoints=tmp_path / "work", on_step=lambda report: seen.append(report.step), stop=lambda: None
    )
    assert seen == [1, 2, 3, 4, 5, 6]
    assert resumed.loglikelihood([QUESTION]) == trained(backend, plan, tmp_path / "other").loglikelihood([QUESTION])


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("asked", ["loglikelihood", "generate", "losses"])
def test_a_specialist_that_is_stopped_while_it_answers_need_not_train_again(
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, method: str, asked: str
) -> None:
    plan = plan_for(toy, method=method, steps=3)
    questions = {"loglikelihood": [QUESTION], "generate": PROMPTS, "losses": plan.rows}[asked]
    calm = getattr(trained(backend, plan, tmp_path / "calm"), asked)(questions)

    def stop() -> None:
        raise Interrupted(15)

    language_model = trained(backend, plan, tmp_path / "work")
    language_model.heed = stop
    with pytest.raises(Interrupted):
        getattr(language_model, asked)(questions)
    language_model.keep()
    language_model.close()
    language_model.keep()  # after it there is nothing to keep, and nothing to break
    steps: list[StepReport] = []
    again = backend.train(plan, checkpoints=tmp_path / "work", on_step=steps.append, stop=lambda: None)
    assert steps == []
    assert getattr(again, asked)(questions) == calm


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_kept_training_answers_to_the_bit_as_it_did(
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, method: str
) -> None:
    plan = plan_for(toy, method=method, steps=3)

    def said(model: LanguageModel) -> tuple[object, ...]:
        return model.loglikelihood([QUESTION]), model.generate(PROMPTS), model.losses(plan.rows)

    first = trained(backend, plan, tmp_path / "work")
    (tmp_path / "weights").mkdir()
    first.save(tmp_path / "weights")
    first.keep(tmp_path / "kept")
    expected = said(first)
    first.close()
    steps: list[StepReport] = []
    from_checkpoint = backend.train(plan, checkpoints=tmp_path / "kept", on_step=steps.append, stop=lambda: None)
    assert steps == []
    assert said(from_checkpoint) == expected
    kept = sum(path.stat().st_size for path in (tmp_path / "kept").rglob("*.safetensors"))
    whole = sum(path.stat().st_size for path in (tmp_path / "weights").glob("*.safetensors"))
    assert method == "full" or kept < whole, "adapters are what is kept, not the model"


def test_a_checkpoint_that_finds_no_room_names_its_own_folder(
    backend: HuggingFaceBackend, toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    language_model = trained(backend, plan_for(toy, steps=1), tmp_path / "work")
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        language_model.keep()
    assert caught.value.filename == str(tmp_path / "work")


@pytest.mark.parametrize("refusal", [None, "its rows need padding"])
def test_a_model_that_diverged_gives_no_numbers(
    toy: PreparedModel, monkeypatch: pytest.MonkeyPatch, refusal: str | None
) -> None:
    monkeypatch.setattr("titrant.backends.hf.backend.ragged_refusal", lambda model: refusal)
    backend = HuggingFaceBackend(current_numerics(dtype="fp32", device="cpu"))
    language_model = backend.untuned(toy)
    from titrant.backends.hf.models.load import copy_model

    language_model.model = copy_model(language_model.model, torch.float32)
    with torch.no_grad():
        language_model.model.get_input_embeddings().weight.fill_(math.nan)
    with pytest.raises(RunFailed, match="non_finite"):
        language_model.loglikelihood([QUESTION])
    with pytest.raises(RunFailed, match="non_finite"):
        language_model.losses(plan_for(toy).rows)
    with pytest.raises(RunFailed, match="non_finite"):
        language_model.generate(PROMPTS)


def test_lack_of_memory_fails_the_run_and_not_the_study(toy: PreparedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*arguments: object, **options: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("titrant.backends.hf.backend.generate", lacking)
    language_model = HuggingFaceBackend(current_numerics(dtype="fp32", device="cpu")).untuned(toy)
    with pytest.raises(RunFailed, match="out_of_memory"):
        language_model.generate(PROMPTS)


def test_a_model_whose_rows_need_padding_is_trained_and_answers(
    toy: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = HuggingFaceBackend(current_numerics(dtype="fp32", device="cpu"))
    ragged = backend.untuned(toy)
    expected = ragged.loglikelihood([QUESTION]), ragged.generate(PROMPTS)
    monkeypatch.setattr("titrant.backends.hf.backend.ragged_refusal", lambda model: "it is a test")
    padded = HuggingFaceBackend(backend.numerics).untuned(toy)
    assert padded.loglikelihood([QUESTION])[0] == pytest.approx(expected[0][0], abs=1e-4)
    assert padded.generate(PROMPTS) == expected[1]
    assert "it is a test" in caplog.text


def test_the_seam_stays_light() -> None:
    code = "import sys, titrant.backends.fake, titrant.core.environment; "
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_full_disk_is_an_error_of_the_system_whoever_was_writing(toy: PreparedModel, tmp_path: Path) -> None:
    backend = HuggingFaceBackend(current_numerics(dtype="fp32", device="cpu"), checkpoint_seconds=0.0)
    language_model = backend.untuned(toy)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "model").mkdir()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(OSError, match="File too large") as while_training:
            trained(backend, plan_for(toy, steps=3), tmp_path / "work")
        with pytest.raises(OSError, match="File too large") as while_saving:
            language_model.save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert while_training.value.filename == str(tmp_path / "work")
    assert while_saving.value.filename == str(tmp_path / "model")
    assert not list((tmp_path / "work").iterdir())
    trained(backend, plan_for(toy, steps=3), tmp_path / "work")


def test_weights_stored_in_bf16_stay_in_half_the_memory_and_exact(
    make_toy_folder: Callable[..., Path], tmp_path: Path
) -> None:
    from titrant.backends.hf.models.load import copy_model, load_model
    from titrant.backends.hf.models.prepare import prepare

    exact = load_model(prepare(str(make_toy_folder(tmp_path / "toy")), cache=tmp_path / "cache", template="plain"))
    assert backend_module._in_half_the_memory(exact) is exact
    for weights in exact.parameters():
        weights.data = weights.data.to(torch.bfloat16).float()
    half = backend_module._in_half_the_memory(exact)
    assert half.dtype == torch.bfloat16
    again = copy_model(half, torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(exact.parameters(), again.parameters(), strict=True))
