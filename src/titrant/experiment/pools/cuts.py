"""All cuts of a study's pools, in the order in which they are made, before anything is drawn.

1. rows that cannot be used (of the catalogue's pools; in the user's own they are an error)
2. `prompts_also_in`: rows whose prompt is not in the other file
3. contamination: rows that hold a test item or one of another eval set
4. `select`: rows that the model knows, or does not
5. rows that are too long, in each model's tokens
6. `lengths_as`: both pools keep as many rows in every class of answer length
7. `prompts_as`: all pools named together keep the prompts that all of them have

So a draw gets exactly what it asks for, or planning fails with the number of rows that are left. What 2, 3, 6 and 7 do
to a row depends on whole pools: a cut made on part of a file would be another cut. So a pool is read once for columns,
a few bytes a row (`scan_pool`), the cuts are made on those, and only then is it asked which rows have to be in memory
(`held_pools`). A pool that is held and one that stays in its file go the same way, and come to the same rows.

Array names end in shape letters: N rows of the file, K rows that are left.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from titrant.config.fields import Place
from titrant.config.study import Study
from titrant.core.errors import DataError, TemplateRefusal
from titrant.core.records import Example, Item, PreparedModel, TokenRow
from titrant.data import contamination
from titrant.data.knowledge import matched_rows
from titrant.experiment.doses import LargestDose, largest_dose
from titrant.experiment.knowledge_labels import labels_for
from titrant.experiment.pools.equal_terms import (
    key_hashes,
    of_equal_lengths,
    of_same_prompts,
    prompt_digest,
    prompts_at,
)
from titrant.experiment.pools.large import PoolFile
from titrant.experiment.pools.read import PoolRows
from titrant.experiment.template_notes import TemplateFaults
from titrant.sampling import draw_order, draw_ranks
from titrant.tokens import Renderer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RESERVE = 256
_BYTES_A_TOKEN = 6  # many, so that a dose in tokens fetches rather more rows than it needs
# in a column of lengths: the template refuses the row, the row is an error, or it goes
_NOT_TAKEN, _REFUSED, _TOO_LONG = -2, -1, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Rows that were taken out of a pool before the draw, and why."""

    pool: str
    why: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One source of generalist rows, all cuts made: `rows` are in memory, `left` counts those that can be drawn and
    `read` those of the file.

    `seeds`: at these seeds the draws of the study's doses are held; None where all rows are. `place` is what was read;
    `non_commercial` is None where the licence is not known. `drawn_as`: another source, in whose order the pool is
    drawn, and by key its row of the same prompt.
    """

    source: str
    rows: tuple[Example, ...]
    left: int
    read: int
    licence: str | None
    place: Place
    non_commercial: bool | None
    seeds: frozenset[int] | None = None
    drawn_as: tuple[str, Mapping[str, str]] | None = None

    def order(self, seed: int) -> tuple[Example, ...]:
        """The rows in the order in which they are drawn at a seed: of a pool that is held in part, as far as the
        study's doses go."""
        # at any other seed rows that are not in memory would come first, and nobody would notice
        assert self.seeds is None or seed in self.seeds, f"the draw at seed {seed} was not read"
        if self.drawn_as is None:
            return draw_order(self.rows, seed=seed, source=self.source)
        source, keys = self.drawn_as
        return draw_order(self.rows, seed=seed, source=source, key=lambda row: keys[row.key])


@dataclass(slots=True)
class _Lengths:
    """For every row of a file its tokens and those that bear loss, in one model's tokens."""

    tokens: array[int] = field(default_factory=lambda: array("i"))
    loss_tokens: array[int] = field(default_factory=lambda: array("i"))
    faults: TemplateFaults = field(default_factory=TemplateFaults)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """A pool read once and clean of what no model can draw. `clean_K` are the numbers of the rows that are left, in
    rising order, of `asked_alike` rows whose prompt may be asked; `prompt_N` and `lengths` are there where a later cut
    needs them."""

    name: str
    pool: PoolRows
    read: int
    left_out: int
    first_fault: str | None
    asked_alike: int
    clean_K: NDArray[np.intp]
    prompt_N: NDArray[np.bytes_] | None
    lengths: Mapping[str, _Lengths]
    removed: tuple[Removed, ...]

    @property
    def facts(self) -> dict[str, str | int | bool | None]:
        """Where the rows come from and how many were read, without the rows."""
        return {
            "place": self.pool.place.written,
            "licence": self.pool.licence,
            "non_commercial": self.pool.non_commercial,
            "rows": self.read - self.left_out,
            "rows_in_file": self.read,
            "left_out": self.left_out,
            "first_fault": self.first_fault,
        }


# --------------------------------------------------------------------------------------------- cuts of all models alike


def must_measure(study: Study, name: str) -> bool:
    """Whether every row's length decides something: where one that is too long is an error, and where rows stay or go
    by the lengths or prompts of other rows that fit. Elsewhere only rows that are drawn need to be measured."""
    sources = study.generalist
    partners = {
        each for source in sources.values() for each in (source.lengths_as, source.prompts_as) if each is not None
    }
    return study.training.too_long == "refuse" or name in partners or _has_partner(study, name)


def _has_partner(study: Study, name: str) -> bool:
    said = study.generalist[name]
    return said.lengths_as is not None or said.prompts_as is not None


def scan_pool(
    study: Study,
    name: str,
    pool: PoolRows,
    *,
    items: Sequence[Item],
    test_set: str,
    renderers: Mapping[str, Renderer],
) -> Scan:
    """Read a pool once: the columns that its cuts need, and the cuts that no model has a part in.

    `items` are those of all eval sets, `test_set` the one of test items. `renderers`, by model: those in whose tokens
    the rows are measured as they pass.
    """
    said = study.generalist[name]
    passing = _Passing(
        paired=said.prompts_as is not None or any(other.prompts_as == name for other in study.generalist.values()),
        asked_elsewhere=None if said.prompts_also_in is None else prompts_at(said.prompts_also_in),
        lengths={model: _Lengths() for model in renderers},
    )
    measures = [
        partial(_measure, study, name, renderer, column=passing.lengths[model]) for model, renderer in renderers.items()
    ]
    # This call drives the pass: the columns fill while contamination reads, in one pass over the file.
    sets_by_place = contamination.contaminated_rows(
        passing.rows(pool.file, measures),
        items,
        settings=contamination.ContaminationSettings(run_words=study.contamination.ngram),
        instructions=[target.instruction for target in study.targets.values() if target.instruction],
    )
    # Only now is the file read to its end, and the counts stand.
    if not passing.count:
        raise DataError("the file holds no rows", where=pool.place, expected="at least one row")
    in_test = sum(test_set in sets for sets in sets_by_place.values())
    asked_of = "" if said.prompts_also_in is None else said.prompts_also_in.written
    cuts = [
        (f"cannot be used, the first: {passing.first_fault}", passing.left_out),
        (f"its prompt is not in {asked_of}", passing.count - len(passing.passed)),
        ("holds a test item", in_test),
        ("holds another eval set's item", len(sets_by_place) - in_test),
    ]
    contaminated_N = np.fromiter(sets_by_place, dtype=np.intp, count=len(sets_by_place))
    return Scan(
        name=name,
        pool=pool,
        read=passing.count + passing.left_out,
        left_out=passing.left_out,
        first_fault=passing.first_fault,
        asked_alike=len(passing.passed),
        # Contamination counts the rows that were yielded, so its places index those that passed and not the file.
        clean_K=np.delete(np.array(passing.passed, dtype=np.intp), contaminated_N),
        prompt_N=np.frombuffer(bytes(passing.prompts), dtype="S16") if passing.paired else None,
        lengths=passing.lengths,
        removed=tuple(Removed(pool=name, why=why, rows=found) for why, found in cuts if found),
    )


@dataclass(kw_only=True)
class _Passing:
    """One pass over a pool's file and the columns that it fills.

    `passed`: places in the file of the rows that were yielded. `prompts`: 16 bytes a row, where pools are paired by
    their prompts. `count` rows could be used, `left_out` could not.
    """

    paired: bool
    asked_elsewhere: Container[bytes] | None
    lengths: dict[str, _Lengths]
    passed: array[int] = field(default_factory=lambda: array("q"))
    prompts: bytearray = field(default_factory=bytearray)
    count: int = 0
    left_out: int = 0
    first_fault: str | None = None

    def rows(self, file: PoolFile, measures: Sequence[Callable[[Example], None]]) -> Iterator[Example]:
        """The rows to be searched for test items, in the file's order; `measures` see every row that can be used."""
        for row in file.stream(self._leave_out):
            digest = prompt_digest(row) if self.paired or self.asked_elsewhere is not None else b""
            if self.paired:
                self.prompts.extend(digest)
            # Measured before it is known whether the row stays: the file is read once, and what contamination takes out
            # is known only after its last row.
            for measure in measures:
                measure(row)
            if self.asked_elsewhere is None or digest in self.asked_elsewhere:
                self.passed.append(self.count)
                yield row
            self.count += 1

    def _leave_out(self, fault: DataError) -> None:
        self.left_out += 1
        self.first_fault = self.first_fault or str(fault)


def _measure(study: Study, name: str, renderer: Renderer, row: Example, column: _Lengths) -> None:
    """Add the row's lengths to the column. A row that is an error may yet be cut as contaminated, so it is marked."""
    try:
        found = token_row(study, name, renderer, row, column.faults)
    except TemplateRefusal:
        column.tokens.append(_NOT_TAKEN)
        column.loss_tokens.append(_NOT_TAKEN)
        return
    except DataError:
        column.tokens.append(_REFUSED)
        column.loss_tokens.append(_REFUSED)
        return
    column.tokens.append(_TOO_LONG if found is None else len(found.ids))
    column.loss_tokens.append(_TOO_LONG if found is None else found.loss_tokens)


def token_row(study: Study, name: str, renderer: Renderer, row: Example, faults: TemplateFaults) -> TokenRow | None:
    """A row of a pool in ids; None where it is longer than the study or its pool takes, `DataError` where that is not
    to be. `TemplateRefusal`: the model's template does not take it."""
    found = renderer.row(
        row, max_tokens=study.training.max_tokens, too_long=study.training.too_long, on_conflict=faults.conflict
    )
    most = study.generalist[name].max_tokens
    return None if found is None or (most is not None and len(found.ids) > most) else found


# ------------------------------------------------------------------------------------------------------ cuts of a model


@dataclass(slots=True, kw_only=True)
class _Cut:
    """A pool as cut for one model so far. `number_K` are the rows that are left, `tokens_K` and `loss_tokens_K` their
    lengths; None where rows are measured as they are fetched, so that those too long are still among them.

    `like`: the pool in whose order this one is drawn, and its row of the same prompt for each of the rows left.
    """

    scan: Scan
    number_K: NDArray[np.intp]
    tokens_K: NDArray[np.int32] | None = None
    loss_tokens_K: NDArray[np.int32] | None = None
    like: tuple[Scan, NDArray[np.intp]] | None = None

    def keep(self, place_K: NDArray[np.intp]) -> int:
        """Leave only the rows at these places; how many went."""
        gone = len(self.number_K) - len(place_K)
        self.number_K = self.number_K[place_K]
        if self.tokens_K is not None and self.loss_tokens_K is not None:
            self.tokens_K, self.loss_tokens_K = self.tokens_K[place_K], self.loss_tokens_K[place_K]
        return gone

    def hashes(self) -> NDArray[np.bytes_]:
        return key_hashes(self.scan.pool.file.keys(self.number_K))

    def ranks(self, seed: int) -> NDArray[np.uint64]:
        """What the rows left are drawn by at a seed."""
        scan, number_K = self.like if self.like is not None else (self.scan, self.number_K)
        return draw_ranks(scan.pool.file.keys(number_K), seed=seed, source=scan.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPools:
    """A model's pools, all cuts made, and their rows in its tokens by (source, key).

    `short`: pools of which so many rows had to be cut as too long that a dose would not get its rows; every row of
    theirs has to be measured (`scan_pool` with renderers).
    """

    pools: Mapping[str, Pool]
    rows: Mapping[tuple[str, str], TokenRow]
    removed: tuple[Removed, ...]
    short: tuple[str, ...]
    notes: tuple[str, ...]


def held_pools(
    study: Study, scans: Mapping[str, Scan], models: Mapping[str, tuple[PreparedModel, Renderer]]
) -> dict[str, ModelPools]:
    """For each model its pools, all cuts made, with the rows that a dose can draw. Of a file too large for memory these
    are fetched in one reading for all models."""
    for name, scan in scans.items():
        if not len(scan.clean_K):
            raise DataError(
                "nothing is left of the pool once rows that hold test items are removed",
                where=f"generalist.{name}",
                got=f"{scan.asked_alike} rows read, {scan.asked_alike} removed",
            )
    works = {model: _Work(study, model, *made) for model, made in models.items()}
    for work in works.values():
        work.cut(scans)
    for name, scan in scans.items():
        if scan.pool.file.in_memory:
            continue
        # The rows of all models and seeds at once: a large file is read one more time in all, and not once for each.
        number_K = np.unique(np.concatenate([work.wanted_numbers(name) for work in works.values()]))
        fetched = dict(zip(number_K.tolist(), scan.pool.file.fetch(number_K), strict=True))
        for work in works.values():
            work.take(name, fetched)
    return {model: work.done() for model, work in works.items()}


class _Work:
    """The cuts of one model's pools, on the way."""

    def __init__(self, study: Study, model: str, prepared_model: PreparedModel, renderer: Renderer) -> None:
        self.study, self.model, self.prepared_model, self.renderer = study, model, prepared_model, renderer
        self.cuts: dict[str, _Cut] = {}
        self.rows: dict[tuple[str, str], TokenRow] = {}
        self.removed: list[Removed] = []
        self.examples: dict[str, dict[int, Example]] = {}
        self.wanted: dict[str, dict[int, NDArray[np.intp]] | None] = {}  # by seed the numbers drawn first; None: all
        self.short: list[str] = []
        self.faults: dict[str, TemplateFaults] = defaultdict(TemplateFaults)
        self.notes: list[str] = []

    def cut(self, scans: Mapping[str, Scan]) -> None:
        """Cuts 4 to 7."""
        self.cuts = {name: _Cut(scan=scan, number_K=scan.clean_K) for name, scan in scans.items()}
        # Each cut over all pools before the next one: cuts 6 and 7 look at other pools, and must find them cut by all
        # that comes before.
        for name in scans:
            self._select(name)
        for name in scans:
            self._too_long(name)
        for name, source in self.study.generalist.items():
            if source.lengths_as is not None:
                self._equal_lengths(name, source.lengths_as)
        self._same_prompts()

    def _gone(self, name: str, why: str, rows: int) -> None:
        self.removed.append(Removed(pool=name, why=why, rows=rows))

    def _select(self, name: str) -> None:
        """The rows that the study selects by what the model knows. Such a pool is in memory."""
        said, cut = self.study.generalist[name], self.cuts[name]
        if said.select == "random":
            return
        assert said.labels is not None, "the study file has been checked"
        rows = cut.scan.pool.file.fetch(cut.number_K)
        known, unknown = matched_rows(rows, labels_for(self.study.folder / said.labels, self.prepared_model))
        chosen = {row.key for row in (known if said.select == "known" else unknown)}
        if not chosen:
            raise DataError(
                f"the labels leave no {said.select} row of the pool",
                where=f"generalist.{name}",
                got=f"{len(rows)} rows",
                expected="known and unknown facts of the same relations and answer frequencies",
            )
        gone = cut.keep(np.flatnonzero([row.key in chosen for row in rows]))
        why = f"not among as many known and unknown facts of like relation and answer frequency ({said.select} taken)"
        self._gone(name, why, gone)

    def _too_long(self, name: str) -> None:
        cut = self.cuts[name]
        file, measured = cut.scan.pool.file, cut.scan.lengths.get(self.model)
        if file.in_memory:
            rows = file.fetch(cut.number_K)
            found = [self._in_ids(name, row) for row in rows]
            refused = self._taken_out(name, len(rows))
            self.rows |= {(name, row.key): ids for row, ids in zip(rows, found, strict=True) if ids is not None}
            self.examples[name] = dict(zip(cut.number_K.tolist(), rows, strict=True))
            cut.tokens_K = np.array([_TOO_LONG if ids is None else len(ids.ids) for ids in found], dtype=np.int32)
            cut.loss_tokens_K = np.array([0 if ids is None else ids.loss_tokens for ids in found], dtype=np.int32)
        elif measured is not None:
            cut.tokens_K = np.frombuffer(measured.tokens, dtype=np.int32)[cut.number_K]
            cut.loss_tokens_K = np.frombuffer(measured.loss_tokens, dtype=np.int32)[cut.number_K]
            errors = cut.number_K[cut.tokens_K == _REFUSED]
            if len(errors):
                (row,) = file.fetch(errors[:1])
                # The row is rendered again for its error, with the place in it: the column kept only that there was
                # one.
                token_row(self.study, name, self.renderer, row, TemplateFaults())
                raise AssertionError("a row that was an error is one again")
            not_taken = cut.number_K[cut.tokens_K == _NOT_TAKEN]
            faults = self.faults[name] = replace(measured.faults, refused=len(not_taken))
            if len(not_taken):
                (row,) = file.fetch(not_taken[:1])
                try:
                    token_row(self.study, name, self.renderer, row, TemplateFaults())
                except TemplateRefusal as error:
                    faults.first_refusal = error
            refused = self._taken_out(name, len(cut.number_K))
        else:
            return
        gone = cut.keep(np.flatnonzero(cut.tokens_K > _TOO_LONG))
        if gone > refused:
            self._gone(name, self._why_too_long(name), gone - refused)

    def _in_ids(self, name: str, row: Example) -> TokenRow | None:
        """A row in ids; None where it is left out, refused rows among them."""
        try:
            return token_row(self.study, name, self.renderer, row, self.faults[name])
        except TemplateRefusal as error:
            self.faults[name].refuse(error)
            return None

    def _taken_out(self, name: str, looked_at: int, of_drawn: str = "") -> int:
        """How many rows the template refuses; told, or an error where the study does not let them go."""
        faults = self.faults[name]
        why = faults.taken_out(name, of=looked_at, drop=self.study.refused_turns == "drop")
        if why is not None:
            self._gone(name, why + of_drawn, faults.refused)
        self.notes += faults.notes(self.model, name, looked_at)
        return faults.refused

    def _why_too_long(self, name: str) -> str:
        most = self.study.training.max_tokens
        return f"longer than {min(most, self.study.generalist[name].max_tokens or most)} tokens"

    def _equal_lengths(self, name: str, other: str) -> None:
        one, partner = self.cuts[name], self.cuts[other]
        # Answer lengths are loss tokens, measured for every row where a study sets lengths_as (`must_measure`).
        assert one.loss_tokens_K is not None
        assert partner.loss_tokens_K is not None
        kept = of_equal_lengths((one.loss_tokens_K, one.hashes()), (partner.loss_tokens_K, partner.hashes()))
        for cut, place_K, than in ((one, kept[0], other), (partner, kept[1], name)):
            self._gone(cut.scan.name, f"answers of lengths that {than} has not", cut.keep(place_K))

    def _same_prompts(self) -> None:
        """Sources that are to ask the same prompts as another: each keeps a row for every prompt that all of them have,
        and is drawn in the other's order."""
        named: dict[str, list[str]] = defaultdict(list)
        for name, source in self.study.generalist.items():
            if source.prompts_as is not None:
                named[source.prompts_as].append(name)
        for first, others in named.items():
            together = (first, *others)
            columns = []
            for name in together:
                cut = self.cuts[name]
                assert cut.scan.prompt_N is not None
                columns.append((cut.scan.prompt_N[cut.number_K], cut.hashes()))
            kept = of_same_prompts(columns)
            if not len(kept[0]):
                raise DataError(
                    f"no prompt is in all of {', '.join(together)} once rows that are too long or hold test items are "
                    "gone",
                    where=" and ".join(f"generalist.{name}.prompts_as" for name in others),
                    got=", ".join(f"{len(self.cuts[name].number_K)} rows of {name}" for name in together),
                    fix="leave prompts_as out, raise max_tokens, or name a source that asks the same",
                )
            for name, place_K in zip(together, kept, strict=True):
                gone = self.cuts[name].keep(place_K)
                if gone:
                    partners = " and ".join(other for other in together if other != name)
                    self._gone(name, f"its prompt, cuts made, is not in {partners}, or a second time in {name}", gone)
            for name in others:
                # Both draw by the keys of the first pool's rows: at each seed the same prompts come first in both, so
                # doses of equal size ask the same.
                self.cuts[name].like = (self.cuts[first].scan, self.cuts[first].number_K)

    # ------------------------------------------------------------------------------------------- which rows are held

    def wanted_numbers(self, name: str) -> NDArray[np.intp]:
        """The rows of a file that the study's doses can draw: at every seed the first of the draw."""
        cut, largest = self.cuts[name], largest_dose(self.study, name)
        by_seed: dict[int, NDArray[np.intp]] = {}
        for seed in self.study.arms.seeds:
            place_K = _first_places(cut, largest, seed)
            if place_K is None:
                self.wanted[name] = None
                return cut.number_K
            by_seed[seed] = cut.number_K[place_K]
        self.wanted[name] = by_seed
        return np.unique(np.concatenate(list(by_seed.values())))

    def take(self, name: str, fetched: Mapping[int, Example]) -> None:
        """The rows that were fetched, in ids; of a pool not measured before, those too long go now."""
        cut, wanted = self.cuts[name], self.wanted[name]
        mine = cut.number_K if wanted is None else np.unique(np.concatenate(list(wanted.values())))
        fitting: dict[int, Example] = {}
        for number in mine.tolist():
            row = fetched[number]
            ids = self._in_ids(name, row)
            if ids is not None:
                fitting[number] = row
                self.rows[name, row.key] = ids
        self.examples[name] = fitting
        if cut.tokens_K is None:
            looked_at = "" if wanted is None else f", of the {len(mine):,} rows that a dose could draw"
            too_long = len(mine) - len(fitting) - self._taken_out(name, len(mine), looked_at)
            if too_long:
                self._gone(name, self._why_too_long(name) + looked_at, too_long)
        if cut.tokens_K is None and wanted is not None:
            largest = largest_dose(self.study, name)
            if any(not self._holds(name, numbers, largest) for numbers in wanted.values()):
                self.short.append(name)

    def _holds(self, name: str, numbers: NDArray[np.intp], largest: LargestDose) -> bool:
        """Whether the rows that fit, of those drawn first at a seed, hold the largest doses."""
        rows = [self.examples[name][number] for number in numbers.tolist() if number in self.examples[name]]
        tokens = sum(len(self.rows[name, row.key].ids) for row in rows) if largest.tokens else 1
        return len(rows) >= largest.rows and tokens > largest.tokens

    def done(self) -> ModelPools:
        return ModelPools(
            pools={name: self._pool(name) for name in self.cuts},
            rows=self.rows,
            removed=tuple(self.removed),
            short=tuple(self.short),
            notes=tuple(self.notes),
        )

    def _pool(self, name: str) -> Pool:
        cut, held = self.cuts[name], self.examples[name]
        scan, wanted = cut.scan, self.wanted.get(name)
        numbers = [number for number in cut.number_K.tolist() if number in held]
        drawn_as = None
        if cut.like is not None:
            like, like_K = cut.like
            is_held_K = np.fromiter((number in held for number in cut.number_K.tolist()), dtype=bool)
            # Aligned by place: row j of the cut has the prompt of row j of `like`.
            keys = like.pool.file.keys(like_K[is_held_K])
            drawn_as = (like.name, {held[number].key: key for number, key in zip(numbers, keys, strict=True)})
        return Pool(
            source=name,
            rows=tuple(held[number] for number in numbers),
            left=len(numbers) if cut.tokens_K is None else len(cut.number_K),
            read=scan.read,
            licence=scan.pool.licence,
            place=scan.pool.place,
            non_commercial=scan.pool.non_commercial,
            seeds=None if wanted is None else frozenset(wanted),
            drawn_as=drawn_as,
        )


def _first_places(cut: _Cut, largest: LargestDose, seed: int) -> NDArray[np.intp] | None:
    """The places of the rows that the largest doses draw at a seed, with some to spare where rows too long are still
    among them; None for all rows."""
    rank_K = cut.ranks(seed)
    if cut.tokens_K is None:
        # Lengths are not known yet: how many rows hold the dose's tokens is guessed from the mean bytes of a row, with
        # a quarter to spare. Where the guess was too small, `short` has the pool read again and measured.
        mean_bytes = max(1, Path(cut.scan.pool.place).stat().st_size // max(cut.scan.read, 1))
        packed = 4 if cut.scan.pool.place.lower().endswith(".gz") else 1
        in_rows = max(largest.rows, largest.tokens * _BYTES_A_TOKEN // (mean_bytes * packed))
        count = in_rows + in_rows // 4 + _RESERVE
    else:
        so_far_K = np.cumsum(cut.tokens_K[np.argsort(rank_K, kind="stable")], dtype=np.int64)
        # a dose in tokens ends before the first row that does not fit, so that row has to be known too
        in_tokens = int(np.searchsorted(so_far_K, largest.tokens, side="right")) + 1 if largest.tokens else 0
        count = max(largest.rows, in_tokens)
    if count >= len(rank_K):
        return None
    if count == 0:
        return np.zeros(0, dtype=np.intp)
    # rows of equal rank (the first eight bytes of a hash) come together
    return np.flatnonzero(rank_K <= np.partition(rank_K, count - 1)[count - 1])


def first_examples(study: Study, scan: Scan) -> tuple[Example, ...]:
    """The rows of a pool to look at before any model is known: all that are in memory, else those that the study's
    doses could draw, contaminated ones among them."""
    file = scan.pool.file
    everything = np.arange(scan.read - scan.left_out, dtype=np.intp)
    if file.in_memory:
        return file.fetch(everything)
    cut, largest = _Cut(scan=scan, number_K=everything), largest_dose(study, scan.name)
    places = [_first_places(cut, largest, seed) for seed in study.arms.seeds]
    if any(place_K is None for place_K in places):
        return file.fetch(everything)
    return file.fetch(np.unique(np.concatenate([place_K for place_K in places if place_K is not None])))
