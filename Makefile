# One command each, the same by hand and in .ci/run. Plain `make` lists them.

VERSION ?= 0.1.0-dev
GIT_SHA := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X keelson/config.Version=$(VERSION) -X keelson/config.GitSHA=$(GIT_SHA)

# Packages whose goroutines or locks deserve the race detector; the rest is single-threaded by design.
RACE := ./api/... ./dev/... ./http1/... ./internal/logging/... ./leader/... ./node/... ./proxy/... ./raftlog/... ./replica/... ./rpc/... ./server/... ./snapshot/... ./state/... ./storage/... ./transport/... ./watch/...

TESTFLAGS ?= -timeout=45m
SEED ?= 0
SEEDS ?= 12
STEPS ?= 3000
FUZZTIME ?= 5s
DURATION ?= 1h
BENCHFLAGS ?=
E2EFLAGS ?=
KUBEFLAGS ?=
PROGRAMFLAGS ?=
DATA_DIR ?= default.etcd
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.DEFAULT_GOAL := list

.PHONY: list
list: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/keelson, static
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/keelson ./cmd/keelson
	ln -sf keelson bin/etcd
	ln -sf keelson bin/etcdctl
	ln -sf keelson bin/etcdutl

.PHONY: docs
docs: build ## Write docs/cli.md and the man pages from the commands
	rm -rf docs/man
	bin/keelson document docs

.PHONY: run
run: build ## Run one member on 127.0.0.1:2379, data in DATA_DIR
	@echo "serving on 127.0.0.1:2379, data in $(DATA_DIR); stop with Ctrl-C"
	bin/keelson serve --data-dir $(DATA_DIR) --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379

.PHONY: run-cluster
run-cluster: build ## Run a cluster of three members on this machine, data in keelson-dev
	bin/keelson dev --members 3

.PHONY: test
test: build ## Run all tests, those that compare with etcd itself included
	go test $(TESTFLAGS) ./...
	# These run bin/keelson, of which Go's cache of results knows nothing.
	cd peer && go test -count=1 $(TESTFLAGS) ./...
	cd peer/dashboards && go test -count=1 $(TESTFLAGS) ./...
	cd peer/clients && go test -count=1 $(TESTFLAGS) ./...

.PHONY: test-etcd-e2e
test-etcd-e2e: build ## Run etcd's own end-to-end tests against bin/ (E2EFLAGS='-quick', '-run TestCtlV3Get', ...)
	cd peer && go run ./etcdtests -bin ../bin $(E2EFLAGS)

.PHONY: test-etcd-robustness
test-etcd-robustness: build ## Judge clusters of bin/ under faults by the model of etcd's robustness tests (E2EFLAGS='-quick', '-run Kubernetes', ...)
	cd peer && go run ./etcdtests -bin ../bin -suite robustness $(E2EFLAGS)

.PHONY: test-kubernetes
test-kubernetes: build ## Run the tests of Kubernetes' storage against bin/etcd (KUBEFLAGS='-packages etcd3 -run TestWatch', ...)
	cd peer && go run ./kubetests -bin ../bin $(KUBEFLAGS)

.PHONY: test-programs
test-programs: build ## Run what programs that use etcd publish as tests against bin/etcd (PROGRAMFLAGS='-run vault', ...)
	cd peer && go run ./programs -etcd ../bin/etcd $(PROGRAMFLAGS)

.PHONY: race
race: ## Run the tests of concurrent packages under the race detector
	go test -race $(RACE)

.PHONY: sim
sim: ## Simulate clusters of one, three, five and seven members under faults (SEED=, SEEDS=, STEPS=)
	go test ./sim -run 'TestSim$$' -v -count=1 -seed=$(SEED) -seeds=$(SEEDS) -steps=$(STEPS)

.PHONY: sim-mutants
sim-mutants: ## Check that the simulation finds every deliberate bug
	go run ./sim/mutants

.PHONY: soak
soak: ## Simulate new seeds until DURATION is over
	go test ./sim -run 'TestSim$$' -count=1 -timeout=0 -for=$(DURATION) -steps=$(STEPS) -calm=8

.PHONY: chaos
chaos: ## Real clusters in trouble until one breaks a promise (DURATION=, SEED=); needs root; logs stay in bin/chaos
	mkdir -p bin/chaos
	go test ./cmd/keelson -run 'TestChaos$$' -v -count=1 -timeout=0 -artifacts -outputdir=$(CURDIR)/bin/chaos \
		-chaos-seed=$(SEED) -chaos-faults=30 -chaos-duration=$(DURATION)

.PHONY: generate
generate: ## Write the Go code of our .proto files again
	cd internal/protogen && go run .

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME each
	@go list ./... | while read -r package; do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

.PHONY: bench
bench: ## Run the benchmarks of all packages
	go test -run '^$$' -bench . -benchmem -benchtime 200ms ./...

.PHONY: bench-etcd
bench-etcd: build ## Compare with etcd on this machine (BENCHFLAGS='-quick -run cluster-', '-list', ...)
	cd peer && go run ./benchetcd -keelson ../bin/keelson $(BENCHFLAGS)

.PHONY: lint
lint: ## Check form, conventions and common mistakes
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go test -count=1 ./internal/lint
	go run $(STATICCHECK) ./...

.PHONY: cross
cross: ## Build for the other platforms
	@for platform in linux/amd64 linux/arm64 darwin/arm64 freebsd/amd64 openbsd/amd64 netbsd/amd64; do \
		echo "$$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} go build -trimpath -o /dev/null ./cmd/keelson || exit 1; \
	done
