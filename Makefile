# Two commands on a fresh machine: `make demo` and `make test`. Everything else is for those who change the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Named exactly, so that a CPU wheel at hand is taken; a range that admits newer ones fetches CUDA builds.
TORCH := torch==2.13.0
# Processes that tests run in, some 3 GB each. Converters compute on one core, and threads of two processes that wait for
# each other take twice the time of none.
WORKERS ?= 2
COREML_TESTS := tests/exporters/test_coreml.py tests/exporters/test_coreml_ane.py tests/quant/coreml tests/runtime/mil \
	tests/devices/test_apple.py tests/devices/test_doctor.py

# The TypeScript package. It is checked and tested where npm is installed; WEB=required makes it an error where it is not.
WEB ?= optional
WEB_DIR := runtime/web
ifneq ($(shell command -v npm 2> /dev/null),)
WEB_INSTALLED := $(WEB_DIR)/node_modules/.package-lock.json
endif

# The page of `sam-edge serve`, built where npm is installed.
PAGE := sam_edge/serving/static/index.html
PAGE_SOURCES := $(shell find $(WEB_DIR)/src $(WEB_DIR)/page -type f -not -path "*/node_modules/*" -not -path "*/tests/*")

.PHONY: demo web test test-web test-slow test-coreml check check-web docs tables generate dist format clean

demo: $(VENV)/installed  ## export a model, answer prompts on photos, find everything in them, verify; pictures in out/demo
	$(BIN)/sam-edge demo --out out/demo --overwrite

web: $(if $(WEB_INSTALLED),$(PAGE))  ## the page of `sam-edge serve`, in sam_edge/serving/static
ifndef WEB_INSTALLED
	@echo "npm is not installed: the page in $(WEB_DIR)/page is not built"; test "$(WEB)" = optional
endif

test: $(VENV)/installed web test-web  ## the tests that every change must pass
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-web: $(VENV)/installed $(WEB_INSTALLED)  ## the TypeScript package in Node, compared with the Python runtime
ifdef WEB_INSTALLED
	cd $(WEB_DIR) && PYTHON=$(abspath $(BIN)/python) npm test
else
	@echo "npm is not installed: the TypeScript package in $(WEB_DIR) is not tested"; test "$(WEB)" = optional
endif

test-slow: $(VENV)/installed  ## the longer proofs: full-size models; tflite-runtime in an environment of its own
	$(BIN)/python -m pytest -m slow

test-coreml: $(VENV)/installed  ## what computes Core ML packages: on a Mac Apple's framework, elsewhere the evaluator
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile $(COREML_TESTS)

check: $(VENV)/installed check-web  ## formatting, lint, types, direction of imports, workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/check-jsonschema --builtin-schema custom.github-workflows-require-timeout $(wildcard .github/workflows/*.yml)
	$(BIN)/zizmor --offline --quiet .github/workflows

check-web: $(WEB_INSTALLED)  ## the same for the TypeScript package
ifdef WEB_INSTALLED
	cd $(WEB_DIR) && npm run check
else
	@echo "npm is not installed: the TypeScript package in $(WEB_DIR) is not checked"; test "$(WEB)" = optional
endif

docs: $(VENV)/installed  ## the documentation as a site, in out/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tables: $(VENV)/installed  ## fill the documentation's tables from benchmarks/results
	$(BIN)/python -m benchmarks.tables

generate: $(VENV)/installed  ## the TypeScript package's constants, from the Python contract
	$(BIN)/python $(WEB_DIR)/generate_contract.py

dist: $(VENV)/installed web  ## source distribution and wheel, in dist
	rm -rf dist
	$(BIN)/python -m build --outdir dist

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-tflite-runtime build dist out $(dir $(PAGE)) $(addprefix $(WEB_DIR)/,node_modules dist out)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch and the converters into $(VENV); this takes a few minutes"
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

$(PAGE): $(PAGE_SOURCES) $(WEB_DIR)/node_modules/.package-lock.json
	cd $(WEB_DIR) && npm run build --workspace page

$(WEB_DIR)/node_modules/.package-lock.json: $(WEB_DIR)/package-lock.json
	cd $(WEB_DIR) && npm ci --no-audit --no-fund
	touch $@
