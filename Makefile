# Run `make` to see what there is. Windows: the README gives the same as plain Python commands.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2

BIN := $(VENV)/bin
PY := $(BIN)/python
# What is installed is remembered under the hash of the files that ask for it.
book_hash := $(shell cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)
test_hash := $(shell cat requirements.txt pyproject.toml tests/requirements*.txt | cksum | cut -d' ' -f1)
BOOK_READY := $(VENV)/.book-$(book_hash)
TEST_READY := $(VENV)/.test-$(test_hash)

# Several processes share the cores, and outputs must not depend on how many there are.
export OMP_NUM_THREADS := 1
export PYTHONHASHSEED := 0
export MPLBACKEND := agg

NBVAL := --nbval --nbval-current-env
XDIST := -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup book pdf serve test browser screenshots notebooks exercises gettext proof bench lint system clean

help: ## show this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) \
		| awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(BOOK_READY) ## create .venv with the pinned packages (the other targets do it too)

book: $(BOOK_READY) ## build the book; warnings are errors
	@$(PY) -m course_pkg.authoring book

pdf: $(TEST_READY) ## make one PDF of the book (some minutes; wants Chromium: make system)
	@$(PY) -m course_pkg.authoring pdf

serve: book ## build the book, serve it on this machine and open it
	@$(PY) -m course_pkg.authoring serve

# Chapters run once more on another code path of the processor: what they print must not care.
# The two that train for a minute are left out.
test: $(TEST_READY) lint ## run the tests that need no built book
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=2 \
		$(PY) -m pytest -q $(XDIST) $(NBVAL) $(wildcard book/0[1235]_*.ipynb) tests/test_repository.py
	$(PY) -m pytest -q $(XDIST) $(NBVAL) --ignore tests/pages tests book solutions

# Tests of one page go to one process, which opens the page once.
browser: $(TEST_READY) book ## look at every page of the book in a browser (make system installs it)
	$(PY) -m pytest -q -n $(JOBS) --dist loadgroup tests/pages

screenshots: $(TEST_READY) book ## write pictures of every page into _build/screenshots
	$(PY) scripts/screenshots.py

notebooks: $(BOOK_READY) ## execute the .md notebooks that changed (all: make notebooks FORCE=1)
	$(PY) -m course_pkg.authoring notebooks $(if $(FORCE),--force)

exercises: $(BOOK_READY) ## make exercises/ from solutions/
	$(PY) -m course_pkg.authoring exercises

gettext: $(BOOK_READY) ## bring translations into step with the English pages (only look: CHECK=1)
	$(PY) -m course_pkg.authoring gettext $(if $(CHECK),--check)

proof: $(TEST_READY) ## measure how right the checks are, into book/data/proof.json (long; resumes)
	$(PY) tests/proof.py --resume --jobs $(JOBS)

bench: $(TEST_READY) ## measure ours beside other libraries, into _build/bench (want a quiet machine)
	@env -u OMP_NUM_THREADS $(PY) benchmarks/run.py $(if $(FULL),--full) $(if $(OUT),--out $(OUT))

lint: $(TEST_READY) ## check style, types, spelling and prose
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(PY) scripts/prose.py

system: ## install Debian's browsers and bubblewrap, for the browser tests and grading
	@if command -v chromium >/dev/null && command -v firefox-esr >/dev/null \
		&& command -v bwrap >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -q && apt-get install -y -q --no-install-recommends \
			chromium firefox-esr bubblewrap; \
	fi || true
	@for tool in chromium firefox-esr bwrap; do \
		command -v $$tool >/dev/null || echo "$$tool is missing: what needs it will be skipped"; \
	done

clean: ## remove what was built (not .venv)
	rm -rf _build build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed and $(PYTHON) is not: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BOOK_READY): | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@rm -f $(VENV)/.book-* && touch $@

$(TEST_READY): $(BOOK_READY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r tests/requirements-no-deps.txt
	@rm -f $(VENV)/.test-* && touch $@
