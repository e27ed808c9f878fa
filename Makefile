# make check   the fast gate: format, vet, staticcheck, tests with the race detector, tidy
# make test    all of it: check, and the end-to-end tests with real SDKs and a real browser, installing what they need
# make firefox the connect page in Firefox, which FIREFOX names or apt-get install firefox-esr brings
# make torture the long form of the torture test: until there were KILLS kills and DURATION has passed, as SEED plans it
# make soak    the router for DURATION at half of its speed with a HubSpot that comes and goes; the report goes to docs/soak.md
# make overload  16,384 connections at once, and NAMES persons and names of events
# make bench   benchmarks
# make fuzz    each fuzz target for FUZZTIME

SHELL       := bash
GO          ?= go
GOFUMPT     ?= mvdan.cc/gofumpt@v0.12.0
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 20s
BENCHTIME   ?= 1s
SEED        ?= 1
KILLS       ?= 200

# The race detector watches all but SQLite, C made into Go that shares no memory with us: to watch it took three quarters of the time of the store's tests.
export GOFLAGS := $(shell $(GO) env GOFLAGS) -gcflags=modernc.org/...=-race=false

# The race detector lets a program that ends wait for a second if nobody says less.
export GORACE ?= atexit_sleep_ms=50

# The end-to-end tests are a module's ordinary packages below e2e; check leaves them out.
# Those that take longest begin first, so that no processor is idle at the end.
UNIT = $$($(GO) list ./... | grep -v /e2e | awk '/\/(router|store|filters|docs)$$/ { print; next } { rest = rest $$0 "\n" } END { printf "%s", rest }')

.PHONY: build check fmt vet staticcheck unit tidy test e2e firefox torture tools soak overload bench fuzz

build:
	$(GO) build -trimpath -o bin/router ./cmd/router

check: fmt vet staticcheck unit tidy

fmt:
	@out=$$($(GO) run $(GOFUMPT) -l . ); if [ -n "$$out" ]; then echo "not formatted (gofumpt):"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

# vet has run, whole.
unit:
	$(GO) test -race -vet=off -shuffle=on -timeout 15m $(VERBOSE) $(UNIT)

tidy:
	$(GO) mod tidy -diff

# With -v, so that a failure in CI stands beside what ran before it.
test: VERBOSE = -v
test: check e2e

# One package after the other: each has the machine for its processes. Within one, tests that wait do so together.
e2e: tools
	$(GO) build -race -ldflags=-w -o bin/router-race ./cmd/router
	E2E_ROUTER=$(CURDIR)/bin/router-race $(GO) test -race -vet=off -shuffle=on -timeout 10m -p 1 -parallel 4 -v -count=1 ./e2e/...

firefox: FIREFOX ?= $(shell command -v firefox-esr || command -v firefox)
firefox:
	@test -n "$(FIREFOX)" || { echo "there is no Firefox: apt-get install firefox-esr, or make firefox FIREFOX=/path/to/firefox" >&2; exit 1; }
	npm ci --prefix e2e/firefox --no-audit --no-fund --loglevel=error
	FIREFOX=$(FIREFOX) $(GO) test -count=1 -v -run TestConnectPageInFirefox ./e2e

torture: DURATION ?= 10m
torture: tools
	TORTURE_SEED=$(SEED) TORTURE_KILLS=$(KILLS) TORTURE_DURATION=$(DURATION) $(GO) test -race -timeout 3h -v -count=1 -run TestTorture ./e2e/torture

tools:
	./e2e/install.sh

soak: DURATION ?= 30m
soak:
	$(GO) test ./e2e -run '^TestSoak$$' -count=1 -v -timeout 24h -soak $(DURATION) -soak.report $(CURDIR)/docs/soak.md -soak.note '$(NOTE)'

overload: NAMES ?= 2000000
overload:
	$(GO) test ./e2e -run '^TestOverloadAtFullSize$$' -count=1 -v -timeout 3h -overload.full -overload.names $(NAMES)

bench:
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(UNIT)

fuzz:
	@for pkg in $(UNIT); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done
