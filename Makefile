# make demo    set up, synthesise a small dataset, extract, train: nothing is downloaded but packages
# make test    the test suite
# make check   ruff, mypy, import-linter, codespell
# make bench   the benchmarks against other systems

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test check bench clean

# A stamp, so that the environment is made again when what it is made of changes.
.venv/.made: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[extract,train,dev]'
	touch $@

demo: .venv/.made
	$(BIN)/ser-extract --config configs/extract/demo.yaml
	$(BIN)/ser-train --store stores/demo.zarr --config configs/train/demo.yaml

test: .venv/.made
	$(BIN)/pytest -n 2 --dist loadfile

check: .venv/.made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: .venv/.made
	$(BIN)/python tests/benchmarks/extraction
	$(BIN)/python tests/benchmarks/store
	$(BIN)/python tests/benchmarks/training

clean:
	rm -rf .venv build *.egg-info .*_cache
