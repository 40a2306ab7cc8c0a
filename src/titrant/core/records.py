"""The frozen values that pass between packages.

Rooms import these and never each other. All records are frozen, slotted and keyword-only; sequences are tuples, so a
record can be hashed, fingerprinted and shared between runs.

Words are those of the design: a *target* is the user's task, a *source* a named pool of generalist rows, a *dose* an
exact number of rows of one source, an *arm* one recipe, a *run* one arm at one seed, an *eval set* what it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
AnswerKind = Literal["choices", "text", "loss"]
Method = Literal["full", "lora"]
LossWeight = Literal["row", "token"]
HoldEqual = Literal["target_passes", "steps", "tokens"]
Presentation = Literal["joint", "generalist_first"]
ArmKind = Literal["untuned", "alone", "matched", "dosed", "generalist_alone"]
Tags = tuple[tuple[str, str], ...]


# ---------------------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a row was read: for error messages only, never part of a fingerprint. `line` counts from 1."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """A row as its file holds it, before anyone has said what its columns mean.

    A value is text, True, False, None, or a list or object of such. A number is the text that stood in the file; an
    infinite one, which is no number to read, is a float. `nan_columns` are those in which a NaN stood, which is None
    here; `named_columns` those whose numbers were given the names that the file has for them.
    """

    values: Mapping[str, Any]
    origin: Origin
    nan_columns: tuple[str, ...] = ()
    named_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A training row. The last turn is the assistant's and is what the loss is taken on.

    `key` is the hash of the content with its occurrence (`identity.content_keys`); `row_id` is the user's own name of
    the row, or its line number as text. `source` is the pool's name, or the target's. `group` is shared by rows on the
    same underlying text. `tags` carry relation, knowledge class, licence and the like.
    """

    key: str
    row_id: str
    source: str
    task: str
    turns: tuple[Turn, ...]
    label: str | None = None
    group: str | None = None
    tags: Tags = ()
    origin: Origin | None = field(default=None, compare=False)

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """All turns before the answer."""
        return self.turns[:-1]

    @property
    def answer(self) -> str:
        """The text that is learned."""
        return self.turns[-1].text


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A test item: a prompt whose last turn is the user's, and how an answer to it is judged.

    `answer` says how it is answered: `choices` by likelihood over `choices`, `text` by greedy generation, `loss` by the
    model's loss on the first reference. `references` holds at least one right answer; with choices it is a subset.
    `prior_turns` ask the same without what the item is about (a fact's subject), with the same choices: what is likely
    there is likely of anything.
    """

    key: str
    row_id: str
    eval_set: str
    target: str
    task: str
    turns: tuple[Turn, ...]
    references: tuple[str, ...]
    choices: tuple[str, ...] | None
    answer: AnswerKind
    metric: str
    max_answer_tokens: int
    group: str | None = None
    rungs: tuple[str, ...] = ()
    tags: Tags = ()
    prior_turns: tuple[Turn, ...] | None = None
    origin: Origin | None = field(default=None, compare=False)


# ---------------------------------------------------------------------------------------------------------------- arms


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """An exact number of rows of one source. `asked_tokens` is set when the dose was asked for in tokens.

    `alteration` says what was done to the rows once they were drawn: `shuffled` (the answers of the dose dealt out
    among its rows) or `false:SHARE` (that share of its facts with another answer of the relation).
    """

    source: str
    rows: int
    asked_tokens: int | None = None
    selection: str = "random"
    alteration: str | None = None

    @property
    def label(self) -> str:
        """The source, and what was done to its rows: `far`, `far/false:0.5`. Doses of one label are one ladder."""
        return self.source if self.alteration is None else f"{self.source}/{self.alteration}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters on all linear layers but the head."""

    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Everything about training that is part of the treatment; speed settings are not here.

    `passes` counts visits of each target row, `generalist_passes` of each generalist row. `batch_rows` is the number of
    rows that share an optimiser step. `loss_weight` row: the mean answer loss of every row weighs the same in a step.
    """

    method: Method = "full"
    passes: int = 4
    generalist_passes: int = 1
    learning_rate: float = 2.0e-5
    batch_rows: int = 8
    max_tokens: int = 512
    too_long: Literal["refuse", "cut", "drop"] = "refuse"
    loss_weight: LossWeight = "row"
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    warmup_share: float = 0.03
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1.0e-8
    lora: LoraSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One recipe. `visits` forces how many row visits the arm takes (the matched baseline); None: what passes give.

    `target_rows` 0 with no doses is the untuned model; 0 with doses is generalist alone.
    """

    name: str
    model: str
    target: str
    target_rows: int
    doses: tuple[Dose, ...]
    training: TrainingSettings
    hold_equal: HoldEqual = "target_passes"
    presentation: Presentation = "joint"
    visits: int | None = None
    tokens: int | None = None

    @property
    def kind(self) -> ArmKind:
        if self.target_rows == 0:
            return "generalist_alone" if self.doses else "untuned"
        if self.doses:
            return "dosed"
        # Where all arms take equal steps or tokens, the arm without a dose is both baselines in one.
        held = self.hold_equal == "target_passes" and (self.visits is not None or self.tokens is not None)
        return "matched" if held else "alone"

    @property
    def dose_rows(self) -> int:
        """All generalist rows of the arm, over its sources."""
        return sum(dose.rows for dose in self.doses)


# ---------------------------------------------------------------------------------------------------------------- runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """What can change the last bits of a result without being part of the recipe.

    `threads` are those of one run. `isa` is the widest instruction set that matters. `versions` are (package, version).
    """

    device: str
    dtype: Literal["bf16", "fp32"]
    threads: int
    compiled: bool
    isa: str
    versions: Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a run took from one source: rows asked, rows got (equal, or planning failed) and row visits in training.

    `altered` counts the rows whose answer an alteration changed; None where nothing was altered. `repeated` of the rows
    got are there for a second or later time, since the dose exceeds the pool.
    """

    source: str
    asked: int
    got: int
    visits: int
    tokens: int
    loss_tokens: int
    altered: int | None = None
    repeated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One arm at one seed. `recipe_id` names what is trained: rows in the order of their visits, settings, seed, model.
    `run_id` names that, the backend and the numerics it is trained with. What is asked is part of neither.

    `tokens` and `loss_tokens` count all visits of training.
    """

    run_id: str
    recipe_id: str
    arm: Arm
    seed: int
    draws: tuple[Draw, ...]
    steps: int
    tokens: int
    loss_tokens: int
    numerics: Numerics
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run has no scores. `kind` is a stable word; `step` counts optimiser steps from 1."""

    kind: str
    step: int | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended. `manifest` is the checksum of the run folder's manifest, when there is one."""

    run_id: str
    status: Literal["done", "failed", "interrupted"]
    failure: Failure | None = None
    manifest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one run said to one request. `choice` is an index into the choices; log-probabilities are in nats.

    `request` is its name (`experiment.requests`). `loss` is the mean loss per answer token (nats), for requests that
    are answered by loss.
    """

    run_id: str
    request: str
    text: str | None = None
    choice: int | None = None
    choice_logprobs: tuple[float, ...] | None = None
    loss: float | None = None
    stop: Literal["end", "length", "none"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number for one item of one run: a row of scores.parquet and of `judge`'s CSV. `value` is 0 to 1, or null.

    `target` is the item's, `arm_target` the one that the arm was trained on (None where it was trained on none).
    `rungs` and `tags` (as `name=value`: `answer_seen=yes`) are the item's.
    """

    run_id: str
    model: str
    target: str
    target_rows: int
    arm: str
    arm_kind: ArmKind
    seed: int
    eval_set: str
    task: str
    item: str
    group: str | None
    source: str | None
    dose: int
    metric: str
    value: float | None
    reason: str | None = None
    rungs: tuple[str, ...] = ()
    arm_target: str | None = None
    tags: tuple[str, ...] = ()


# -------------------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedModel:
    """A model that has been resolved, checked and made loadable; made by `models`, read by everyone.

    `folder` is in Hugging Face layout (config.json, safetensors, tokenizer.json). `fingerprint` is a hash of the weight
    bytes, the configuration, the tokenizer and the template. `end_ids` close an answer; generation stops at the first
    of them that is written (the mark that ends a turn first, then the tokenizer's own). `template` is `chat` (with
    `chat_template` as Jinja source) or `plain`, and `template_reason` says why. `bos` is set where texts begin with it.
    """

    name: str
    folder: str
    fingerprint: str
    template: Literal["chat", "plain"]
    chat_template: str | None
    bos: str | None
    eos: str
    architecture: str
    parameters: int
    vocabulary: int
    context_tokens: int
    licence: str | None
    origin: str
    end_ids: tuple[int, ...] = ()
    template_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A training row in token ids. Tokens from index `loss_from` on bear loss; `loss_from` is at least 1."""

    key: str
    source: str
    ids: tuple[int, ...]
    loss_from: int

    @property
    def loss_tokens(self) -> int:
        """How many tokens bear loss."""
        return len(self.ids) - self.loss_from


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenQuestion:
    """A prompt and its closed set of continuations in token ids, each with its end mark."""

    key: str
    prompt: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrompt:
    """A prompt to continue, up to `max_new_tokens` or any of `end_ids`: greedily, or at a `temperature` above 0 with
    the random numbers of `stream`, which no other prompt of the batch can disturb."""

    key: str
    ids: tuple[int, ...]
    max_new_tokens: int
    end_ids: tuple[int, ...]
    temperature: float = 0.0
    stream: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was generated: the new ids without the end mark, and why it stopped."""

    ids: tuple[int, ...]
    stop: Literal["end", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """All that training needs: rows, and for every optimiser step the indices of the rows that share it.

    How a step is cut into micro-batches is the engine's affair and must not change the result beyond rounding.
    """

    model: PreparedModel
    rows: tuple[TokenRow, ...]
    steps: tuple[tuple[int, ...], ...]
    settings: TrainingSettings
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one optimiser step did. `loss` is the step's weighted loss in nats; `loss_by_source` its parts, which add up
    to it; `tokens` those of this step; `seconds` its wall time (never stored beside results)."""

    step: int
    loss: float
    loss_by_source: tuple[tuple[str, float], ...]
    gradient_norm: float
    learning_rate: float
    tokens: int
    seconds: float


# ----------------------------------------------------------------------------------------------------------- decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval. `value`, `low`, `high` are None with a `reason` where they are undefined."""

    value: float | None
    low: float | None
    high: float | None
    level: float
    method: str
    n_items: int
    n_seeds: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Arm minus baseline on one eval set. `difference` holds the simultaneous bounds over its family; the others are
    what a verdict's rule reads beside them, of this contrast alone: the 90% interval, and the upper end of the 95% one
    (at the usual level). None: unknown, or no verdict read it."""

    arm: str
    baseline: str
    eval_set: str
    target_rows: int | None
    difference: Estimate
    p: float | None
    p_adjusted: float | None
    dose: int | None = None
    source: str | None = None
    low_90: float | None = None
    high_90: float | None = None
    high_95: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """The cheapest thing that would settle an open verdict. `tokens` and `minutes` are None where unknown. `holds` is
    the level that this verdict and the one after such a step hold together, where that is less than the level."""

    kind: Literal["seeds", "items", "dose"]
    seeds: int | None
    items: int | None
    tokens: int | None
    minutes: float | None
    sentence: str
    holds: float | None = None


StagedEnd = Literal["firm", "given_up", "last_look", "budget"]
"""Why a ladder of looks has ended: firm; its last look would hardly settle it, or is taken; the budget is spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookTails:
    """The one-sided tail of each kind of claim at one look (`stats.looks`)."""

    better: float
    single: float
    strict: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LookTaken:
    """One look at a staged study, as it stood: the scores that it read (`fingerprint`), its tails, and what is claimed
    by then over all looks. `contrasts` hold every dose against every baseline, the tightest bounds so far. `spent` is
    what the ladder had asked for by then; `failed` are the runs ("arm seed") that it did without."""

    look: int
    seeds: int
    fingerprint: str
    tails: LookTails
    verdict: str
    better: tuple[str, ...]
    ruled_out: tuple[str, ...]
    waiting: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    spent: Spent
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Runs, and what they cost in the unit of the protocol (in a study: tokens of training and answers)."""

    runs: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision and what it stands on; the rule is in docs/verdict.md.

    `transfer` holds the same contrasts on other targets' items (eval sets `transfer:NAME`): never part of a verdict.
    `task_weights` says how several tasks weigh (macro: each the same; by_item); None for one task.

    Of a staged study: `looks` in order, `spent` on what the ladder asked for, `grid_cost` of every arm at every seed,
    `ended` (None while it goes on), `waiting` and `ruled_out` arms. Of any other all of these are empty.
    """

    verdict: Literal["mix", "train_alone", "no_difference", "cannot_tell"]
    provisional: bool
    provisional_reasons: tuple[str, ...]
    arm: str | None
    sentence: str
    contrasts: tuple[Contrast, ...]
    gain_cross_fitted: float | None
    smallest_effect: float
    smallest_detectable: float | None
    estimand: str
    next_step: NextStep | None
    target_rows: int | None
    baseline: str
    matched: str | None
    level: float
    notes: tuple[str, ...] = ()
    transfer: tuple[Contrast, ...] = ()
    task_weights: Literal["macro", "by_item"] | None = None
    looks: tuple[LookTaken, ...] = ()
    spent: Spent | None = None
    grid_cost: float | None = None
    ended: StagedEnd | None = None
    waiting: tuple[str, ...] = ()
    ruled_out: tuple[str, ...] = ()

    @property
    def word(self) -> Literal["mix", "train_alone", "no_difference", "cannot_tell"]:
        """The decision in a word."""
        return self.verdict

    def __str__(self) -> str:
        provisional = f" (provisional: {'; '.join(self.provisional_reasons)})" if self.provisional else ""
        return f"{self.word.replace('_', ' ')}{provisional}: {self.sentence}"
