.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: help train test test-slow check lint types format docs bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 11

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/ready: $(VENV)/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

train: $(VENV)/installed  ## train Pong, data-parallel, until it is solved or stopped
	$(BIN)/lightning-a3c fit --config configs/pong_data_fast.yaml

test: $(VENV)/ready  ## the tests that take seconds each, some minutes in all
	$(BIN)/pytest -m "not slow"

test-slow: $(VENV)/ready  ## the tests that solve a task or break workers at random; up to an hour
	$(BIN)/pytest -m slow

check: lint types test  ## everything CI checks but the slow tests

lint: $(VENV)/ready  ## ruff: rules and formatting; import-linter: which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/ready  ## mypy, strict
	$(BIN)/mypy

format: $(VENV)/ready  ## let ruff reformat and mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/ready  ## build the documentation as a website in site/
	$(BIN)/mkdocs build --strict

bench: $(VENV)/ready  ## throughput beside stable-baselines3's A2C
	$(BIN)/pip install -q -c constraints.txt -e '.[benchmarks]'
	$(BIN)/python benchmarks/throughput.py

clean:  ## remove what the other targets made, except runs
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache
