.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# ninja and accelerate are looked up on PATH by the processes that need them.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.PHONY: help setup vllm demo keep check test warmstart study studies evaluation blind \
    bench bench-step faults fuzz kills memory mutants notebooks lab site clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: ## Build .venv (quick when it is up to date)
	@scripts/setup.sh

vllm: setup ## Build .venv-vllm: vLLM on a CPU for rollouts and tests/rollouts (5 GB)
	@scripts/vllm_environment.sh

demo: setup ## Run every notebook and write runs/demo/summary.json
	@.venv/bin/spacer demo

# summary.json is written last, so a demo that failed keeps nothing.
keep: ## Put the results of the last make demo in place of those in papermill_runs
	@cp runs/demo/summary.json papermill_runs/
	@cp runs/demo/0[57]_*__tiny__seed0.ipynb papermill_runs/

check: setup ## Lint, types and the quick tests: two minutes (ARGS="-k maps")
	@scripts/test.sh --check $(ARGS)

test: setup ## Lint, types, all tests, every notebook in its cheap mode (ARGS="-k maps")
	@scripts/test.sh $(ARGS)

warmstart: setup ## Train the shipped warm-start checkpoint again
	@.venv/bin/spacer extras warmstart

study: setup ## Repeat SG-RLVR over seeds, beside what it is compared with: two hours
	@.venv/bin/spacer extras study
	@cp runs/study/study.json papermill_runs/study.json

studies: setup ## KL weights, answer modes, a hack, kinds, scale, controls: a day (resumes)
	@for name in beta modes hacking kinds scale controls; do \
	    .venv/bin/spacer extras study --config $$name; \
	    cp runs/study_$$name/study.json papermill_runs/study_$$name.json; \
	done

evaluation: setup ## Ask the held-out rooms of every trained study model, and tabulate
	@scripts/evaluate_studies.sh

blind: setup ## Score question recipes from their words alone: papermill_runs/blind.json
	@.venv/bin/python scripts/blind_scores.py

bench: setup ## Time data engine and rewards against the other way of doing each
	@.venv/bin/python -m benches.data
	@.venv/bin/python -m benches.rewards

faults: setup ## Odd replies to spacer evaluate, odd requests to spacer serve: a table
	@.venv/bin/python -m benches.http_faults

kills: setup ## Kill each command 20 times at random and run it again: a table (hours)
	@.venv/bin/python -m benches.kills $(ARGS)

bench-step: setup ## Time a GRPO step over lengths and group sizes, for notebook 11
	@scripts/bench_step.sh

fuzz: setup ## Read 1,000 damaged files of every format, and faulty recipes: tables
	@.venv/bin/python -m benches.readers
	@.venv/bin/python -m benches.recipes

memory: setup ## Watch the memory of long runs: training, qa, evaluate (an hour)
	@.venv/bin/python -m benches.memory

mutants: setup ## Change one operator at a time; does a test fail? Half an hour
	@.venv/bin/python -m benches.mutants

notebooks: setup ## Execute the notebooks in place, outputs included
	@.venv/bin/spacer notebooks

# configs/jupyter: no build dialog, no request for news.
lab: setup ## Open the notebooks in JupyterLab
	@JUPYTER_CONFIG_PATH="$(CURDIR)/configs/jupyter" \
	    .venv/bin/jupyter lab --LabApp.default_url=/lab/tree/notebooks

site: ## Build build/site from the committed notebooks, in an environment of its own
	@scripts/site.sh

clean: ## Remove caches and logs (keeps .venv, data/ and runs/)
	@rm -rf build .pytest_cache .ruff_cache .hypothesis
	@find spacer_lib benches tests notebooks -name __pycache__ -prune -exec rm -rf {} +
