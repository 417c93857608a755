# Two commands for a newcomer, on Python 3.11 or 3.12:
#   make demo    set up, then train the whole schedule in miniature on the bundled data
#   make test    set up, then lint and all tests
# The rest: make demo DEMO=quick, make demo-compare, make lint, make clean.

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= full
WORKDIR ?= runs/demo$(if $(filter quick,$(DEMO)),-quick,)

# XLA on a CPU asks for its buffers anew at every step. Keeping freed memory in the process,
# in huge pages, makes the small steps of the demo faster.
CPU_MALLOC := MALLOC_TOP_PAD_=268435456 MALLOC_TRIM_THRESHOLD_=17179869184 \
  MALLOC_MMAP_MAX_=0 GLIBC_TUNABLES=glibc.malloc.hugetlb=1
RUN := TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python

.PHONY: help setup setup-dev demo demo-compare test lint clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

# A stamp file beside what was installed: a second call does not install again.
$(VENV)/.installed: requirements.txt
	@echo "== set-up: creating $(VENV) with $$($(PYTHON) --version) and installing requirements.txt"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if v in ((3, 11), (3, 12)) else "error: Python 3.11 or 3.12 is needed, came %d.%d; use make PYTHON=/path/to/python3.11" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements.txt $(VENV)/.installed
	@echo "== set-up: installing requirements-dev.txt (tests and lint)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(VENV)/.installed-torch: requirements-torch.txt $(VENV)/.installed-dev
	@echo "== set-up: installing requirements-torch.txt (conversion)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	@touch $@

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

demo: setup
	@echo "== demo: three stages on the bundled emoji artwork, into $(WORKDIR)"
	@$(CPU_MALLOC) $(RUN) -m clipa_jax.train --workdir=$(WORKDIR) \
	  --config=configs/demo/schedule.py$(if $(filter quick,$(DEMO)),:quick,)

demo-compare: setup
	@echo "== demo-compare: the same model and seconds as $(WORKDIR), at full length from the start"
	@$(CPU_MALLOC) $(RUN) tools/demo_compare.py --workdir=$(WORKDIR)

test: $(VENV)/.installed-torch lint
	@echo "== test"
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest -n 2

lint: setup-dev
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
