"""The learning rate rises, holds or falls as its formula says, and no step is wasted on a rate of zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.backends.hf.training.schedule import learning_rate_at
from titrant.core.records import TrainingSettings


@given(
    st.integers(1, 300),
    st.floats(0, 1),
    st.sampled_from(["linear", "constant", "cosine"]),
)
def test_every_step_has_a_rate_between_zero_and_the_peak(steps: int, share: float, schedule: str) -> None:
    settings = TrainingSettings(learning_rate=2e-5, warmup_share=share, schedule=schedule)
    rates = [learning_rate_at(step, steps, settings) for step in range(1, steps + 1)]
    assert all(0 < rate <= 2e-5 for rate in rates)
    assert max(rates) == pytest.approx(2e-5)


def test_cosine_by_hand() -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup_share=0.25, schedule="cosine")
    rates = [learning_rate_at(step, 4, settings) for step in range(1, 5)]
    assert rates == pytest.approx([1.0, 1.0, 0.75, 0.25])


def test_constant_holds_the_peak_after_warm_up() -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup_share=0.5, schedule="constant")
    assert [learning_rate_at(step, 4, settings) for step in range(1, 5)] == [0.5, 1.0, 1.0, 1.0]
