"""The ladders on real public data, where it is there: counts and one rendered prompt each."""

import os
from pathlib import Path

import pytest

from titrant.data.readers import read_rows
from titrant.tasks import ANSWER_SEEN, P3_RUNGS, SKILL_SETS, build_ladder, load_skill, read_p3, read_superni

ROOT = Path(os.environ.get("TITRANT_DATA_ROOT", Path(__file__).parents[3] / "shared" / "data"))


def real(name: str) -> Path:
    if not (ROOT / name).exists():
        pytest.skip(f"no public data at {ROOT / name}: set TITRANT_DATA_ROOT")
    return ROOT / name


@pytest.mark.parametrize(
    ("name", "train", "test", "unreadable", "ending"),
    [
        ("boolq", 2000, 3270, 0, "make that produces\nAnswer with True or False."),
        ("dream", 6116, 2041, 0, "- The movie will not be shown.\n\nAnswer with one of the options."),
        ("disfl_qa", 7284, 715, 1, "or with unknown if it does not say."),
        ("gsm8k", 7473, 1319, 0, "end with #### and the number."),
        ("strategyqa", 2061, 229, 0, "one in New York?\nAnswer with yes or no."),
        ("elementary_math", 6881, 807, 0, "- 450\n\nAnswer with one of the options."),
        (
            "webquestions",
            2834,
            2032,
            0,
            "what does jamaican people speak?\nAnswer with a name, a place, a date or a few words.",
        ),
        ("opentriviaqa", 10000, 2000, 0, "Options:\n- True\n- False\n\nAnswer with one of the options."),
        ("qa_wikidata", 10000, 2000, 0, "few words.\n\nThe country of 11 de marzo de 2004 is"),
    ],
)
def test_a_skill_set_loads_whole(name: str, train: int, test: int, unreadable: int, ending: str) -> None:
    data = load_skill(read_rows(real(SKILL_SETS[name].file)), name)
    assert (len(data.train) + data.removed, len(data.test), len(data.unreadable)) == (train, test, unreadable)
    assert data.test[0].turns[-1].text.endswith(ending)
    if name == "webquestions":
        assert sum((ANSWER_SEEN, "yes") in item.tags for item in data.test) > len(data.test) / 2


def test_super_natural_instructions_load_whole() -> None:
    instances = read_superni(read_rows(real("superni/superni_tasks_full.jsonl.gz")))
    assert len(instances) == 28_587
    assert len({each.task for each in instances}) == 77
    assert all(each.prompt.startswith("Definition: ") and each.prompt.endswith("\nOutput: ") for each in instances)


def test_the_sentiment_rungs_of_p3_load_and_split_by_review() -> None:
    path = real("multitask/p3_t0_train_templates.jsonl.gz")
    rows = [row for row in read_rows(path) if row.values["group"] == "sentiment"]
    assert len(rows) == 8200
    collection = read_p3(rows)
    assert sum(left.rows for left in collection.left_out) == 21 * 200
    yelp = [each for each in collection.instances if each.dataset == "yelp_review_full"]
    assert len(yelp) == 1400
    assert not any("<|endoftext|>" in each.references[0] for each in collection.instances)
    sizes = [sum(other.group == group for other in yelp) for group in {each.group for each in yelp}]
    assert sizes.count(7) >= 195
    ladder = build_ladder(collection.instances, (P3_RUNGS[2], P3_RUNGS[3]))
    assert [len(rung.tasks) for rung in ladder.rungs] == [19, 7]


@pytest.mark.slow
def test_the_whole_p3_ladder_loads() -> None:
    collection = read_p3(read_rows(real("multitask/p3_t0_train_templates.jsonl.gz")))
    assert len(collection.instances) + sum(left.rows for left in collection.left_out) == 55_185
    ladder = build_ladder(collection.instances, P3_RUNGS)
    assert [len(rung.tasks) for rung in ladder.rungs] == [251, 48, 19, 7]
    assert not {each.group for each in ladder.train} & {each.group for each in ladder.test}
