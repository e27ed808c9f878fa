package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/router"
)

// reloader puts another configuration in force while the router runs. It is told to by SIGHUP, by POST /api/v1/reload, by a change of the file or of a transform file that it
// names, and by one of what stands elsewhere:
//
//	files, addresses ─ load: all is read and checked ─▶ apply: routes, API keys, limits ─▶ in force
//	                         └─ something is wrong: the one before stays, and the log says what ─┘
type reloader struct {
	path      string
	srv       *service
	elsewhere *config.Elsewhere
	level     *slog.LevelVar
	hangups   <-chan os.Signal
	metrics   *reloadMetrics
	places    places

	turn    chan struct{} // of capacity 1: whoever has put something in may use the fields below
	now     *loaded       // in force
	broken  bool          // the last reload failed
	waiting string        // the keys that wait for a restart, as they were logged last

	mu   sync.Mutex // guards the field below
	seen held       // when it was read last
}

// reload is what a reload did, as it is answered.
type reload struct {
	Status       string          `json:"status"` // ok, unchanged
	Changes      []string        `json:"changes"`
	NeedsRestart []string        `json:"needs_restart"`
	Warnings     []string        `json:"warnings"`
	Elsewhere    []addressStatus `json:"elsewhere,omitempty"`
}

// appliesAtOnce are the keys of the server section that a running router takes over; whatever else differs waits for a restart.
var appliesAtOnce = map[string]bool{
	"log.level":               true,
	"api_keys_reload_sec":     true,
	"destinations_reload_sec": true,

	// What each request is held against.
	"max_event_size":                       true,
	"max_body_size":                        true,
	"max_bulk_size":                        true,
	"max_events_per_request":               true,
	"min_body_rate":                        true,
	"admin_token":                          true,
	"admin_access":                         true,
	"metrics_access":                       true,
	"event_enrichment.http_context":        true,
	"event_enrichment.hashed_anonymous_id": true,

	// What holds for API keys that do not say otherwise.
	"enforce_origins":              true,
	"rate_limit.events_per_second": true,
	"rate_limit.burst":             true,

	"redact": true,

	"dead_letters.max_bytes": true,
	"dead_letters.max_age":   true,

	"kv.max_entries": true,
	"kv.max_bytes":   true,
}

// maxChangesLogged bounds the lines of one reload: a list of API keys may come anew with thousands.
const maxChangesLogged = 200

// reloadFrom makes the reloader of a router that was made with first.
func (srv *service) reloadFrom(first *loaded, elsewhere *config.Elsewhere, level *slog.LevelVar, hangups <-chan os.Signal) {
	r := &reloader{
		path: first.cfg.File, srv: srv, elsewhere: elsewhere, level: level, hangups: hangups,
		turn: make(chan struct{}, 1), now: first, seen: held{first.data, first.scripts},
	}
	r.places.settle(first)
	r.metrics = newReloadMetrics(srv.registry, &r.places)
	r.tellTroubles(first)
	r.keep(first)
	srv.reloader = r
}

// run reloads when there is reason to, until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.watchFile(ctx) })
	for _, part := range []string{config.PartAPIKeys, config.PartDestinations} {
		wg.Go(func() { r.watchAddress(ctx, part) })
	}
	wg.Go(func() {
		for {
			select {
			case <-r.hangups:
				if _, err := r.reload(ctx, "SIGHUP"); err == nil { // else the log says why
					r.srv.router.Probe()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	wg.Wait()
	return nil
}

// take waits for the right to reload.
func (r *reloader) take(ctx context.Context) bool {
	select {
	case r.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// reload reads everything anew and puts it in force if nothing is wrong with it.
func (r *reloader) reload(ctx context.Context, why string) (reload, error) {
	if !r.take(ctx) {
		return reload{}, ctx.Err()
	}
	defer func() { <-r.turn }()
	return r.reloadNow(ctx, why)
}

// reloadNow is reload for who has the turn.
func (r *reloader) reloadNow(ctx context.Context, why string) (reload, error) {
	if c := r.srv.certificate; c != nil {
		c.Reload()
	}
	l := loader{path: r.path, fresh: fetched(r.elsewhere), good: r.lastGood}
	next, err := l.load(ctx)
	if l.data != nil {
		r.note(l.data, l.scripts)
	}
	var result reload
	if err == nil {
		result, err = r.apply(next)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return reload{}, ctx.Err() // the router stops
	default:
		r.metrics.reloads.WithLabelValues("failed").Inc()
		r.broken = true
		r.tellProblems(why, err)
		return reload{}, err
	}
	if r.broken {
		r.srv.logger.Info("the configuration is right again", "reason", why)
		r.broken = false
	}
	r.metrics.succeeded(result.Status)
	r.inForce(why, next, &result)
	return result, nil
}

// lastGood is the version of an address that is in force, or one that was kept.
func (r *reloader) lastGood(a config.Address, _ config.Server) (config.Version, error) {
	if v, ok := r.now.versions[a]; ok {
		return v, nil
	}
	return config.Kept(r.srv.config().Server, a)
}

// apply puts next in force, and tells what is different: first the routes, so that no event of a new key finds none.
func (r *reloader) apply(next *loaded) (reload, error) {
	srv := r.srv
	now := srv.state.Load()
	cfg, taken, waiting := now.cfg.Merge(next.cfg, func(key string) bool { return appliesAtOnce[key] })
	result := reload{Status: "ok", Changes: next.cfg.Changes(now.cfg), NeedsRestart: append([]string{}, waiting...), Warnings: []string{}}
	for _, key := range taken {
		result.Changes = append(result.Changes, key+" changed")
	}
	for _, w := range next.cfg.Warnings {
		result.Warnings = append(result.Warnings, w.String())
	}
	if len(result.Changes) == 0 && slices.Equal(next.cfg.Elsewhere, now.cfg.Elsewhere) {
		result.Status, result.Changes = "unchanged", []string{}
		return result, nil
	}
	if err := connections.Check(cfg.Apps, cfg.Server.Encryption.Keys); err != nil {
		return result, err
	}
	p := srv.parts
	p.earlier = &assembled{now.cfg, now.routes}
	made, _, err := routes(cfg, p)
	if err != nil {
		return result, err
	}
	verifiers, problems := endUsers(cfg.Apps, endUserOptions(srv.logger, srv.parts.transport), now.verifiers)
	if err := problems.Err(); err != nil {
		return result, err
	}
	if err := srv.router.Reload(made); err != nil {
		return result, err
	}
	if err := srv.connected.SetApps(cfg.Apps); err != nil {
		return result, err
	}
	for _, o := range srv.connected.Orphans() {
		result.Warnings = append(result.Warnings, o.String())
	}
	if err := srv.proxy.SetApps(proxyApps(cfg, verifiers)); err != nil {
		return result, err
	}
	srv.router.LimitDeadLetters(letterBounds(cfg.Server))
	srv.store.LimitKV(cfg.Server.KVMaxEntries, cfg.Server.KVMaxBytes)
	srv.ingest.SetServer(cfg.Server)
	srv.fields.Set(cfg.Server.Redact)
	srv.ingest.SetSources(cfg.APIKeys, cfg.Destinations)
	srv.ingest.SetApps(ingestApps(cfg, verifiers), cfg.Destinations)
	srv.recent.SetMembers(eventsCacheMembers(cfg, made))
	srv.state.Store(&state{cfg: cfg, routes: made, verifiers: verifiers, redact: newRedactor(cfg, now.redact.secrets...)})
	r.level.Set(cfg.Server.LogLevel)
	return result, nil
}

// inForce remembers next, and logs what is different.
func (r *reloader) inForce(why string, next *loaded, result *reload) {
	log := r.srv.logger
	log.Info("configuration is reloaded", "reason", why, "file", r.path, "changes", len(result.Changes))
	for _, line := range result.Changes[:min(len(result.Changes), maxChangesLogged)] {
		log.Info("configuration: " + line)
	}
	if more := len(result.Changes) - maxChangesLogged; more > 0 {
		log.Info("configuration: there are further changes", "changes", more)
	}
	if keys := strings.Join(result.NeedsRestart, ", "); keys != r.waiting {
		r.waiting = keys
		if keys != "" {
			log.Warn("configuration: what was changed needs a restart of the router and is not in force yet", "keys", keys)
		}
	}
	for _, w := range next.cfg.Warnings {
		if !slices.ContainsFunc(r.now.cfg.Warnings, func(old config.Problem) bool { return old.Path == w.Path && old.Text == w.Text }) {
			log.Warn(w.String())
		}
	}
	r.places.settle(next)
	r.tellTroubles(next)
	r.keep(next)
	r.now = next
	result.Elsewhere = r.places.status()
}

// keep keeps what stands elsewhere and is new, for a start without it.
func (r *reloader) keep(next *loaded) {
	server := r.srv.config().Server
	for a, v := range next.versions {
		if _, troubled := next.troubles[a]; troubled {
			continue
		}
		if old, err := config.Kept(server, a); err == nil && bytes.Equal(old.Body, v.Body) {
			if err := config.Reseal(server, a); err != nil {
				r.srv.logger.Error("what stands elsewhere can not be encrypted anew", "part", a.Part, "error", err.Error())
			}
			continue
		}
		if err := config.Keep(server, a, v); err != nil {
			r.srv.logger.Error("what stands elsewhere can not be kept: without it the router could not start now if the address did not answer",
				"part", a.Part, "address", a.String(), "error", err.Error())
		}
	}
}

// tellTroubles logs where an address is not to be read or wrong, once when it begins and when it changes, and that it is over.
func (r *reloader) tellTroubles(next *loaded) {
	for a, v := range next.versions {
		t, troubled := next.troubles[a]
		r.tellTrouble(a, v, t, troubled)
	}
}

func (r *reloader) tellTrouble(a config.Address, v config.Version, t trouble, troubled bool) {
	log := r.srv.logger.With("part", a.Part, "address", a.String())
	switch changed, over := r.places.tell(a, t); {
	case over:
		log.Info("what stands at the address is in force again")
	case !troubled || !changed:
	case t.state == addressUnreachable:
		log.Error("the address can not be read: the last good version stays in force", "error", strings.Join(t.lines, "; "), "version_of", v.At.UTC().Format(time.RFC3339))
	default:
		log.Error("what stands at the address is wrong: the last good version stays in force", "version_of", v.At.UTC().Format(time.RFC3339))
		for _, line := range t.lines {
			log.Error(line)
		}
	}
}

// tellProblems logs why a reload failed.
func (r *reloader) tellProblems(why string, err error) {
	log := r.srv.logger
	log.Error("the configuration is not reloaded: the one before stays in force", "reason", why, "file", r.path)
	for _, p := range asProblems(err, "") {
		log.Error(p.String())
	}
}

// state is the configuration that is in force, with what hangs on it. It is never changed: a reload swaps it.
type state struct {
	cfg    *config.Config
	routes []router.Route
	redact redactor

	verifiers map[string]*endusers.Verifier // of end users' tokens, by app
}

func (srv *service) config() *config.Config { return srv.state.Load().cfg }
