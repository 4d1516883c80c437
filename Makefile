# SPDX-License-Identifier: GPL-2.0-only
# Set-up, demo and tests.  Programs are built by scons (or kbridge build), not by this file.

PYTHON ?= python3
BIN := .venv/bin
# Set-up may replace .venv, so it takes no Python from there, though the shell have it activated.
SETUP = PATH="$(subst $(CURDIR)/$(BIN):,,$(PATH))" $(PYTHON) scripts/setup
PYTEST := $(BIN)/python -m pytest
TESTS := tests/unit tests/integration tests/vm
# More words for pytest: make test ARGS="-k name"
ARGS :=

DEMO_APP := samples/fd_info/fd_info.c
DEMO_KMOD := samples/fd_info/fd_info_kmod.c
DEMO_PROGRAM := build/fd_info

# Kbuild is also make: our options and variables are not for it.
MAKEOVERRIDES :=
unexport MAKEFLAGS MFLAGS MAKELEVEL

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-tests demo docs test test-all lint notebooks deb clean distclean

help:  ## this text
	@sed -n 's/^\([a-z-]*\):.*  ## /make \1\t/p' Makefile | expand -t 18

setup:  ## install what is missing (apt, .venv): leaves .venv/bin/kbridge and .venv/bin/scons
	@$(SETUP)

setup-tests:
	@$(SETUP) --tests

demo: setup  ## build a sample against the newest installed kernel and run it there
	@echo "demo: an app that calls into the kernel, built for the newest installed kernel headers"
	$(BIN)/scons -Q app=$(DEMO_APP) kmod=$(DEMO_KMOD)
	@echo "demo: that kernel, booted in a throw-away virtual machine (unless kelevate is loaded here)"
	@$(BIN)/kbridge run --dry-run $(DEMO_PROGRAM) | sed -n 's/^# \(.*kernel [^;:]*\).*/demo: \1/p'
	$(BIN)/kbridge run $(DEMO_PROGRAM)
	@echo "demo: done; $(DEMO_KMOD) is what ran inside the kernel"

docs: setup  ## write this documentation as a site: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "docs: build/site/index.html"

test: setup-tests  ## every test but the slow ones; ARGS="-k name" chooses
	$(PYTEST) $(TESTS) -m "not slow" --durations=15 $(ARGS)

test-all: setup-tests  ## every test
	$(PYTEST) $(TESTS) --durations=30 $(ARGS)

lint: setup-tests  ## only the linters
	$(PYTEST) -q tests/unit/test_linters.py $(ARGS)

deb: setup-tests  ## the Debian packages, in dist/
	$(BIN)/python scripts/deb dist

notebooks: setup-tests  ## execute samples/notebooks in a virtual machine: build/notebooks
	@$(BIN)/python scripts/notebooks.py $(ARGS)

clean:  ## remove what was built
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .sconf_temp
	rm -f .sconsign.dblite config.log
	find . -path ./.git -prune -o -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +

distclean: clean  ## and the virtual environment
	rm -rf .venv
