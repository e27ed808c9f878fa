package ingest

import (
	"fmt"

	"eventrouter/pkg/event"
	"eventrouter/pkg/ingest/segment"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

// messageDepth is how much deeper than in the body a message is nested in its canonical event, which keeps it as a member.
const messageDepth = 1

// messages are what a body says beside its messages, as raw values.
type messages struct {
	sentAt, context, writeKey span
	many                      bool // the body is a batch
}

// parseMessages reads a body of Segment's messages into b.elements: all messages or a refusal.
func (s *Server) parseMessages(ctx *fasthttp.RequestCtx, b *batch, e *endpoint, body []byte) *refusal {
	if b.dialect = e.messages.dialect; b.dialect == nil {
		b.dialect = dialectByHeader(ctx)
	}
	body, r := b.plainText(body, s.limitsOf(ctx, e))
	if r != nil {
		return r
	}
	b.scanner.data = body
	i := b.scanner.space(0)
	switch {
	case i == len(body):
		return malformed("empty JSON body", "")
	case body[i] != '{':
		return malformed(fmt.Sprintf("malformed JSON body begins with: %q", firstRune(body[i:])),
			fmt.Sprintf(`at byte %d: a message, or {"batch":[…]}, must begin here`, i))
	}
	end, r, err := b.scanMessages(i, e.messages, s.limits().events)
	switch {
	case r != nil:
		return r
	case err != nil:
		return scanError(body, err)
	case b.scanner.space(end) != len(body) || !gjson.ValidBytes(body):
		return syntaxError(body)
	}
	return b.checkMessages(s.limits())
}

// checkMessages settles whose messages they are, and holds them against that protocol's limits.
func (b *batch) checkMessages(lim limits) *refusal {
	if b.dialect == nil {
		b.dialect = segmentDialect
		if len(b.elements) > 0 && segment.IsRudderStack(b.elements[0].of(b.scanner.data)) {
			b.dialect = rudderDialect
		}
	}
	lim = lim.within(b.dialect.limits)
	if len(b.scanner.data) > lim.body {
		return refuseBodySize(lim.body)
	}
	for n := range b.elements {
		e := &b.elements[n]
		size := e.to - e.from
		switch {
		case size <= lim.event:
		case !b.messages.many:
			return refuseEventSize(fmt.Sprintf("Event size %d exceeds limit: %d", size, lim.event), "")
		default:
			return refuseEventSize(fmt.Sprintf("Size of one of events exceeds limit: %d", lim.event),
				fmt.Sprintf("element %d, at byte %d, has %d bytes", n, e.from, size))
		}
	}
	return nil
}

// scanMessages finds the messages in the object at i, which nobody has checked yet.
func (b *batch) scanMessages(i int, route *messageRoute, most int) (end int, r *refusal, err error) {
	s := &b.scanner
	b.messages, b.elements = messages{}, b.elements[:0]
	from, typed := i, route.kind != "" || route.dialect != nil
	for i = s.space(i + 1); ; i = s.space(i + 1) {
		if i >= len(s.data) {
			return i, nil, errSyntax
		}
		if s.data[i] == '}' {
			break
		}
		name, at, err := s.rawName(i)
		if err != nil {
			return at, nil, err
		}
		if route.batch && string(name) == "batch" {
			b.messages.many = true
			if s.data[at] != '[' {
				return at, malformed("malformed Segment body 'batch' type. Expected array of objects", fmt.Sprintf("at byte %d", at)), nil
			}
			if i, r, err = b.scanBatch(at, most); r != nil {
				return i, r, nil
			}
		} else {
			i, err = s.value(at, 1+messageDepth)
		}
		if err != nil {
			return i, nil, err
		}
		switch string(name) {
		case "sentAt":
			b.messages.sentAt = span{at, i}
		case "context":
			b.messages.context = span{at, i}
		case "writeKey":
			b.messages.writeKey = span{at, i}
		case "type":
			typed = true
		}
		i = s.space(i)
		if i >= len(s.data) || s.data[i] != ',' && s.data[i] != '}' {
			return i, nil, errSyntax
		}
		if s.data[i] == '}' {
			break
		}
	}
	if !b.messages.many {
		if !typed {
			return i, malformed("the body has neither 'batch' nor 'type'", ""), nil
		}
		b.elements = append(b.elements, element{span: span{from, i + 1}})
	}
	return i + 1, nil, nil
}

// scanBatch scans the array of messages at i.
func (b *batch) scanBatch(i, most int) (end int, r *refusal, err error) {
	s := &b.scanner
	b.elements = b.elements[:0]
	for i = s.space(i + 1); ; i = s.space(i + 1) {
		if i >= len(s.data) {
			return i, nil, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil, nil
		}
		n := len(b.elements)
		if s.data[i] != '{' {
			return i, refuseElement(s.data, i, n), nil
		}
		if n == most {
			return i, refuseEventCount(most), nil
		}
		from := i
		if i, err = s.nested(i, 2+messageDepth); err != nil {
			return i, nil, err
		}
		b.elements = append(b.elements, element{span: span{from, i}})
		i = s.space(i)
		if i >= len(s.data) || s.data[i] != ',' && s.data[i] != ']' {
			return i, nil, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil, nil
		}
	}
}

// encodeMessages makes b.recs of the elements as canonical events.
func (b *batch) encodeMessages(env event.Event, route *messageRoute) {
	o := segment.Options{Protocol: b.dialect.name, Type: route.kind, Form: route.form, Received: env.Received}
	if b.messages.many {
		o.SentAt, o.Context = b.messages.sentAt.of(b.scanner.data), b.messages.context.of(b.scanner.data)
	}
	env.Source = b.dialect.source
	for i := range b.elements {
		var src segment.Source
		b.json, src = b.converter.Append(b.json[:0], b.elements[i].of(b.scanner.data), &o)
		env.JSON = b.json
		switch env.ID = b.clientID(src.ID); {
		case env.ID != "":
		case src.Timed:
			env.ID = b.contentID(src.Kept)
		default:
			env.ID = b.randomID()
		}
		b.who.settle(b, &env, src.IP, b.dialect.name)
		b.buf = env.AppendTo(b.buf)
		b.ends = append(b.ends, len(b.buf))
	}
	b.cutRecords()
}
