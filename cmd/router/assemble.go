package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/appevents"
	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/enrich"
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
	enricher  *enrich.Enricher
	// connections are the customers' accounts; nil: there are none, as when a configuration is only checked.
	connections *connections.Service
	types       map[string]destinations.Factory // nil: destinationTypes
	limit       time.Duration                   // of one evaluation of a script; 0: the default

	events map[string]*appevents.Set // of apps, by name

	// earlier is what routes made for another configuration with the same other parts: what is the same is not made again, so that all that it knows goes on,
	// and what is at work with it need not begin anew.
	earlier *assembled
}

// assembled are the routes of a configuration.
type assembled struct {
	cfg    *config.Config
	routes []router.Route
}

// of returns a destination of an earlier configuration, and its route; both are zero where there was none of that name and type.
func (a *assembled) of(d config.Destination) (was config.Destination, route router.Route) {
	if a == nil {
		return was, route
	}
	i := slices.IndexFunc(a.cfg.Destinations, func(o config.Destination) bool { return o.Name == d.Name && o.Type == d.Type })
	j := slices.IndexFunc(a.routes, func(r router.Route) bool { return r.Name == d.Name })
	if i < 0 || j < 0 {
		return was, route
	}
	return a.cfg.Destinations[i], a.routes[j]
}

// routes makes a route for each destination that is not only staged. It reports all problems of all destinations at once.
func routes(cfg *config.Config, p parts) ([]router.Route, config.Problems, error) {
	var made []router.Route
	var problems, warnings config.Problems
	p.events, _, _ = appEvents(cfg.Apps) // what is wrong with them is said by checkApps
	for _, d := range cfg.Destinations {
		route, w, more := p.route(cfg, d)
		route.Notices = noticesFor(cfg, d.Name)
		warnings, problems = append(warnings, w...), append(problems, more...)
		if len(more) == 0 && !d.Staged {
			made = append(made, route)
		}
	}
	return made, warnings, problems.Err()
}

// route makes one destination's. A panic, of a factory or a compiler, is a problem like any other: a router that runs must not end of a reload.
func (p parts) route(cfg *config.Config, d config.Destination) (route router.Route, warnings, problems config.Problems) {
	path := "destinations." + d.Name
	defer func() {
		if r := recover(); r != nil {
			text := "BUG: it can not be made: the program panics"
			if err, ok := r.(runtime.Error); ok { // any other may quote the settings
				text += ": " + err.Error()
			}
			p.logger.Error(text, "destination", d.Name, "stack", string(debug.Stack()))
			problems = append(problems, config.Problem{Pos: d.Settings.Pos(), Path: path, Text: text})
		}
	}()
	route = router.Route{Name: d.Name, Type: d.Type, Connection: d.Connection, UnknownTTL: d.UnknownAccountTTL, UnknownAccounts: d.UnknownAccounts, Lanes: d.Lanes, Retry: d.Retry}
	if d.OnlyTokens != nil {
		route.APIKeys = map[string]bool{}
		for _, id := range d.OnlyTokens {
			route.APIKeys[id] = true
		}
	}
	types := p.types
	if types == nil {
		types = destinationTypes
	}
	factory, ok := types[d.Type]
	if !ok {
		known := slices.Sorted(maps.Keys(types))
		return route, nil, config.Problems{{
			Pos: d.Settings.Pos(), Path: path + ".type", Text: fmt.Sprintf("unknown type %q; known: %s", d.Type, strings.Join(known, ", ")),
		}}
	}
	var more config.Problems
	var err error
	was, earlier := p.earlier.of(d)
	if earlier.Destination != nil && was.Settings.Same(d.Settings) && was.Connection == d.Connection && appURL(p.earlier.cfg, d) == appURL(cfg, d) {
		route.Destination = earlier.Destination
	} else {
		route.Destination, err = factory(d.Settings, destinations.Env{
			Name: d.Name, Log: p.logger, Transport: p.transport,
			Cache: p.cache, Shared: p.shared, Metrics: p.metrics, App: d.Connection, AppURL: appURL(cfg, d), Connections: p.connectionsOf(d),
		})
	}
	switch {
	case errors.As(err, &more):
		problems = append(problems, more...)
	case err != nil:
		problems = append(problems, config.Problem{Pos: d.Settings.Pos(), Path: path, Text: err.Error()})
	}
	route.Enrichment, warnings, err = p.enricher.Rules(d.Enrichment, path+".enrichment")
	if errors.As(err, &more) {
		problems = append(problems, more...)
	}
	if slices.EqualFunc(d.Enrichment, was.Enrichment, sameRule) {
		route.Enrichment = earlier.Enrichment
	}
	w, ps := p.compile(d, path, &route)
	if len(ps) == 0 {
		reuse(&route, d, earlier, was)
		p.withSteps(d, &route, was, earlier)
	}
	warnings = append(warnings, lacking(cfg, d, route.Destination)...)
	return route, append(warnings, w...), append(problems, ps...)
}

func sameRule(a, b config.Enrichment) bool {
	return a.Name == b.Name && a.From == b.From && a.To == b.To
}

// reuse puts the scripts and conditions of an earlier route in the places of those that say the same.
func reuse(route *router.Route, d config.Destination, earlier router.Route, was config.Destination) {
	if d.Transform == was.Transform && d.TransformFile == was.TransformFile {
		route.Transform = ownTransform(earlier)
	}
	if d.Match.Same(was.Match) {
		route.Match = earlier.Match
	}
	if d.Filter == was.Filter {
		route.Filter = earlier.Filter
	}
	if d.Account == was.Account {
		route.Account = earlier.Account
	}
}

// compile puts the destination's transform and filters into route.
func (p parts) compile(d config.Destination, path string, route *router.Route) (warnings, problems config.Problems) {
	options := filters.Options{Destination: d.Name, Type: d.Type, Limit: p.limit}
	fail := func(at config.Pos, key string, err error) {
		var more config.Problems
		if errors.As(err, &more) {
			problems = append(problems, more...)
		} else if err != nil {
			problems = append(problems, config.Problem{Pos: at, Path: path + key, Text: err.Error()})
		}
	}
	warn := func(at config.Pos, key string, texts []string) {
		for _, text := range texts {
			warnings = append(warnings, config.Problem{Pos: at, Path: path + key, Text: text})
		}
	}
	if d.Transform != "" {
		const key = ".data_layout.transform"
		options, at := options, d.TransformPos
		options.File = d.TransformFile
		transform, err := filters.CompileTransform(d.Transform, options)
		if syntax, ok := errors.AsType[*filters.SyntaxError](err); ok && d.TransformFile != "" {
			at.Line += syntax.Line - 1
		}
		fail(at, key, err)
		if transform != nil {
			warn(d.TransformPos, key, transform.Warnings())
			route.Transform = transform
		}
	}
	var err error
	if d.Account != "" {
		const key = ".account"
		account, err := router.CompileAccount(d.Account, options)
		fail(d.AccountPos, key, err)
		if account != nil {
			warn(d.AccountPos, key, account.Warnings())
			route.Account = account
		}
	}
	route.Match, err = filters.CompileMatch(d.Match)
	fail(d.Match.Pos(), ".filter", err)
	if d.Filter != "" {
		const key = ".data_layout.table_name_template"
		filter, err := filters.Compile(d.Filter, options)
		fail(d.FilterPos, key, err)
		if filter != nil {
			warn(d.FilterPos, key, filter.Warnings())
			route.Filter = filter
		}
	}
	return warnings, problems
}

// newEnricher makes what adds to events by the configuration; geo is of no use unless it names databases.
func newEnricher(cfg *config.Config, geo *enrich.Geo) *enrich.Enricher {
	if cfg.Geo.MaxMindPath == "" {
		geo = nil
	}
	return enrich.New(enrich.Options{
		UserAgent: cfg.Server.EnrichUserAgents, Location: cfg.Server.EnrichLocations, BotKeywords: cfg.Server.BotKeywords, Geo: geo,
	})
}

// storeCache lends the store to destinations as their cache.
type storeCache struct{ store *store.Store }

// Load returns what is cached under a key, and since when.
func (c storeCache) Load(key string) ([]byte, time.Time, bool) { return c.store.CacheLoad(key) }

// Store caches a copy of a value under a key, if that is not above 16 MiB. It does not wait for the disk.
func (c storeCache) Store(key string, value []byte) { c.store.CacheStore(key, value) }

// noCache keeps nothing: for checking a configuration.
type noCache struct{}

func (noCache) Load(string) ([]byte, time.Time, bool) { return nil, time.Time{}, false }
func (noCache) Store(string, []byte)                  {}
