# `make` or `make help` lists the targets. Everything lives in .venv; a second run of any target repeats no finished work.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
# `nproc` alone says what OMP_NUM_THREADS says.
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
# make TORCH_INDEX=ADDRESS: the package index that offers another build of torch. make CUDA=1: the locked build for GPUs, with its libraries.
TORCH_INDEX ?=
CUDA ?=
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES) --rerun-incomplete
# Small jobs start at once (docs/cost.md).
WARM := SPEECHFT_WARM=1

.PHONY: help environment demo mini mini-encoders recorded rehearsal test test-fast test-installation test-slurm slurm-packages browser-package resume docs lint format schema lock release clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 18

environment: $(READY)  ## build .venv with the locked packages

# torch comes first and alone: pip then takes one build of it (CPU or CUDA, as its index offers) and no other package pulls a second.
$(READY): envs/requirements$(if $(CUDA),-cuda).lock pyproject.toml
	@case "$$(pwd)" in *[\":\`\$$\{}\\]*) \
	  printf '%s: Python tools cannot install into a folder with one of : " ` $$ { } \\ in its path. Move the repository.\n' "$$(pwd)"; exit 1;; esac
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "speechft needs Python 3.11 or 3.12; found $$("$(PYTHON)" --version 2>&1). Give one: make PYTHON=/path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv .venv && touch .venv/.made-by-make
	$(if $(CUDA),,$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0)
	$(PIP) --no-deps --require-hashes -r envs/requirements$(if $(CUDA),-cuda).lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## the whole method in miniature: a table, a curve over alpha and figures in minutes
	$(WARM) $(SNAKEMAKE) --configfile config/demo.yaml
	@echo; cat results/demo/tables/demo.md; echo
	@echo "table:   results/demo/tables/demo.md (.csv .tex .html)"; echo "figures: results/demo/figures/demo.png alpha.png"
	@echo "all of it on one page: $$(pwd)/results/demo/report.html"

mini: $(READY)  ## Mini-SUPERB, all ten tasks: all tables, curves and figures (config/mini.yaml)
	$(WARM) $(SNAKEMAKE) --configfile config/mini.yaml
	@echo; cat results/mini/tables/hubert.md results/mini/tables/wav2vec2.md; echo "all of it on one page: $$(pwd)/results/mini/report.html"

mini-encoders: $(READY)  ## pre-train the encoders in mini/encoders again (hours; downloads recordings)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check G722==1.2.8
	$(SNAKEMAKE) --configfile config/mini_encoders.yaml -- mini_encoders

recorded: $(READY)  ## the same workflow on real recordings, which it downloads (config/recorded.yaml)
	$(SNAKEMAKE) --configfile config/recorded.yaml
	@echo; cat results/recorded/tables/recorded.md

rehearsal: $(READY)  ## every job of the paper's experiment at small sizes, on stand-in corpora and checkpoints (docs/rehearsal.md)
	$(BIN)/speechft rehearse config/paper.yaml --corpora stand-ins --encoders tiny --no-gpus --out results/rehearsal
	@$(WARM) $(SNAKEMAKE) --keep-going --configfile results/rehearsal/experiment.yaml; status=$$?; $(BIN)/speechft jobs; exit $$status

# One process more than cores, because some tests wait for others' jobs.
test: $(READY)  ## all tests that this machine can run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(( $(CORES) + 1 )) --dist loadfile --no-loadscope-reorder

test-installation: $(READY)  ## the wheel with the oldest and newest torch and transformers, on each Python here (several GB, one after the other)
	SPEECHFT_MATRIX=1 TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m pytest -v tests/installation

test-slurm: $(READY)  ## tests on a private Slurm on this machine; skipped where Slurm is not installed
	$(BIN)/python -m pytest tests/slurm tests/runtime/test_slurm_commands.py

slurm-packages:  ## install what tests/slurm starts (Debian, Ubuntu; as root)
	@missing=; for program in slurmctld slurmd sbatch munged; do command -v $$program >/dev/null || missing=$$program; done; \
	  [ -z "$$missing" ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge; }

browser-package:  ## install the Chromium that tests of web pages start (Debian; as root)
	@command -v chromium >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }

resume: $(READY)  ## resume a killed `snakemake --profile slurm all`: cancel its orphaned jobs, unlock, run again
	$(BIN)/speechft resume --profile slurm all

test-fast: $(READY)  ## fast tests, about a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(CORES) --dist loadfile

docs: $(READY)  ## the documentation as a site, in the folder site/; it needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "open $$(pwd)/site/index.html; for its search: $(BIN)/python -m http.server --directory site"

lint: $(READY)  ## style, types, workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	! $(BIN)/snakemake --lint --configfile config/demo.yaml 2>&1 | grep '^    \* ' | grep -v 'Specify a conda environment or container'

format: $(READY)  ## reformat all code
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/snakefmt Snakefile rules

schema: $(READY)  ## generate config/schema.json from the configuration classes
	$(BIN)/speechft schema

lock: $(READY)  ## resolve envs/requirements.in again (needs `pip install uv` in .venv)
	cd envs && ../$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	  --no-emit-package torch --overrides overrides.txt requirements.in -o requirements.lock
	cd envs && ../$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	  --overrides overrides-cuda.txt cuda.in -o requirements-cuda.lock

release: $(READY)  ## build the wheel and the source package into dist/, and check them; nothing is uploaded
	@[ ! -e dist ] || { echo "dist/ exists already: move it away, so that nothing else is taken for this release"; exit 1; }
	$(BIN)/python -m hatchling build -d dist
	$(PIP) twine
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pytest -q tests/installation

clean:  ## remove .venv and results/demo; Snakemake's shared records are kept
	@if [ -e .venv/.made-by-make ] || [ -e .venv/.ready ]; then rm -rf .venv; elif [ -e .venv ]; then echo ".venv stays: make did not make it"; fi
	rm -rf results/demo
