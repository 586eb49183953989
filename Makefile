# What people and CI call. Everything else is cargo's.
.DEFAULT_GOAL := help
.PHONY: help build test lint sim soak canaries placement-oracles placement-table bench bench-once bench-instructions \
	bench-baseline install-test-tools install-bench-tools perf perf-instructions flamegraph fuzz fuzz-once miri deny

# Where cargo puts what it builds; what only measures goes there too.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The release profile with debug information, in a folder of its own, for callgrind and perf.
PROFILING := CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release --bin mcproxy --target-dir $(TARGET)/profiling
# Debian's Python has Debian's modules. A name for this machine in the results: make perf HOST=name
PYTHON := /usr/bin/python3
RESULTS := --output $(if $(QUICK),$(TARGET)/perf --quick,perf/results) $(if $(HOST),--host $(HOST))

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, target/release/mcproxy
	cargo build --release

test: install-test-tools ## installs what the tests need, runs them all, ends with their counts
	@tests/run

sim: ## SEEDS=1000000 worlds of the simulator, optimised, from FIRST=0 on; stops at the first that fails
	SEEDS=$(or $(SEEDS),1000000) FIRST=$(or $(FIRST),0) cargo test --release --test sim -- --nocapture many_seeds

soak: ## MINUTES=30 of everything at once over real sockets, optimised: faults, bad clients; what it cost at the end
	MCPROXY_TEST_SECONDS=$$(($(or $(MINUTES),30) * 60)) cargo test --release --test soak -- --nocapture --test-threads 2

canaries: ## builds with a mistake in them, each of which the simulator must find
	cargo test --test canaries -- --nocapture

placement-oracles: ## asks the libraries that placements stand in for; RECORD=1 writes down what they say
	@tests/oracles/install
	MCPROXY_PLACEMENT_ORACLES=$(if $(RECORD),record,all) cargo test --test placement_oracles

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings
	cargo fmt --manifest-path fuzz/Cargo.toml --check

bench: ## the time of each part and of the whole core, by criterion: some minutes on a quiet machine
	RUSTFLAGS="$$RUSTFLAGS -Cpanic=abort" cargo bench --bench time

bench-once: ## each of these once, unoptimised, to see that it works
	cargo test --bench time

bench-instructions: install-bench-tools ## the instructions of each operation, against their baselines
	@benches/gate

bench-baseline: install-bench-tools ## makes the present figures the baselines
	@benches/gate --rewrite

placement-table: ## how evenly each placement spreads keys, and how many move; the README has the table
	cargo run --release --quiet --example placement-table

fuzz: ## all fuzz targets, SECONDS=60 each, two at a time; fuzz/README.md says what they compare
	@fuzz/run $(or $(SECONDS),60)

fuzz-once: ## each fuzz target over its corpus and 20 seconds more, and that wrong oracles are noticed
	@fuzz/run --once

miri: ## the tests of the scanner and of its twin under Miri; some minutes
	rustup component add --toolchain nightly miri rust-src
	cargo +nightly miri test --target-dir $(TARGET)/miri --lib protocol::scan

deny: ## cargo-deny of licences, sources and wildcards; built first if need be, some minutes
	cargo install --quiet --debug --locked --root $(TARGET)/tools cargo-deny@0.20.2
	PATH="$(abspath $(TARGET))/tools/bin:$$PATH" cargo deny check licenses bans sources

install-bench-tools: ## valgrind and iai-callgrind's runner, where they are missing
	@benches/install

install-test-tools: ## memcached, nutcracker, Go with gomemcache and the Python clients, where they are missing
	@tests/install

perf: ## mcproxy beside its peers, into perf/results (about 17 minutes); QUICK=1: a smoke run of a minute
	@perf/install
	cargo build --release
	@$(PYTHON) perf/run.py --bin $(TARGET)/release $(RESULTS)

perf-instructions: ## user-space instructions per operation, by callgrind, into perf/results (about 5 minutes)
	@perf/install memcached valgrind python3
	cargo build --release --bin mcproxy-bench
	$(PROFILING)
	@$(PYTHON) perf/instructions.py --bin $(TARGET)/profiling/release --bench $(TARGET)/release/mcproxy-bench $(RESULTS)

flamegraph: ## a flame graph of mcproxy under load, into perf/results; WORKLOAD=pipeline-16 for another load
	@perf/install memcached linux-perf python3
	cargo install --quiet --locked --root $(TARGET)/tools inferno@0.12.8
	cargo build --release --bin mcproxy-bench
	$(PROFILING)
	@$(PYTHON) perf/flamegraph.py --bin $(TARGET)/profiling/release --bench $(TARGET)/release/mcproxy-bench \
		--inferno $(TARGET)/tools/bin $(RESULTS) $(if $(WORKLOAD),--workload $(WORKLOAD))
