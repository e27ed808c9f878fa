// Package webhook delivers events to any HTTP endpoint: one request for each event, or for several, signed as the Standard Webhooks specification has it.
//
//	entries ─ render ─▶ messages ─ group ─▶ requests ─ call ─▶ one verdict on all of a request, or its halves
//
// What waits is the event, never a request: templates run when it is sent, so that a new URL, header or secret reaches what waits already.
// The host is that of the configuration; where it leads is looked at each time a connection is made, so that nothing in an event or in DNS makes
// the router call inside its own network.
package webhook

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
)

// laneEvents is the name of the only lane.
const laneEvents = "events"

// Settings are what stands under `webhook:` or `config:` of a destination of this type. url, method, headers and body are Jitsu's.
type Settings struct {
	URL         string                   `yaml:"url"`          // text with places; required
	Method      string                   `yaml:"method"`       // POST, PUT, PATCH, DELETE or GET
	Headers     map[string]config.Secret `yaml:"headers"`      // texts with places
	Body        string                   `yaml:"body"`         // expression; "": the event
	ContentType string                   `yaml:"content_type"` // "": that of JSON, or of lines of it
	Secret      []config.Secret          `yaml:"secret"`       // signs; several while receivers change over
	Key         string                   `yaml:"key"`          // what orders: person, none, all, or an expression
	Batch       BatchSettings            `yaml:"batch"`
	InFlight    int                      `yaml:"in_flight"` // most requests at a time
	Timeout     time.Duration            `yaml:"timeout"`   // of one request with its answer
	// MaxPerSecond is how many requests are made in a second at most; 0: no limit.
	MaxPerSecond float64 `yaml:"max_per_second"`
	// AllowPrivate is true, or lists the networks that may be called although they are not public.
	AllowPrivate config.Words  `yaml:"allow_private"`
	Proxy        config.Secret `yaml:"proxy"` // URL of an HTTP proxy; "": none, whatever the environment says
}

// BatchSettings are what stands under `batch:`.
type BatchSettings struct {
	MaxEvents int         `yaml:"max_events"` // in one request
	MaxBytes  config.Size `yaml:"max_bytes"`  // of a body with more than one event
	Format    string      `yaml:"format"`     // array, ndjson
}

// Formats of a body with several events.
const (
	formatArray  = "array"
	formatNDJSON = "ndjson"
)

// DefaultSettings are the settings of a file that says nothing.
func DefaultSettings() Settings {
	return Settings{
		Method: http.MethodPost, Key: keyPerson, InFlight: 4, Timeout: 30 * time.Second,
		Batch: BatchSettings{MaxEvents: 1, MaxBytes: 1 << 20, Format: formatArray},
	}
}

// Destination delivers to one endpoint.
type Destination struct {
	set       Settings
	address   address
	headers   []header // of every request, with their templates
	fixed     *target  // of every event, if no template makes it
	format    format
	signer    signer
	networks  networks
	templates *templates
	hidden    []string // what no answer may be quoted with, longest first

	name    string
	log     *slog.Logger
	metrics *destinations.Metrics
	http    http.Client
	roots   *x509.CertPool // that the live check trusts; nil: the machine's
	gate    *gate
}

// New checks the settings and makes the destination. It makes no call: the endpoint may be down.
func New(s config.Settings, env destinations.Env) (destinations.Destination, error) {
	set := DefaultSettings()
	var unread config.Problems
	if err := s.Decode(&set); err != nil && !errors.As(err, &unread) {
		return nil, err
	}
	log := env.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Destination{name: env.Name, log: log.With("destination", env.Name), metrics: env.Metrics}
	c := checker{settings: s, name: env.Name, log: d.log}
	d.take(&c, set)
	if err := unread.With(c.problems).Sorted().Err(); err != nil {
		return nil, err
	}
	if env.Shared == nil {
		env.Shared = &destinations.Shared{}
	}
	d.http = d.newClient(env)
	d.gate = destinations.Of(env.Shared, "webhook/gate|"+env.Name+"|"+d.Hub(""), func() *gate { return &gate{} })
	d.gate.setRate(set.MaxPerSecond)
	if env.Simulation { // which nobody need wait for
		d.gate.setRate(0)
	}
	return d, nil
}

// Lanes implements [destinations.Destination]. Receivers know repetitions by the id of a request, so one may be made again at any time.
func (d *Destination) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{{
		Name: laneEvents, MaxEntries: d.set.Batch.MaxEvents, MaxBytes: int(d.set.Batch.MaxBytes), InFlight: d.set.InFlight,
	}}
}

// Hub implements [destinations.Destination]. It is the URL without its query, which may hold a key that changes.
func (d *Destination) Hub(string) string { return d.address.hub }

// Address implements [destinations.Addressed].
func (d *Destination) Address(string) (method, url string) { return d.set.Method, d.address.shown }

// Acquire implements [destinations.Destination].
func (d *Destination) Acquire(ctx context.Context, _, _ string) (destinations.Permit, error) {
	p, err := d.acquire(ctx)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// acquire waits for a permit. Its error is an outcome.
func (d *Destination) acquire(ctx context.Context) (*permit, error) {
	began := time.Now()
	p, err := d.gate.acquire(ctx)
	if waited := time.Since(began); waited > 0 {
		d.metrics.QuotaWait(d.name, ratePolicy, waited)
	}
	var closed *closedError
	if errors.As(err, &closed) {
		return nil, destinations.Block(err, destinations.LaneScope, closed.until)
	}
	return p, err
}

// Send implements [destinations.Destination].
func (d *Destination) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	first, ok := p.(*permit)
	if !ok {
		panic(fmt.Sprintf("BUG: permit of another destination: %T", p))
	}
	s := &sending{d: d, permit: first, batch: batch, out: make([]destinations.Outcome, len(batch)), held: map[string]error{}}
	defer s.release()
	for _, group := range d.group(d.render(batch, s.out), batch) {
		s.deliver(ctx, group)
	}
	return s.out
}
