package docs

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// patience is how long a script may run: long enough for a busy machine, unless it is one that never ends.
func patience(src string) time.Duration {
	if src == "for (;;) {}" || src == "while (true) {}" {
		return 20 * time.Millisecond
	}
	return time.Second
}

// compile gives a busy machine time: these tests are about meaning.
func compile(src string) (*filters.Filter, error) {
	return filters.Compile(src, filters.Options{Destination: "crm", Type: "hubspot", Limit: patience(src)})
}

// match is what a filter without code makes of an event.
func match(t *testing.T, filter, json string) string {
	t.Helper()
	m, err := compileMatch(t, filter)
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return outcome(m.Eval(sample(json)))
}

func compileMatch(t *testing.T, filter string) (*filters.Match, error) {
	t.Helper()
	s, err := config.NewSettings("router.yaml", "filter", []byte(filter))
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return filters.CompileMatch(s)
}

func sample(json string) *event.Event {
	return &event.Event{ID: "1", APIKey: "web", Received: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), JSON: []byte(json)}
}

// outcome is the word of the pages for what a filter returns.
func outcome(res filters.Result, err error) string {
	switch {
	case err != nil:
		return "dead letter"
	case res.Keep:
		return "delivered"
	default:
		return "skipped"
	}
}

// decide is what a template makes of an event.
func decide(t *testing.T, src, json string) string {
	t.Helper()
	f, err := compile(src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return outcome(f.Eval(sample(json)))
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

// TestFilterIdioms: all columns decide alike, and each tells events apart.
func TestFilterIdioms(t *testing.T) {
	t.Parallel()
	for _, row := range load(t, "filters.md").tableUnder(t, "Idioms").rows {
		goSource, js := code(row[2])[0], code(row[3])[0]
		seen := map[string]bool{}
		for _, json := range sampleEvents {
			a, b := decide(t, goSource, json), decide(t, js, json)
			if a != b {
				t.Errorf("%s: %s: Go template %s, JavaScript %s", row[0], json, a, b)
			}
			if row[0] != "nothing" {
				if m := match(t, code(row[1])[0], json); m != a {
					t.Errorf("%s: %s: Go template %s, filter %s", row[0], json, a, m)
				}
			}
			seen[a] = true
		}
		alike := row[0] == "nothing" || row[0] == "one API key's events"
		if seen["dead letter"] || len(seen) != 2 && !alike {
			t.Errorf("%s: the events come to %v", row[0], seen)
		}
	}
}

// TestMatchTables checks what the page says of single filters without code.
func TestMatchTables(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, tb := range load(t, "filters.md").tables {
		if tb.header[0] != "filter" {
			continue
		}
		for _, row := range tb.rows {
			filter := code(row[0])[0]
			m, err := compileMatch(t, filter)
			ran++
			if tb.header[1] == "message" {
				if want := "router.yaml:1: " + row[1]; err == nil || err.Error() != want {
					t.Errorf("%s:\n got %v\nwant %s", filter, err, want)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", filter, err)
				continue
			}
			if tb.header[1] == "event" {
				res, err := m.Eval(sample(code(row[1])[0]))
				got := outcome(res, err)
				if got == "skipped" {
					got = strings.Replace(res.Why, "filter: ", "skipped: ", 1)
				}
				if got != row[2] {
					t.Errorf("%s of %s: %s, the page says %s", filter, row[1], got, row[2])
				}
			}
		}
	}
	if ran < 25 {
		t.Errorf("%d filters", ran)
	}
}

// TestMatchOperators: the page has every operator, and no other.
func TestMatchOperators(t *testing.T) {
	t.Parallel()
	var want []string
	for _, tb := range load(t, "filters.md").tables {
		if tb.header[0] != "operator" {
			continue
		}
		for _, row := range tb.rows {
			for _, span := range code(row[0]) {
				name, _, _ := strings.Cut(span, ":")
				want = append(want, name)
			}
		}
	}
	slices.Sort(want)
	_, err := compileMatch(t, "a: {xxxxxxxxxxxxxx: 1}")
	_, list, _ := strings.Cut(err.Error(), "the operators are ")
	list, _, _ = strings.Cut(list, ";")
	got := strings.Split(list, ", ")
	slices.Sort(got)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("(-page +operators):\n%s", diff)
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
