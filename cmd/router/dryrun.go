package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/dryrun"
	"eventrouter/pkg/event"
	"eventrouter/pkg/ingest"
)

const (
	// dryRunTimeout bounds one dry run, with what is read of accounts.
	dryRunTimeout = 20 * time.Second
	// schemaTimeout bounds reading an account's schema.
	schemaTimeout = 10 * time.Second
	// schemaAgain is how long an account is not asked that could not be read.
	schemaAgain = 30 * time.Second
	// mayWait is how many dry runs wait for their turn: one is made at a time, so that ingest does not notice.
	mayWait = 4
)

// withoutMemory says what is not known to who has only the secret of an API key: that is for posting events, not for reading whose an id is.
const withoutMemory = "played as by a new router: what this one remembers of persons, events and contacts, and what scripts keep, is read with the admin token only"

// dryRuns plays events through the destinations of a running router.
type dryRuns struct {
	srv   *service
	turn  chan struct{} // of capacity 1: whoever has put something in may use the fields below
	queue chan struct{} // of capacity mayWait

	of      *state // whose targets these are
	targets map[string]dryrun.Target
	schemas map[string]*accountSchema
}

// accountSchema is what was found of an account.
type accountSchema struct {
	json json.RawMessage
	at   time.Time // zero: never
	err  error     // of the last try
	next time.Time // not asked before
}

func newDryRuns(srv *service) *dryRuns {
	return &dryRuns{srv: srv, turn: make(chan struct{}, 1), queue: make(chan struct{}, mayWait)}
}

// page answers POST /api/v1/events/dry-run.
func (d *dryRuns) page(ctx *fasthttp.RequestCtx, tried ingest.Tried) {
	bounded, cancel := context.WithTimeout(context.Background(), dryRunTimeout) // the request's own context ends with the server
	defer cancel()
	answer, err := d.run(bounded, ctx.QueryArgs(), tried)
	var refused *dryRunRefusal
	switch {
	case errors.As(err, &refused):
		ctx.SetStatusCode(refused.status)
		if refused.status == fasthttp.StatusServiceUnavailable {
			ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "5")
		}
		writeMessage(ctx, refused.text)
	case err != nil:
		d.srv.logger.Error("dry run", "error", err.Error())
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
		writeMessage(ctx, "The dry run failed, the log says why")
	default:
		d.srv.answer(ctx, answer)
	}
}

// dryRunRefusal is why there is no answer.
type dryRunRefusal struct {
	status int
	text   string
}

// Error is the text that the client is answered.
func (e *dryRunRefusal) Error() string { return e.text }

var errTooManyDryRuns = &dryRunRefusal{fasthttp.StatusServiceUnavailable, "Too many dry runs at the same time, try again later"}

func (d *dryRuns) run(ctx context.Context, args *fasthttp.Args, tried ingest.Tried) (*dryrun.Report, error) {
	done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	st := d.srv.state.Load()
	if d.of != st {
		d.of, d.targets = st, map[string]dryrun.Target{}
		if d.schemas == nil {
			d.schemas = map[string]*accountSchema{}
		}
	}
	chosen, err := chosenDestinations(st.cfg, string(args.Peek("destination_id")), tried.APIKey)
	if err == nil && !tried.Admin && len(chosen) > 0 && !feeds(tried.APIKey, chosen[0]) {
		err = noDestination(chosen[0].Name) // for this API key
	}
	if err != nil {
		return nil, &dryRunRefusal{fasthttp.StatusBadRequest, err.Error()}
	}
	o := dryrun.Options{Enricher: d.srv.enricher, Redact: d.srv.fields}
	if tried.Admin {
		o.Memory = d.srv.store
	}
	for _, c := range chosen {
		t, err := d.target(ctx, c)
		if err != nil {
			return nil, err
		}
		if !tried.Admin {
			t.Notes = append(slices.Clone(t.Notes), withoutMemory)
		}
		o.Targets = append(o.Targets, t)
	}
	report, err := playAll(ctx, o, tried, string(args.Peek("together")) == "true")
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, &dryRunRefusal{fasthttp.StatusServiceUnavailable, fmt.Sprintf("The dry run took longer than %v", dryRunTimeout)}
	}
	return report, err
}

// begin waits for the turn; done ends it.
func (d *dryRuns) begin(ctx context.Context) (done func(), err error) {
	select {
	case d.queue <- struct{}{}:
		defer func() { <-d.queue }()
	default:
		return nil, errTooManyDryRuns
	}
	select {
	case d.turn <- struct{}{}:
		return func() { <-d.turn }, nil
	case <-ctx.Done():
		return nil, errTooManyDryRuns
	}
}

// playAll makes a simulation and plays events through it.
func playAll(ctx context.Context, o dryrun.Options, tried ingest.Tried, together bool) (*dryrun.Report, error) {
	s, err := dryrun.New(o)
	if err != nil {
		return nil, err
	}
	play := s.Play
	if together {
		play = s.PlayTogether
	}
	report, err := play(ctx, tried.Events...)
	report.LeftOut = tried.LeftOut
	return report, err
}

// chosenDestinations are the one that is named, or those that an API key feeds, staged ones too.
func chosenDestinations(cfg *config.Config, name, apiKey string) ([]config.Destination, error) {
	var chosen []config.Destination
	for _, d := range cfg.Destinations {
		if d.Name == name || name == "" && feeds(apiKey, d) {
			chosen = append(chosen, d)
		}
	}
	if name != "" && len(chosen) == 0 {
		return nil, noDestination(name)
	}
	return chosen, nil
}

// feeds says whether a destination gets the events of an API key.
func feeds(apiKey string, d config.Destination) bool {
	if app, ok := strings.CutPrefix(apiKey, event.AppPrefix); ok && d.OnlyTokens == nil {
		return d.Connection == app
	}
	return d.OnlyTokens == nil || slices.Contains(d.OnlyTokens, apiKey)
}

func noDestination(name string) error {
	return fmt.Errorf("Error: destination with id=[%s] does not exist", name) //nolint:staticcheck // Jitsu's words
}

// target makes what a dry run of a destination needs, with scripts of its own.
func (d *dryRuns) target(ctx context.Context, c config.Destination) (dryrun.Target, error) {
	t, ok := d.targets[c.Name]
	if !ok {
		p := d.srv.parts
		p.logger, p.metrics, p.earlier = quietLogger(), discardMetrics(), nil
		p.events, _, _ = appEvents(d.of.cfg.Apps)
		var err error
		if t, err = p.dryRunTarget(d.of.cfg, c); err != nil {
			return t, err
		}
		d.targets[c.Name] = t
	}
	d.describe(ctx, c, &t)
	return t, nil
}

// dryRunTarget makes a target without a schema. Its route has the destination that knows the account.
func (p parts) dryRunTarget(cfg *config.Config, c config.Destination) (dryrun.Target, error) {
	route, _, problems := p.route(cfg, c)
	if len(problems) > 0 {
		return dryrun.Target{}, problems
	}
	types := p.types
	if types == nil {
		types = destinationTypes
	}
	return dryrun.Target{Route: route, Staged: c.Staged, Make: func(env destinations.Env) (destinations.Destination, error) {
		if connected := p.connectionsOf(c); connected != nil {
			env.Connections = simulatedConnections{connected}
			env.App, env.AppURL = c.Connection, appURL(cfg, c)
		}
		return types[c.Type](c.Settings, env)
	}}, nil
}

// describe gives a target the schema of its account: from what the router knows, or from the account.
func (d *dryRuns) describe(ctx context.Context, c config.Destination, t *dryrun.Target) {
	simulated, ok := t.Route.Destination.(destinations.Simulated)
	if !ok {
		return
	}
	key := c.Name + "\x00" + t.Route.Destination.Hub("")
	known := d.schemas[key]
	if known == nil {
		known = &accountSchema{}
		d.schemas[key] = known
	}
	if now := time.Now(); !now.Before(known.next) {
		ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
		defer cancel()
		data, err := simulated.Schema(ctx)
		known.err, known.next = err, now.Add(schemaAgain)
		if err == nil { // the destination remembers for some minutes what it has read, and adds what it makes
			known.json, known.at, known.next = data, now, now
		}
	}
	switch t.Schema = known.json; {
	case known.err == nil && known.json == nil: // there is nothing to know
	case known.err == nil:
		t.From = "the account's, as of " + known.at.UTC().Format(time.RFC3339)
	case known.json != nil:
		t.From = "the account's, as of " + known.at.UTC().Format(time.RFC3339) + ": it can not be read now"
		t.Notes = append(slices.Clone(t.Notes), known.err.Error())
	default:
		t.From = "that of a new account: the account's can not be read"
		t.Notes = append(slices.Clone(t.Notes), known.err.Error())
	}
}

// offline makes events of bodies where no router runs.
type offline struct {
	once   sync.Once
	server *ingest.Server
	err    error
}

func (o *offline) read(cfg *config.Config, p ingest.Posted) (ingest.Tried, error) {
	o.once.Do(func() {
		server := cfg.Server
		server.StaticFilesDir = ""
		o.server, o.err = ingest.New(ingest.Options{Server: server, Apps: ingestApps(cfg, nil), APIKeys: cfg.APIKeys, Destinations: cfg.Destinations, Log: noLog{}})
	})
	if o.err != nil {
		return ingest.Tried{}, o.err
	}
	return o.server.Read(p)
}

// noLog takes nothing.
type noLog struct{}

func (noLog) Append(...[]byte) error { return errors.New("BUG: a dry run stores an event") }
