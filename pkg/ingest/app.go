package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/appevents"
	"eventrouter/pkg/config"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/event"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

// App takes events of an app, from end users who speak for their account by a token.
type App struct {
	Name      string
	Verifier  *endusers.Verifier
	Events    *appevents.Set
	RateLimit config.RateLimit // of each account
}

// appTable finds an app by its name. It is never changed: a reload swaps the whole table.
type appTable struct {
	apps map[string]*appSource
}

// appSource is an app as requests need it.
type appSource struct {
	App
	source *source // what stands for an API key
	limits *accountLimits
}

// SetApps replaces the apps; requests in hand finish with the old ones. What accounts have sent counts on while their limit is the same.
func (s *Server) SetApps(apps []App, dests []config.Destination) {
	before := s.apps.Load()
	t := &appTable{apps: map[string]*appSource{}}
	for _, a := range apps {
		src := &appSource{App: a, source: &source{id: config.AppEventsKey(a.Name), feeds: feedsApp(a.Name, dests)}, limits: newAccountLimits(a.RateLimit)}
		if before != nil && before.apps[a.Name] != nil && before.apps[a.Name].RateLimit == a.RateLimit {
			src.limits = before.apps[a.Name].limits
		}
		s.metrics.resolve(src.source)
		src.source.limited = s.metrics.limited.WithLabelValues(src.source.id)
		t.apps[a.Name] = src
		if a.Events.Has() && !src.source.feeds {
			s.opts.Logger.Warn("the app's events go to no destination: they are stored and go nowhere", "app", a.Name)
		}
	}
	s.apps.Store(t)
}

func feedsApp(app string, dests []config.Destination) bool {
	return slices.ContainsFunc(dests, func(d config.Destination) bool { return !d.Staged && d.TakesApp(app) })
}

// appOfPath is the app in /api/v1/apps/{app}/events; "": another path.
func appOfPath(path []byte) string {
	rest, ok := bytes.CutPrefix(path, []byte("/api/v1/apps/"))
	if !ok {
		return ""
	}
	name, ok := bytes.CutSuffix(rest, []byte("/events"))
	if !ok || bytes.IndexByte(name, '/') >= 0 {
		return ""
	}
	return string(name)
}

// allowAnyOrigin lets pages of all origins post: no browser sends a token by itself, so that whoever has one may use it wherever they are.
func allowAnyOrigin(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.SetCanonical(headerACAO, []byte("*"))
	h.SetCanonical(headerMaxAge, corsMaxAge)
	h.SetCanonical(headerMethods, []byte("POST, OPTIONS"))
	h.SetCanonical(headerHeaders, []byte("Authorization, Content-Type, Content-Encoding"))
}

// acceptApp is everything between posted events of an app and the answer.
func (s *Server) acceptApp(ctx *fasthttp.RequestCtx, name string) {
	received := s.opts.Now()
	b := acquireBatch()
	defer b.release()
	b.heavy = s.heavy
	allowAnyOrigin(ctx)

	var body []byte
	app, account, r := s.authenticateApp(ctx, name)
	if r == nil {
		r = s.admitApp(app, account, received)
	}
	if r == nil {
		body, r = b.read(ctx, s.limits().body, s.pace())
	}
	if r == nil {
		if r = s.parseApp(b, app, account, received, body); r != nil && r.status < fasthttp.StatusInternalServerError {
			_ = app.limited(account, received, 1) // what is refused is looked at as well
		}
	}
	if r != nil {
		if app != nil {
			s.watchRefused(b, app.source, r, body)
		}
		s.refuse(ctx, nil, r)
		return
	}
	if r := s.storeApp(b, app, account, received); r != nil {
		s.refuse(ctx, nil, r)
		return
	}
	b.answerTaken(ctx)
	s.metrics.observe(s.opts.Now().Sub(received))
}

// authenticateApp finds out for which account of an app a request speaks. A token counts in its header only: addresses are logged.
func (s *Server) authenticateApp(ctx *fasthttp.RequestCtx, name string) (*appSource, string, *refusal) {
	app := s.apps.Load().apps[name]
	if app == nil {
		return nil, "", &refusal{status: fasthttp.StatusNotFound, reason: reasonRoute, message: "There is no such app", detail: "apps are named in the router's configuration, under apps"}
	}
	scheme, token, _ := bytes.Cut(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization), []byte{' '})
	if !bytes.EqualFold(scheme, []byte("Bearer")) {
		token = nil
	}
	account, err := app.Verifier.Verify(bytes.TrimSpace(token))
	switch {
	case errors.Is(err, endusers.ErrUnavailable):
		return app, "", &refusal{
			status: fasthttp.StatusServiceUnavailable, reason: reasonToken, retryAfter: 5, message: "Tokens can not be verified at the moment, send the events again later", detail: err.Error(),
		}
	case err != nil:
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
		return app, "", &refusal{status: fasthttp.StatusUnauthorized, reason: reasonToken, message: "The token is not taken", detail: err.Error()}
	}
	return app, account, nil
}

// admitApp says whether a request is welcome, before its body is read.
func (s *Server) admitApp(app *appSource, account string, now time.Time) *refusal {
	if r := app.limited(account, now, 0); r != nil {
		return r
	}
	return s.backPressure(app.source, event.Live)
}

// parseApp makes records of a body: of all events in it, or a refusal that tells of all that is wrong.
func (s *Server) parseApp(b *batch, app *appSource, account string, received time.Time, body []byte) (r *refusal) {
	defer s.rescue(&r)
	lim := s.limits()
	body, r = b.plainText(body, lim)
	if r != nil {
		return r
	}
	if r := b.scan(body, lim); r != nil {
		return r
	}
	if !gjson.ValidBytes(body) {
		return syntaxError(body)
	}
	env := event.Event{APIKey: app.source.id, Account: account, Received: received, Class: event.Live, Source: event.AppSource}
	var found []appevents.Violation
	for i := range b.elements {
		under := ""
		if !b.object {
			under = "/" + strconv.Itoa(i)
		}
		e := &b.elements[i]
		if size := e.to - e.from; size > lim.event {
			return refuseEventSize(fmt.Sprintf("Event size %d exceeds limit: %d", size, lim.event), "")
		}
		var posted appEvent
		posted.read(event.Normalize(e.of(b.scanner.data)))
		if len(posted.wrong) == 0 {
			posted.wrong = app.Events.Check(posted.name, []byte(posted.payload))
		}
		for _, v := range posted.wrong {
			found = append(found, appevents.Violation{Path: under + v.Path, Problem: v.Problem})
		}
		if len(found) >= maxTold {
			found = found[:maxTold]
			break
		}
		if len(found) == 0 {
			b.addApp(env, app.Name, &posted)
		}
	}
	if len(found) > 0 {
		return &refusal{
			status: fasthttp.StatusBadRequest, reason: reasonBody, message: "The events are not as the app's configuration has them, none was taken",
			detail: "see violations", violations: found,
		}
	}
	b.cutRecords()
	return nil
}

// maxTold is how many violations an answer tells.
const maxTold = 20

// appEvent is one event as it was posted. Its texts share the body's memory.
type appEvent struct {
	name    string
	payload string // JSON
	id, at  string // raw; "": none
	whole   []byte
	wrong   []appevents.Violation
}

// read takes the members of an object without duplicate names.
func (p *appEvent) read(json []byte) {
	wrong := func(path, problem string) {
		p.wrong = append(p.wrong, appevents.Violation{Path: path, Problem: problem})
	}
	p.whole = json
	named := false
	gjson.ParseBytes(json).ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "name":
			if named = true; v.Type != gjson.String || v.Str == "" {
				wrong("/name", "must be a text")
			}
			p.name = v.Str
		case "payload":
			if p.payload = v.Raw; !v.IsObject() {
				wrong("/payload", "must be an object")
			}
		case "event_id":
			if p.id = v.Raw; v.Type != gjson.String && v.Type != gjson.Number {
				wrong("/event_id", "must be a text or a number")
			}
		case "at":
			p.at = v.Raw
			if _, ok := event.ParseTime(v); !ok {
				wrong("/at", "must be a time, such as 2026-11-22T12:00:00Z, or seconds or milliseconds since 1970")
			}
		default:
			if len(p.wrong) < maxTold {
				wrong("/"+strings.ToValidUTF8(k.Str[:min(len(k.Str), 100)], ""), "is not known: an event has name, payload, event_id and at")
			}
		}
		return true
	})
	if !named {
		wrong("/name", "is missing")
	}
	if p.payload == "" {
		wrong("/payload", "is missing")
	}
}

// addApp appends the record of an event.
func (b *batch) addApp(env event.Event, app string, p *appEvent) {
	j := append(b.json[:0], `{"event_type":`...)
	j = event.AppendString(j, p.name)
	j = event.AppendString(append(j, `,"app":`...), app)
	j = event.AppendString(append(j, `,"account":`...), env.Account)
	j = event.AppendString(append(j, `,"name":`...), p.name)
	if p.at != "" {
		j = append(append(j, `,"utc_time":`...), p.at...)
	}
	j = append(append(append(j, `,"payload":`...), p.payload...), '}')
	b.json, env.JSON = j, j
	switch id := b.clientID([]byte(p.id)); {
	case id != "":
		env.ID = id
	case p.at != "":
		env.ID = b.contentID(p.whole)
	default:
		env.ID = b.randomID()
	}
	b.buf = env.AppendTo(b.buf)
	b.ends = append(b.ends, len(b.buf))
}

// storeApp makes the records of b durable.
func (s *Server) storeApp(b *batch, app *appSource, account string, received time.Time) *refusal {
	n := len(b.recs)
	app.source.received.Add(float64(n))
	if r := app.limited(account, received, n); r != nil {
		return r
	}
	if n > 0 {
		if err := s.opts.Log.Append(b.recs...); err != nil {
			return s.appendFailed(err)
		}
		s.appended()
		if s.opts.Watcher != nil {
			s.opts.Watcher.Accepted(app.source.id, b.recs)
		}
	}
	app.source.accepted[event.Live].Add(float64(n))
	if !app.source.feeds {
		app.source.undelivered.Add(float64(n))
	}
	return nil
}

// limited takes tokens for n events of an account; see [rateLimit.take].
func (a *appSource) limited(account string, now time.Time, n int) *refusal {
	wait := a.limits.take(account, now, n)
	if wait <= 0 {
		return nil
	}
	a.source.limited.Inc()
	return &refusal{
		status: fasthttp.StatusTooManyRequests, reason: reasonRate, retryAfter: int(math.Ceil(wait.Seconds())),
		message: "Too many events of this account, send them again later",
		detail:  fmt.Sprintf("rate_limit of the app is %g events per second for each account, and a burst of %d", a.RateLimit.EventsPerSecond, a.RateLimit.Burst),
	}
}

// maxLimits is how many accounts have a bucket at a time. Only tokens that the team has signed make one.
const maxLimits = 1 << 16

// accountLimits are the buckets of an app's accounts.
type accountLimits struct {
	settings config.RateLimit

	mu  sync.Mutex // guards the field below
	all map[string]*rateLimit
}

func newAccountLimits(settings config.RateLimit) *accountLimits {
	return &accountLimits{settings: settings, all: map[string]*rateLimit{}}
}

func (l *accountLimits) take(account string, now time.Time, n int) time.Duration {
	if l.settings.EventsPerSecond <= 0 {
		return 0
	}
	return l.of(account, now).take(now, n)
}

func (l *accountLimits) of(account string, now time.Time) *rateLimit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit := l.all[account]; limit != nil {
		return limit
	}
	if len(l.all) >= maxLimits {
		l.makeRoomLocked(now)
	}
	limit := newRateLimit(l.settings, now)
	l.all[account] = limit
	return limit
}

// makeRoomLocked drops buckets that are full, which a new one is as well, and where there are too few of these any others, down to half.
func (l *accountLimits) makeRoomLocked(now time.Time) {
	for account, limit := range l.all {
		if limit.full(now) {
			delete(l.all, account)
		}
	}
	for account := range l.all {
		if len(l.all) <= maxLimits/2 {
			return
		}
		delete(l.all, account)
	}
}
