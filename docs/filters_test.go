package docs

import (
	"testing"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// compile gives a busy machine time: these tests are about meaning.
func compile(src string) (*filters.Filter, error) {
	return filters.Compile(src, filters.Options{Destination: "crm", Type: "hubspot", Limit: time.Second})
}

// decide is what becomes of an event.
func decide(t *testing.T, src, json string) string {
	t.Helper()
	f, err := compile(src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	res, err := f.Eval(&event.Event{
		ID: "1", APIKey: "web", Received: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), JSON: []byte(json),
	})
	switch {
	case err != nil:
		return "dead letter"
	case res.Keep:
		return "delivered"
	default:
		return "skipped"
	}
}

// sampleEvents are events that the idioms tell apart.
var sampleEvents = []string{
	`{}`,
	`{"event_type":"pageview","doc_host":"shop.example.com"}`,
	`{"event_type":"signup","user":{"email":"ada@example.com","company":"Example Ltd"}}`,
	`{"event_type":"purchase","revenue":99.5,"user":{"id":"u1"}}`,
	`{"event_type":"purchase","revenue":100.5,"user":{"company":"Another"},"doc_host":"www.example.com"}`,
	`{"event_type":"app_opened","_timestamp":"2025-06-01T10:00:00.000000Z"}`,
	`{"event_type":"app"}`,
	`{"event_type":"pageview","parsed_ua":{"ua_family":"Googlebot","bot":true},"location":{"country":"US"}}`,
	`{"event_type":"pageview","parsed_ua":{"ua_family":"Chrome"},"location":{"country":"AT"}}`,
}

// TestFilterIdioms: both columns decide alike, and each tells events apart.
func TestFilterIdioms(t *testing.T) {
	t.Parallel()
	for _, row := range load(t, "filters.md").tableUnder(t, "Idioms").rows {
		goSource, js := code(row[1])[0], code(row[2])[0]
		seen := map[string]bool{}
		for _, json := range sampleEvents {
			a, b := decide(t, goSource, json), decide(t, js, json)
			if a != b {
				t.Errorf("%s: %s: Go template %s, JavaScript %s", row[0], json, a, b)
			}
			seen[a] = true
		}
		alike := row[0] == "nothing" || row[0] == "one API key's events"
		if seen["dead letter"] || len(seen) != 2 && !alike {
			t.Errorf("%s: the events come to %v", row[0], seen)
		}
	}
}

// TestFilterTables checks what the page says of single templates.
func TestFilterTables(t *testing.T) {
	t.Parallel()
	p := load(t, "filters.md")
	for _, tb := range p.tables {
		if tb.header[0] != "template" {
			continue
		}
		for _, row := range tb.rows {
			src := code(row[0])[0]
			switch tb.header[1] {
			case "message":
				if _, err := compile(src); err == nil || err.Error() != row[1] {
					t.Errorf("%s:\n got %v\nwant %s", src, err, row[1])
				}
			case "warning":
				f, err := compile(src)
				if err != nil || len(f.Warnings()) != 1 || f.Warnings()[0] != row[1] {
					t.Errorf("%s:\n got %v %v\nwant %s", src, f, err, row[1])
				}
			case "event":
				if got := decide(t, src, code(row[1])[0]); got != row[2] {
					t.Errorf("%s of %s: %s, the page says %s", src, row[1], got, row[2])
				}
			}
		}
	}
}
