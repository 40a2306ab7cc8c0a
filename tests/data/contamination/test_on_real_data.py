"""Clean pools on real public data, where it is there: no false alarm, planted rows found, shares as planted."""

import os
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

import pytest

from titrant.core.identity import content_keys
from titrant.core.records import Example, Item, Turn
from titrant.data.contamination import contaminated, duplicates, own_kind_share, own_texts
from titrant.data.readers import load_examples, load_items, read_rows
from titrant.tasks import SKILL_SETS, load_skill

ROOT = Path(os.environ.get("TITRANT_DATA_ROOT", Path(__file__).parents[4] / "shared" / "data"))
SETS = {"boolq": 400, "gsm8k": 1319, "strategyqa": 229, "webquestions": 2032, "dream": 500}


def real(name: str) -> Path:
    if not (ROOT / name).exists():
        pytest.skip(f"no public data at {ROOT / name}: set TITRANT_DATA_ROOT")
    return ROOT / name


@cache
def alpaca(count: int = 2000) -> tuple[Example, ...]:
    path = real("generalist/alpaca_random_9k.jsonl.gz")
    return load_examples(path, source="alpaca", task="alpaca", on_fault=lambda _: None)[:count]


@cache
def items(name: str) -> tuple[Item, ...]:
    return load_skill(read_rows(real(SKILL_SETS[name].file)), name).test[: SETS[name]]


@cache
def reviews() -> tuple[Example, ...]:
    rows = load_examples(
        real("sentiment/yelp_review_full.jsonl.gz"), source="yelp", task="yelp", instruction="Rate it.",
        columns={"text": "input", "label": "output"},
    )  # fmt: skip
    return tuple(sorted((row for row in rows if "\n\nText: " in row.turns[0].text), key=lambda row: row.key))


def saying(row: Example, *, prompt: str | None = None, answer: str | None = None) -> Example:
    user = row.turns[0] if prompt is None else Turn(role="user", text=prompt)
    said = row.turns[-1] if answer is None else Turn(role="assistant", text=answer)
    return replace(row, key=content_keys([[user.text, said.text]])[0], turns=(user, said))


@pytest.mark.parametrize("name", SETS)
def test_two_thousand_unrelated_rows_raise_no_alarm(name: str) -> None:
    assert contaminated(alpaca(), items(name)) == ()


@pytest.mark.parametrize("name", ["boolq", "gsm8k", "dream"])
def test_planted_items_are_found_verbatim_in_capitals_and_inside_a_longer_answer(name: str) -> None:
    wanted = items(name)[7:10]
    texts = own_texts(items(name))[7:10]
    pool = list(alpaca())
    pool[100] = saying(pool[100], prompt=texts[0])
    pool[200] = saying(pool[200], prompt=f"What do you make of this?\n\n{texts[1].upper()}")
    pool[300] = saying(pool[300], answer=f"{pool[300].answer} I was also told: {texts[2]} {pool[301].answer}")
    leaks = contaminated(pool, items(name))
    found = {(leak.row_key, leak.item_key) for leak in leaks}
    assert {(pool[100 * n].key, item.key) for n, item in enumerate(wanted, start=1)} <= found
    assert {leak.row_key for leak in leaks} == {pool[100].key, pool[200].key, pool[300].key}
    assert {leak.part for leak in leaks if leak.row_key == pool[300].key} == {"answer"}


def test_rows_that_two_published_cuts_of_one_set_share_are_found() -> None:
    cherry = load_examples(real("generalist/alpaca_cherry_5pct.jsonl.gz"), source="cherry", task="cherry")[:800]
    found = duplicates({"alpaca": alpaca(9000), "cherry": cherry})
    across = [entry for entry in found if entry.across]
    same = {row.turns for row in alpaca(9000)} & {row.turns for row in cherry}
    assert len(across) == len(same) > 100


@pytest.mark.parametrize(("own", "others"), [(0, 400), (100, 1900), (100, 900), (100, 300), (400, 0)])
def test_a_planted_share_of_the_targets_own_kind_is_read_off(own: int, others: int) -> None:
    pool = [saying(row, prompt=row.turns[0].text.removeprefix("Rate it.\n\n")) for row in reviews()[1000 : 1000 + own]]
    task_similarity = own_kind_share([*pool, *alpaca(others)], reviews()[:300], instructions=["Rate it."])
    planted = own / (own + others)
    assert task_similarity.by_text is not None
    assert task_similarity.by_text == pytest.approx(planted, abs=0.03 if others else 0.25)
    if others:
        assert task_similarity.by_text_low is not None
        assert task_similarity.by_text_high is not None
        assert task_similarity.by_text_low - 0.01 <= planted <= task_similarity.by_text_high + 0.01


def test_of_the_embedded_pool_next_to_nothing_is_the_targets_own_kind() -> None:
    pack = Path(str(resources.files("titrant"))) / "pack"
    instruction = "Label this message to a leisure centre with the action it needs."
    train = load_examples(
        pack / "triage.train.jsonl", source="t", task="t", instruction=instruction,
        columns={"text": "message", "label": "action"},
    )  # fmt: skip
    test = load_items(
        pack / "triage.test.jsonl", eval_set="target", target="t", task="t", metric="exact_match", answer="text",
        max_answer_tokens=8, instruction=instruction, columns={"text": "message", "label": "action"},
    )  # fmt: skip
    pool = load_examples(pack / "general.jsonl", source="g", task="g")
    task_similarity = own_kind_share(pool, train, labels={row.answer for row in train}, instructions=[instruction])
    assert task_similarity.share < 0.05
    assert contaminated(pool, test, instructions=[instruction]) == ()
