package ingest

import (
	"eventrouter/pkg/event"
	"eventrouter/pkg/ingest/segment"

	"github.com/valyala/fasthttp"
)

// dialect is one of the protocols whose events are Segment's messages.
type dialect struct {
	name   string // the member of the canonical event that keeps the message
	source string // `src`
	limits limits // the protocol's own, beside the server's; 0: none
	reply  []byte // to events that are taken
	text   bool   // the reply is text, not JSON
}

var (
	segmentDialect = &dialect{
		name: "segment", source: "segment", limits: limits{event: 32 << 10, body: 500 << 10}, reply: []byte(`{"success":true}`),
	}
	rudderDialect = &dialect{
		name: "rudderstack", source: "rudderstack", limits: limits{event: 32 << 10, body: 4_000_000}, reply: []byte("OK"), text: true,
	}
	jitsu2Dialect       = &dialect{name: "jitsu", source: "jitsu", reply: []byte(`{"ok":true}`)}
	jitsuSegmentDialect = &dialect{name: "segment", source: "segment_api", reply: bodyOK}
)

// messageRoute is what is peculiar to a route that takes Segment's messages.
type messageRoute struct {
	dialect   *dialect // nil: the request tells
	kind      string   // of message, where the path says it; "": the message says it
	batch     bool     // {"batch":[…]} are many
	keyInBody bool     // the write key may stand there alone
	form      segment.Form
}

// The routes of these protocols: what follows /v1/, /api/s/ and /api/s/s2s/.
var (
	segmentEndpoints = func() map[string]*endpoint {
		all := map[string]*endpoint{}
		add := func(class event.Class, r messageRoute, paths ...string) {
			r.keyInBody = true
			e := &endpoint{secret: eitherSecret, browser: true, class: class, messages: &r}
			for _, p := range paths {
				all[p] = e
			}
		}
		add(event.Live, messageRoute{kind: "identify"}, "identify", "i")
		add(event.Live, messageRoute{kind: "track"}, "track", "t")
		add(event.Live, messageRoute{kind: "page"}, "page", "p")
		add(event.Live, messageRoute{kind: "screen"}, "screen", "s")
		add(event.Live, messageRoute{kind: "group"}, "group", "g")
		add(event.Live, messageRoute{kind: "alias"}, "alias", "a")
		add(event.Live, messageRoute{batch: true}, "batch", "b")
		add(event.Bulk, messageRoute{batch: true}, "import")
		return all
	}()
	jitsu2Browser = jitsu2Endpoints(endpoint{secret: clientSecret, browser: true})
	jitsu2Server  = jitsu2Endpoints(endpoint{secret: serverSecret})

	jitsuSegment = &endpoint{
		secret: serverSecret, messages: &messageRoute{dialect: jitsuSegmentDialect, batch: true, form: segment.Jitsu},
	}
	jitsuSegmentCompat = &endpoint{
		secret: serverSecret, messages: &messageRoute{dialect: jitsuSegmentDialect, batch: true, form: segment.JitsuCompat},
	}
)

func jitsu2Endpoints(like endpoint) map[string]*endpoint {
	all := map[string]*endpoint{}
	for _, kind := range [...]string{"identify", "track", "page", "screen", "group", "alias"} {
		e := like
		e.messages = &messageRoute{dialect: jitsu2Dialect, kind: kind}
		all[kind] = &e
	}
	like.messages = &messageRoute{dialect: jitsu2Dialect}
	all["event"] = &like
	return all
}

// dialectByHeader tells the dialects apart that share a route, as far as a request's header does; nil: its first message has to.
func dialectByHeader(ctx *fasthttp.RequestCtx) *dialect {
	switch {
	case len(ctx.Request.Header.Peek(headerWriteKey)) > 0 || len(ctx.QueryArgs().Peek(argWriteKey)) > 0:
		return jitsu2Dialect
	case len(ctx.Request.Header.Peek("AnonymousId")) > 0:
		return rudderDialect
	}
	return nil
}

// limitsOf is what a request may bring, as far as its header tells.
func (s *Server) limitsOf(ctx *fasthttp.RequestCtx, e *endpoint) limits {
	if e.messages == nil {
		return s.limits()
	}
	d := e.messages.dialect
	if d == nil {
		d = dialectByHeader(ctx)
	}
	if d == nil {
		d = rudderDialect // of the two that are left, the one that takes more
	}
	return s.limits().within(d.limits)
}

// within returns the tighter of two limits of each kind.
func (l limits) within(own limits) limits {
	if own.event > 0 {
		l.event = min(l.event, own.event)
	}
	if own.body > 0 {
		l.body = min(l.body, own.body)
	}
	return l
}

// answerTaken tells a client in its protocol's words that its events are on disk.
func (b *batch) answerTaken(ctx *fasthttp.RequestCtx) {
	if b.dialect == nil {
		answerOK(ctx)
		if b.noCookie {
			ctx.Response.SetBodyRaw(bodyNoCookie)
		}
		return
	}
	ctx.Response.Header.SetContentTypeBytes(typeJSON)
	if b.dialect.text {
		ctx.Response.Header.SetContentTypeBytes(typeText)
	}
	if len(b.messages.bad) > 0 && !b.dialect.text {
		ctx.SetBody(b.messages.appendLeftOut(b.dialect.reply))
		return
	}
	ctx.Response.SetBodyRaw(b.dialect.reply)
}
