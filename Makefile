# make setup | demo | check | test | test-postgres | bench | lock: see README.md
VENV := .venv
PYTHON ?= python3
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
STAMP := $(VENV)/.complete
DEMO_DATA ?= .demo
# Two files at a time (see tests/conftest.py), in their order, so that the long ones come early.
BY_TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo check test test-postgres bench lock clean

setup: $(STAMP)

# --no-deps: the lock is whole, and leaves out what vLLM asks for and Doppel must not have (see pyproject.toml).
# The CPU build of PyTorch comes from wherever pip finds it, else from PyTorch's own index.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@echo "Setting up $(VENV): about three minutes and 5 GB of disk after downloads."
	@$(PYTHON) -c 'import sys; sys.exit("Doppel needs Python 3.11 or 3.12; name one with make PYTHON=python3.11") if not (3, 11) <= sys.version_info < (3, 13) else None'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@torch=$$(grep '^torch==' requirements.txt) && { $(PIP) install -q --no-deps "$$torch" 2>/dev/null \
		|| $(PIP) install -q --no-deps --index-url $(TORCH_INDEX) "$$torch"; }
	@$(PIP) install -q --no-deps -r requirements.txt -r requirements-dev.txt
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	@DOPPEL_DATA_DIR="$(DEMO_DATA)" $(VENV)/bin/python examples/demo.py $(ARGS)

# The gate: lint and format, types, and the rules of who imports whom and of what is documented.
check: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q tests/test_structure.py

test: check
	$(VENV)/bin/python -m pytest $(BY_TWO) $(ARGS)

# The same tests with every archive in Postgres, also those of the commands; `test` has the archive's own on both.
test-postgres: check
	$(VENV)/bin/python -m pytest $(BY_TWO) --database postgres $(ARGS)

# One benchmark against its peer, such as NAME=importing: see benchmarks/README.md.
bench: setup
	@$(VENV)/bin/python -m benchmarks.$(or $(NAME),$(error Name one: make bench NAME=importing, indexing, training, serving, sync or slack)) $(ARGS)

# Both locks from pyproject.toml. Needs uv; PyTorch's CPU index (or UV_FIND_LINKS) for the first.
LOCK := uv pip compile -q pyproject.toml --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--no-emit-find-links --no-emit-index-url --custom-compile-command "make lock"
lock:
	$(LOCK) --extra cpu $(if $(UV_FIND_LINKS),,--extra-index-url $(TORCH_INDEX) --index-strategy unsafe-best-match) -o requirements.txt
	$(LOCK) --extra cpu --extra dev -c requirements.txt $(if $(UV_FIND_LINKS),,--extra-index-url $(TORCH_INDEX) --index-strategy unsafe-best-match) -o requirements-dev.txt
	UV_FIND_LINKS= $(LOCK) --extra gpu -o requirements-gpu.txt

clean:
	rm -rf $(VENV) .demo
