# The commands for a newcomer; the rest is in scripts/ and `cargo xtask --help`.
.PHONY: help bench fuzz conformance conformance-full netpol crash workloads demo demo-down test
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' Makefile

demo: ## sets up what is missing, starts a cluster of its own and shows what separates two tenants (OUTPUT=json for programs)
	@scripts/demo -o $(or $(OUTPUT),table)

demo-down: ## removes everything that the demo started
	@scripts/demo down

test: ## sets up what is missing and passes every gate
	@scripts/test

bench: ## measures pods in machines beside pods on runc, what the boundary costs beside none, and the network enforcer; writes docs/benchmarks*.md
	@scripts/preflight --root && scripts/bench docs/benchmarks.md && scripts/bench-boundary docs/benchmarks-boundary.md && scripts/bench-network docs/benchmarks-network.md && scripts/bench-enforcer 2000 docs/benchmarks-network.md

crash: ## kills every part of a pod in every state of its life, and writes docs/crash-matrix.md
	@scripts/preflight --root && scripts/crash docs/crash-matrix.md

workloads: ## a database, a web server, a build and a JVM on runc and in machines, each with its container ended once
	@scripts/preflight --root && scripts/workloads

conformance: ## upstream's NodeConformance specs on runc and in machines, compared in docs/conformance.md; takes up where it ended
	@scripts/preflight --root && scripts/conformance node

conformance-full: ## the same with the serial, slow and disruptive ones
	@scripts/preflight --root && scripts/conformance full

netpol: ## upstream's NetworkPolicy specs with the network enforcer, on runc and in machines, in docs/netpol.md; takes up where it ended
	@scripts/preflight --root && scripts/conformance netpol

fuzz: ## searches for inputs that break what decoders and decisions promise (SECONDS=60 for each target)
	@scripts/preflight && scripts/fuzz $(or $(SECONDS),60)
