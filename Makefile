# What people and CI call. Everything else is cargo's.
.DEFAULT_GOAL := help
.PHONY: help build test lint bench bench-once bench-instructions bench-baseline install-test-tools \
	install-bench-tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, target/release/mcproxy
	cargo build --release

test: install-test-tools ## installs what the tests need, runs them all, ends with their counts
	@tests/run

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings

bench: ## the time of each part and of the whole core, by criterion: some minutes on a quiet machine
	RUSTFLAGS="$$RUSTFLAGS -Cpanic=abort" cargo bench --bench time

bench-once: ## each of these once, unoptimised, to see that it works
	cargo test --bench time

bench-instructions: install-bench-tools ## the instructions of each operation, against their baselines
	@benches/gate

bench-baseline: install-bench-tools ## makes the present figures the baselines
	@benches/gate --rewrite

install-bench-tools: ## valgrind and iai-callgrind's runner, where they are missing
	@benches/install

install-test-tools: ## memcached, Go with gomemcache and the Python clients, where they are missing
	@tests/install
