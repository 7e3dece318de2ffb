# Two commands for a newcomer; the rest is in scripts/ and `cargo xtask --help`.
.PHONY: help test
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

test: ## sets up what is missing and passes every gate
	@scripts/test
