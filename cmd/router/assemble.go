package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// parts is what all destinations of a router are made with.
type parts struct {
	logger    *slog.Logger
	metrics   *destinations.Metrics
	cache     destinations.Cache
	shared    *destinations.Shared
	transport http.RoundTripper
}

// load reads and checks a file wholly, also what only its destinations and filters can check, and reports all that is wrong at once.
func load(path string) (*config.Config, error) {
	cfg, err := config.Load(path)
	var problems config.Problems
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{fmt.Errorf("%w: name a configuration file with --config FILE or in CONFIG_LOCATION, or try it without one: router demo", err)}
	}
	if err != nil && (cfg == nil || !errors.As(err, &problems)) {
		return nil, usageError{err}
	}
	_, warnings, err := routes(cfg, parts{logger: slog.New(slog.DiscardHandler), metrics: discardMetrics(), cache: noCache{}, shared: &destinations.Shared{}})
	var more config.Problems
	if errors.As(err, &more) {
		problems = append(problems, more...)
	}
	if len(problems) > 0 {
		return nil, usageError{problems.Sorted()}
	}
	cfg.Warnings = append(cfg.Warnings, warnings...).Sorted()
	return cfg, nil
}

// routes makes a route for each destination that is not only staged. It reports all problems of all destinations at once.
func routes(cfg *config.Config, p parts) ([]router.Route, config.Problems, error) {
	var made []router.Route
	var problems, warnings config.Problems
	for _, d := range cfg.Destinations {
		path := "destinations." + d.Name
		route := router.Route{Name: d.Name, Type: d.Type, Lanes: d.Lanes, Retry: d.Retry}
		if d.OnlyTokens != nil {
			route.APIKeys = map[string]bool{}
			for _, id := range d.OnlyTokens {
				route.APIKeys[id] = true
			}
		}
		factory, ok := destinationTypes[d.Type]
		if !ok {
			known := slices.Sorted(maps.Keys(destinationTypes))
			problems = append(problems, config.Problem{
				Pos: d.Settings.Pos(), Path: path + ".type", Text: fmt.Sprintf("unknown type %q; known: %s", d.Type, strings.Join(known, ", ")),
			})
			continue
		}
		destination, err := factory(d.Settings, destinations.Env{
			Name: d.Name, Log: p.logger, Transport: p.transport,
			Cache: p.cache, Shared: p.shared, Metrics: p.metrics,
		})
		var more config.Problems
		switch {
		case errors.As(err, &more):
			problems = append(problems, more...)
		case err != nil:
			problems = append(problems, config.Problem{Pos: d.Settings.Pos(), Path: path, Text: err.Error()})
		}
		route.Destination = destination
		if d.Filter != "" {
			filter, err := filters.Compile(d.Filter, filters.Options{Destination: d.Name, Type: d.Type})
			if err != nil {
				problems = append(problems, config.Problem{Pos: d.FilterPos, Path: path + ".data_layout.table_name_template", Text: err.Error()})
				continue
			}
			for _, w := range filter.Warnings() {
				warnings = append(warnings, config.Problem{Pos: d.FilterPos, Path: path + ".data_layout.table_name_template", Text: w})
			}
			route.Filter = filter
		}
		if !d.Staged {
			made = append(made, route)
		}
	}
	return made, warnings, problems.Err()
}

// storeCache lends the store to destinations as their cache.
type storeCache struct{ store *store.Store }

func (c storeCache) Load(key string) ([]byte, time.Time, bool) { return c.store.CacheLoad(key) }
func (c storeCache) Store(key string, value []byte)            { c.store.CacheStore(key, value) }

// noCache keeps nothing: for checking a configuration.
type noCache struct{}

func (noCache) Load(string) ([]byte, time.Time, bool) { return nil, time.Time{}, false }
func (noCache) Store(string, []byte)                  {}
