# Two commands for a newcomer, on Python 3.12 (docs/install.md has other versions):
#   make demo    set up, then train the whole schedule in miniature on the bundled data
#   make test    set up, then lint and all tests but the slow ones (make test-slow)
# The rest: make demo DEMO=quick, make demo-compare, make test-slow, make lint, make lock, make clean.

SHELL := /bin/bash
# The first of 3.12, 3.13 and 3.11 that starts, on the PATH or in pyenv.
PYTHON ?= $(shell for v in 3.12 3.13 3.11; do for p in python$$v $(HOME)/.pyenv/versions/$$v.*/bin/python; \
  do $$p -c 0 2>/dev/null && echo $$p && exit; done; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
# uv where it is installed, else pip.
UV := $(shell command -v uv)
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/pip install --quiet --disable-pip-version-check)
DEMO ?= full
WORKDIR ?= runs/demo$(if $(filter quick,$(DEMO)),-quick,)

# XLA on a CPU allocates its buffers anew at every step. Keeping freed memory in the process,
# in huge pages, makes the small steps of the demo faster.
CPU_MALLOC := MALLOC_TOP_PAD_=268435456 MALLOC_TRIM_THRESHOLD_=17179869184 \
  MALLOC_MMAP_MAX_=0 GLIBC_TUNABLES=glibc.malloc.hugetlb=1
RUN := TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python

.PHONY: help setup setup-dev demo demo-compare test test-slow lint lock clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

# A stamp file beside what was installed: a second call does not install again.
$(VENV)/.installed: requirements.txt
	@echo "== set-up: creating $(VENV) with $$($(PYTHON) --version); downloading requirements.txt (about 0.6 GB) with $(or $(UV),pip)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 11) <= v <= (3, 13) else "error: Python 3.11, 3.12 or 3.13 is needed, got %d.%d; use make PYTHON=/path/to/python3.12" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "== set-up: downloading requirements-dev.txt (tests, lint, data preparation, TPU compiler)"
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

$(VENV)/.installed-torch: requirements-torch.txt $(VENV)/.installed-dev
	@echo "== set-up: downloading requirements-torch.txt (PyTorch for conversion; its CUDA build is about 3 GB)"
	@$(INSTALL) -r requirements-torch.txt
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
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Proofs that take minutes: the notebook, the pages on own data and fine-tuning command by command,
# runs that are stopped and killed, alone and in pairs, the large recipe in a test size, H/14's chain
# on a bucket.
test-slow: $(VENV)/.installed-torch
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest -m slow

lint: setup-dev
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/mypy

# The lock files: every package in the newest version that all extras accept together. CUDA's
# packages are left to PyTorch's own requirements, so that its CPU build brings none.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header
lock:
	@$(LOCK) pyproject.toml --all-extras -o $(VENV)/constraints.txt --upgrade
	@for extra in data dev gpu torch tpu; do \
	  $(LOCK) pyproject.toml --extra $$extra -c $(VENV)/constraints.txt \
	    $$(test $$extra = torch && for p in $$(grep -oE '^(nvidia|cuda|triton)[a-z0-9-]*' $(VENV)/constraints.txt); do echo --no-emit-package $$p; done) \
	    -o requirements-$$extra.txt || exit 1; done
	@$(LOCK) pyproject.toml -c $(VENV)/constraints.txt -o requirements.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
