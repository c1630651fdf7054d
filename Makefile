# `make demo` installs and runs the main job on the embedded sample; `make test` installs, lints and tests.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
WORKERS ?= 2
BIN := $(abspath $(VENV))/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo lint test test-slow test-faults test-cluster test-gpu clean

demo: install
	rm -rf $(DEMO) && mkdir -p $(DEMO)
	cd $(DEMO) && $(BIN)/radtune cohort sample --out cohorts/sample
	cd $(DEMO) && $(BIN)/radtune run $(CURDIR)/configs/sample_probe.yaml
	cd $(DEMO) && $(BIN)/radtune run $(CURDIR)/configs/sample_fine_tune.yaml
	cd $(DEMO) && $(BIN)/radtune analyze runs/sample-probe runs/sample-fine-tune
	cd $(DEMO) && $(BIN)/radtune compare --cohort cohorts/sample --encoder phantom-clip --features projected,deep --out comparisons/sample
	cd $(DEMO) && $(BIN)/radtune export runs/sample-probe --out exports/sample --with-encoder
	@echo
	@echo "report:  $(DEMO)/runs/sample-probe/analysis/report.html"
	@echo "         $(DEMO)/runs/sample-fine-tune/analysis/report.html (fine-tuning compared with the probe)"
	@echo "         $(DEMO)/comparisons/sample/report.html (the encoder beside raw pixels)"
	@echo "export:  $(DEMO)/exports/sample"
	@echo "MLflow:  cd $(DEMO) && $(BIN)/radtune ui"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope

test-slow: install
	$(BIN)/python -m pytest -m 'slow and not fault and not cluster' --durations=10
	$(BIN)/python -m pytest --hypothesis-profile thorough tests/hostile

test-faults: install
	$(BIN)/python -m pytest -m 'not cluster and not gpu' --durations=10 tests/faults

test-cluster: install
	$(BIN)/python -m pytest -m cluster --durations=10

test-gpu: install
	$(BIN)/python -m pytest -m gpu

clean:
	rm -rf $(VENV) $(DEMO)
