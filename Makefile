# Every target makes .venv first. The first two of interest: make recipe-librispeech, make test.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup test lint bench soak help
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z_%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 24

setup: .venv/.complete  ## make .venv with everything the project needs

.venv/.complete: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,synthetic]'
	@touch $@

test: setup  ## the tests, a few minutes
	$(BIN)/python -m pytest -m "not soak"

soak: setup  ## the tests that take long
	$(BIN)/python -m pytest -m soak

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## the LSTM against torch.nn.LSTM, the beam search against others; FULL=1 for more sizes
	$(BIN)/python tools/bench_lstm.py
	$(BIN)/python tools/bench_decoding.py

recipe-language_model: setup  ## LSTM language model of TEXT=file
	$(BIN)/asr-lstm lm train --kind lstm --config recipes/language_model/characters.yaml $(if $(TEXT),--text "$(TEXT)") $(ARGS)

recipe-dropout_study: setup  ## kinds of dropout side by side, on DATA=folder of digits
	$(BIN)/asr-lstm study recipes/dropout_study $(ARGS)

# Variables such as LIBRISPEECH=/path reach the recipe through the environment (`environment:` in its
# recipe.yaml says which option each one sets); ARGS="--training.epochs 3" sets any option.
recipe-%: setup  ## run recipes/NAME: prepare, train, decode, score, report
	$(BIN)/asr-lstm recipe recipes/$* $(ARGS)
