"""The embedded pack is what its datasheet says: frozen, varied, balanced, and no file repeats another."""

from __future__ import annotations

import calendar
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from titrant.core.identity import content_keys
from titrant.core.records import Example, Item, PreparedModel, Turn
from titrant.data.contamination import contaminated, duplicates
from titrant.data.contamination.words import words

PACK = files("titrant") / "pack"
FILES = {
    "triage.train.jsonl": 225,
    "triage.test.jsonl": 270,
    "general.jsonl": 454,
    "general.heldout.jsonl": 50,
    "kept.jsonl": 120,
}
FIELDS = {
    "triage": {"id", "message", "action"},
    "general": {"id", "kind", "instruction", "input", "output"},
    "kept": {"id", "area", "question", "choices", "answer"},
}


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (PACK / name).read_bytes().decode().split("\n") if line]


ROWS = {name: load(name) for name in FILES}
TRAIN, TEST, POOL, HELD_OUT, KEPT = ROWS.values()


def texts(row: dict[str, Any]) -> list[str]:
    """Every text of a row that a person reads: not its id, kind, area or label."""
    fields = ("message", "instruction", "input", "output", "question")
    return [row[field] for field in fields if row.get(field)] + row.get("choices", [])


# ---------------------------------------------------------------------------------------------------- frozen and whole


def test_every_file_is_the_one_that_was_frozen() -> None:
    sums = dict(line.split("  ")[::-1] for line in (PACK / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == set(FILES)
    assert {name: hashlib.sha256((PACK / name).read_bytes()).hexdigest() for name in FILES} == sums


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_its_rows_fields_and_ids_and_no_blank_text(name: str) -> None:
    rows = ROWS[name]
    assert len(rows) == FILES[name]
    for row in rows:
        assert set(row) == FIELDS[name.partition(".")[0]]
        assert all(text == text.strip() and text for text in texts(row))
        assert all(row[field] for field in FIELDS[name.partition(".")[0]] - {"input"})
    ids = [row["id"] for entry in ROWS.values() for row in entry]
    assert len(set(ids)) == len(ids) == sum(FILES.values())


def test_the_datasheet_states_the_counts_that_the_files_have() -> None:
    sheet = (PACK / "DATASHEET.md").read_text(encoding="utf-8")
    fields = ""
    for name, count in FILES.items():
        assert re.search(rf"`{re.escape(name)}` *\| *{count} ", sheet), name
        (said,) = re.findall(rf"`{re.escape(name)}` *\|[^|]*\|([^|]*)\|", sheet)
        fields = fields if said.strip() == "as above" else said
        # Columns that are described there are not named as unread in anybody's study.
        assert set(re.findall(r"`(\w+)`", fields)) == FIELDS[name.partition(".")[0]], name
    for label, count in Counter(row["action"] for row in TRAIN).items():
        tested = Counter(row["action"] for row in TEST)[label]
        assert re.search(rf"`{label}` *\| *{count} *\| *{tested} ", sheet), label
    assert f"{len({row['kind'] for row in POOL})} kinds" in sheet


# -------------------------------------------------------------------------------------------------------------- target


def test_the_target_has_six_balanced_labels_in_both_parts() -> None:
    assert set(Counter(row["action"] for row in TEST).values()) == {45}
    assert set(Counter(row["action"] for row in TRAIN).values()) == {37, 38}
    assert {row["action"] for row in TRAIN} == {row["action"] for row in TEST}


def test_a_bag_of_words_does_not_solve_the_target() -> None:
    """At most 85%, and above chance (17%): words help, and do not suffice."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    for classifier in (LogisticRegression(max_iter=1000), LogisticRegression(C=30, max_iter=1000), MultinomialNB()):
        for ngrams in ((1, 1), (1, 2)):
            model = make_pipeline(TfidfVectorizer(ngram_range=ngrams), classifier)
            model.fit([row["message"] for row in TRAIN], [row["action"] for row in TRAIN])
            score = model.score([row["message"] for row in TEST], [row["action"] for row in TEST])
            assert 0.3 < score <= 0.85, (classifier, ngrams)


def test_no_message_names_its_label_more_often_than_another() -> None:
    """A label's words in a message do not give the label away: no label is right in over 85% of its mentions of ten."""
    for label in {row["action"] for row in TRAIN}:
        named = [row for row in TRAIN + TEST if f" {' '.join(words(label))} " in f" {' '.join(words(row['message']))} "]
        right = sum(row["action"] == label for row in named)
        assert len(named) < 10 or right <= 0.85 * len(named), (label, right, len(named))


# ------------------------------------------------------------------------------------------------------- general, kept


def test_the_pool_has_at_least_forty_kinds_none_of_them_large() -> None:
    kinds = Counter(row["kind"] for row in POOL)
    assert len(kinds) >= 40
    assert max(kinds.values()) <= 0.03 * len(POOL)


def test_held_out_rows_are_of_the_pools_kinds_and_cover_them() -> None:
    assert {row["kind"] for row in HELD_OUT} == {row["kind"] for row in POOL}


def test_kept_items_have_four_different_choices_one_of_them_right_at_every_place_equally_often() -> None:
    for row in KEPT:
        assert len(row["choices"]) == len({choice.casefold() for choice in row["choices"]}) == 4
        assert row["answer"] in row["choices"]
    assert Counter(row["choices"].index(row["answer"]) for row in KEPT) == dict.fromkeys(range(4), 30)
    assert set(Counter(row["area"] for row in KEPT).values()) == {15}


def test_the_right_choice_is_not_known_by_its_length() -> None:
    lengths = [[len(choice) for choice in row["choices"]] for row in KEPT]
    right = [len(row["answer"]) for row in KEPT]
    assert sum(one == max(many) > sorted(many)[-2] for one, many in zip(right, lengths, strict=True)) <= 45
    assert sum(one == min(many) < sorted(many)[1] for one, many in zip(right, lengths, strict=True)) <= 45


@pytest.mark.model
def test_rows_are_short_in_the_tokens_of_the_demonstrations_model(smollm2: PreparedModel) -> None:
    from titrant.tokens import renderer_for

    tokenizer = renderer_for(smollm2).tokenizer
    assert max(len(tokenizer.encode(row["output"])) for row in POOL + HELD_OUT) <= 85
    assert max(len(tokenizer.encode(row["message"] + row["action"])) for row in TRAIN + TEST) <= 60


def test_rows_are_short_in_words() -> None:
    assert max(len(row["output"].split()) for row in POOL + HELD_OUT) <= 65
    assert max(len(row["message"].split()) for row in TRAIN + TEST) <= 30


# ------------------------------------------------------------------------------------------------------------- variety

NUMBER_WORDS = frozenset(
    re.findall(
        r"\w+",
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million half quarter "
        "first second third fourth fifth sixth seventh eighth ninth tenth once twice",
    )
)
WEEKDAYS = frozenset(
    f"{day}day{plural}" for day in ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun") for plural in ("", "s")
)
MONTHS = frozenset(month.lower() for month in calendar.month_name if month)
WORD = re.compile(r"[^\W_]+(?:['’.,:/-][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?:;\n\"“”‘(]\s*[\"'“‘(]*$")


def skeleton(text: str) -> list[str]:
    """The words of a text, with placeholders for what a template would fill in.

    A number (with a digit in it, or a number word) is `#`, a weekday or month `@`, and a word with a capital that does
    not start a sentence, a line or a quotation is `*`. `I` is no name; `may` and `march` need a capital to be months.
    """
    found = []
    for match in WORD.finditer(text):
        word, before = match[0], text[: match.start()]
        starts = not before.strip() or SENTENCE_END.search(before) is not None
        lower = word.lower()
        if any(mark.isdigit() for mark in word) or all(part in NUMBER_WORDS for part in lower.split("-")):
            found.append("#")
        elif lower in WEEKDAYS or (lower in MONTHS and word[0].isupper()):
            found.append("@")
        elif word[0].isupper() and not starts and lower.partition("'")[0].partition("’")[0] != "i":
            found.append("*")
        else:
            found.append(lower.replace("’", "'"))
    return found


def runs(text: str) -> Iterator[tuple[str, ...]]:
    """Runs of six words, but for those of which over half are placeholders: they are no wording at all."""
    found = skeleton(text)
    for start in range(len(found) - 5):
        run = tuple(found[start : start + 6])
        if sum(word in ("#", "@", "*") for word in run) <= 3:
            yield run


def test_the_mask_sees_one_template_behind_two_fillings() -> None:
    one = "On Monday Anna Berg moved to court 4 for the second hour."
    other = "On Fridays Tom Ade moved to court 12 for the third hour."
    assert (
        skeleton(one)
        == skeleton(other)
        == ["on", "@", "*", "*", "moved", "to", "court", "#", "for", "the", "#", "hour"]
    )
    assert skeleton("Stop! Then I may march. May we?") == ["stop", "then", "i", "may", "march", "@", "we"]


def test_no_two_rows_of_the_pack_share_a_six_word_skeleton_but_for_two_known_pairs() -> None:
    seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for rows in ROWS.values():
        for row in rows:
            for text in texts(row):
                for run in runs(text):
                    seen[run].add(row["id"])
    shared = {" ".join(run): sorted(ids) for run, ids in seen.items() if len(ids) > 1}
    assert len(seen) > 15_000
    assert shared == {}


# --------------------------------------------------------------------------------------------------------- cleanliness


def example(source: str, prompt: str, answer: str, row_id: str) -> Example:
    turns = (Turn(role="user", text=prompt), Turn(role="assistant", text=answer))
    return Example(key=content_keys([[prompt, answer]])[0], row_id=row_id, source=source, task=source, turns=turns)


def as_examples() -> dict[str, list[Example]]:
    triage = [("triage", row["message"], row["action"], row["id"]) for row in TRAIN]
    pool = [("general", "\n\n".join(texts(row)[:-1]), row["output"], row["id"]) for row in POOL]
    return {"triage": [example(*row) for row in triage], "general": [example(*row) for row in pool]}


def as_items() -> list[Item]:
    asked = [
        *(("target", row["message"], row["action"], row["id"]) for row in TEST),
        *(("learned", "\n\n".join(texts(row)[:-1]), row["output"], row["id"]) for row in HELD_OUT),
        *(("kept", row["question"], row["answer"], row["id"]) for row in KEPT),
    ]
    return [
        Item(
            key=row_id,
            row_id=row_id,
            eval_set=eval_set,
            target="triage",
            task=eval_set,
            turns=(Turn(role="user", text=prompt),),
            references=(answer,),
            choices=None,
            answer="text",
            metric="exact_match",
            max_answer_tokens=8,
        )
        for eval_set, prompt, answer, row_id in asked
    ]


def test_no_training_row_of_the_pack_holds_an_item_of_it() -> None:
    for rows in as_examples().values():
        assert contaminated(rows, as_items()) == ()


def test_no_row_of_the_pack_repeats_another_even_nearly() -> None:
    asked = [example("items", item.turns[0].text, item.references[0], item.row_id) for item in as_items()]
    assert duplicates({**as_examples(), "items": asked}) == ()


def test_no_text_of_the_pack_names_an_address_on_the_net() -> None:
    for rows in ROWS.values():
        for row in rows:
            assert not any(re.search(r"https?://|www\.", text) for text in texts(row)), row["id"]
