# Each target sets up what it needs: `make demo`, `make test`, `make docs`.
PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs/demo
BIN := $(VENV)/bin
# Only its photographs are read (the extra `frost`): none of its dependencies.
TEXTURES := imagecorruptions==1.1.2

.PHONY: demo test test-all lint docs clean

# Trains the digits plainly and mollified (same network, same steps) and
# prints the two side by side.
demo: $(VENV)/.train
	$(BIN)/python -m mollify_jax.main --config=configs/digits.py:plain \
	  --config.eval.corruptions=none --workdir=$(RUNS)/plain
	$(BIN)/python -m mollify_jax.main --config=configs/digits.py \
	  --config.eval.corruptions=none --workdir=$(RUNS)/mollified
	$(BIN)/python -m mollify_jax.evaluation.reports \
	  $(RUNS)/plain $(RUNS)/mollified

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m "not slow and not reference"

# Also the long suites, and the full reference set where it lies beside the
# checkout.
test-all: $(VENV)/.test
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The site, into site/; needs no network once the packages are there.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: $(VENV)/bin/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.test: $(VENV)/.train
	$(BIN)/python -m pip install --quiet --editable '.[train,data,docs,test]'
	$(BIN)/python -m pip install --quiet --no-deps $(TEXTURES)
	touch $@

$(VENV)/.docs: $(VENV)/.train
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) runs site
