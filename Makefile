# Every command of the project. CI calls these and nothing else.
.POSIX:
.DEFAULT_GOAL := help
.PHONY: help build client package package-nif run watch cluster test otp27 hostile conformance chaos soak fuzz models sanitize lint deny dialyzer bench picture clean

# How long each target of `make fuzz` runs.
SECONDS = 60

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1	\2/p' Makefile

build: ## the application, loadable at _build/default/lib/dev_websocket
	@.ci/requirements build
	rebar3 compile

package: build ## the device as newer HyperBEAM nodes package it: see docs/PACKAGING.md
	@native/package.sh

package-nif: build ## the native library for machines like this one: see docs/DEPLOYING.md
	@native/package-nif.sh

client: ## the packages of the JavaScript and Python clients, in _build/client
	@.ci/requirements test
	@clients/pack

chaos: build ## the clients behind a proxy that cuts, stalls and refuses: RECONNECTS=1000 RATE=2000
	@.ci/requirements build test
	@RECONNECTS="$(RECONNECTS)" RATE="$(RATE)" test/e2e/chaos

run: build ## a VM with the device and a feed of recorded process results
	@examples/feed/run

watch: ## print the messages of a topic: make watch TOPIC=prices
	@URI="$(URI)" TOPIC="$(TOPIC)" examples/feed/watch

cluster: ## three VMs that share one stream of a nats-server: see docs/CLUSTER.md
	@DEV_WEBSOCKET_FEATURES=nats $(MAKE) build
	@examples/cluster/run

test: ## all tests: Rust, Erlang, as a dependency, real clients end to end, and the Autobahn suite
	@.ci/requirements build test browser proxies monitoring otp27
	@$(MAKE) build
	@test/run

otp27: build ## the tests of Erlang and end to end on Erlang/OTP 27, in a Debian 13 root below _build; needs root
	@.ci/requirements test otp27
	@test/otp27

hostile: build ## long tests with hostile clients, and their cost for other clients
	@.ci/requirements build test hostile
	@test/hostile/run

conformance: build ## the Autobahn test suite against an echo through Erlang
	@.ci/requirements build test
	@test/conformance/run

soak: build ## all kinds of clients at full speed for MINUTES=30: see test/soak/
	@.ci/requirements build test
	@MINUTES="$(MINUTES)" SEED="$(SEED)" RECORD="$(RECORD)" test/soak/run

lint: ## format, clippy, xref, layout and language
	@.ci/requirements build test
	test/layout
	test/words
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo fmt --manifest-path native/fuzz/Cargo.toml --check
	cargo metadata --manifest-path native/fuzz/Cargo.toml --format-version 1 --locked >/dev/null
	for crate in load peers/uws peers/axum; do cargo update --quiet --workspace --locked --manifest-path "bench/$$crate/Cargo.toml" || exit 1; done
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

models: ## model checking of shared state, with more preemptions than make test
	LOOM_MAX_PREEMPTIONS=3 cargo test --package dev_websocket_models --locked

sanitize: ## tests under the sanitizers and Miri, as far as the toolchains are there
	@.ci/requirements build test
	@test/sanitize

bench: build ## measure against other servers: see bench/
	python3 bench/run.py

picture: build ## docs/live-page.png and docs/live-page/: the live page with the feed of `make run`, crowded, and without its server
	@.ci/requirements build test browser proxies
	@PYTHONPYCACHEPREFIX=_build/e2e/pycache $$(test/e2e/prepare) test/e2e/picture.py docs

clean: ## remove everything that was built
	rm -rf _build priv target
