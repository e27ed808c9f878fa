package ingest

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"

	"github.com/google/go-cmp/cmp"
)

// FuzzBody holds the parser against encoding/json: the same bodies are valid, and what is stored is what was sent without write keys.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"a":1}`, `[{"a":1},{"b":[1,{"c":2}]}]`, `[]`, `[null]`, ` {} `, `{"a":1}x`, `{"a":1,}`, `[{},]`, `{"a":tru}`, `{"a":1.}`, `{"a":-}`,
		"\ufeff{\"a\":\"\xff\"}", `{"api_key":1,"a":1,"api\u005fkey":2,"b":2}`, `{"eventn_ctx":{"api_key":1},"api_key":{"x":[]}}`,
		`{"template":{"t":1,"api_key":"s"},"events":[{"a":2,"t":3},{}]}`, `{"events":[{"api_key":1}],"template":1}`,
		`{"template":{"a":1},"events":[{"template":{},"events":[]}]}`, `{"template":{},"template":[],"events":[]}`,
		`{"event_id":"a","eventn_ctx":{"event_id":5},"utc_time":"t"}`, strings.Repeat(`{"a":[`, 70), "\x1f\x8b\x08\x00", `{"":{"\"":"\\"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Add(gzipped(f, `[{"a":1}]`))
	lim := limits{event: 2000, body: 20_000, events: 50_000}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := &batch{random: batches.New().(*batch).random, seen: map[contentHash]uint64{}}
		refused := b.parse(bytes.Clone(body), lim)
		if bytes.HasPrefix(body, gzipMagic) {
			if refused != nil && (strings.Contains(refused.message, "gzip: ") || refused.status == 413) {
				return
			}
			body = b.plain
		}
		body = bytes.TrimPrefix(body, byteOrderMark)
		want, ok := eventsOf(body, lim)
		if ok != (refused == nil) {
			t.Fatalf("refused: %+v, want accepted: %v", refused, ok)
		}
		if refused != nil {
			return
		}
		b.who.front = &Server{}
		b.who.front.SetServer(config.Server{})
		b.encode(event.Event{APIKey: "k", Received: receipt})
		var got []any
		for _, rec := range b.recs {
			var ev event.Event
			if err := ev.Decode(rec); err != nil {
				t.Fatal(err)
			}
			if ev.ID == "" || len(ev.ID) > maxIDBytes || !utf8.Valid(ev.JSON) {
				t.Errorf("id %q, JSON %q", ev.ID, ev.JSON)
			}
			got = append(got, decoded(t, ev.JSON))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}

// eventsOf reads a body by encoding/json alone; false for one that must be refused.
func eventsOf(body []byte, lim limits) (events []any, ok bool) {
	body = []byte(string([]rune(string(body)))) // every byte that is no UTF-8 becomes U+FFFD
	if !json.Valid(body) || nesting(body) > maxDepth {
		return nil, false
	}
	var raws []json.RawMessage
	switch body = bytes.TrimSpace(body); body[0] {
	case '[':
		_ = json.Unmarshal(body, &raws)
	case '{':
		raws = append(raws, body)
		var parts struct{ Template, Events json.RawMessage }
		var exact map[string]json.RawMessage
		_ = json.Unmarshal(body, &exact)
		parts.Template, parts.Events = exact["template"], exact["events"]
		if bytes.HasPrefix(parts.Template, []byte("{")) && bytes.HasPrefix(parts.Events, []byte("[")) {
			return mergedOf(parts.Template, parts.Events, lim)
		}
	default:
		return nil, false
	}
	for _, raw := range raws {
		if raw[0] != '{' || len(raw) > lim.event {
			return nil, false
		}
		events = append(events, withoutKeys(decode(raw)))
	}
	return events, true
}

func mergedOf(template, list json.RawMessage, lim limits) (events []any, ok bool) {
	var raws []json.RawMessage
	_ = json.Unmarshal(list, &raws)
	for _, raw := range raws {
		ev, isObject := decode(raw).(map[string]any)
		if !isObject {
			return nil, false
		}
		for k, v := range decode(template).(map[string]any) {
			ev[k] = v
		}
		events = append(events, withoutKeys(ev))
	}
	return events, true
}

// withoutKeys removes what must not be stored.
func withoutKeys(v any) any {
	ev := v.(map[string]any)
	delete(ev, "api_key")
	for _, name := range []string{"eventn_ctx", "template", "events"} {
		if inner, ok := ev[name].(map[string]any); ok {
			delete(inner, "api_key")
		}
	}
	for _, name := range []string{"template", "events"} {
		list, _ := ev[name].([]any)
		for _, el := range list {
			if inner, ok := el.(map[string]any); ok {
				delete(inner, "api_key")
			}
		}
	}
	return ev
}

func decoded(t *testing.T, data []byte) any {
	t.Helper()
	if !json.Valid(data) {
		t.Fatalf("stored %q is no JSON", data)
	}
	return decode(data)
}

func decode(data []byte) any {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	_ = d.Decode(&v)
	return v
}

// nesting is the greatest depth of valid JSON.
func nesting(data []byte) int {
	d := json.NewDecoder(bytes.NewReader(data))
	depth, deepest := 0, 0
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}
