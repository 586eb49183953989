# What people and CI call. Everything else is cargo's.
.DEFAULT_GOAL := help
.PHONY: help build test lint install-test-tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, target/release/mcproxy
	cargo build --release

test: install-test-tools ## installs what the tests need, runs them all, ends with their counts
	@tests/run

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings

install-test-tools: ## memcached, Go with gomemcache and the Python clients, where they are missing
	@tests/install
