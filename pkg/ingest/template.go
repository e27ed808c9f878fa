package ingest

import (
	"bytes"
	"fmt"

	"github.com/tidwall/gjson"
)

// templated returns the body's only element if that is {"template":{…},"events":[…]}, else nil. A template whose events are no array
// is one plain event, as in Jitsu.
func (b *batch) templated() *element {
	if !b.object {
		return nil
	}
	e, data := &b.elements[0], b.scanner.data
	if e.template.to == 0 || e.events.to == 0 || data[e.template.from] != '{' || data[e.events.from] != '[' {
		return nil
	}
	return e
}

// merge replaces the template body e, which is valid JSON, by its events, each with the template's members in place of its own
// of the same name. The merged events together keep the limit of a body: a template multiplies.
func (b *batch) merge(e element, lim limits) *refusal {
	s := &b.scanner
	shared := e.template.of(s.data)
	names := map[string]bool{}
	gjson.Parse(view(shared)).ForEach(func(k, _ gjson.Result) bool {
		names[k.Str] = true
		return true
	})
	shared = bytes.TrimSpace(shared[1 : len(shared)-1])

	b.merged, b.elements, s.cuts = b.merged[:0], b.elements[:0], s.cuts[:0]
	for i := s.space(e.events.from + 1); s.data[i] != ']'; {
		n := len(b.elements)
		if s.data[i] != '{' {
			return refuseElement(s.data, i, n)
		}
		if n == lim.events {
			return refuseEventCount(lim.events)
		}
		if len(b.merged) > lightBytes || n == lightEvents {
			if r := b.takeTurn(); r != nil {
				return r
			}
		}
		end, err := s.value(i, 0)
		if err != nil {
			return scanError(s.data, err)
		}
		if len(b.merged)+len(shared)+end-i > lim.body {
			return refuseBodySize(lim.body)
		}
		from := len(b.merged)
		b.merged = appendMerged(b.merged, shared, s.data[i:end], names)
		if size := len(b.merged) - from; size > lim.event {
			return refuseEventSize(fmt.Sprintf("Size of one of events exceeds limit: %d", lim.event),
				fmt.Sprintf("element %d, at byte %d, has %d bytes with the template", n, i, size))
		}
		b.elements = append(b.elements, element{span: span{from, len(b.merged)}})
		if i = s.space(end); s.data[i] == ',' {
			i = s.space(i + 1)
		}
	}

	s.data = b.merged
	for n := range b.elements {
		if _, err := s.event(b.elements[n].from, 1, &b.elements[n]); err != nil {
			return scanError(s.data, err)
		}
	}
	return nil
}

// appendMerged appends the object of the shared members and those of ev whose names are not among them.
func appendMerged(dst, shared, ev []byte, names map[string]bool) []byte {
	dst = append(dst, '{')
	dst = append(dst, shared...)
	empty := len(shared) == 0
	gjson.Parse(view(ev)).ForEach(func(k, v gjson.Result) bool {
		if names[k.Str] {
			return true
		}
		if !empty {
			dst = append(dst, ',')
		}
		empty = false
		dst = append(dst, k.Raw...)
		dst = append(dst, ':')
		dst = append(dst, v.Raw...)
		return true
	})
	return append(dst, '}')
}
