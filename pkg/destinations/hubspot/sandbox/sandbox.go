package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// maxBody bounds a request body. HubSpot documents no limit; its limits on counts bind first.
const maxBody = 32 << 20

// Options of a sandbox. The zero value is an Enterprise account without limits that accepts any token.
type Options struct {
	// HubID is the account's number, part of event names (pe{HubID}_name) and record links; default 20546336.
	HubID string
	// Token is the only bearer token accepted; "" accepts any that is not empty.
	Token string
	// Now is the clock; nil means time.Now, which is virtual inside a testing/synctest bubble.
	Now func() time.Time

	// Burst is the number of calls allowed in any BurstWindow (default 10 s), 0 for no limit. Real values: 100 (Free, Starter),
	// 190 (Professional, Enterprise), 110 (an OAuth app, for each account).
	Burst       int
	BurstWindow time.Duration
	// Daily is the number of calls allowed from midnight to midnight in TimeZone (default UTC); 0: no limit, as for OAuth apps.
	Daily    int
	TimeZone *time.Location
	// EventsPerSecond limits event sending, which counts in neither Burst nor Daily; 0: no limit. Really 1,250.
	EventsPerSecond int

	// Lag is how long new or changed property and event definitions stay invisible to reads and writes, and new contacts to
	// search. Observed: 250 to 700 ms, for search longer.
	Lag time.Duration

	// NoEnterprise makes event sending and definitions answer 403, as an account below the Enterprise tier does.
	NoEnterprise bool
	// MissingScopes are scopes that the token lacks, such as "crm.objects.contacts.write": calls that need one answer 403.
	MissingScopes []string
	// Properties are custom contact properties that exist from the start, and again after Reset.
	Properties []Property
	// OnlyProperties makes Properties all that there are: HubSpot's own are not added to them.
	OnlyProperties bool
	// Groups are further groups of properties that exist from the start.
	Groups []string
	// Definitions are those of custom events that exist from the start, by their short names.
	Definitions []Definition
	// Required are the account's rules for writes. Only version 2026-09 keeps them, as in HubSpot.
	Required []Requirement
	// KeepOldEmail makes an e-mail address that is replaced a secondary one of its contact. Modelled: by default it is gone.
	KeepOldEmail bool
	// NoTokenInfo makes the account unable to say what its token may do, as for tokens that no private app has.
	NoTokenInfo bool
	// LifecycleStage is what new contacts get when the write names none: a setting of the account; "" for none.
	LifecycleStage string

	// AutoContactFromEvent makes an event with an unknown e-mail create a contact. Modelled: sources disagree on what HubSpot does;
	// by default the event is accepted and belongs to no contact.
	AutoContactFromEvent bool
	// AcceptUnknownEventProperties drops event properties that the definition lacks instead of answering 400. Modelled: HubSpot
	// documents neither.
	AcceptUnknownEventProperties bool
	// StrictUUID makes a batch of events with a uuid used before answer 400 naming it, as the single call does. By default the
	// batch answers 204 and drops the repeat: the first occurrence wins either way.
	StrictUUID bool
	// BadEvents says what becomes of a batch that holds an event with a fault.
	BadEvents BadEvents

	// Apps are OAuth apps, and Hubs the accounts beside this one that may install them, from the start and again after Reset.
	Apps []App
	Hubs []Hub
	// AccessTokenLife is how long the access tokens of apps are good, in whole seconds: expires_in; default 30 minutes.
	AccessTokenLife time.Duration
	// RotateRefreshTokens makes each refresh answer another refresh token and end the one before. HubSpot's stay the same.
	RotateRefreshTokens bool
	// AppBurst is the number of calls that one app has in one hub in any BurstWindow; 0: 110, as in HubSpot; -1: no limit. Daily does not
	// bind apps.
	AppBurst int
	// Webhooks sends what apps' WebhookURL get; nil: http.DefaultTransport.
	Webhooks http.RoundTripper

	// KeepEvents bounds how many accepted events are kept, and with them their uuids; 0: all. For long runs: who counts them uses Accepted.
	KeepEvents int
	// KeepWrites bounds the history of one contact; 0: 1,000 writes.
	KeepWrites int
	// Accepted is told each event that is accepted, by its qualified name and its properties as they were sent; nil: nobody is. It is called with the sandbox locked, so
	// it must not call it, and must not keep properties.
	Accepted func(name string, properties gjson.Result)
}

// Sandbox is the handler and the account behind it; or, got from Hub, one of its further accounts alone. All methods may be called
// concurrently.
type Sandbox struct {
	initial  Options
	provider *provider // shared by all hubs

	mu        sync.Mutex // guards what follows
	opts      Options
	st        *state // replaced by Reset
	faults    []*fault
	lastFault int // its id
	calls     callLog
}

// New makes a sandbox with an empty account that has HubSpot's own contact properties.
func New(o Options) *Sandbox {
	if o.HubID == "" {
		o.HubID = "20546336"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BurstWindow == 0 {
		o.BurstWindow = 10 * time.Second
	}
	if o.TimeZone == nil {
		o.TimeZone = time.UTC
	}
	if o.KeepWrites == 0 {
		o.KeepWrites = 1000
	}
	s := &Sandbox{initial: o, opts: o}
	s.provider = newProvider(s)
	s.st = newState(&s.opts, s.provider)
	return s
}

// newHub makes the sandbox of a further hub.
func newHub(o Options, p *provider) *Sandbox {
	s := &Sandbox{initial: o, opts: o, provider: p}
	s.st = newState(&s.opts, p)
	return s
}

// Reset empties the account: contacts, events, definitions, properties that were not in Options, quotas, calls and faults. Writes still
// to be applied late (Fault.ApplyLate) are forgotten, and options changed since New are as they were. So are apps, hubs and what is
// installed, unless s is one hub of a sandbox: then it alone is emptied.
func (s *Sandbox) Reset() {
	if s.provider.top == s {
		s.provider.reset()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts = s.initial
	s.st = newState(&s.opts, s.provider)
	s.faults = nil
	s.calls = callLog{}
}

// errDropped ends a call without an answer.
var errDropped = errors.New("connection closed without an answer")

// ServeHTTP answers like HubSpot, and under /_sandbox shows what was received.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isView(r.URL.Path) {
		s.serveView(w, r)
		return
	}
	body, err := readBody(http.MaxBytesReader(w, r.Body, maxBody), r.ContentLength)
	if err != nil {
		http.Error(w, "read the body: "+err.Error(), http.StatusBadRequest)
		return
	}
	a, err := s.do(r.Context(), newCall(r, body))
	switch {
	case errors.Is(err, errDropped):
		panic(http.ErrAbortHandler) // net/http closes the connection silently
	case err != nil:
		return // the client has gone
	}
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // an error means that the client has gone
}

// RoundTripper calls the sandbox in memory, without sockets or goroutines, so that it works in testing/synctest bubbles. It honours the
// request's context: a call cut short while it is delayed returns the context's error at once.
func (s *Sandbox) RoundTripper() http.RoundTripper { return roundTripper{s} }

type roundTripper struct{ s *Sandbox }

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = readBody(r.Body, r.ContentLength)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a, err := t.s.do(ctx, newCall(r, body))
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        a.header,
		Body:          io.NopCloser(bytes.NewReader(a.body)),
		ContentLength: int64(len(a.body)),
		Request:       r,
	}, nil
}

// readBody reads all of r, which says that it has size bytes; -1: unknown.
func readBody(r io.Reader, size int64) ([]byte, error) {
	var b bytes.Buffer
	if size > 0 && size <= maxBody {
		b.Grow(int(size) + bytes.MinRead) // MinRead: room for the read that finds the end
	}
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}

// do answers one call at the hub that it is for, by a fault when one matches there or in the whole sandbox.
func (s *Sandbox) do(ctx context.Context, c *call) (answer, error) {
	f, hub := s.takeFault(c), s.hubOf(c)
	if about := s.tokenHub(c, hub); f == nil && about != s {
		f = about.takeFault(c)
	}
	return hub.process(ctx, c, f)
}

// hubOf finds the hub by the call's token: an app's access token is good in one hub. The identity provider is at the first one.
func (s *Sandbox) hubOf(c *call) *Sandbox {
	if c.route != nil && c.route.policy == openPolicy {
		return s.provider.top
	}
	if token := c.token(); s.provider.top == s && isOAuth(token) {
		if hub := s.provider.hub(s.provider.owner(token)); hub != nil {
			return hub
		}
	}
	return s
}

// tokenHub is the hub whose code or refresh token a form holds: its faults act on that call, too. Otherwise it is the hub given.
func (s *Sandbox) tokenHub(c *call, otherwise *Sandbox) *Sandbox {
	if s.provider.top == s && c.form != nil {
		if hub := s.provider.hub(s.provider.formOwner(c)); hub != nil {
			return hub
		}
	}
	return otherwise
}

// process answers a call here, by the fault if there is one.
func (s *Sandbox) process(ctx context.Context, c *call, f *fault) (answer, error) {
	s.mu.Lock()
	st := s.st
	st.arrived++
	c.number, c.faulty = st.arrived, f != nil
	s.mu.Unlock()
	if f != nil {
		return s.doFaulty(ctx, c, f, st)
	}
	a := s.apply(c, st)
	s.record(c, st, a.status)
	return a, nil
}

// apply does and answers what HubSpot would. st is the state that the call arrived at: when Reset came between, its successor is not
// touched.
func (s *Sandbox) apply(c *call, st *state) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.begin(s.opts.Now(), c)
	return st.answer(c)
}
