# Two commands on a fresh machine: `make demo` and `make test`. Everything else is for those who change the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Named exactly, so that a CPU wheel at hand is taken; a range that admits newer ones fetches CUDA builds.
TORCH := torch==2.13.0
# Processes that tests run in, some 3 GB each. Converters compute on one core, and threads of two processes that wait for
# each other take twice the time of none.
WORKERS ?= 2

.PHONY: demo test test-slow check docs tables format clean

demo: $(VENV)/installed  ## export a model, answer prompts on photos, find everything in them, verify; pictures in out/demo
	$(BIN)/sam-edge demo --out out/demo --overwrite

test: $(VENV)/installed  ## the tests that every change must pass
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/installed  ## the longer proofs: full-size models; tflite-runtime in an environment of its own
	$(BIN)/python -m pytest -m slow

check: $(VENV)/installed  ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed  ## the documentation as a site, in out/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tables: $(VENV)/installed  ## fill the documentation's tables from benchmarks/results
	$(BIN)/python benchmarks/tables.py

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-tflite-runtime out

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch and the converters into $(VENV); this takes a few minutes"
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@
