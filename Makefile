# make setup | demo | check | test | test-fast | test-postgres | bench | lock: see README.md
VENV := .venv
PYTHON ?= python3
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
STAMP := $(VENV)/.complete
DEMO_DATA ?= .demo
# Three files at a time (see tests/conftest.py), in their order, so that the long ones come early. Two cores are not busy
# with two: tests wait for servers, clocks and each other.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo check test test-fast test-postgres bench lock clean

setup: $(STAMP)

# --no-deps: the lock is whole, and leaves out what vLLM asks for and Doppel must not have (see pyproject.toml).
# --require-hashes: nothing is installed that isn't byte for byte what was locked. The CPU build of PyTorch comes from
# wherever pip finds it, else from PyTorch's own index. -q -q: of all that pip says, errors.
LOCKED := $(PIP) install -q -q --no-deps --require-hashes
WRONG := echo "Setting up stopped at what pip says above. Where it speaks of hashes, a file is not what was locked: \
	don't install it by hand; try again, and if it stays, ask whoever runs your package index." >&2; exit 1
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@echo "Setting up $(VENV): 5 GB of disk; how long it takes depends on the downloads."
	@$(PYTHON) -c 'import sys; sys.exit("Doppel needs Python 3.11 or 3.12; name one with make PYTHON=python3.11") if not (3, 11) <= sys.version_info < (3, 13) else None'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "  PyTorch"
	@sed -n '/^torch==/,/[^\\]$$/p' requirements.txt > $(VENV)/torch.txt
	@$(LOCKED) -r $(VENV)/torch.txt 2>/dev/null || $(LOCKED) -r $(VENV)/torch.txt --index-url $(TORCH_INDEX) || { $(WRONG); }
	@echo "  $$(grep -c '^[a-z].*==' requirements-dev.txt) packages"
	@$(LOCKED) -r requirements.txt -r requirements-dev.txt || { $(WRONG); }
	@echo "  Doppel"
	@$(PIP) install -q -q --no-deps --no-build-isolation -e . || { $(WRONG); }
	@touch $@

demo: setup
	@DOPPEL_DATA_DIR="$(DEMO_DATA)" $(VENV)/bin/python examples/demo.py $(ARGS)

# The gate: lint and format, types, and the rules of who imports whom and of what is documented.
check: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q tests/unit/test_structure.py

# The quick ones: parts by themselves.
test-fast: setup
	$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) tests/unit $(ARGS)

# Without what `check` ran already.
REST := --ignore tests/unit/test_structure.py

test: check
	$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) $(REST) $(ARGS)

# The same tests with every archive in Postgres, also those of the commands; `test` has the archive's own on both.
test-postgres: check
	$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) $(REST) --database postgres $(ARGS)

# One benchmark against its peer, such as NAME=importing: see benchmarks/README.md.
bench: setup
	@$(VENV)/bin/python -m benchmarks.$(or $(NAME),$(error Name one: make bench NAME=importing, indexing, training, serving, sync, question, slack, followups, abstention or answers)) $(ARGS)

# The locks from pyproject.toml, each package with the hashes of all its files, so that one lock serves both Pythons: pip
# takes what the index gives only if its hash is there. The index tells them; those of PyTorch's CPU build stand in
# docs/make_torch_hashes.py, as a folder of wheels knows its own files only. A package that one Python alone asks for is
# named in pyproject.toml; a lock that isn't whole for the other is an error. Needs uv, and PyTorch's CPU index or, in
# UV_FIND_LINKS, a folder with its wheels.
LOCK := uv pip compile -q pyproject.toml --python-platform x86_64-manylinux_2_28 --no-emit-find-links \
	--no-emit-index-url --custom-compile-command "make lock"
HASHED := $(LOCK) --python-version 3.11 --generate-hashes
TORCH_FROM := $(if $(UV_FIND_LINKS),,--extra-index-url $(TORCH_INDEX) --index-strategy unsafe-best-match)
lock:
	$(HASHED) --extra cpu $(TORCH_FROM) -o requirements.txt
	$(HASHED) --extra cpu --extra dev -c requirements.txt $(TORCH_FROM) -o requirements-dev.txt
	UV_FIND_LINKS= $(HASHED) --extra gpu -o requirements-gpu.txt
	$(PYTHON) docs/make_torch_hashes.py requirements.txt requirements-dev.txt
	UV_FIND_LINKS= $(LOCK) --python-version 3.12 --extra gpu -c requirements-gpu.txt | $(PYTHON) docs/make_torch_hashes.py --same requirements-gpu.txt

clean:
	rm -rf $(VENV) .demo
