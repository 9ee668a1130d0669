# Every command of the project. CI calls these and nothing else.
.POSIX:
.DEFAULT_GOAL := help
.PHONY: help build package run watch test lint deny dialyzer fuzz models sanitize bench clean

# How long each target of `make fuzz` runs.
SECONDS = 60

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

build: ## the application, loadable at _build/default/lib/dev_websocket
	@.ci/requirements build
	rebar3 compile

package: build ## the device as newer HyperBEAM nodes package it: see docs/HYPERBEAM.md
	@native/package.sh

run: build ## a VM with the device and a feed of recorded process results
	@examples/feed/run

watch: ## what a subscriber gets: make watch TOPIC=prices
	@URI="$(URI)" TOPIC="$(TOPIC)" examples/feed/watch

test: ## all tests: Rust, Erlang, as a dependency, and real clients end to end
	@.ci/requirements build test
	@$(MAKE) build
	@test/run

lint: ## format, clippy and xref
	@.ci/requirements build test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo fmt --manifest-path native/fuzz/Cargo.toml --check
	cargo metadata --manifest-path native/fuzz/Cargo.toml --format-version 1 --locked >/dev/null
	rebar3 xref
	@if command -v cargo-deny >/dev/null 2>&1; then $(MAKE) deny; else echo 'make deny: cargo-deny is not installed'; fi

deny: ## licences, sources and duplicates of dependencies; needs cargo install cargo-deny
	cargo deny --workspace --locked check bans licenses sources

dialyzer: ## types of the Erlang side; the first run takes minutes
	@.ci/requirements build test
	rebar3 dialyzer

fuzz: ## search for inputs that break a rule: make fuzz SECONDS=600 TARGET=topics
	@.ci/requirements build test fuzz
	@test/fuzz/run "$(SECONDS)" $(TARGET)

models: ## every order of events of what threads share, further than make test goes
	LOOM_MAX_PREEMPTIONS=3 cargo test --package dev_websocket_models --locked

sanitize: ## tests under the sanitizers and Miri, as far as the toolchains are there
	@.ci/requirements build test
	@test/sanitize

bench: build ## measure against other servers: see bench/
	python3 bench/run.py

clean: ## remove everything that was built
	rm -rf _build priv target
