// Package proxy makes calls in the HubSpot accounts of a team's customers, for the team's servers and for end users, without either ever holding a token of HubSpot's.
//
//	caller ─ key or signed token ─▶ account ─▶ allowed? ─▶ room in its quota? ─▶ HubSpot, with the account's token ─▶ caller
//
// Deliveries go first: a call that would take what they may need is refused, and told when to come again. What is called and what is allowed can not differ: paths that could be
// read in two ways are refused, not normalised.
package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/endusers"
)

// Path is what the paths of the proxy begin with; the name of an app and the path of HubSpot's API follow.
const Path = "/api/v1/proxy/"

const (
	accountHeader = "X-Account"

	// mostCalls and mostOfAccount bound the calls under way: each holds its body until HubSpot answers.
	mostCalls     = 512
	mostOfAccount = 32
	// maxAccount is the longest id of an account, in bytes.
	maxAccount = 256
)

// App is an app whose accounts are called.
type App struct {
	Config     config.App
	Verifier   *endusers.Verifier // of end users' tokens
	Deliveries bool               // there are destinations with the app's accounts
}

// Options of a Proxy.
type Options struct {
	Apps []App
	// Connections are the accounts of an app.
	Connections func(app string) destinations.Connections
	// Shared and Cache are those of the destinations, whose quotas the calls share.
	Shared *destinations.Shared
	Cache  destinations.Cache
	// ServerKey returns the id of the API key whose server secret a request carries, and the only account that it speaks for; "": it speaks for all.
	ServerKey func(ctx *fasthttp.RequestCtx) (id, account string, ok bool)
	// Transport makes the calls; nil: the network.
	Transport http.RoundTripper

	Registerer prometheus.Registerer // nil: not registered anywhere
	Logger     *slog.Logger          // nil: discarded
}

// Proxy forwards calls. Its methods may be called from many goroutines.
type Proxy struct {
	opts    Options
	metrics *metrics
	apps    atomic.Pointer[map[string]*app]

	mu        sync.Mutex // guards the fields below
	calls     int        // under way
	ofAccount map[[2]string]int
}

// app is an App as calls need it. It is never changed.
type app struct {
	App
	rules rules
	spare hubspot.Spare
}

// New makes a proxy. It makes no calls. Its error is a [config.Problems] where what an app allows is wrong.
func New(o Options) (*Proxy, error) {
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	p := &Proxy{opts: o, ofAccount: map[[2]string]int{}}
	if err := p.SetApps(o.Apps); err != nil {
		return nil, err
	}
	var err error
	p.metrics, err = newMetrics(o.Registerer)
	return p, err
}

// newTransport is http.DefaultTransport with more kept connections to one host. It asks for compressed answers by itself and undoes that, so that max_bytes and the search for
// tokens are about what the caller gets.
func newTransport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.MaxResponseHeaderBytes = 256 << 10
	return t
}

// SetApps replaces the apps; calls in hand finish with the old ones.
func (p *Proxy) SetApps(apps []App) error {
	made := map[string]*app{}
	var problems config.Problems
	for _, a := range apps {
		rules, more := compile(a.Config)
		problems = append(problems, more...)
		made[a.Config.Name] = &app{a, rules, hubspot.Spare{
			Shared: p.opts.Shared, Cache: p.opts.Cache, App: a.Config.Name, BaseURL: a.Config.BaseURL, Deliveries: a.Deliveries,
		}}
	}
	if err := problems.Err(); err != nil {
		return err
	}
	p.apps.Store(&made)
	return nil
}

// call is one call on its way.
type call struct {
	app      *app
	apiKey   string // who calls; "": an end user
	account  string
	hub      string
	method   string
	path     string // as HubSpot gets it
	shown    string // as the log does
	query    string
	secrets  []string // that nobody is shown: what the caller came with, and tokens
	attempts int
	began    time.Time
}

// callKey is under what the user values of a request have its call.
type callKey struct{}

// Admit says before the body of a request is read whether it is to be forwarded, and how long it may be. Where it says no it has answered.
func (p *Proxy) Admit(ctx *fasthttp.RequestCtx) (maxBody int, ok bool) {
	allowOrigins(&ctx.Response.Header, ctx.IsOptions())
	if ctx.IsOptions() { // a browser asks whether it may call; the headers tell
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return 0, false
	}
	c := &call{began: time.Now(), method: string(ctx.Method())}
	if r := p.admit(ctx, c); r != nil {
		p.refuse(ctx, c, r)
		return 0, false
	}
	ctx.SetUserValue(callKey{}, c)
	return int(min(c.app.Config.Proxy.MaxBytes, 1<<30)), true
}

// refuse answers r and counts it.
func (p *Proxy) refuse(ctx *fasthttp.RequestCtx, c *call, r *refusal) {
	if c.app != nil { // else its name is the caller's invention
		p.metrics.refused.WithLabelValues(c.app.Config.Name, r.reason).Inc()
	}
	r.answer(ctx)
}

// admit finds out what is called, for whom, and whether that is allowed.
func (p *Proxy) admit(ctx *fasthttp.RequestCtx, c *call) *refusal {
	raw, rawQuery, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte{'?'})
	rest, ok := strings.CutPrefix(string(raw), Path)
	if !ok {
		return badPath("it does not begin with " + Path + " as it is written")
	}
	name, _, _ := strings.Cut(rest, "/")
	if c.app = (*p.apps.Load())[name]; c.app == nil {
		if _, _, ok := p.opts.ServerKey(ctx); !ok { // which apps there are is for those who have a key
			return unknownToken(ctx)
		}
		return &refusal{status: fasthttp.StatusNotFound, reason: "app", message: "There is no such app", detail: "apps are named in the router's configuration, under apps"}
	}
	c.path = rest[len(name):]
	segments, problem := splitPath(c.path)
	if problem != "" {
		return badPath(problem)
	}
	bearer := bearerOf(ctx)
	c.secrets = secretsOf(ctx, bearer)
	if c.query, ok = cleanQuery(string(rawQuery), c.secrets); !ok {
		return badPath("its query has a character that must be escaped, or an escape that is none")
	}
	if !slices.Contains(methods, c.method) {
		return &refusal{status: fasthttp.StatusMethodNotAllowed, reason: "method", message: "The method is not forwarded", detail: "use one of " + strings.Join(methods, ", ")}
	}
	if r := p.authenticate(ctx, c, bearer); r != nil {
		return r
	}
	if answersTokens(segments) {
		return &refusal{
			status: fasthttp.StatusForbidden, reason: "not_allowed", message: "The call is never forwarded",
			detail: "what is below /oauth, or named after tokens, could hand out the account's own",
		}
	}
	r, ok := c.app.rules.find(c.method, segments)
	if !ok {
		return &refusal{status: fasthttp.StatusForbidden, reason: "not_allowed", message: "The call is not allowed", detail: suggest(name, c.method, segments)}
	}
	c.shown = shownPath(segments, r, c.query)
	if limit := c.app.Config.Proxy.MaxBytes; int64(ctx.Request.Header.ContentLength()) > limit {
		return tooLarge(limit)
	}
	return nil
}

func badPath(problem string) *refusal {
	return &refusal{status: fasthttp.StatusBadRequest, reason: "path", message: "The address is not taken as it is written", detail: problem}
}

// authenticate finds out who calls, and in which account: that of an end user's token, or the one that a server names.
func (p *Proxy) authenticate(ctx *fasthttp.RequestCtx, c *call, bearer string) *refusal {
	named := ctx.Request.Header.PeekAll(accountHeader)
	if len(named) > 1 {
		return &refusal{status: fasthttp.StatusBadRequest, reason: "account", message: "There is more than one header X-Account"}
	}
	account := ""
	if len(named) == 1 {
		account = string(named[0])
	}
	if id, own, ok := p.opts.ServerKey(ctx); ok {
		c.apiKey, c.account = id, cmp.Or(account, own)
		switch {
		case own != "" && c.account != own:
			return &refusal{
				status: fasthttp.StatusForbidden, reason: "account", message: "The account is not the API key's", detail: "leave the header " + accountHeader + " out: the key says which it is",
			}
		case c.account == "" || len(account) > maxAccount:
			return &refusal{
				status: fasthttp.StatusBadRequest, reason: "account", message: "The account is missing",
				detail: "name the account to call in the header " + accountHeader + ": 1 to 256 bytes, as it was connected",
			}
		}
		return nil
	}
	var err error
	c.account, err = c.app.Verifier.Verify([]byte(bearer))
	switch {
	case errors.Is(err, endusers.ErrUnavailable):
		return &refusal{status: fasthttp.StatusServiceUnavailable, reason: "token", message: "Tokens can not be verified at the moment", detail: err.Error(), wait: 5 * time.Second}
	case err != nil && strings.Count(bearer, ".") != 2:
		return unknownToken(ctx)
	case err != nil:
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
		return &refusal{status: fasthttp.StatusUnauthorized, reason: "token", message: "The token is not taken", detail: err.Error()}
	case len(named) == 1 && account != c.account:
		return &refusal{
			status: fasthttp.StatusForbidden, reason: "account", message: "The account is not the token's", detail: "leave the header " + accountHeader + " out: the token says which it is",
		}
	}
	return nil
}

func unknownToken(ctx *fasthttp.RequestCtx) *refusal {
	ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
	return &refusal{
		status: fasthttp.StatusUnauthorized, reason: "token", message: "The token is not found",
		detail: "send an API key's server secret and the header X-Account, or an end user's token, as Authorization: Bearer",
	}
}

// bearerOf is the token of Authorization: Bearer.
func bearerOf(ctx *fasthttp.RequestCtx) string {
	scheme, token, _ := bytes.Cut(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization), []byte{' '})
	if !bytes.EqualFold(scheme, []byte("Bearer")) {
		return ""
	}
	return string(bytes.TrimSpace(token))
}

// minSecret is the shortest text that is taken for a secret where it is found again: shorter ones are part of other words.
const minSecret = 8

// secretsOf are the texts by which a caller may have shown who it is.
func secretsOf(ctx *fasthttp.RequestCtx, bearer string) (secrets []string) {
	args := ctx.QueryArgs()
	for _, text := range []string{
		bearer, string(ctx.Request.Header.Peek("X-Auth-Token")), string(ctx.Request.Header.Peek("api_key")), string(args.Peek("token")), string(args.Peek("api_key")),
	} {
		if len(text) >= minSecret {
			secrets = append(secrets, text)
		}
	}
	return secrets
}

func tooLarge(limit int64) *refusal {
	return &refusal{
		status: fasthttp.StatusRequestEntityTooLarge, reason: "size", message: "The body is too large",
		detail: "proxy.max_bytes of the app is " + byteCount(limit),
	}
}

// enter takes a place among the calls under way; false: there are too many.
func (p *Proxy) enter(c *call) bool {
	key := [2]string{c.app.Config.Name, c.account}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls >= mostCalls || p.ofAccount[key] >= mostOfAccount {
		return false
	}
	p.calls++
	p.ofAccount[key]++
	return true
}

func (p *Proxy) leave(c *call) {
	key := [2]string{c.app.Config.Name, c.account}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls--
	if p.ofAccount[key]--; p.ofAccount[key] == 0 {
		delete(p.ofAccount, key)
	}
}
