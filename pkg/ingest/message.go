package ingest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	many                      bool         // the body is a batch
	bad                       []badMessage // of a batch, in its order
}

// badMessage is an element of a batch that is no message, or too large a one. SDKs drop a batch that is refused, so it is left out and the
// others are taken.
type badMessage struct {
	index int
	span
	why *refusal
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
	most := lim.body
	lim = lim.within(b.dialect.limits)
	if len(b.scanner.data) > lim.body {
		return refuseBodySize(lim.body)
	}
	if !b.messages.many {
		if size := b.elements[0].to - b.elements[0].from; size > lim.event {
			return refuseEventSize(fmt.Sprintf("Event size %d exceeds limit: %d", size, lim.event), "")
		}
		return nil
	}
	b.leaveOutLarge(lim.event)
	if len(b.elements) == 0 && len(b.messages.bad) > 0 {
		return b.messages.bad[0].why
	}
	// What the batch says for all its messages is copied into the event of each: it multiplies.
	if context := b.messages.context; len(b.elements)*(context.to-context.from) > most-len(b.scanner.data) {
		return refuseBodySize(most)
	}
	return nil
}

// leaveOutLarge takes messages that are larger than a limit out of b.elements.
func (b *batch) leaveOutLarge(limit int) {
	kept, index, before := b.elements[:0], 0, b.messages.bad
	bad := before[:0:0] // in order, with those that are no messages
	for _, e := range b.elements {
		for len(before) > 0 && before[0].index == index {
			bad, before, index = append(bad, before[0]), before[1:], index+1
		}
		if size := e.to - e.from; size > limit {
			bad = append(bad, badMessage{index, e.span, refuseEventSize(fmt.Sprintf("Size of one of events exceeds limit: %d", limit),
				fmt.Sprintf("element %d, at byte %d, has %d bytes", index, e.from, size))})
		} else {
			kept = append(kept, e)
		}
		index++
	}
	b.elements, b.messages.bad = kept, append(bad, before...)
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

// scanBatch scans the array of messages at i. Elements that are none are noted and passed over.
func (b *batch) scanBatch(i, most int) (end int, r *refusal, err error) {
	s := &b.scanner
	b.elements, b.messages.bad = b.elements[:0], nil
	for i = s.space(i + 1); ; i = s.space(i + 1) {
		if i >= len(s.data) {
			return i, nil, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil, nil
		}
		n := len(b.elements) + len(b.messages.bad)
		if n == most {
			return i, refuseEventCount(most), nil
		}
		if n == lightEvents {
			if r := b.takeTurn(); r != nil {
				return i, r, nil
			}
		}
		from := i
		i, err = s.value(i, 2+messageDepth)
		at, tooDeep := errors.AsType[depthError](err)
		switch {
		case tooDeep:
			if i, err = s.blank(from); err != nil {
				return i, nil, err
			}
			b.messages.bad = append(b.messages.bad, badMessage{n, span{from, i}, refuseDepth(int(at))})
		case err != nil:
			return i, nil, err
		case s.data[from] != '{':
			b.messages.bad = append(b.messages.bad, badMessage{n, span{from, i}, refuseElement(s.data, from, n)})
		default:
			b.elements = append(b.elements, element{span: span{from, i}})
		}
		i = s.space(i)
		if i >= len(s.data) || s.data[i] != ',' && s.data[i] != ']' {
			return i, nil, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil, nil
		}
	}
}

// maxToldMessages bounds what is told of one batch's elements that are left out.
const maxToldMessages = 20

// noteLeftOut counts what is left out of a batch, and shows it to the watcher.
func (s *Server) noteLeftOut(b *batch, src *source) {
	bad := b.messages.bad
	src.badMessages.Add(float64(len(bad)))
	if s.opts.Watcher == nil {
		return
	}
	for i := range bad[:min(len(bad), maxToldMessages)] {
		s.opts.Watcher.Malformed(src.id, bad[i].of(b.scanner.data), bad[i].why.message)
	}
}

// appendLeftOut returns reply, an object, with the number of elements that are left out, and of the first ones why.
func (m *messages) appendLeftOut(reply []byte) []byte {
	out := append([]byte(nil), reply[:len(reply)-1]...)
	out = append(out, `,"rejected":`...)
	out = append(strconv.AppendInt(out, int64(len(m.bad)), 10), `,"errors":[`...)
	for i, bad := range m.bad[:min(len(m.bad), maxToldMessages)] {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(append(out, `{"index":`...), int64(bad.index), 10)
		out = event.AppendString(append(out, `,"reason":`...), strings.TrimPrefix(bad.why.message, bodyMessage))
		out = append(out, '}')
	}
	return append(out, "]}"...)
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
