package hubspot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
)

const (
	// callTimeout ends a call that gets no answer. HubSpot gives up after 100 s itself (524), but calls that take half a minute are no use
	// to a queue; late_after covers that such a call may still be applied.
	callTimeout = 30 * time.Second
	// maxAnswer bounds an answer's body. A list of 1,000 properties with options is below 2 MiB.
	maxAnswer = 32 << 20
)

// Endpoints name calls in metrics.
const (
	endpointUpsert         = "contacts.batch_upsert"
	endpointUpdate         = "contacts.batch_update"
	endpointProperties     = "contacts.properties"
	endpointSend           = "events.send_batch"
	endpointDefinitions    = "events.definitions"
	endpointNewDefinition  = "events.definitions.create"
	endpointNewProperty    = "events.properties.create"
	endpointAccountDetails = "account.details"
)

// paths are where the calls go, by API version: more differs than the version in them. Events keep their v3 paths in all versions, for
// HubSpot's own sources disagree on the dated ones.
type paths struct{ contacts, properties, send, definitions, account string }

var versions = map[string]paths{
	"v3": {
		"/crm/v3/objects/contacts", "/crm/v3/properties/contacts",
		"/events/v3/send/batch", "/events/v3/event-definitions", "/account-info/v3/details",
	},
	"2026-03": {
		"/crm/objects/2026-03/contacts", "/crm/properties/2026-03/contacts",
		"/events/v3/send/batch", "/events/v3/event-definitions", "/account-info/v3/details",
	},
	"2026-09": {
		"/crm/objects/2026-09/contacts", "/crm/properties/2026-09/contacts",
		"/events/v3/send/batch", "/events/v3/event-definitions", "/account-info/v3/details",
	},
}

// client makes HTTP calls to one account.
type client struct {
	destination string // its name, for metrics
	account     *account
	http        http.Client
	token       config.Secret
	metrics     *destinations.Metrics
	simulation  bool // of the remote, whose correlation ids mean nothing
}

func newClient(env destinations.Env, a *account, token config.Secret) *client {
	return &client{
		destination: env.Name,
		account:     a,
		token:       token,
		metrics:     env.Metrics,
		simulation:  env.Simulation,
		http: http.Client{
			Transport: env.Transport,
			// A redirect would be sent the token, and nothing in this API redirects.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// request is one call to make.
type request struct {
	endpoint, method, url string
	body                  []byte
}

// lostError says that no complete answer came.
type lostError struct {
	err  error
	sent bool // bytes of the request may have reached the remote
}

func (e *lostError) Error() string { return "no answer from HubSpot: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// do makes one call and uses up p. Its error is a *lostError, or, when no call was made, that of ctx, a misuse of ours, or an outcome for who has no token.
//
// In a customer's account a token that HubSpot refuses is tried once more as another one: it may have been revoked, or replaced, a moment ago.
func (d *Destination) do(ctx context.Context, p *permit, r request) (*answer, error) {
	if d.connections == nil {
		return d.client.do(ctx, p, r, d.client.token)
	}
	for again := false; ; again = true {
		token, err := d.connections.Token(ctx, d.of, d.hubID)
		if err != nil {
			p.Release()
			return nil, err
		}
		a, err := d.client.do(ctx, p, r, token)
		switch {
		case err != nil:
			return nil, err
		case a.status == http.StatusUnauthorized:
			d.connections.Refused(d.of, token)
		case a.status >= 200 && a.status < 300 && r.delivers():
			d.connections.Delivered(d.of)
		}
		if a.status != http.StatusUnauthorized || again {
			return a, nil
		}
		if p, err = d.acquire(ctx, p.window, d.termsOf(p.window)); err != nil {
			return nil, err
		}
	}
}

// delivers says whether the call writes what an event says.
func (r *request) delivers() bool {
	return r.endpoint == endpointUpsert || r.endpoint == endpointUpdate || r.endpoint == endpointSend
}

// do makes one call with a token and uses up p.
func (c *client) do(ctx context.Context, p *permit, r request, token config.Secret) (*answer, error) {
	if err := ctx.Err(); err != nil {
		p.Release()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var progress progress
	ctx = httptrace.WithClientTrace(ctx, progress.trace())
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		p.Release()
		return nil, fmt.Errorf("make the request: %w", destinations.PlainError(err))
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", destinations.UserAgent())
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	p.begin()
	began := time.Now()
	a, err := c.exchange(req, token)
	status := 0
	if a != nil {
		status = a.status
	}
	c.metrics.Call(c.destination, r.endpoint, status, time.Since(began))
	if err != nil {
		p.end(nil)
		return nil, &lostError{err: destinations.PlainError(err), sent: progress.sent(err)}
	}
	c.learn(p, a)
	return a, nil
}

// maxServerWait is the longest wait that a 5xx is believed to ask for: it may be a proxy's.
const maxServerWait = 5 * time.Minute

// learn tells the quota what an answer says of it. A window that refuses is closed before the call's place is given on, and one that works is
// opened after what remains is known.
func (c *client) learn(p *permit, a *answer) {
	w := p.window
	wait := a.retryAfter(time.Now())
	switch {
	case a.status == http.StatusTooManyRequests:
		c.limit(w, a, wait)
	case a.status >= 500 && wait > 0:
		w.refused(min(wait, maxServerWait), a.err())
	}
	rates := parseRates(a.header)
	p.end(&rates)
	if a.status < 500 && a.status != http.StatusTooManyRequests {
		w.works()
		if w.day != nil {
			w.day.works()
		}
	}
}

// limit takes in a 429. Those that HubSpot documents carry no Retry-After, so the policy says how long.
func (c *client) limit(w *window, a *answer, wait time.Duration) {
	r := parseRefusal(a.body)
	policy := w.policy
	switch {
	case w.day != nil && (r.policy == "DAILY" || r.policy == "" && strings.Contains(r.message, "daily limit")):
		policy = dailyPolicy
		w.day.exhaust(time.Now())
	case r.policy == "SECONDLY", r.policy == "" && strings.Contains(r.message, "secondly limit") && !strings.Contains(r.message, "ten_secondly"):
		w.refused(max(wait, time.Second), a.err())
	default:
		w.refused(wait, a.err())
	}
	c.metrics.QuotaRefused(c.destination, policy)
}

// exchange sends req and reads the whole answer.
func (c *client) exchange(req *http.Request, token config.Secret) (*answer, error) {
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var body []byte
	if n := res.ContentLength; n >= 0 && n <= maxAnswer {
		body = make([]byte, n)
		_, err = io.ReadFull(res.Body, body)
	} else {
		body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	}
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if res.StatusCode >= http.StatusMultiStatus {
		// Its words go into errors and details. Something in front of HubSpot may repeat the request in them.
		body = bytes.ReplaceAll(body, []byte(token), []byte(token.String()))
	}
	a := &answer{status: res.StatusCode, header: res.Header, body: body}
	if !c.simulation {
		a.correlation = shorten(strings.ReplaceAll(res.Header.Get("X-HubSpot-Correlation-Id"), string(token), token.String()))
	}
	return a, nil
}

// progress tells how far a request got.
type progress struct {
	connecting, wrote atomic.Bool
}

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:      func(string) { p.connecting.Store(true) },
		WroteHeaders: func() { p.wrote.Store(true) },
	}
}

// sent says whether a request that failed with err may have reached the remote. Transports that do not report their progress, as in
// tests, are believed only about a connection that was never made.
func (p *progress) sent(err error) bool {
	if p.connecting.Load() {
		return p.wrote.Load()
	}
	var op *net.OpError
	var dns *net.DNSError
	return !(errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns))
}
