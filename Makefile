# Tune, track, promote and reproduce CenterNet detectors. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # without its caches, every process compiles PyTorch's source again

.venv/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $$($(PYTHON) --version) found, Python >= 3.11 needed (make PYTHON=python3.11)"; exit 2; }
	@echo "Setting up .venv from requirements.lock (once, about a minute)"
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --link-mode hardlink -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# make search DATA=folder SPACE=file TRIALS=n EPOCHS=n HOURS=x WORKERS=n STUDY=name CONFIG=preset
#             FINALISTS=n SEEDS=n
SPACE ?= search_spaces/smoke.yaml
TESTS ?= tests
# tests/conftest.py groups and sorts them
SPREAD := -n auto --dist loadgroup --no-loadscope-reorder --max-worker-restart 0

# what may be set for each target; another name is a typing mistake
OF_search := DATA SPACE TRIALS EPOCHS HOURS WORKERS STUDY CONFIG FINALISTS SEEDS
OF_status := STUDY
OF_report := STUDY
OF_ui := PORT
OF_register := TRIAL STUDY DATA
OF_models := MODEL
OF_rollback := WHY TO MODEL
OF_serve := MODEL PORT
OF_reproduce := TRIAL STUDY EPOCHS DATA OPTIONS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command,$(origin $(name))),$(name)))
$(foreach goal,$(MAKECMDGOALS),$(if $(OF_$(goal)),$(foreach name,$(filter-out PYTHON $(OF_$(goal)),$(GIVEN)),\
  $(error make $(goal) has no $(name): it has $(OF_$(goal))))))

# Recipes read the variables from their environment ("$$DATA"), so that no character of a value is
# make's or the shell's; `value` keeps a dollar sign as it was typed.
$(foreach name,$(filter-out MAKE%,$(GIVEN)),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
export SPACE TESTS

.PHONY: help setup search status report ui register models rollback serve reproduce test check clean

help: ## what there is to type
	@echo "Tune, track, promote and reproduce CenterNet detectors."
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

setup: .venv/.ready ## only set up .venv (the others do it themselves)

search: .venv/.ready ## launch or continue a study [DATA= SPACE= TRIALS= EPOCHS= HOURS= WORKERS= STUDY= CONFIG= FINALISTS= SEEDS=]
	@$(BIN)/experiments search --space "$$SPACE" $${DATA:+--data "$$DATA"} \
	  $${TRIALS:+--trials "$$TRIALS"} $${STUDY:+--study "$$STUDY"} \
	  $${CONFIG:+--config "$$CONFIG"} $${HOURS:+--hours "$$HOURS"} \
	  $${EPOCHS:+--epochs "$$EPOCHS"} $${WORKERS:+--workers "$$WORKERS"} \
	  $${FINALISTS:+--finalists "$$FINALISTS"} $${SEEDS:+--seeds "$$SEEDS"}

status: .venv/.ready ## the trials of the last study [STUDY=]
	@$(BIN)/experiments status $${STUDY:+"$$STUDY"}

report: .venv/.ready ## write the last study's report [STUDY=]
	@$(BIN)/experiments report $${STUDY:+"$$STUDY"}

ui: .venv/.ready ## compare runs in the MLflow UI on 127.0.0.1 [PORT=]
	@$(BIN)/experiments ui $${PORT:+--port "$$PORT"}

register: .venv/.ready ## choose a trial's model as the champion: TRIAL= [STUDY= DATA=]
	@$(if $(TRIAL),,$(error TRIAL is missing: make register TRIAL=7))\
	  $(BIN)/experiments register "$$TRIAL" $${STUDY:+--study "$$STUDY"} $${DATA:+--data "$$DATA"}

models: .venv/.ready ## registered versions, and what decided about each [MODEL=]
	@$(BIN)/experiments models $${MODEL:+--model "$$MODEL"}

rollback: .venv/.ready ## move the champion back, and say why: WHY= [TO= MODEL=]
	@$(if $(WHY),,$(error WHY is missing: make rollback WHY="misses buses at night"))\
	  $(BIN)/experiments rollback --why "$$WHY" $${TO:+--to "$$TO"} $${MODEL:+--model "$$MODEL"}

serve: .venv/.ready ## MLflow's scoring server with the champion, on 127.0.0.1 [MODEL=models:/NAME@ALIAS PORT=]
	@$(BIN)/experiments serve $${MODEL:+--weights "$$MODEL"} $${PORT:+--port "$$PORT"}

reproduce: .venv/.ready ## train a trial again, compare bit by bit: TRIAL= [STUDY= EPOCHS= DATA= OPTIONS=--check-only]
	@$(if $(TRIAL),,$(error TRIAL is missing: make reproduce TRIAL=7))\
	  $(BIN)/experiments reproduce "$$TRIAL" $${STUDY:+--study "$$STUDY"} \
	  $${EPOCHS:+--epochs "$$EPOCHS"} $${DATA:+--data "$$DATA"} $$OPTIONS

test: .venv/.ready ## the tests
	@$(BIN)/pytest $(SPREAD) $$TESTS

check: .venv/.ready ## format, lint, types, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest $(SPREAD) $$TESTS

clean: ## remove .venv and caches; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
