"""From a study to its arms and runs: exact rows, exact steps, and a name for everything that can change a result.

The arms of every study: the grid of target sizes and doses, the untuned model, generalist alone at the largest dose of
each source, and at every target size a matched baseline with as many steps as that size's longest dosed arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from titrant.core.errors import MixError
from titrant.core.identity import canonical_json, fingerprint, hash_text
from titrant.core.records import Arm, Dose, Draw, Example, PreparedModel, Run, TokenRow, TrainingPlan, TrainingSettings
from titrant.core.revisions import training_revisions
from titrant.experiment.doses import AskedDose, asked_doses, blend_rows
from titrant.experiment.prepare import PreparedStudy
from titrant.experiment.requests import EvalRequests, eval_requests
from titrant.sampling import altered, draw, rows_within_tokens
from titrant.tokens import Schedule, cut_steps, plan_visits, step_edges

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SettingsOf = Callable[[str, str, str], TrainingSettings]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedRun:
    """A run, what it trains on, and what it is asked. `training_digest` names the rows that share each step, in order,
    the settings and the seed; None for the untuned model. A design may hold thousands: the plan and the rows drawn are
    put together when they are looked at."""

    run: Run
    requests: EvalRequests
    training_digest: str | None
    _training: _Training | None = field(repr=False)

    @cached_property
    def plan(self) -> TrainingPlan | None:
        """What the run trains; None for the untuned model."""
        return None if self._training is None else self._training.plan()

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """The rows drawn, as the plan's indices count them."""
        parts = {} if self._training is None else self._training.parts
        return tuple(example for part in parts.values() for example in part.examples)


@dataclass(frozen=True)
class Design:
    """The arms of a study and their runs."""

    prepared: PreparedStudy
    arms: tuple[Arm, ...]
    runs: tuple[PlannedRun, ...]
    _by_cell: Mapping[tuple[str, str, str, int], PlannedRun] = field(repr=False)
    _called: frozenset[tuple[str, str, str, int]] | None = field(repr=False, default=None)

    def called(self, cells: Iterable[tuple[Arm, int]]) -> Design:
        """The same design of which only these arms at these seeds are run and read, in this order; `cell` still knows
        the others."""
        keys = tuple((arm.model, arm.target, arm.name, seed) for arm, seed in cells)
        runs = {id(self._by_cell[key]): self._by_cell[key] for key in keys}
        return replace(self, runs=tuple(runs.values()), _called=frozenset(keys))

    def calls(self, arm: Arm, seed: int) -> bool:
        """Whether the arm at this seed is part of the design: all are, but for what `called` leaves out."""
        return self._called is None or (arm.model, arm.target, arm.name, seed) in self._called

    def cell(self, arm: Arm, seed: int) -> PlannedRun:
        """The run of an arm at a seed. The untuned model has one run, whatever the seed."""
        return self._by_cell[(arm.model, arm.target, arm.name, seed)]

    @cached_property
    def distinct(self) -> tuple[PlannedRun, ...]:
        """Every run once: two arms that come to the same recipe share theirs. `work.runs_of` also gathers what they are
        asked, which may differ."""
        return tuple({planned.run.run_id: planned for planned in self.runs}.values())


def sizes_of(prepared: PreparedStudy, model: str, target: str) -> tuple[int, ...]:
    """The target sizes in rising order, `all` resolved."""
    available = len(prepared.models[model].targets[target].train)
    sizes = {available if size == "all" else int(size) for size in prepared.study.arms.target_rows}
    for size in sizes:
        if size > available:
            raise MixError(
                f"{size} rows of the target {target!r} were asked, {available} are left",
                where=f"{prepared.study.place}: arms.target_rows",
                got=size,
                expected=f"at most {available} (validation, test and too long rows are not among them)",
                fix=f"ask for at most {available}, or bring more rows",
            )
    return tuple(sorted(sizes))


def verdict_size(prepared: PreparedStudy, model: str, target: str) -> int:
    """The target size that the verdict is about."""
    at = prepared.study.verdict_at
    return sizes_of(prepared, model, target)[-1] if at == "largest" else int(at)


def overlap_at(prepared: PreparedStudy, model: str, target: str, size: int) -> float | None:
    """n/N where each seed draws its own n of N target rows (*rows like these*); None: *these rows*."""
    available = len(prepared.models[model].targets[target].train)
    if size == available or prepared.study.arms.target_draw == "fixed":
        return None
    return size / available


def make_design(prepared: PreparedStudy, settings: SettingsOf | None = None) -> Design:
    """All arms and runs. `settings(model, target, arm name)` gives the training settings where they were chosen on
    validation rows; by default the study's only ones."""
    chosen = settings or (lambda model, target, name: prepared.study.training_settings())
    drawing = _Drawing(prepared)
    arms: list[Arm] = []
    for model in prepared.models:
        arms += _common_arms(prepared, model, chosen)
        for target in prepared.study.targets:
            arms += _target_arms(drawing, model, target, chosen)
    cells: dict[tuple[str, str, str, int], PlannedRun] = {}
    runs = []
    for arm in arms:
        planned: PlannedRun | None = None
        for seed in prepared.study.arms.seeds:
            if planned is None or arm.kind != "untuned":
                planned = drawing.planned(arm, seed)
                refuse_unvisited_target(planned.run)
                runs.append(planned)
            cells[(arm.model, arm.target, arm.name, seed)] = planned
    return Design(prepared, tuple(arms), tuple(runs), cells)


# ---------------------------------------------------------------------------------------------------------------- arms


def dose_label(doses: Sequence[Dose]) -> str:
    """`general:96`, or `dolly:64+alpaca:32` for a blend; `far/false:0.5:384` for altered rows."""
    return "+".join(f"{dose.label}:{dose.rows}" for dose in doses)


def arm_name(target_rows: int, doses: Sequence[Dose], *, matched: bool = False) -> str:
    """The name of an arm, unique within a model and target.

    >>> arm_name(160, (Dose(source="general", rows=96),)), arm_name(160, ()), arm_name(160, (), matched=True)
    ('160+general:96', '160', '160-matched')
    """
    if target_rows == 0:
        return dose_label(doses) or "untuned"
    return f"{target_rows}-matched" if matched else "+".join(filter(None, (str(target_rows), dose_label(doses))))


def _common_arms(prepared: PreparedStudy, model: str, settings: SettingsOf) -> list[Arm]:
    """The untuned model and generalist alone: they serve every target."""
    arms = [_arm(prepared, model, "", 0, (), settings)]
    if not prepared.study.arms.generalist_alone:
        return arms
    largest = {doses[0].label: doses for doses in _ladders(prepared, model) if len(doses) == 1}
    return arms + [_arm(prepared, model, "", 0, doses, settings) for doses in largest.values()]


def _target_arms(drawing: _Drawing, model: str, target: str, settings: SettingsOf) -> list[Arm]:
    prepared = drawing.prepared
    arms: list[Arm] = []
    ladders = _ladders(prepared, model)
    for size in sizes_of(prepared, model, target):
        alone = _arm(prepared, model, target, size, (), settings)
        dosed = [_arm(prepared, model, target, size, doses, settings) for doses in ladders]
        arms += _held_equal(drawing, alone, dosed, settings)
    return arms


def _held_equal(drawing: _Drawing, alone: Arm, dosed: list[Arm], settings: SettingsOf) -> list[Arm]:
    """The arms of one target size with what the study holds equal, and the matched baseline where it differs.

    `target_passes`: passes as the study says; the matched baseline takes the visits of the longest dosed arm.
    `steps`, `tokens`: every arm takes the most that any dosed arm does, so the plain baseline is the matched one too.
    """
    if not dosed:
        return [alone]
    study = drawing.prepared.study
    # By visits and not by steps: steps follow from visits and the batch size, which all arms share.
    longest = max(dosed, key=_visits)
    if study.hold_equal == "target_passes":
        # A baseline that would come to the plain one is left out: it would be the same run under a second name.
        if _visits(longest) == _visits(alone) or not study.arms.matched:
            return [alone, *dosed]
        name = arm_name(alone.target_rows, (), matched=True)
        matched = replace(alone, name=name, training=settings(alone.model, alone.target, name))
        return [alone, replace(matched, visits=_visits(longest)), *dosed]
    if study.hold_equal == "steps":
        return [replace(arm, visits=_visits(longest)) for arm in (alone, *dosed)]
    # Not those of the arm with the most visits: a few long rows can take more tokens than many short ones, and an arm
    # whose own rows are over the budget would be left without a visit to its target.
    budget = max(drawing.tokens(arm, seed) for arm in dosed for seed in study.arms.seeds)
    return [replace(arm, tokens=budget) for arm in (alone, *dosed)]


def refuse_unvisited_target(run: Run) -> None:
    """`MixError` where the training does not visit each of the arm's target rows at least once."""
    own = next((draw for draw in run.draws if draw.source == run.arm.target and run.arm.target_rows), None)
    if own is not None and own.visits < own.got:
        raise MixError(
            f"the arm {run.arm.name} cannot visit each of its {own.got} target rows at seed {run.seed}",
            where=f"model {run.arm.model}, target {run.arm.target}",
            got=f"{own.visits} visits to target rows",
            expected=f"at least {own.got}",
            fix="ask for smaller doses, or raise what every arm may take",
        )


def _visits(arm: Arm) -> int:
    return arm.target_rows * arm.training.passes + arm.dose_rows * arm.training.generalist_passes


def _arm(
    prepared: PreparedStudy, model: str, target: str, size: int, doses: tuple[Dose, ...], settings: SettingsOf
) -> Arm:
    name = arm_name(size, doses)
    return Arm(
        name=name,
        model=model,
        target=target,
        target_rows=size,
        doses=doses,
        training=settings(model, target, name),
        hold_equal=prepared.study.hold_equal,
        presentation=prepared.study.presentation,
    )


def _ladders(prepared: PreparedStudy, model: str) -> list[tuple[Dose, ...]]:
    """All doses of the study in rising order within a source, then the blends."""
    found: list[tuple[Dose, ...]] = []
    for source in prepared.study.arms.doses:
        asked_of_pool = asked_doses(prepared.study, source)
        doses = {
            (dose.alteration or "", dose.rows): dose
            for dose in (_dose(prepared, model, source, each) for each in asked_of_pool)
        }
        found += [(doses[place],) for place in sorted(doses)]
    for counts in blend_rows(prepared.study):
        found.append(tuple(Dose(source=name, rows=rows) for name, rows in counts.items()))
    for doses_of_arm in found:
        for dose in doses_of_arm:
            _check_dose(prepared, model, dose)
    return found


def _dose(prepared: PreparedStudy, model: str, source: str, asked_dose: AskedDose) -> Dose:
    """A dose in rows. Tokens become the largest number of rows that stays within them at every seed."""
    selection = prepared.study.generalist[source].select
    if asked_dose.tokens is None:
        assert asked_dose.rows is not None, "a dose is asked in rows or in tokens"
        return Dose(source=source, rows=asked_dose.rows, selection=selection, alteration=asked_dose.alteration)
    prepared_of_model = prepared.models[model]
    # The smallest over all seeds, so that an arm has one dose in rows whatever the seed: arms are compared over seeds
    # by name.
    rows = min(
        rows_within_tokens(
            asked_dose.tokens,
            [len(prepared_of_model.rows[(source, row.key)].ids) for row in prepared_of_model.pools[source].order(seed)],
        )
        for seed in prepared.dose_seeds or prepared.study.arms.seeds
    )
    if rows == 0:
        raise MixError(
            f"a dose of {asked_dose.tokens} tokens holds no row of {source!r}",
            where=f"{prepared.study.place}: arms.doses.{source}",
            fix="ask for more tokens",
        )
    return Dose(source=source, rows=rows, asked_tokens=asked_dose.tokens, selection=selection)


def _check_dose(prepared: PreparedStudy, model: str, dose: Dose) -> None:
    pool = prepared.models[model].pools[dose.source]
    repeats = prepared.study.generalist[dose.source].repeats
    if dose.rows > pool.left * repeats:
        raise MixError(
            f"a dose of {dose.rows} rows of {dose.source!r} is larger than what is left of it: {pool.left} of "
            f"{pool.read} rows{f', each at most {repeats} times' if repeats > 1 else ''}",
            where=f"{prepared.study.place}: arms.doses.{dose.source}",
            got=dose.rows,
            expected=f"at most {pool.left * repeats}",
            fix=f"ask for at most {pool.left * repeats} rows, bring more, or set generalist.{dose.source}.repeats",
        )


# ---------------------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """Rows in the order of a draw, with what planning asks of each: tokens, loss tokens, and a digest of its ids."""

    examples: tuple[Example, ...]
    rows: tuple[TokenRow, ...]
    tokens_N: NDArray[np.int64]
    loss_tokens_N: NDArray[np.int64]
    digest_N: NDArray[np.bytes_]
    altered: int | None = None

    def first(self, count: int) -> _Drawn:
        """The first `count` rows; the draw again from its start where they are more than it holds."""
        import numpy as np

        if count <= len(self.rows):
            return _Drawn(
                examples=self.examples[:count],
                rows=self.rows[:count],
                tokens_N=self.tokens_N[:count],
                loss_tokens_N=self.loss_tokens_N[:count],
                digest_N=self.digest_N[:count],
            )
        # Where a pool may be repeated, a dose larger than it goes through the draw again in the same order.
        times = -(-count // len(self.rows))
        return _Drawn(
            examples=(self.examples * times)[:count],
            rows=(self.rows * times)[:count],
            tokens_N=np.tile(self.tokens_N, times)[:count],
            loss_tokens_N=np.tile(self.loss_tokens_N, times)[:count],
            digest_N=np.tile(self.digest_N, times)[:count],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """What a run trains on: rows by source, side by side, and the indices of rows in the order of their visits."""

    model: PreparedModel
    arm: Arm
    seed: int
    parts: Mapping[str, _Drawn]
    visited_V: NDArray[np.intp]

    @property
    def edges(self) -> list[int]:
        return step_edges(len(self.visited_V), self.arm.training.batch_rows)

    def plan(self) -> TrainingPlan:
        return TrainingPlan(
            model=self.model,
            rows=tuple(row for part in self.parts.values() for row in part.rows),
            steps=cut_steps(self.visited_V, self.arm.training.batch_rows),
            settings=self.arm.training,
            seed=self.seed,
        )


class _Drawing:
    """Rows and steps of runs, with the draws that arms share made once."""

    def __init__(self, prepared: PreparedStudy) -> None:
        self.prepared = prepared
        self._drawn: dict[tuple[str, str, int], _Drawn] = {}
        self._requests: dict[tuple[str, str], EvalRequests] = {}
        self._altered_rows: dict[tuple[str, str, str], TokenRow] = {}
        self._digests: dict[int, str] = {}
        self._settings: dict[TrainingSettings, str] = {}
        self._made_by = canonical_json([prepared.backend, prepared.numerics])

    def planned(self, arm: Arm, seed: int) -> PlannedRun:
        """The run of an arm at a seed, named by all that can change the weights that it ends with.

        What it is asked is no part of its name: answers are kept under the names of their requests.
        """
        prepared = self.prepared.models[arm.model]
        training = None if arm.kind == "untuned" else self._training(arm, seed)
        draws = () if training is None else _draws(training)
        training_digest = None if training is None else self._training_digest(training)
        # Two names: the recipe is what is trained; the run is the recipe as this backend computes it under these
        # numerics. Equal recipes under other numerics are told apart and refused together (`runner`), never mixed.
        recipe = fingerprint(
            {
                "revisions": training_revisions(),
                "model": prepared.model.fingerprint,
                "training": training_digest,
            }
        )
        run = Run(
            run_id=hash_text(f'["{recipe}",{self._made_by}]', length=24),
            recipe_id=recipe[:24],
            arm=arm,
            seed=seed,
            draws=draws,
            steps=0 if training is None else len(training.edges) - 1,
            tokens=sum(entry.tokens for entry in draws),
            loss_tokens=sum(entry.loss_tokens for entry in draws),
            numerics=self.prepared.numerics,
            backend=self.prepared.backend,
        )
        return PlannedRun(run=run, requests=self._requests_of(arm), training_digest=training_digest, _training=training)

    def tokens(self, arm: Arm, seed: int) -> int:
        """All tokens that training the arm takes at a seed."""
        return sum(entry.tokens for entry in _draws(self._training(arm, seed)))

    def _training(self, arm: Arm, seed: int) -> _Training:
        import numpy as np

        parts = {arm.target: self._target_draw(arm, seed)} if arm.target_rows else {}
        parts |= {dose.source: self._pool_draw(arm.model, dose, seed) for dose in arm.doses}
        places = _places(parts)
        visited_V = plan_visits(
            target=places[arm.target] if arm.target_rows else (),
            generalist={dose.source: places[dose.source] for dose in arm.doses},
            lengths=np.concatenate([part.tokens_N for part in parts.values()]),  # type: ignore[arg-type]
            schedule=Schedule(
                passes=arm.training.passes,
                generalist_passes=arm.training.generalist_passes,
                batch_rows=arm.training.batch_rows,
                presentation=arm.presentation,
                visits=arm.visits,
                tokens=arm.tokens,
            ),
            seed=seed,
        )
        model = self.prepared.models[arm.model].model
        return _Training(model=model, arm=arm, seed=seed, parts=parts, visited_V=visited_V)

    def _target_draw(self, arm: Arm, seed: int) -> _Drawn:
        arms = self.prepared.study.arms
        # A fixed draw takes the first seed's rows at every seed; the order of visits still follows the run's own seed.
        draw_seed = arms.seeds[0] if arms.target_draw == "fixed" else seed
        key = (arm.model, arm.target, draw_seed)
        if key not in self._drawn:
            rows = self.prepared.models[arm.model].targets[arm.target].train
            stratum = {"none": None, "label": _label_of, "task": _task_of}[arms.stratify]
            # The whole order once; every target size is a prefix of it, so smaller targets are contained in larger
            # ones.
            order = draw(rows, len(rows), seed=draw_seed, source=f"target {arm.target}", stratum=stratum)
            self._drawn[key] = self._with_digests(arm.model, arm.target, order)
        return self._drawn[key].first(arm.target_rows)

    def _pool_draw(self, model: str, dose: Dose, seed: int) -> _Drawn:
        key = (model, dose.source, seed)
        if key not in self._drawn:
            order = self.prepared.models[model].pools[dose.source].order(seed)
            self._drawn[key] = self._with_digests(model, dose.source, order)
        drawn = self._drawn[key].first(dose.rows)
        return drawn if dose.alteration is None else self._altered_draw(model, dose, seed, drawn)

    def _altered_draw(self, model: str, dose: Dose, seed: int, drawn: _Drawn) -> _Drawn:
        """The same rows with the alteration that the dose asks for. What it is depends on all rows of the dose."""
        assert dose.alteration is not None
        key = (model, f"{dose.label}:{dose.rows}", seed)
        if key not in self._drawn:
            found = altered(drawn.examples, dose.alteration, seed=seed)
            self._drawn[key] = replace(self._with_digests(model, dose.source, found.rows), altered=found.changed)
        return self._drawn[key]

    def _with_digests(self, model: str, source: str, order: tuple[Example, ...]) -> _Drawn:
        import numpy as np

        rows = tuple(self._token_row(model, source, example) for example in order)
        return _Drawn(
            examples=order,
            rows=rows,
            tokens_N=np.array([len(row.ids) for row in rows], dtype=np.int64),
            loss_tokens_N=np.array([row.loss_tokens for row in rows], dtype=np.int64),
            digest_N=np.array([self._row_digest(row) for row in rows], dtype=np.bytes_),
        )

    def _token_row(self, model: str, source: str, example: Example) -> TokenRow:
        """The row in ids. An altered row may be longer than any that was read: it holds two rows' texts at most."""
        prepared = self.prepared.models[model]
        found = prepared.rows.get((source, example.key))
        if found is None:
            key = (model, source, example.key)
            if key not in self._altered_rows:
                longest = 2 * self.prepared.study.training.max_tokens
                row = prepared.renderer.row(example, max_tokens=longest, too_long="refuse")
                assert row is not None, "a row that is refused raises"
                self._altered_rows[key] = row
            found = self._altered_rows[key]
        return found

    def _requests_of(self, arm: Arm) -> EvalRequests:
        key = (arm.model, arm.target)
        if key not in self._requests:
            targets = [arm.target] if arm.target else list(self.prepared.study.targets)
            items = self.prepared.items(arm.model, targets)
            self._requests[key] = eval_requests(self.prepared.models[arm.model].renderer, items)
        return self._requests[key]

    def _training_digest(self, training: _Training) -> str:
        """A hash of the rows that share each step, in order, of the settings and the seed."""
        import numpy as np

        digest_V = np.concatenate([part.digest_N for part in training.parts.values()])[training.visited_V]
        # Digests of the visited rows joined by commas, by semicolons where a step ends: which rows share a step is in
        # the name, and rows that are drawn but never visited are not.
        marks = np.full(len(digest_V), b",")
        marks[np.array(training.edges[1:], dtype=np.intp) - 1] = b";"
        steps = np.char.add(digest_V, marks).tobytes()[:-1].decode()
        settings = training.arm.training
        if settings not in self._settings:
            self._settings[settings] = canonical_json(settings)
        return hash_text(f'["{hash_text(steps)}",{self._settings[settings]},{training.seed}]', length=32)

    def _row_digest(self, row: TokenRow) -> str:
        found = self._digests.get(id(row))
        if found is None:
            # By identity: rows live as long as the prepared study, so no id is used again, and hashing a row's ids for
            # every run that draws it would take far longer.
            found = self._digests[id(row)] = fingerprint([row.ids, row.loss_from], length=16)
        return found


def _label_of(row: Example) -> str:
    return row.label or ""


def _task_of(row: Example) -> str:
    return row.task


def _places(parts: Mapping[str, _Drawn]) -> dict[str, range]:
    """Where each part lies when all parts stand side by side."""
    found, start = {}, 0
    for source, part in parts.items():
        found[source] = range(start, start + len(part.rows))
        start += len(part.rows)
    return found


def _draws(training: _Training) -> tuple[Draw, ...]:
    """What a run takes from each part: rows, visits, and the tokens of all visits."""
    import numpy as np

    arm, parts = training.arm, training.parts
    asked_rows = {dose.source: dose.rows for dose in arm.doses}
    # Counted from the visits themselves, so that what is reported is what will be trained and no second formula for it.
    visits_N = np.bincount(training.visited_V, minlength=sum(len(part.rows) for part in parts.values()))
    found = []
    for source, place in _places(parts).items():
        part, visits = parts[source], visits_N[place.start : place.stop]
        found.append(
            Draw(
                source=source,
                asked=asked_rows.get(source, arm.target_rows),
                got=len(part.rows),
                visits=int(visits.sum()),
                tokens=int(visits @ part.tokens_N),
                loss_tokens=int(visits @ part.loss_tokens_N),
                repeated=len(part.rows) - len({row.key for row in part.rows}),
                altered=part.altered,
            )
        )
    return tuple(found)
