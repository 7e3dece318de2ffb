# The commands for a newcomer; the rest is in scripts/ and `cargo xtask --help`.
.PHONY: help demo demo-down test conformance conformance-full
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: ## sets up what is missing, starts a cluster of its own and shows what separates two tenants (OUTPUT=json for programs)
	@scripts/demo -o $(or $(OUTPUT),table)

demo-down: ## removes everything that the demo started
	@scripts/demo down

test: ## sets up what is missing and passes every gate
	@scripts/test

conformance: ## upstream's NodeConformance specs on runc and in machines, compared in docs/conformance.md; takes up where it ended
	@scripts/conformance node

conformance-full: ## the same with the serial, slow and disruptive ones
	@scripts/conformance full
