PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Two threads are an order of magnitude slower than one on many shared machines, so tests pin one.
ONE    := OMP_NUM_THREADS=1

.PHONY: demo test test-all check format bench clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/freehold demo

test: $(VENV)/installed
	$(ONE) $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-all: $(VENV)/installed
	$(ONE) $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed
	$(ONE) $(BIN)/python -m benchmarks.speed

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
