package docs

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// eventValues are values of all types, and those that the idioms ask for.
var eventValues = []string{
	`"pageview"`, `"signup"`, `"purchase"`, `"app_opened"`, `"app"`, `"APP_x"`, `""`, `"ada@example.com"`, `"Example Ltd"`, `"example ltd"`, `"shop.example.com"`, `"DE"`, `"AT"`, `"de"`,
	`"100"`, `"100.5"`, `"1e3"`, `"many"`, `"näh"`, `"\u65e5\u672c"`, `"\ud83d\ude00"`, `"null"`, `"false"`, `"true"`, `" x "`, `"2026-01-01T00:00:00.000000Z"`, `"2025-12-31T23:59:59Z"`, `"2027-01-01T00:00:00Z"`, `"2026-01-01T00:30:00+01:00"`,
	`0`, `1`, `100`, `100.5`, `-3`, `1e3`, `99999999999999999999`, `true`, `false`, `null`, `{}`, `[]`, `{"a":1}`, `["DE"]`, `[100.5]`, `["pageview","signup"]`,
}

// generatedEvent is an event of members that the idioms ask for, or none.
func generatedEvent(rng *rand.Rand) string {
	pick := func() string { return eventValues[rng.IntN(len(eventValues))] }
	object := func(names ...string) string {
		var members []string
		for _, name := range names {
			if rng.IntN(3) > 0 {
				members = append(members, `"`+name+`":`+pick())
			}
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	var members []string
	for _, name := range []string{"event_type", "revenue", "doc_host", "api_key", "_timestamp"} {
		if rng.IntN(3) > 0 {
			members = append(members, `"`+name+`":`+pick())
		}
	}
	for _, names := range [][]string{{"user", "email", "company"}, {"parsed_ua", "bot"}, {"location", "country"}} {
		switch name, below := names[0], names[1:]; rng.IntN(4) {
		case 0:
			members = append(members, `"`+name+`":`+pick())
		case 1, 2:
			members = append(members, `"`+name+`":`+object(below...))
		}
	}
	slices.Sort(members)
	return "{" + strings.Join(members, ",") + "}"
}

// idiom is a row of the table of idioms: what the columns make of events. Nil: the row has none.
type idiom struct {
	match          *filters.Match
	goTemplate, js *filters.Filter
}

func idioms(t *testing.T) map[string]idiom {
	t.Helper()
	all := map[string]idiom{}
	for _, row := range load(t, "filters.md").tableUnder(t, "Idioms").rows {
		var i idiom
		var err error
		if i.goTemplate, err = compile(code(row[2])[0]); err != nil {
			t.Fatal(err)
		}
		if i.js, err = compile(strings.TrimSpace(code(row[3])[0])); err != nil {
			t.Fatal(err)
		}
		if row[1] != "" {
			if i.match, err = compileMatch(t, code(row[1])[0]); err != nil {
				t.Fatal(err)
			}
		}
		all[row[0]] = i
	}
	return all
}

// decide returns what the columns make of an event: filter, Go template, JavaScript.
func (i idiom) decide(ev *event.Event) []string {
	all := []string{"", outcome(i.goTemplate.Eval(ev)), outcome(i.js.Eval(ev))}
	if all[0] = all[1]; i.match != nil {
		all[0] = outcome(i.match.Eval(ev))
	}
	return all
}

// mayDiffer says whether the page tells of the event that the columns decide otherwise.
func mayDiffer(idiom string, ev *event.Event) bool {
	for _, path := range []string{"event_type", "revenue", "doc_host", "user.email", "user.company", "location.country", "parsed_ua.bot", "_timestamp"} {
		if gjson.GetBytes(ev.JSON, path).IsArray() {
			return true
		}
	}
	at := gjson.GetBytes(ev.JSON, "_timestamp")
	_, err := time.Parse(time.RFC3339Nano, at.Str)
	return idiom == "no bots" && gjson.GetBytes(ev.JSON, "parsed_ua.bot").Str == "true" || idiom == "all of 2026" && at.Exists() && err != nil
}

// TestIdiomsOnGeneratedEvents: the columns of the idioms decide alike on events of every kind, but for what the page says.
func TestIdiomsOnGeneratedEvents(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	all := idioms(t)
	decided := map[string]map[string]int{}
	for range 5000 {
		ev := sample(generatedEvent(rng))
		if !json.Valid(ev.JSON) {
			t.Fatalf("no JSON: %s", ev.JSON)
		}
		for name, idiom := range all {
			got := idiom.decide(ev)
			if decided[name] == nil {
				decided[name] = map[string]int{}
			}
			if mayDiffer(name, ev) {
				continue
			}
			decided[name][got[0]]++
			if got[0] != got[1] || got[1] != got[2] || got[0] == "dead letter" {
				t.Fatalf("%s: %s: filter, Go template, JavaScript: %v", name, ev.JSON, got)
			}
		}
	}
	for name, outcomes := range decided {
		if alike := name == "nothing" || name == "one API key's events"; !alike && (outcomes["delivered"] < 20 || outcomes["skipped"] < 20) {
			t.Errorf("%s: %v, want 20 of each", name, outcomes)
		}
	}
}

// TestIdiomsThatDiffer checks what the page says of events on which the columns differ.
func TestIdiomsThatDiffer(t *testing.T) {
	t.Parallel()
	all, rows := idioms(t), 0
	for _, tb := range load(t, "filters.md").tables {
		if len(tb.header) != 5 || tb.header[0] != "deliver" || tb.header[1] != "event" {
			continue
		}
		for _, row := range tb.rows {
			rows++
			ev := sample(code(row[1])[0])
			if got := all[row[0]].decide(ev); !slices.Equal(got, row[2:]) {
				t.Errorf("%s of %s: %v, the page says %v", row[0], ev.JSON, got, row[2:])
			}
			if !mayDiffer(row[0], ev) {
				t.Errorf("%s of %s: the test of generated events does not know of it", row[0], ev.JSON)
			}
		}
	}
	if rows == 0 {
		t.Error("no rows")
	}
}
