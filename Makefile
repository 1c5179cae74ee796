# One command each, on a fresh clone with nothing prepared: make chat, make test, make check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# stamps: an install runs again only when what it depends on has changed
$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

NATIVE := $(wildcard engine/native/* engine/native/isa/*)
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt $(NATIVE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev
	touch $@

.PHONY: install dev chat test check format clean sanitize sanitize-threads
install: $(VENV)/.installed
dev: $(VENV)/.dev

chat: install  ## set up .venv, install, open the chat
	@$(BIN)/dsv3chat

test: dev  ## set up .venv and run the tests, on two processes of one torch thread each; a file's tests stay together
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: dev  ## formatting, lints, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

sanitize: SANITIZER := address,undefined
sanitize-threads: SANITIZER := thread
sanitize sanitize-threads:  ## the native kernels under a sanitizer: needs cmake and a C++20 compiler, no Python
	cmake -S engine/native -B build/$@ -DCMAKE_BUILD_TYPE=Debug -DDSV3CHAT_SANITIZE=$(SANITIZER)
	cmake --build build/$@ --parallel 2
	build/$@/stress

format: dev  ## what `make check` would complain about and a tool can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
