VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The ROS 2 that pip installs, alone: a sourced ROS installation would put its own packages in front of it.
export PYTHONPATH :=
export AMENT_PREFIX_PATH := $(abspath $(VENV))
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export FASTDDS_DEFAULT_PROFILES_FILE := $(CURDIR)/config/fastdds.xml
# Messages check the types of their fields only if asked.
export ROS_PYTHON_CHECK_FIELDS := 1

.PHONY: help setup demo test test-core lint docs colcon bench clean

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "Variables: PYTHON (3.11 or newer), VENV, PIP_ARGS (for pip; say, an index with torch for CPUs only, which is smaller)"

setup: $(INSTALLED)  ## install everything into .venv; the only step that needs a network

$(INSTALLED): package.xml setup.py constraints.txt $(shell find vpr_msgs test/support/tf2_msgs -type f)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make setup PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_ARGS) -c constraints.txt ./vpr_msgs ./test/support/tf2_msgs -e '.[ros,demo,training,dev]'
	@touch $@

demo: setup  ## drive through a rendered town and recognise its streets
	$(BIN)/vpr demo

test: lint  ## lint, types and tests
	$(BIN)/pytest --ignore=test/training  # no robot has ROS, engines and torch in one process; nor do tests
	$(BIN)/pytest test/training

# Other versions than those of constraints.txt: ROS 2 Humble has Python 3.10 and NumPy 1, and no wheels of rclpy for it are needed here.
CORE_VENV ?= .venv-core
NUMPY ?= 2
CORE_TESTS := test/recognition test/map test/sources test/evaluation test/engines $(wildcard test/test_*.py)

test-core:  ## tests without ROS and training, with another Python and NumPy: PYTHON=python3.10 NUMPY=1.26
	test -x $(CORE_VENV)/bin/python || $(PYTHON) -m venv $(CORE_VENV)
	$(CORE_VENV)/bin/pip install $(PIP_ARGS) -e '.[test]' 'numpy==$(NUMPY).*'
	$(CORE_VENV)/bin/python -m pytest $(CORE_TESTS)

colcon:  ## build and try on a ROS 2 installation, in WORKSPACE/src/vpr_ros, as root (containers of CI)
	env -u PYTHONPATH -u AMENT_PREFIX_PATH -u FASTDDS_DEFAULT_PROFILES_FILE .ci/colcon

docs: setup  ## the site in site/, strict: a dead link or a path that does not exist fails
	$(BIN)/mkdocs build --strict

lint: setup  ## formatting, lint, layers and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: setup  ## run every benchmark
	@set -e; for benchmark in benchmarks/[!_]*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark; done

clean:  ## remove what builds and tests leave behind; not the environment
	rm -rf build dist install log site *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
