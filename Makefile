# Every target makes its own virtual environment first; a second call finds it ready.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
# The second environment sees the first: only what it has more is installed in it.
PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready-$(shell cat pyproject.toml constraints.txt tests/peers/requirements.txt | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-shortcut test real peers lint bench weights clean

help:
	@echo "make demo           gate the packaged demo model on its explanations"
	@echo "make demo-shortcut  the same gates on a model that looks at a watermark: they fail"
	@echo "make test           all tests that need no large weights"
	@echo "make real           the tests on real weights and images, where ../shared/data is there"
	@echo "make peers          our metrics beside Quantus's, in an environment of their own"
	@echo "make lint           ruff, mypy, import contracts"
	@echo "make bench          speed and memory against references in the same run"
	@echo "make weights        train the demo models again, from scratch"

$(READY):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/.ready-* && touch $@

PURELIB := -c "import sysconfig; print(sysconfig.get_path('purelib'))"

$(PEERS_READY): $(READY)
	test -x $(PEERS)/bin/python || $(BIN)/python -m venv --without-pip $(PEERS)
	$(BIN)/python -m pip --python $(PEERS) install --quiet --disable-pip-version-check --no-deps \
		-r tests/peers/requirements.txt
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" \
		> "$$($(PEERS)/bin/python $(PURELIB))/first-environment.pth"
	@rm -f $(PEERS)/.ready-* && touch $@

setup: $(READY)

demo: $(READY)
	$(BIN)/pytest --xai-model demo

demo-shortcut: $(READY)
	$(BIN)/pytest --xai-model demo-shortcut

# The tests' models are tiny: on a busy machine OpenMP threads only wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m "not real"

real: $(READY)
	$(BIN)/pytest -m real

peers: $(PEERS_READY)
	OMP_NUM_THREADS=1 $(PEERS)/bin/python -m pytest tests/peers -o python_files='peer_*.py'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/paper/study.py examples/densenet121/train.py \
		examples/explainers/survey.py examples/metrics/separation.py examples/metrics/centring.py \
		examples/concepts/verdicts.py examples/concepts/type_one.py \
		examples/power/coverage.py
	$(BIN)/mypy examples/power/study.py
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/pytest tests/benchmarks -o python_files='bench_*.py'

weights: $(READY)
	$(BIN)/python -m xai_core.demo.train

clean:
	rm -rf $(VENV) $(PEERS) .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks *.egg-info
