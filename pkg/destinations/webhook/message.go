package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// message is one event as it is sent.
type message struct {
	entry  int // of the batch
	id     uuid.UUID
	target *target
	body   []byte
}

// target is where and how a request goes. Messages with the same one may share a request.
type target struct {
	method, url string
	contentType string
	headers     []pair
	// made says that the event has a part in the URL: what the remote says of the URL is about the event then.
	made bool
	// enveloped says that a script made the target. It shares no request.
	enveloped bool
	// foreign says that it leads to another host than the configuration's: signatures are not for that.
	foreign bool

	text string // what key says, once it was asked
}

// pair is a header of a request.
type pair struct {
	name, value string
	made        bool // of what the event says
}

// key is the same for the same targets.
func (t *target) key() string {
	if t.text == "" {
		var b strings.Builder
		b.WriteString(t.url)
		for _, h := range t.headers {
			b.WriteString("\n" + h.name + ": " + h.value)
		}
		t.text = b.String()
	}
	return t.text
}

// fixedTarget is the target of all events, where no template makes it.
func (d *Destination) fixedTarget() *target {
	t := &target{method: d.set.Method, url: d.set.URL, contentType: d.format.contentType}
	for _, h := range d.headers {
		t.headers = append(t.headers, pair{name: h.name, value: h.value})
	}
	t.key() // many share it
	return t
}

// render makes the messages of a batch, in its order. What cannot be made is rejected.
func (d *Destination) render(batch []destinations.Entry, out []destinations.Outcome) []*message {
	set := d.templates.take()
	defer d.templates.give(set)
	messages := make([]*message, 0, len(batch))
	for i := range batch {
		m, err := d.message(set, &batch[i])
		if err != nil {
			out[i].Err = destinations.Reject(err)
			continue
		}
		m.entry = i
		messages = append(messages, m)
	}
	return messages
}

// message renders one entry.
func (d *Destination) message(set *templateSet, e *destinations.Entry) (m *message, err error) {
	m = &message{id: destinations.EventUUID(e.Event, e.Name.Index), target: d.fixed}
	ev := e.Event
	if ev.Enveloped {
		envelope, says := envelopeOf(ev)
		ev = withoutEnvelope(ev)
		if says {
			return m, d.enveloped(m, set, filters.NewView(ev), ev, envelope)
		}
	}
	view := filters.NewView(ev)
	if m.target == nil {
		m.target = &target{method: d.set.Method, contentType: d.format.contentType}
		if err := d.fill(m.target, set, view); err != nil {
			return nil, err
		}
	}
	m.body, err = d.body(set, view, ev)
	return m, err
}

// fill makes the URL and the headers of a target.
func (d *Destination) fill(t *target, set *templateSet, view *filters.View) error {
	text, err := set.url.Eval(view)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	u, err := d.parseURL(text)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if origin(u) != d.address.origin {
		return errors.New("url: it would lead to another host")
	}
	t.url, t.made = u.String(), t.enveloped || !set.url.Constant()
	return d.fillHeaders(t, set, view)
}

func (d *Destination) fillHeaders(t *target, set *templateSet, view *filters.View) error {
	for i, h := range d.headers {
		value, err := set.headers[i].Eval(view)
		if err != nil {
			return fmt.Errorf("headers.%s: %w", h.key, err)
		}
		if !isHeaderValue(value) {
			return fmt.Errorf("headers.%s: it holds a line break or another character that no header has", h.key)
		}
		t.headers = append(t.headers, pair{h.name, value, !set.headers[i].Constant()})
	}
	return nil
}

// body is what `body` makes of an event; without one it is the event, as filters see it.
func (d *Destination) body(set *templateSet, view *filters.View, ev *event.Event) ([]byte, error) {
	switch {
	case !methods[d.set.Method]:
		return nil, nil
	case set.body == nil:
		return whole(ev), nil
	}
	v, err := set.body.Eval(view)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	body, err := d.format.body(v)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return body, nil
}

// whole is an event as filters see it.
func whole(ev *event.Event) []byte {
	const added = 256 // bytes that the envelope of an event adds, mostly
	return ev.AppendView(make([]byte, 0, len(ev.JSON)+added))
}

// withoutEnvelope is an event without what a script said to this destination, which may hold credentials: neither templates nor bodies have it.
func withoutEnvelope(ev *event.Event) *event.Event {
	bare := *ev
	if without, err := sjson.DeleteBytes(ev.JSON, event.FieldEnvelope); err == nil {
		bare.JSON, bare.Enveloped = without, false
	}
	return &bare
}

// envelopeOf returns what a transform says.
func envelopeOf(ev *event.Event) (envelope gjson.Result, says bool) {
	v := gjson.GetBytes(ev.JSON, event.FieldEnvelope)
	return v, v.Exists() && v.Type != gjson.Null
}
