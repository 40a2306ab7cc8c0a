"""The training options against plain padded training, against itself, and against bad luck."""

import gc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from titrant.backends.hf.training import Trained, TrainingOptions, train
from titrant.backends.hf.training.forward import Forward, activation_bytes_per_token, forward_for
from titrant.backends.hf.training.loss import token_weights
from titrant.core.errors import Interrupted, RunFailed
from titrant.core.records import LoraSettings, StepReport, TokenRow, TrainingPlan

FAMILIES = ["llama", "qwen3", "gemma3", "mistral", "phi3", "gemma2", "granite"]
FP32 = TrainingOptions(dtype="fp32")


def run(
    plan: TrainingPlan,
    model: Any,
    folder: Path,
    options: TrainingOptions = FP32,
    stop_after: int | None = None,
) -> tuple[Trained, list[StepReport]]:
    reports: list[StepReport] = []

    def stop() -> int | None:
        return 15 if stop_after is not None and reports[-1].step == stop_after else None

    return train(plan, model=model, options=options, checkpoints=folder, on_step=reports.append, stop=stop), reports


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_bits(left: Any, right: Any) -> bool:
    first, second = weights_of(left), weights_of(right)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def padded_reference(model: Any, rows: Sequence[TokenRow], loss_weight: str) -> torch.Tensor:
    """The step's loss by the book: pad on the right, all logits, one mean."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + (0,) * (longest - len(row.ids)) for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows])
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    losses = losses.view(len(rows), -1)
    bears = torch.stack(
        [(torch.arange(1, longest) >= row.loss_from) & (torch.arange(1, longest) < len(row.ids)) for row in rows]
    )
    if loss_weight == "token":
        return losses[bears].mean()
    return torch.stack([losses[number][bears[number]].mean() for number in range(len(rows))]).mean()


# --------------------------------------------------------------------------------------------------------------- right


@pytest.mark.parametrize("loss_weight", ["row", "token"])
@pytest.mark.parametrize("name", [*FAMILIES, "bloom"])
def test_loss_and_gradients_equal_the_padded_reference(
    name: str, loss_weight: Any, toy: Callable[[str], Any], rows: tuple[TokenRow, ...]
) -> None:
    model, step_rows = toy(name), rows[:6]
    weights = token_weights(step_rows, loss_weight)
    per_token = torch.cat([torch.full((row.loss_tokens,), w) for row, w in zip(step_rows, weights, strict=True)])
    forward = forward_for(model)
    assert forward.ragged == (name != "bloom")
    assert forward.plain_head == (name != "granite")
    loss = (forward.losses(step_rows) * per_token).sum()
    loss.backward()
    ours = {key: value.grad.clone() for key, value in model.named_parameters()}
    model.zero_grad()
    reference = padded_reference(model, step_rows, loss_weight)
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    for key, value in model.named_parameters():
        assert (ours[key] - value.grad).norm() <= 1e-4 * value.grad.norm(), key


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rows_losses_do_not_depend_on_its_neighbours(
    name: str, toy: Callable[[str], Any], rows: tuple[TokenRow, ...]
) -> None:
    forward = forward_for(toy(name))
    order = [4, 0, 5, 2, 1, 3]
    with torch.no_grad():
        straight = forward.losses(rows[:6]).split([row.loss_tokens for row in rows[:6]])
        turned = forward.losses([rows[index] for index in order]).split([rows[index].loss_tokens for index in order])
        alone = [forward.losses([row]) for row in rows[:6]]
    for place, index in enumerate(order):
        torch.testing.assert_close(turned[place], straight[index], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone[index], straight[index], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss_weight", ["row", "token"])
def test_micro_batches_change_nothing_but_rounding(
    loss_weight: str, toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    # With Adam's usual epsilon a gradient that is zero but for rounding moves a weight as far as any other.
    plan = plan_of(loss_weight=loss_weight, epsilon=1e-5)
    whole, whole_reports = run(plan, toy("llama"), tmp_path / "a", TrainingOptions(dtype="fp32", batch_tokens=10_000))
    cut, cut_reports = run(plan, toy("llama"), tmp_path / "b", TrainingOptions(dtype="fp32", batch_tokens=31))
    for one, other in zip(whole_reports, cut_reports, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)
    for name, weight in weights_of(whole.model).items():
        torch.testing.assert_close(weight, weights_of(cut.model)[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss_weight", ["row", "token"])
def test_training_equals_plain_adamw_on_the_padded_reference(
    loss_weight: str, toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    plan = plan_of(clip_norm=0.5, weight_decay=0.1, schedule="constant", loss_weight=loss_weight, epsilon=1e-5)
    trained, reports = run(plan, toy("llama"), tmp_path)
    model = toy("llama")
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-5)
    for step, report in zip(plan.steps, reports, strict=True):
        loss = padded_reference(model, [plan.rows[index] for index in step], loss_weight)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        assert report.loss == pytest.approx(loss.item(), rel=1e-4)
        assert report.gradient_norm == pytest.approx(norm.item(), rel=1e-3)
        assert report.learning_rate == 1e-2
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weights_of(trained.model)[name], weight.detach(), rtol=2e-3, atol=1e-4)


def test_recorded_losses_do_not_move(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    """Written down once; a refactor that moves them has changed the training."""
    _, reports = run(plan_of(), toy("llama"), tmp_path)
    assert [report.loss for report in reports] == pytest.approx(RECORDED, rel=1e-4)


RECORDED = [5.4819587, 5.3265664, 4.9932716]


def test_parts_by_source_add_up_to_the_loss(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    plan = plan_of()
    _, reports = run(plan, toy("llama"), tmp_path)
    for step, report in zip(plan.steps, reports, strict=True):
        assert sum(part for _, part in report.loss_by_source) == pytest.approx(report.loss)
        assert [source for source, _ in report.loss_by_source] == ["general", "target"]
        assert report.tokens == sum(len(plan.rows[index].ids) for index in step)


def test_losses_fall_on_rows_seen_again(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    for options in (FP32, TrainingOptions(dtype="bf16")):
        _, reports = run(plan_of([(0, 1, 2, 3)] * 15), toy("llama"), tmp_path / options.dtype, options)
        assert reports[-1].loss < reports[0].loss / 3


def test_bf16_keeps_fp32_masters(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    """A rate too small for the bf16 grid still moves the weights, and they do not start on that grid."""
    before = weights_of(toy("llama"))
    trained, _ = run(plan_of(learning_rate=1e-7), toy("llama"), tmp_path, TrainingOptions(dtype="bf16"))
    for name, weight in trained.model.named_parameters():
        assert weight.dtype == torch.float32
        moved = (weight - before[name]).abs()
        assert 0 < moved.max() < 1e-6, name


def test_tied_weights_stay_tied(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    trained, _ = run(plan_of(), toy("llama"), tmp_path, TrainingOptions(dtype="bf16"))
    assert trained.model.lm_head.weight is trained.model.model.embed_tokens.weight


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_same_plan_gives_the_same_bits(
    dtype: Any, toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    one, _ = run(plan_of(), toy("llama"), tmp_path / "a", TrainingOptions(dtype=dtype))
    other, _ = run(plan_of(), toy("llama"), tmp_path / "b", TrainingOptions(dtype=dtype))
    assert same_bits(one.model, other.model)


def test_counting_activations_leaves_no_model_behind(toy: Callable[[str], Any]) -> None:
    model = toy("llama")
    activation_bytes_per_token(forward_for(model))
    weight = weakref.ref(next(model.parameters()))
    del model
    gc.collect()
    assert weight() is None


def test_activations_are_counted_alike_every_time_and_grow_with_the_model(toy: Callable[[str], Any]) -> None:
    small = activation_bytes_per_token(forward_for(toy("llama")))
    assert small == activation_bytes_per_token(forward_for(toy("llama")))
    assert 32 * 4 * 10 < small < 32 * 4 * 1000  # ten to a thousand fp32 vectors of the hidden width


# ----------------------------------------------------------------------------------------------------------- adapters


def lora(plan_of: Callable[..., TrainingPlan], **changes: Any) -> TrainingPlan:
    return plan_of(method="lora", lora=LoraSettings(rank=4, alpha=8), **changes)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own, in from_pretrained
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_saved_adapter_loads_with_peft_and_equals_the_merged_weights(
    dtype: Any, toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    from peft import PeftModel

    trained, reports = run(
        lora(plan_of, steps=[(0, 1, 2, 3)] * 5), toy("llama"), tmp_path / "c", TrainingOptions(dtype=dtype)
    )
    assert reports[-1].loss < reports[0].loss
    assert trained.adapter is not None
    trained.adapter.save(tmp_path)
    loaded = PeftModel.from_pretrained(toy("llama"), str(tmp_path))
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        merged, adapted, plain = (model(input_ids=ids).logits for model in (trained.model, loaded, toy("llama")))
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)
    assert (merged - plain).abs().max() > 0.01


def test_merged_model_loads_with_plain_transformers(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    trained, _ = run(lora(plan_of), toy("llama"), tmp_path / "c")
    trained.model.save_pretrained(str(tmp_path))
    assert same_bits(AutoModelForCausalLM.from_pretrained(str(tmp_path), dtype=torch.float32), trained.model)


def test_adapters_start_from_the_plans_seed_and_leave_other_streams_alone(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    from dataclasses import replace

    plan = lora(plan_of)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, _ = run(plan, toy("llama"), tmp_path / "a")
    torch.manual_seed(2)
    other, _ = run(plan, toy("llama"), tmp_path / "b")
    third, _ = run(replace(plan, seed=4), toy("llama"), tmp_path / "c")
    assert same_bits(one.model, other.model)
    assert not same_bits(one.model, third.model)
    model = toy("llama")
    torch.set_rng_state(before)
    run(plan, model, tmp_path / "d")
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_training_that_was_stopped_ends_in_the_same_bits(
    dtype: Any, method: str, toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    plan = lora(plan_of) if method == "lora" else plan_of()
    calm, calm_reports = run(plan, toy("llama"), tmp_path / "calm", TrainingOptions(dtype=dtype))
    for stop_after in (1, 2):
        with pytest.raises(Interrupted) as caught:
            run(plan, toy("llama"), tmp_path / "stopped", TrainingOptions(dtype=dtype), stop_after=stop_after)
        assert caught.value.exit_code == 143
    resumed, reports = run(plan, toy("llama"), tmp_path / "stopped", TrainingOptions(dtype=dtype))
    assert [report.step for report in reports] == [3]
    assert reports[0].loss == calm_reports[2].loss
    assert same_bits(calm.model, resumed.model)


def test_checkpoints_are_written_by_time_and_at_most_two_kept(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    plan = plan_of([(0, 1)] * 5)
    calm, _ = run(plan, toy("llama"), tmp_path / "calm")
    run(plan, toy("llama"), tmp_path / "timed", TrainingOptions(dtype="fp32", checkpoint_seconds=0.0))
    assert not list((tmp_path / "calm").glob("*"))
    assert sorted(path.name for path in (tmp_path / "timed").iterdir()) == ["step-00000003", "step-00000004"]
    resumed, reports = run(
        plan, toy("llama"), tmp_path / "timed", TrainingOptions(dtype="fp32", checkpoint_seconds=0.0)
    )
    assert [report.step for report in reports] == [5]
    assert same_bits(calm.model, resumed.model)


@pytest.mark.parametrize("file", ["weights.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    file: str, damage: str, toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    plan = plan_of([(0, 1)] * 4)
    calm, _ = run(plan, toy("llama"), tmp_path / "calm")
    options = TrainingOptions(dtype="fp32", checkpoint_seconds=0.0)
    run(plan, toy("llama"), tmp_path / "timed", options)
    path = tmp_path / "timed" / "step-00000003" / file
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    resumed, reports = run(plan, toy("llama"), tmp_path / "timed", options)
    assert [report.step for report in reports] == [3, 4]
    assert same_bits(calm.model, resumed.model)


def test_another_trainings_checkpoint_is_passed_over(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    options = TrainingOptions(dtype="fp32", checkpoint_seconds=0.0)
    run(plan_of(), toy("llama"), tmp_path, options)
    for plan, other in ((plan_of(learning_rate=2e-2), options), (plan_of(), TrainingOptions(dtype="bf16"))):
        _, reports = run(plan, toy("llama"), tmp_path, other)
        assert [report.step for report in reports] == [1, 2, 3]


def test_what_a_killed_writer_left_is_ignored_and_removed(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    leftover = tmp_path / ".tmp-checkpoint-step-00000002"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    _, reports = run(plan_of(), toy("llama"), tmp_path, TrainingOptions(dtype="fp32", checkpoint_seconds=0.0))
    assert [report.step for report in reports] == [1, 2, 3]
    assert not leftover.exists()


# ------------------------------------------------------------------------------------------------------------ failures


def test_nan_weights_fail_at_the_first_step(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    model = toy("llama")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(RunFailed, match="non_finite at step 1"):
        run(plan_of(), model, tmp_path)


def test_a_gradient_that_overflows_fails_before_the_weights_move(
    toy: Callable[[str], Any], plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    model = toy("llama")
    before = weights_of(model)
    model.model.layers[0].register_full_backward_hook(lambda _module, grads, _out: (grads[0] * torch.inf,))
    with pytest.raises(RunFailed) as caught:
        run(plan_of(), model, tmp_path)
    assert (caught.value.kind, caught.value.step) == ("non_finite", 1)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize(
    "error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError()]
)
def test_a_step_that_runs_out_of_memory_goes_through_in_smaller_pieces(
    error: Exception,
    toy: Callable[[str], Any],
    plan_of: Callable[..., TrainingPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calm, _ = run(plan_of(), toy("llama"), tmp_path / "calm")
    plain = Forward.losses
    largest = max(sum(len(plan_of().rows[index].ids) for index in step) for step in plan_of().steps)

    def scarce(self: Forward, rows: Sequence[TokenRow]) -> torch.Tensor:
        if sum(len(row.ids) for row in rows) == largest:
            raise error
        return plain(self, rows)

    monkeypatch.setattr(Forward, "losses", scarce)
    trained, reports = run(
        plan_of(), toy("llama"), tmp_path / "scarce", TrainingOptions(dtype="fp32", batch_tokens=10_000)
    )
    assert len(trained.retried_steps) == 1
    assert trained.batch_tokens == largest // 2
    assert len(reports) == 3
    for name, weight in weights_of(calm.model).items():
        torch.testing.assert_close(weight, weights_of(trained.model)[name], rtol=1e-3, atol=1e-5)


def test_a_step_that_never_fits_fails_with_a_clear_error(
    toy: Callable[[str], Any],
    plan_of: Callable[..., TrainingPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(self: Forward, rows: Sequence[TokenRow]) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(Forward, "losses", never)
    with pytest.raises(RunFailed) as caught:
        run(plan_of(), toy("llama"), tmp_path, TrainingOptions(dtype="fp32", batch_tokens=100))
    assert (caught.value.kind, caught.value.step) == ("out_of_memory", 1)


def test_other_errors_are_not_mistaken_for_lack_of_memory(
    toy: Callable[[str], Any],
    plan_of: Callable[..., TrainingPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Forward, rows: Sequence[TokenRow]) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Forward, "losses", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run(plan_of(), toy("llama"), tmp_path, TrainingOptions(dtype="fp32", batch_tokens=100))
