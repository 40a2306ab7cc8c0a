"""Test items that stand in a training pool, whole or nearly so, and the user's own rows that are test items.

What is looked for is an item's own text: its prompt without the instruction that its whole task shares (`own_texts`).
Where it is looked for: everywhere in a row, prompt and answer, also in the middle of a longer text. Three rules, by the
length of the own text (words as in `contamination.words`):

- `overlap`, from `long_words` words: at least `overlap_share` of its runs of `run_words` words stand in the row. A run
  that is in a fifth of the task's items (at least five) is the task's wording and does not count; a run that is in more
  than `common_rows` rows of the pool counts `common_rows / rows`: a template used by many rows is no evidence.
- `contained`, from `short_words` words and `short_bytes` bytes: all its words stand in the row, in order, no gap.
- `equal`, for what is shorter (but at least two words): a whole user turn, or its last paragraph, is the same folded
  text. Single words prove nothing and are never looked for.

The pool is read once, in batches. Only words that occur in items get a number; runs of numbers are hashed for a whole
batch at once and looked up in the sorted hashes of the items' runs. Hits are compared word by word, so a collision of
hashes changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from titrant.core.records import Example, Item, Origin
from titrant.data.contamination.words import folded, own_texts, user_text, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH_ROWS = 2000
_SNIPPET_WORDS = 40
_SNIPPET_CHARACTERS = 320


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminationSettings:
    """The thresholds of the three rules; the module's docstring says what each does."""

    run_words: int = 8
    overlap_share: float = 0.5
    long_words: int = 15
    short_words: int = 5
    short_bytes: int = 20
    common_rows: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminatedRow:
    """One item found in one row. `overlap` is 0 to 1; `answer_too` says that a reference stands in the row's answer.

    The snippets are the row's own wording around the match, and the item's own text, for reading side by side.
    """

    kind: Literal["equal", "contained", "overlap"]
    overlap: float
    part: Literal["prompt", "answer", "both"]
    answer_too: bool
    source: str
    row_key: str
    row_id: str
    row_origin: Origin | None
    eval_set: str
    item_key: str
    item_id: str
    item_origin: Origin | None
    row_snippet: str
    item_snippet: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A training row of the user's own whose prompt is a test item's. `same_answer`: its answer is a reference too."""

    row_id: str
    row_origin: Origin | None
    item_id: str
    item_origin: Origin | None
    same_answer: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """An own text that is looked for, and the items whose text it is."""

    items: tuple[Item, ...]
    text: str
    words: tuple[str, ...]
    runs: frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A target in a row; `start` and `stop` are word positions in the row, turns joined."""

    target: _Target
    kind: Literal["equal", "contained", "overlap"]
    overlap: float
    start: int
    stop: int


def contaminated(
    pool: Sequence[Example],
    items: Sequence[Item],
    *,
    settings: ContaminationSettings | None = None,
    instructions: Collection[str] = (),
) -> tuple[ContaminatedRow, ...]:
    """Every (row, item) of which the row holds the item, in the order of the pool, then of the items.

    `instructions` are wordings that are known to be shared (a study's `instruction`). The rows to remove are those
    named by `row_key`.
    """
    settings = settings or ContaminationSettings()
    found = _matches(pool, _targets(items, settings, instructions), settings)
    places = {id(item): place for place, item in enumerate(items)}
    leaks = []
    for place in sorted(found):
        pairs = [(item, match) for match in found[place] for item in match.target.items]
        for item, match in sorted(pairs, key=lambda pair: places[id(pair[0])]):
            leaks.append(_leak(pool[place], item, match))
    return tuple(leaks)


def contaminated_rows(
    pool: Iterable[Example],
    items: Sequence[Item],
    *,
    settings: ContaminationSettings | None = None,
    instructions: Collection[str] = (),
) -> dict[int, frozenset[str]]:
    """What `contaminated` finds, without the evidence: for the place of each such row in the pool, the eval sets
    whose items it holds. The pool is read once to its end and not kept, so that it can be larger than memory."""
    settings = settings or ContaminationSettings()
    found = _matches(pool, _targets(items, settings, instructions), settings)
    return {
        place: frozenset(item.eval_set for match in matches for item in match.target.items)
        for place, matches in sorted(found.items())
    }


def target_overlap(train: Sequence[Example], items: Sequence[Item]) -> tuple[Overlap, ...]:
    """Training rows whose folded user text equals an item's, whatever their answers, in the order of `train`.

    For the user's own rows, where a test item is an error and not something to remove in silence.
    """
    by_text: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_text[folded(user_text(item.turns))].append(item)
    return tuple(
        Overlap(
            row_id=row.row_id,
            row_origin=row.origin,
            item_id=item.row_id,
            item_origin=item.origin,
            same_answer=folded(row.answer) in {folded(reference) for reference in item.references},
            text=_shortened(user_text(row.prompt)),
        )
        for row in train
        if (text := folded(user_text(row.prompt)))
        for item in by_text.get(text, ())
    )


# ------------------------------------------------------------------------------------------------- what is looked for


def _targets(items: Sequence[Item], settings: ContaminationSettings, instructions: Collection[str]) -> list[_Target]:
    """One target for each distinct own text (folded), with the runs that are its own and not the task's wording."""
    owns = own_texts(items, instructions=instructions)
    split = [tuple(words(own)) for own in owns]
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        groups[(item.eval_set, item.target, item.task)].append(place)
    common: dict[int, frozenset[tuple[str, ...]]] = {}
    for places in groups.values():
        counts = Counter(run for place in places for run in _runs(split[place], settings.run_words))
        # Wording that a fifth of the task's items share ("choose the right answer below") says nothing of any one of
        # them, and would be found in every row of the same kind.
        shared = frozenset(run for run, count in counts.items() if count >= 5 and 5 * count >= len(places))
        common.update(dict.fromkeys(places, shared))
    by_text: dict[str, list[int]] = defaultdict(list)
    for place, own in enumerate(owns):
        by_text[folded(own)].append(place)
    return [
        _Target(
            items=tuple(items[place] for place in places),
            text=owns[places[0]],
            words=split[places[0]],
            runs=_runs(split[places[0]], settings.run_words) - common[places[0]],
        )
        for text, places in by_text.items()
        if text
    ]


def _runs(found: Sequence[str], length: int) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(found[start : start + length]) for start in range(len(found) - length + 1))


def _rule(target: _Target, settings: ContaminationSettings) -> Literal["equal", "contained", "overlap"]:
    """A long text most of whose runs are the task's wording has too few of its own: all its words must be there."""
    own_enough = 2 * len(target.runs) > max(0, settings.long_words - settings.run_words)
    if len(target.words) >= settings.long_words and own_enough:
        return "overlap"
    length = len(" ".join(target.words).encode("utf-8", "surrogatepass"))
    return "contained" if len(target.words) >= settings.short_words and length >= settings.short_bytes else "equal"


# ------------------------------------------------------------------------------------------------- where it is found


def _matches(
    pool: Iterable[Example], targets: Sequence[_Target], settings: ContaminationSettings
) -> dict[int, list[_Found]]:
    """What is found by the place of its row, in one reading of the pool. What a run weighs depends on how many rows of
    the whole pool hold it, so `overlap` is decided once the last row has been read."""
    by_text = {
        folded(target.text): target
        for target in targets
        if len(target.words) > 1 and _rule(target, settings) == "equal"
    }
    short = [target for target in targets if _rule(target, settings) == "contained"]
    long = [target for target in targets if _rule(target, settings) == "overlap"]
    starts: dict[tuple[str, ...], list[_Target]] = defaultdict(list)
    for target in short:
        # Only the first words are looked up by hash; the rest is compared where they are found.
        starts[target.words[: settings.short_words]].append(target)
    runs = sorted({run for target in long for run in target.runs})
    number_of_run = {run: number for number, run in enumerate(runs)}
    # Words of no item get number 0, so a run that holds one can be ruled out without being hashed.
    vocabulary = _Vocabulary(starts.keys() | number_of_run.keys())
    found: dict[int, list[_Found]] = defaultdict(list)
    by_row: dict[int, dict[int, tuple[int, int]]] = {}
    rows, first = iter(pool), 0
    while examples := list(islice(rows, _BATCH_ROWS)):
        for place, match in _equal(examples, by_text):
            found[first + place].append(match)
        batch = [_row_words(row) for row in examples] if starts or runs else []
        for place, start in vocabulary.hits(batch, settings.short_words if starts else 0):
            for target in starts.get(tuple(batch[place][start : start + settings.short_words]), ()):
                stop = start + len(target.words)
                if tuple(batch[place][start:stop]) == target.words:
                    contained = _Found(target=target, kind="contained", overlap=1.0, start=start, stop=stop)
                    found[first + place].append(contained)
        for place, start in vocabulary.hits(batch, settings.run_words if runs else 0):
            stop = start + settings.run_words
            number = number_of_run.get(tuple(batch[place][start:stop]))
            if number is not None:
                spans = by_row.setdefault(first + place, {})
                # Where a run stands twice in a row, its first place serves as evidence.
                spans.setdefault(number, (start, stop))
        first += len(examples)
    for place, match in _overlaps(by_row, long, number_of_run, settings):
        found[place].append(match)
    return found


def _equal(batch: Sequence[Example], by_text: Mapping[str, _Target]) -> Iterator[tuple[int, _Found]]:
    for place, row in enumerate(batch if by_text else ()):
        before = 0
        for turn in row.turns:
            count = len(words(turn.text))
            parts = (turn.text, turn.text.rstrip().rpartition("\n\n")[2]) if turn.role == "user" else ()
            hits = {text: by_text[text] for part in parts if (text := folded(part)) in by_text}
            for target in hits.values():
                start = before + count - len(target.words)
                yield place, _Found(target=target, kind="equal", overlap=1.0, start=start, stop=before + count)
            before += count


def _overlaps(
    by_row: Mapping[int, Mapping[int, tuple[int, int]]],
    targets: Sequence[_Target],
    number_of_run: Mapping[tuple[str, ...], int],
    settings: ContaminationSettings,
) -> Iterator[tuple[int, _Found]]:
    """Rows that hold enough of a target's runs, each run weighed down where many rows of the pool hold it."""
    if not by_row:
        return
    import numpy as np
    from scipy.sparse import csr_array

    held = _indicator([list(spans) for spans in by_row.values()], len(number_of_run))
    belongs = _indicator([[number_of_run[run] for run in target.runs] for target in targets], len(number_of_run))
    # A run held by ten times `common_rows` rows counts a tenth: what a template puts into hundreds of rows is no trace
    # of an item.
    weights = np.minimum(1.0, settings.common_rows / np.maximum(1, held.sum(axis=0)))
    totals = belongs @ weights
    # Rows times targets in one sparse product: each entry is the weight of the runs that the two have in common, and
    # pairs with none cost nothing.
    weighed = csr_array(belongs.multiply(weights[None, :]).T)
    places = list(by_row)
    for first in range(0, len(places), _BATCH_ROWS):
        shares = (held[first : first + _BATCH_ROWS] @ weighed).tocoo()
        for offset, column, weight in zip(shares.row, shares.col, shares.data, strict=True):
            share = float(weight / totals[column])
            if share < settings.overlap_share:
                continue
            place, target = places[first + int(offset)], targets[int(column)]
            spans = [by_row[place][number] for run in target.runs if (number := number_of_run[run]) in by_row[place]]
            yield (
                place,
                _Found(
                    target=target,
                    kind="overlap",
                    overlap=min(1.0, share),
                    start=min(start for start, _ in spans),
                    stop=max(stop for _, stop in spans),
                ),
            )


def _indicator(columns_by_row: Sequence[Sequence[int]], width: int) -> Any:
    """A sparse matrix with a one at each of a row's columns."""
    import numpy as np
    from scipy.sparse import csr_array

    edges = np.cumsum([0, *map(len, columns_by_row)])
    columns = np.array([column for columns in columns_by_row for column in columns], dtype=np.int64)
    return csr_array((np.ones(len(columns)), columns, edges), shape=(len(columns_by_row), width))


class _Vocabulary:
    """Numbers for the words of the runs that are looked for, and the hashes of those runs by length."""

    def __init__(self, runs: Collection[tuple[str, ...]]) -> None:
        import numpy as np

        names = sorted({word for run in runs for word in run})
        self._numbers = {word: number for number, word in enumerate(names, start=1)}
        by_length: dict[int, list[list[int]]] = defaultdict(list)
        for run in runs:
            by_length[len(run)].append([self._numbers[word] for word in run])
        self._hashes = {
            length: np.unique(_hashed(np.array(rows, dtype=np.uint64).reshape(-1), length)[::length])
            for length, rows in by_length.items()
        }

    def hits(self, batch: Sequence[Sequence[str]], length: int) -> Iterator[tuple[int, int]]:
        """(row, word) places at which a run of `length` words probably stands; none is missed. 0 finds nothing."""
        import numpy as np

        if length == 0 or not batch:
            return
        # All rows of the batch in one array, a 0 behind each: runs that would cross from one row into the next hold it
        # and fall out with the unknown words.
        numbers = np.fromiter((number for found in batch for number in (*map(self._number, found), 0)), dtype=np.uint64)
        if len(numbers) < length:
            return
        # A run is whole where the count of zeros does not rise over its length: one subtraction for every place at
        # once.
        unknown = np.concatenate(([0], np.cumsum(numbers == 0)))
        whole = np.flatnonzero(unknown[length:] == unknown[:-length])
        hashes = _hashed(numbers, length)[whole]
        edges = np.cumsum([0, *(len(found) + 1 for found in batch)])
        for position in whole[np.isin(hashes, self._hashes[length])]:
            row = int(np.searchsorted(edges, position, side="right")) - 1
            yield row, int(position - edges[row])

    def _number(self, word: str) -> int:
        return self._numbers.get(word, 0)


def _hashed(numbers: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A hash of every run of `length` numbers: a polynomial modulo 2**64 over scrambled numbers."""
    import numpy as np

    # Numbers of words are small and in order; scrambled, neighbouring ones share no bits that the polynomial would
    # keep.
    scrambled = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    scrambled ^= scrambled >> np.uint64(29)
    total = np.zeros(len(numbers) - length + 1, dtype=np.uint64)
    for offset in range(length):
        total = total * np.uint64(0xD6E8FEB86659FD93) + scrambled[offset : offset + len(total)]
    return total


# ------------------------------------------------------------------------------------------------------------ evidence


def _row_words(row: Example) -> list[str]:
    return [word for turn in row.turns for word in words(turn.text)]


def _leak(row: Example, item: Item, match: _Found) -> ContaminatedRow:
    # The answer is the last turn, so its words are the last ones.
    edge = len(_row_words(row)) - len(words(row.answer))
    part: Literal["prompt", "answer", "both"] = "both"
    if match.stop <= edge:
        part = "prompt"
    elif match.start >= edge:
        part = "answer"
    answer = f" {' '.join(words(row.answer))} "
    references = [" ".join(words(reference)) for reference in item.references]
    return ContaminatedRow(
        kind=match.kind,
        overlap=match.overlap,
        part=part,
        answer_too=any(reference and f" {reference} " in answer for reference in references),
        source=row.source,
        row_key=row.key,
        row_id=row.row_id,
        row_origin=row.origin,
        eval_set=item.eval_set,
        item_key=item.key,
        item_id=item.row_id,
        item_origin=item.origin,
        row_snippet=_excerpt("\n".join(turn.text for turn in row.turns), match.start),
        item_snippet=_shortened(match.target.text),
    )


def _excerpt(text: str, start: int) -> str:
    """The row's wording from a few words before word `start` on (about: an operator may shift it by a word)."""
    chunks = text.split()
    position = 0
    for number, chunk in enumerate(chunks):
        position += len(words(chunk))
        if position > start:
            first = max(0, number - 6)
            before = "… " if first else ""
            after = " …" if first + _SNIPPET_WORDS < len(chunks) else ""
            return before + _shortened(" ".join(chunks[first : first + _SNIPPET_WORDS])) + after
    return _shortened(text)


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SNIPPET_CHARACTERS else flat[: _SNIPPET_CHARACTERS - 1] + "…"
