package event

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/trial"
)

// lookupNames are the members that the envelope has to do with, and some that it does not know.
var lookupNames = []string{
	"event_type", "user", "user_agent", "eventn_ctx", "eventn_ctx_event_id", "event_id", "api_key", "_timestamp", "src", "source_ip", "__HTTP_CONTEXT__",
	"location", "parsed_ua", "", "é", `a"b`, "missing",
}

// checkLookup compares what a Lookup finds, in any order, with the members of the whole view.
func checkLookup(t *testing.T, l *Lookup, ev *Event, order []int) {
	t.Helper()
	view := string(ev.AppendView(nil))
	want := map[string]string{}
	gjson.Parse(view).ForEach(func(k, v gjson.Result) bool {
		if _, ok := want[k.Str]; !ok {
			want[k.Str] = v.Raw
		}
		return true
	})
	l.Reset(ev, NewNames(lookupNames...))
	for _, i := range order {
		name := lookupNames[i]
		if got := l.Get(i); got != want[name] || l.Get(i) != got {
			t.Errorf("%q of %s, with %s and %+v:\n got %s\nwant %s", name, ev.JSON, ev.Added, *ev, got, want[name])
		}
		if got := Member(view, name); got != want[name] {
			t.Errorf("Member %q of %s:\n got %s\nwant %s", name, view, got, want[name])
		}
	}
}

func TestLookup(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(choices ...string) string { return choices[rng.IntN(len(choices))] }
	values := []string{
		`"x"`, `""`, `"e1"`, `null`, `true`, `-1.5e3`, `[1,"]",{"a":[]}]`, `{}`, `{"ua_family":"Own", "x" : {"y":"}\""}}`, `{"email":null,"id":"u1"}`,
		`{"event_id":"e2","user_agent":"own","user":{"email":5},"location":{"city":"B"}}`, `{"user":{"id":1},"parsed_ua":{"bot":true}}`, `"\\"`, `"a\"b"`,
	}
	object := func(names []string) string {
		var b strings.Builder
		b.WriteString("{")
		sep := ""
		for _, i := range rng.Perm(len(names))[:rng.IntN(len(names)+1)] {
			name, _ := json.Marshal(names[i])
			if rng.IntN(10) == 0 && names[i] != "" {
				name = fmt.Appendf(nil, `"\u%04x%s"`, names[i][0], string(name[2:len(name)-1]))
				if !json.Valid(name) || gjson.ParseBytes(name).Str != names[i] {
					continue
				}
			}
			fmt.Fprintf(&b, "%s%s%s:%s%s", sep, name, pick("", " "), pick("", "\n"), pick(values...))
			sep = pick(",", " , ")
		}
		return b.String() + pick("", " ") + "}"
	}
	var l Lookup
	for range trial.Rounds(t, 6000) {
		ev := &Event{
			ID: pick("", "e1"), APIKey: pick("", `k"1`), Received: time.Unix(1600000000, 123000), Source: pick("", "api"), SourceIP: pick("", "10.0.0.1"),
			UserAgent: pick("", "curl"), Email: pick("", "a@b.co"), AnonymousHash: pick("", "h"), Hidden: Hidden(rng.IntN(2) * rng.IntN(16)),
			JSON: []byte(pick("", " ") + object(lookupNames)),
		}
		if rng.IntN(2) == 0 {
			ev.Added = []byte(object([]string{"__HTTP_CONTEXT__", "location", "parsed_ua"}))
		}
		if !json.Valid(ev.JSON) {
			t.Fatalf("the test makes %s", ev.JSON)
		}
		checkLookup(t, &l, ev, rng.Perm(len(lookupNames)))
		if t.Failed() {
			return
		}
	}
	l.Release()
}

func FuzzLookup(f *testing.F) {
	f.Add([]byte(`{"user":{"email":"x"},"a":1}`), []byte(`{"location":{}}`), "a@b.co", byte(0))
	f.Add([]byte(`{"eventn_ctx":{"user":{}}}`), []byte(``), "", byte(1))
	f.Add([]byte(`{"a`), []byte(`{"b":`), "", byte(2))
	f.Add([]byte(`{"a":"b\"`), []byte(`[`), "", byte(2))
	f.Fuzz(func(t *testing.T, object, added []byte, email string, hidden byte) {
		ev := &Event{ID: "e1", APIKey: "k1", Source: "api", UserAgent: "u", Email: email, Added: added, JSON: object, Hidden: Hidden(hidden) & hideAll}
		sound := json.Valid(object) && gjson.ParseBytes(object).IsObject() && (len(added) == 0 || json.Valid(added) && added[0] == '{')
		ev.JSON = Normalize(ev.JSON)
		if sound && len(added) > 0 {
			ev.Added = Normalize(added)
		}
		var l Lookup
		if !sound { // must not panic
			l.Reset(ev, NewNames(lookupNames...))
			for i := range lookupNames {
				l.Get(i)
			}
			Elements(string(object), func(string) bool { return true })
			return
		}
		for i := range lookupNames {
			checkLookup(t, &l, ev, []int{i})
		}
	})
}

func TestElements(t *testing.T) {
	f := func(array string, want ...string) {
		t.Helper()
		var got []string
		Elements(array, func(e string) bool { got = append(got, e); return len(got) < 4 })
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("Elements(%s) = %q, want %q", array, got, want)
		}
	}
	f(`[]`)
	f(` [1]`)
	f(`{"a":1}`)
	f(`[1, "a,]" ,{"b":[2]},null]`, "1", `"a,]"`, `{"b":[2]}`, "null")
	f(`[1,2,3,4,5]`, "1", "2", "3", "4")
	f(`[[],[1`, "[]", "[1")
}

func BenchmarkLookup(b *testing.B) {
	var object strings.Builder
	object.WriteString(`{"event_type":"signup","user":{"id":"u1","email":"John.Doe@Example.com"},"n":7`)
	for i := range 30 {
		fmt.Fprintf(&object, `,"field_%d":"some text as long as page titles and addresses are"`, i)
	}
	object.WriteString(`,"utm":{"source":"google","medium":"cpc"}}`)
	ev := &Event{ID: "1", JSON: []byte(object.String())}
	f := func(name string) {
		b.Run(name, func(b *testing.B) {
			names := NewNames(name)
			var l Lookup
			b.SetBytes(int64(len(ev.JSON)))
			b.ReportAllocs()
			for b.Loop() {
				l.Reset(ev, names)
				l.Get(0)
			}
		})
	}
	f("event_type")
	f("utm")
	f("missing")
	f("api_key")
}
