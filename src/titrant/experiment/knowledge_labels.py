"""`titrant probe`: asks a model for facts, by `data.knowledge`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from titrant.backends.hf.models.prepare import Template, prepare
from titrant.backends.protocol import LanguageModel
from titrant.config.study import Study
from titrant.core.environment import current_numerics
from titrant.core.errors import DataError
from titrant.core.identity import fingerprint, hash_text, plain
from titrant.core.records import Item, PreparedModel, TokenPrompt
from titrant.core.revisions import revisions_of
from titrant.data import knowledge, readers
from titrant.data.knowledge import Fact, Label, ProbeSettings, Probing
from titrant.engines import BackendSpec
from titrant.storage.json_files import read_json, read_jsonl, write_json, write_jsonl
from titrant.tokens import Renderer, renderer_for

SIDECAR = ".probe.json"
MAX_ANSWER_TOKENS = 12
_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeCost:
    """What probing takes: prompts asked and tokens read and written at most. `left_out` have too few companions."""

    facts: int
    left_out: int
    prompts: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """Where the labels are, how many of each class, and what they cost."""

    path: Path
    counts: dict[str, int]
    known: int
    cost: ProbeCost


def facts_to_probe(rows: str | Path, *, role: str | None = None, relations: Sequence[str] = ()) -> tuple[Fact, ...]:
    """The facts of a file whose subjects have this role (None: all), in these relations (none named: all)."""
    found = knowledge.read_facts(readers.read_rows(rows))
    knowledge.refuse_unknown_relations(found, relations, where=str(rows))
    kept = tuple(
        fact
        for fact in found.facts
        if role in (None, knowledge.role_of(fact.subject)) and (not relations or fact.relation in relations)
    )
    if not kept:
        raise DataError("no facts to probe", where=str(rows), got=f"{found.unparsed} rows of no known form")
    return kept


def probe_cost(facts: Sequence[Fact], renderer: Renderer, settings: ProbeSettings) -> ProbeCost:
    """Counted, not estimated: every prompt is put together."""
    asked, left_out = knowledge.probings(facts, settings)
    tokens = sum(len(_prompt(renderer, probing, facts, settings).ids) + MAX_ANSWER_TOKENS for probing in asked)
    return ProbeCost(facts=len(facts) - len(left_out), left_out=len(left_out), prompts=len(asked), tokens=tokens)


def write_labels(
    rows: str | Path,
    *,
    model: str,
    out: Path,
    settings: ProbeSettings,
    role: str | None = None,
    relations: Sequence[str] = (),
    template: Template = "auto",
    backend: BackendSpec | None = None,
    say: Callable[[str], None] = lambda _: None,
    prepared_model: PreparedModel | None = None,
) -> ProbeReport:
    """Probe the facts of a file and write a label a line to `out`, with what they were made with beside it. Answers so
    far stand in OUT.part, so a probe that is stopped goes on."""
    facts = facts_to_probe(rows, role=role, relations=relations)
    prepared_model = prepared_model or prepare(model, template=template)
    renderer = renderer_for(prepared_model)
    cost = probe_cost(facts, renderer, settings)
    say(f"{cost.facts} facts, {cost.prompts} prompts, {cost.tokens:,} tokens")
    numerics = current_numerics("auto", 1, "auto")
    spec = backend or BackendSpec(
        module="titrant.backends.hf.backend", name="HuggingFaceBackend", arguments={"numerics": numerics}
    )
    language_model = spec.make().untuned(prepared_model)
    revisions = revisions_of(writes=True)
    made_of = [prepared_model.fingerprint, settings, revisions, [fact.row_id for fact in facts]]
    part = _Part(out.with_name(out.name + ".part"), made_of)
    try:
        labels = knowledge.probe_facts(facts, _answerer(language_model, renderer, facts, settings, part, say), settings)
    finally:
        language_model.close()
    write_jsonl(out, [knowledge.label_row(label) for label in labels])
    write_json(
        out.with_name(out.name + SIDECAR),
        {
            "model": {"name": prepared_model.name, "fingerprint": prepared_model.fingerprint},
            "settings": plain(settings),
            "template": prepared_model.template,
            "numerics": plain(numerics),
            "revisions": revisions,
            "cost": plain(cost),
            "beyond": knowledge.BEYOND,
            "backend": f"{spec.module}.{spec.name}",
        },
    )
    part.path.unlink(missing_ok=True)
    counts: dict[str, int] = {name: sum(label.label == name for label in labels) for name in knowledge.CLASSES}
    return ProbeReport(path=out, counts=counts, known=sum(label.known for label in labels), cost=cost)


def labels_for(path: Path, model: PreparedModel) -> tuple[Label, ...]:
    """The labels at `path`, which must be about this very model; `DataError` says how they are made."""
    sidecar = path.with_name(path.name + SIDECAR)
    if not path.is_file() or not sidecar.is_file():
        fix = f"titrant probe ROWS --model MODEL --out {path}"
        raise DataError("the labels are not there", where=str(path), expected="labels and their .probe.json", fix=fix)
    said = read_json(sidecar)["model"]
    if said["fingerprint"] != model.fingerprint:
        raise DataError(
            "these labels say what another model knows",
            where=str(path),
            got=said["name"],
            expected=model.name,
            fix="probe this model and name its labels",
        )
    return knowledge.read_labels(readers.read_rows(path))


def label_lines(study: Study) -> list[str]:
    """For every pool that is drawn by what the model knows: what its labels cost, or would cost."""
    lines = []
    for name, source in study.generalist.items():
        if source.labels is None or source.facts is None:
            continue
        path = study.folder / source.labels
        if path.with_name(path.name + SIDECAR).is_file():
            cost = read_json(path.with_name(path.name + SIDECAR))["cost"]
            lines.append(
                f"labels of {name}: {cost['facts']} facts, {cost['prompts']} prompts, {cost['tokens']:,} tokens"
            )
            continue
        for spec in study.models.values():
            prepared_model = prepare(str(spec), base=study.folder, template=study.template)
            facts = facts_to_probe(source.facts.rows, role="dose", relations=source.facts.relations)
            cost = probe_cost(facts, renderer_for(prepared_model), ProbeSettings())
            lines.append(
                f"labels of {name} are not there yet: titrant probe {source.facts.rows} --model {spec} --role dose "
                f"--out {path} asks {cost.prompts} prompts, {cost.tokens:,} tokens; fewer with --prompts"
            )
    return lines


class _Part:
    """The answers of a probe in the making, a batch a line, under the name of what is asked of whom."""

    def __init__(self, path: Path, about: object) -> None:
        self.path, self.name = path, fingerprint(about)
        lines = read_jsonl(path) if path.is_file() else []
        self.batches: list[list[str]] = [list(line["texts"]) for line in lines if line["name"] == self.name]

    def add(self, texts: list[str]) -> None:
        self.batches.append(texts)
        write_jsonl(self.path, [{"name": self.name, "texts": batch} for batch in self.batches])


def _answerer(
    language_model: LanguageModel,
    renderer: Renderer,
    facts: Sequence[Fact],
    settings: ProbeSettings,
    part: _Part,
    say: Callable[[str], None],
) -> knowledge.Answerer:
    def answer(asked: Sequence[Probing]) -> Sequence[str]:
        for start in range(len(part.batches) * _AT_ONCE, len(asked), _AT_ONCE):
            prompts = [_prompt(renderer, probing, facts, settings) for probing in asked[start : start + _AT_ONCE]]
            part.add([renderer.tokenizer.decode(written.ids) for written in language_model.generate(prompts)])
            say(f"{min(start + _AT_ONCE, len(asked)):,} of {len(asked):,} prompts answered")
        return [text for batch in part.batches for text in batch]

    return answer


def _prompt(renderer: Renderer, probing: Probing, facts: Sequence[Fact], settings: ProbeSettings) -> TokenPrompt:
    """The prompt in ids. An answer also ends with its line: behind examples a base model goes on to the next one."""
    fact = facts[probing.fact]
    item = Item(
        key=f"{fact.relation}/{fact.subject}/{probing.prompt}/{probing.sample}",
        row_id=fact.row_id,
        eval_set="knowledge",
        target="",
        task=fact.relation,
        turns=probing.turns,
        references=fact.answers,
        choices=None,
        answer="text",
        metric="exact_match",
        max_answer_tokens=MAX_ANSWER_TOKENS,
    )
    prompt = renderer.generation(item)
    breaks = tuple(ids[0] for ids in map(renderer.tokenizer.encode, ("\n", "\n\n")) if len(ids) == 1)
    drawn = probing.sample is not None
    return replace(
        prompt,
        end_ids=tuple(dict.fromkeys((*prompt.end_ids, *breaks))),
        temperature=settings.temperature if drawn else 0.0,
        stream=int(hash_text(f"{settings.seed}\x1f{item.key}", length=12), 16) if drawn else 0,
    )
