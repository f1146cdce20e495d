# `make help` lists what there is. Everything runs in .venv, which the first target that needs it makes.
SHELL := /bin/bash
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit integration e2e cluster-up cluster-down cluster-status images materials format pins clean

help: ## This list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## The Python environment in .venv (every other target does it by itself)
	@tests/bootstrap

demo: setup ## A TranscriptionJob, end to end, on a Kubernetes that this starts
	@$(PY) -m tests.demo

test: setup ## Every level: lint, unit, integration, e2e
	@$(PY) -m tests.levels

lint unit integration e2e: setup ## One level alone
	@$(PY) -m tests.levels $@

cluster-up: setup ## Start (or find) this checkout's own single-node Kubernetes
	@$(PY) -m tests.cluster up

cluster-down: setup ## Stop it and leave nothing behind
	@$(PY) -m tests.cluster down

cluster-status: setup ## What of it runs, and where its kubeconfig and logs are
	@$(PY) -m tests.cluster status

images: setup ## Build the operator's and the runner's image with buildah
	@$(PY) -m tests.cluster images

materials: setup ## Rebuild OpenAI's weights and people's recordings into the cache
	@$(PY) -m tests.materials prepare

format: setup ## Format the code
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix --quiet .

pins: ## Compile constraints/ again after a change of dependencies
	@constraints/compile

clean: ## Remove .venv and this checkout's state (the shared cache stays)
	rm -rf .venv .state .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build
