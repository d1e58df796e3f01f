# "make help" lists what there is. Go alone is enough for all but interop.

.DEFAULT_GOAL := help
.PHONY: help browser charts packages release-check cross structure build demo test stress chaos scale interop check vuln fuzz bench bench-quick microbench

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s

# The race detector needs cgo, and that a C compiler.
RACE := $(shell command -v $$(go env CC) >/dev/null 2>&1 && echo yes)
ifeq ($(RACE),yes)
GOTEST := CGO_ENABLED=1 go test -race
else
GOTEST := CGO_ENABLED=0 go test
endif

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/kafka-sni-proxy, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/kafka-sni-proxy ./cmd/kafka-sni-proxy

demo: ## run a cluster in memory, the proxy and clients for a few seconds, and say what happened
	go run ./demo

test: ## run all tests, with the race detector where there is a C compiler
	$(GOTEST) -timeout 10m -skip '^TestBrowser' ./...
ifeq ($(RACE),yes) # which counts allocations wrong
	CGO_ENABLED=0 go test -run Allocates ./internal/...
endif

# The packages with concurrency, and how often each runs its tests within about three
# minutes on two cores. One that is not there is left out.
STRESS_COUNTS := internal/tlswire:200 internal/cluster:200 internal/session:200 internal/server:5 \
	internal/route:100 internal/kafka:8 internal/admin:10 internal/reload:60 internal/dial:20 cmd/kafka-sni-proxy:3
STRESS ?= $(shell git rev-list --count HEAD 2>/dev/null || echo 0)

browser: ## try the status page in Chromium, with axe (needs Chromium and npm); SCREENSHOTS=DIR for pictures, COST=60s to measure longer
	npm --prefix internal/page/testdata/browser install --no-audit --no-fund --no-package-lock --ignore-scripts
	KAFKA_SNI_PROXY_BROWSER=required KAFKA_SNI_PROXY_SCREENSHOTS=$(SCREENSHOTS) KAFKA_SNI_PROXY_PAGE_COST=$(COST) go test -count=1 -timeout 15m -v -run '^TestBrowser' ./internal/page

stress: ## run the tests of one package again and again, of another one after each commit; of all with STRESS=all
	@set -e; set --; for entry in $(STRESS_COUNTS); do \
		if go list ./$${entry%:*} >/dev/null 2>&1; then set -- "$$@" "$$entry"; fi; \
	done; \
	if [ "$(STRESS)" != all ]; then shift $$(( $(STRESS) % $$# )); set -- "$$1"; fi; \
	for entry; do \
		echo "== $${entry%:*}, $${entry#*:} times"; \
		$(GOTEST) -count=$${entry#*:} -timeout 15m -skip '^TestBrowser' ./$${entry%:*}; \
	done

chaos: ## break everything around the proxy for ten minutes, and see that nothing is lost (Linux)
	go run ./chaos

scale: ## hold 9 000 idle connections, 2 000 busy ones, and take 5 000 handshakes at once (Linux)
	go run ./chaos --scale

interop: ## test with real Apache Kafka and real clients (needs Java and Maven)
	go run ./interop

check: ## check format, go.mod, vet and staticcheck
	@unformatted="$$(gofmt -l $$(go list -f '{{.Dir}}' ./...))"; \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	@go mod tidy -diff || { echo "go.mod or go.sum is not tidy: run go mod tidy"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

charts: ## render the Helm chart and the Kustomize manifests, and check each object (see docs/kubernetes.md)
	cd contrib/checks && gofmt -l . | (! grep .)
	cd contrib/checks && go mod tidy -diff && go vet . ./core
	cd contrib/checks && go test -count=1 -timeout 10m .

packages: ## build archives, .deb, .rpm, SBOMs and checksums for all platforms into dist/
	go -C packaging run ./build

cross: ## see that it builds for each operating system and processor
	@set -e; for os in linux darwin windows freebsd; do for arch in amd64 arm64; do \
		echo "$$os/$$arch"; CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -o /dev/null ./cmd/kafka-sni-proxy; \
	done; done

release-check: ## use each package: install, upgrade under load, remove, purge (root, on Debian; see docs/packages.md)
	gofmt -l packaging | (! grep .)
	cd packaging && go mod tidy -diff && go vet -tags packages ./...
	cd packaging && go test -count=1 -timeout 10m -v -tags packages ./...

vuln: ## look the dependencies up in Go's vulnerability database (needs the network)
	go tool govulncheck ./...

fuzz: ## run each fuzz target for FUZZTIME (30s)
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' cmd internal | xargs -n1 dirname | sort -u); do \
		for target in $$(go test -list '^Fuzz' ./$$dir | grep '^Fuzz'); do \
			echo "== $$target ($$dir)"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$dir; \
		done; \
	done

bench: ## measure the proxy beside others, into docs/benchmarks (ten minutes, on a quiet machine; Linux)
	go run ./bench

bench-quick: ## a rough picture of the same within a minute
	go run ./bench --quick

structure: ## measure how the packages are built: files, exported names, references between files
	go run ./internal/harness/structure

microbench: ## run the benchmarks of single functions
	CGO_ENABLED=0 go test -run '^$$' -bench . -benchmem ./internal/...
