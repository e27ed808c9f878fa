package ingest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/event"
)

// dryRunPath is Jitsu's.
const dryRunPath = "/api/v1/events/dry-run"

// maxTried bounds the events of one dry run: it is for a person who looks at them.
const maxTried = 100

// Tried is a body of a dry run, read as any other; nothing of it is stored or counted.
type Tried struct {
	APIKey string
	// Admin says that whoever asks may see admin pages, and so what the router remembers of persons.
	Admin  bool
	Events []*event.Event // as the log would hold them; the caller's
	// LeftOut says of each element that a batch of messages would be taken without, which it is and why.
	LeftOut []string
}

// dryRun answers POST /api/v1/events/dry-run, to who has a server secret or may see admin pages: an answer shows how destinations are configured, and a client
// secret can be read by anybody.
func (s *Server) dryRun(ctx *fasthttp.RequestCtx) {
	received := s.opts.Now()
	b := acquireBatch()
	defer b.release()
	b.heavy = s.heavy
	route := string(ctx.QueryArgs().Peek("route"))
	e, r := triedEndpoint(route)
	var src access
	var tried Tried
	admin := s.mayAdminister(ctx)
	if r == nil {
		src, r = s.mayTry(ctx, b, e, admin)
	}
	switch app := appOfPath(trimSlash([]byte(route))); {
	case r != nil:
	case app != "":
		tried, r = s.tryApp(ctx, b, app, string(ctx.QueryArgs().Peek("account")), received)
	default:
		tried, r = s.try(ctx, b, e, src, received)
	}
	if r != nil {
		s.refuse(ctx, nil, r)
		return
	}
	tried.Admin = admin
	b.endTurn() // else large requests to ingest would wait for dry runs
	s.opts.DryRun(ctx, tried)
}

// mayAdminister says whether a request may see admin pages. Without an admin token this machine may, and with it any page that its browser shows: those may not.
func (s *Server) mayAdminister(ctx *fasthttp.RequestCtx) bool {
	return s.refuseAdmin(ctx) == nil && (s.config().AdminToken != "" || !isCrossOrigin(ctx))
}

// isCrossOrigin says whether a browser made the request for a page of another origin, as [http.CrossOriginProtection] finds out.
func isCrossOrigin(ctx *fasthttp.RequestCtx) bool {
	switch string(ctx.Request.Header.Peek("Sec-Fetch-Site")) {
	case "same-origin", "none":
		return false
	case "":
		origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
		_, host, _ := strings.Cut(origin, "://")
		return origin != "" && host != string(ctx.Host())
	}
	return true
}

// triedEndpoint is the endpoint whose bodies a dry run is of; "" is that of servers.
func triedEndpoint(route string) (*endpoint, *refusal) {
	if route == "" || appOfPath(trimSlash([]byte(route))) != "" {
		return jitsuServer, nil
	}
	e := endpointOf(trimSlash([]byte(route)))
	if e == nil || e == bulkUpload || !strings.HasPrefix(route, "/") {
		return nil, &refusal{
			status: fasthttp.StatusBadRequest, reason: reasonBody, message: "route: no events are posted there",
			detail: "write a path such as /api/v1/s2s/event, /api/v1/event or /v1/batch",
		}
	}
	return e, nil
}

var refuseTry = &refusal{
	status: fasthttp.StatusUnauthorized, reason: reasonToken, message: "The token is not found",
	detail: "send an API key's server secret as ?token=, X-Auth-Token or Authorization: Bearer, or the admin token",
}

// mayTry returns as whom a dry run is made: the API key whose server secret it brings, or for who may see admin pages the one that it names, and else the
// first. Events count as a browser's where the endpoint is for browsers, or the request says so.
func (s *Server) mayTry(ctx *fasthttp.RequestCtx, b *batch, e *endpoint, admin bool) (access, *refusal) {
	t := s.sources.Load()
	token := b.token(ctx)
	server := e.secret != clientSecret && string(ctx.QueryArgs().Peek("browser")) != "true"
	if len(token) > 0 {
		if key, _ := t.find(t.server, token); key != nil {
			return access{key: key, server: server}, nil
		}
	}
	if !admin {
		if key, _ := t.find(t.client, token); key != nil && len(token) > 0 {
			return access{}, refuseClientSecret
		}
		return access{}, refuseTry
	}
	key, r := t.named(string(ctx.QueryArgs().Peek("api_key_id")))
	return access{key: key, server: server}, r
}

// named returns the key with an id; "" is the first.
func (t *sourceTable) named(id string) (*source, *refusal) {
	for _, key := range t.keys {
		if id == "" || key.id == id {
			return key, nil
		}
	}
	text := fmt.Sprintf("API key with id=[%s] does not exist", id)
	if id == "" {
		text = "There is no API key"
	}
	return nil, &refusal{status: fasthttp.StatusBadRequest, reason: reasonBody, message: text}
}

// try reads a body up to where its events would be stored.
func (s *Server) try(ctx *fasthttp.RequestCtx, b *batch, e *endpoint, src access, received time.Time) (Tried, *refusal) {
	tried := Tried{APIKey: src.key.id}
	body, r := b.read(ctx, s.limitsOf(ctx, e).body, s.pace())
	if r == nil {
		r = s.parse(ctx, b, e, body)
	}
	if r != nil {
		return tried, r
	}
	if len(b.elements) > maxTried {
		r := refuseEventCount(maxTried)
		return tried, &refusal{status: r.status, reason: r.reason, message: r.message, detail: "a dry run is of a few events"}
	}
	if r := s.encode(b, e, s.envelope(ctx, b, e, src, received)); r != nil {
		return tried, r
	}
	if r := tried.take(b.recs); r != nil {
		return tried, r
	}
	for _, bad := range b.messages.bad[:min(len(b.messages.bad), maxToldMessages)] {
		tried.LeftOut = append(tried.LeftOut, fmt.Sprintf("element %d: %s", bad.index, strings.TrimPrefix(bad.why.message, bodyMessage)))
	}
	return tried, nil
}

// take takes over the events in records.
func (t *Tried) take(recs [][]byte) *refusal {
	for _, rec := range recs {
		ev := &event.Event{}
		if err := ev.Decode(append([]byte(nil), rec...)); err != nil {
			return &refusal{status: fasthttp.StatusInternalServerError, reason: reasonInternal, message: "Internal error"}
		}
		t.Events = append(t.Events, ev)
	}
	return nil
}

// tryApp is try for the events of an app, as if an end user of an account had posted them.
func (s *Server) tryApp(ctx *fasthttp.RequestCtx, b *batch, name, account string, received time.Time) (Tried, *refusal) {
	app := s.apps.Load().apps[name]
	switch {
	case app == nil:
		return Tried{}, &refusal{status: fasthttp.StatusBadRequest, reason: reasonBody, message: "There is no such app", detail: "route names it"}
	case account == "":
		return Tried{}, &refusal{
			status: fasthttp.StatusBadRequest, reason: reasonBody, message: "The account is missing", detail: "an end user's token would say it: write ?route=/api/v1/apps/" + name + "/events&account=…",
		}
	}
	tried := Tried{APIKey: app.source.id}
	body, r := b.read(ctx, s.limits().body, s.pace())
	if r == nil {
		r = s.parseApp(b, app, account, received, body)
	}
	if r == nil && len(b.elements) > maxTried {
		r = refuseEventCount(maxTried)
	}
	if r == nil {
		r = tried.take(b.recs)
	}
	return tried, r
}

// Posted is a request that nobody has sent.
type Posted struct {
	Route     string // path; "": /api/v1/s2s/event
	APIKey    string // id; "": the first
	Account   string // of an app's events: whose end user posts
	Browser   bool   // it has no server's trust
	Received  time.Time
	Addr      netip.Addr // the client's; zero: this machine's
	UserAgent string
	Body      []byte
}

// Read makes events of a request as if it had come, and stores and counts nothing.
func (s *Server) Read(p Posted) (Tried, error) {
	e, r := triedEndpoint(p.Route)
	if r != nil {
		return Tried{}, r.err()
	}
	key, r := s.sources.Load().named(p.APIKey)
	if r != nil {
		return Tried{}, r.err()
	}
	var req fasthttp.Request
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetUserAgent(p.UserAgent)
	req.SetRequestURI(p.Route)
	req.SetBodyRaw(p.Body)
	var ctx fasthttp.RequestCtx
	if !p.Addr.IsValid() {
		p.Addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	ctx.Init(&req, net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Addr, 1)), nil)
	b := acquireBatch()
	defer b.release()
	if app := appOfPath(trimSlash([]byte(p.Route))); app != "" {
		tried, r := s.tryApp(&ctx, b, app, p.Account, p.Received)
		if r != nil {
			return tried, r.err()
		}
		return tried, nil
	}
	tried, r := s.try(&ctx, b, e, access{key: key, server: !p.Browser && e.secret != clientSecret}, p.Received)
	if r != nil {
		return tried, r.err()
	}
	return tried, nil
}

// err is what the answer would say.
func (r *refusal) err() error {
	text := strings.TrimPrefix(r.message, bodyMessage)
	if r.detail != "" {
		text += ": " + r.detail
	}
	for _, v := range r.violations {
		text += "\n  " + v.Path + " " + v.Problem
	}
	return errors.New(text)
}
