// Package proxy makes calls in the HubSpot accounts of a team's customers, for the team's servers and for end users, without either ever holding a token of HubSpot's.
//
//	caller ─ key or signed token ─▶ account ─▶ allowed? ─▶ room in its quota? ─▶ HubSpot, with the account's token ─▶ caller
//
// Deliveries go first: a call that would take what they may need is refused, and told when to come again. What is called and what is allowed can not differ: paths that could be
// read in two ways are refused, not normalised.
package proxy

import (
	"bytes"
	"context"
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
	"eventrouter/pkg/event"
)

// Path is what the paths of the proxy begin with; the name of an app and the path of HubSpot's API follow.
const Path = "/api/v1/proxy/"

const accountHeader = "X-Account"

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
	Connections func(app string) Connections
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

// Connections are the accounts of an app, as calls see them.
type Connections interface {
	// Hub and Token are those of [destinations.Connections].
	Hub(account string) string
	Token(ctx context.Context, account, hub string) (config.Secret, error)
	// Doubted says that HubSpot has answered 401 to a call with a token, which may be for what was called: deliveries go on with it. It returns whether to call once
	// more, with another token.
	Doubted(ctx context.Context, account string, token config.Secret) (another bool)
}

// Proxy forwards calls. Its methods may be called from many goroutines.
type Proxy struct {
	opts    Options
	metrics *metrics
	apps    atomic.Pointer[map[string]*app]

	mu        sync.Mutex // guards the fields below
	all       load
	ofAccount map[[2]string]load
}

// app is an App as calls need it. It is never changed.
type app struct {
	App
	servers, endUsers rules
	spare             hubspot.Spare
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
	p := &Proxy{opts: o, ofAccount: map[[2]string]load{}}
	if err := p.SetApps(o.Apps); err != nil {
		return nil, err
	}
	var err error
	p.metrics, err = newMetrics(o.Registerer)
	return p, err
}

// aheadBytes is what comes of an answer before its caller takes it. It is 4 MiB where nothing is said, for each of the calls under way.
const aheadBytes = 256 << 10

// newTransport asks for compressed answers by itself and undoes that, so that max_bytes and the search for tokens are about what the caller gets.
func newTransport() *http.Transport {
	t := destinations.NewTransport(64)
	t.MaxResponseHeaderBytes = 256 << 10
	t.HTTP2.MaxReceiveBufferPerStream = aheadBytes
	return t
}

// SetApps replaces the apps; calls in hand finish with the old ones.
func (p *Proxy) SetApps(apps []App) error {
	made := map[string]*app{}
	var problems config.Problems
	for _, a := range apps {
		servers, endUsers, more := compile(a.Config)
		problems = append(problems, more...)
		made[a.Config.Name] = &app{a, servers, endUsers, hubspot.Spare{
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
	known    bool   // who calls is: it has shown a secret, or a token, that is good
	apiKey   string // who calls; "": an end user
	account  string
	hub      string
	method   string
	path     string // as HubSpot gets it
	shown    string // as the log does
	query    string
	size     int64    // of the body, in bytes
	secrets  []string // that nobody is shown: what the caller came with, and tokens
	attempts int
	began    time.Time

	gone     atomic.Bool // the caller
	unwanted atomic.Bool // nothing is lost with the call when the caller goes
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

// refuse answers r.
func (p *Proxy) refuse(ctx *fasthttp.RequestCtx, c *call, r *refusal) {
	p.refused(c, r)
	r.answer(ctx)
}

// Unread is to be told of a call that Admit has admitted and whose body did not come as it was announced: it was answered with status.
func (p *Proxy) Unread(ctx *fasthttp.RequestCtx, status int) {
	if c, ok := ctx.UserValue(callKey{}).(*call); ok {
		r := &refusal{status: status, reason: "body", message: "the body did not come whole"}
		if status == fasthttp.StatusRequestEntityTooLarge {
			r = tooLarge(c.app.Config.Proxy.MaxBytes)
		}
		p.refused(c, r)
	}
}

// admit finds out who calls, what is called, in which account, and whether that is allowed.
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
	bearer := bearerOf(ctx)
	if r := p.authenticate(ctx, c, bearer); r != nil {
		return r
	}
	if !slices.Contains(methods, c.method) {
		c.method = "" // it is the caller's invention
		return &refusal{status: fasthttp.StatusMethodNotAllowed, reason: "method", message: "The method is not forwarded", detail: "use one of " + strings.Join(methods, ", ")}
	}
	c.path = rest[len(name):]
	segments, problem := splitPath(c.path)
	if problem != "" {
		return badPath(problem)
	}
	c.secrets = secretsOf(ctx, bearer)
	if c.query, ok = cleanQuery(string(rawQuery), c.secrets); !ok {
		return badPath("its query has a character that must be escaped, or an escape that is none")
	}
	c.shown = shownRefused(segments, c.query)
	if answersTokens(segments) {
		return &refusal{
			status: fasthttp.StatusForbidden, reason: "not_allowed", message: "The call is never forwarded",
			detail: "what is below /oauth, or named after tokens, could hand out the account's own",
		}
	}
	allowed, list := c.app.servers, "allow"
	if c.apiKey == "" {
		allowed, list = c.app.endUsers, "allow_end_users"
	}
	r, ok := allowed.find(c.method, segments)
	if !ok {
		return &refusal{status: fasthttp.StatusForbidden, reason: "not_allowed", message: "The call is not allowed", detail: suggest(name, list, c.method, segments)}
	}
	c.shown = shownPath(segments, r, c.query)
	if limit := c.app.Config.Proxy.MaxBytes; int64(ctx.Request.Header.ContentLength()) > limit {
		return tooLarge(limit)
	}
	if c.size = int64(max(0, ctx.Request.Header.ContentLength())); !p.fits(c) { // before the body is read for nothing
		return busy()
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
		c.known, c.apiKey = true, id
		return c.named(account, own)
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
	}
	c.known = true
	if len(named) == 1 && account != c.account {
		return &refusal{
			status: fasthttp.StatusForbidden, reason: "account", message: "The account is not the token's", detail: "leave the header " + accountHeader + " out: the token says which it is",
		}
	}
	return nil
}

// named takes the account that a server names, or the one that its API key is for.
func (c *call) named(account, own string) *refusal {
	switch {
	case own != "" && (account == "" || account == own):
		c.account = own
		return nil
	case own != "":
		return &refusal{
			status: fasthttp.StatusForbidden, reason: "account", message: "The account is not the API key's", detail: "leave the header " + accountHeader + " out: the key says which it is",
		}
	case account == "" || event.CheckAccount(account) != nil:
		return &refusal{
			status: fasthttp.StatusBadRequest, reason: "account", message: "The account is missing",
			detail: "name the account to call in the header " + accountHeader + ": 1 to 256 bytes, as it was connected",
		}
	}
	c.account = account
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
