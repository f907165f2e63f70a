# Each target does all of its own set-up; it needs Python 3.11 or newer and a C compiler. Another Python: make PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_FOR_PEERS := $(VENV)/.ready-for-peers

export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: school test check soak peers

school: $(READY) ## the whole school on this machine, and its report
	$(BIN)/nanoschool run laptop

test: $(READY) ## one torch thread a worker: two workers with all threads each are slower
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not soak and not peers"

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/ty check nanoschool

soak: $(READY) ## the long tests
	$(BIN)/pytest -m soak

peers: $(READY_FOR_PEERS) ## the tests that need other people's packages; a skipped one is a failure
	$(BIN)/pytest -m peers --no-skips

# torch first: it is the big one, and the pinned version must be there before anything else asks for "torch"
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

$(READY_FOR_PEERS): $(READY)
	$(BIN)/pip install --quiet --editable ".[dev,peers]"
	touch $@
