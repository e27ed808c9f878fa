package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/trial"
)

// tree is an object as an ordered list, for tests to edit.
type tree struct {
	keys   []string
	values map[string]any // *tree, or raw JSON as a string
}

func parseTree(t testing.TB, raw string) *tree {
	t.Helper()
	if !json.Valid([]byte(raw)) {
		t.Fatalf("not JSON: %s", raw)
	}
	out := &tree{values: map[string]any{}}
	gjson.Parse(raw).ForEach(func(k, v gjson.Result) bool {
		if _, ok := out.values[k.Str]; ok {
			t.Fatalf("%q stands twice in %s", k.Str, raw)
		}
		out.keys = append(out.keys, k.Str)
		if v.IsObject() {
			out.values[k.Str] = parseTree(t, v.Raw)
		} else {
			out.values[k.Str] = v.Raw
		}
		return true
	})
	return out
}

func (o *tree) json() string {
	var b strings.Builder
	for _, k := range o.keys {
		b.WriteByte(map[bool]byte{true: '{', false: ','}[b.Len() == 0])
		b.Write(AppendString(nil, k))
		b.WriteByte(':')
		if inner, ok := o.values[k].(*tree); ok {
			b.WriteString(inner.json())
		} else {
			b.WriteString(o.values[k].(string))
		}
	}
	if b.Len() == 0 {
		return "{}"
	}
	return b.String() + "}"
}

// plain is the tree without its order, which no view promises.
func (o *tree) plain() map[string]any {
	m := map[string]any{}
	for k, v := range o.values {
		if inner, ok := v.(*tree); ok {
			m[k] = inner.plain()
		} else {
			m[k] = v
		}
	}
	return m
}

// equal says whether both hold the same, in whatever order. It costs a tenth of what go-cmp does, which is asked for the difference.
func (o *tree) equal(other *tree) bool {
	if len(o.values) != len(other.values) {
		return false
	}
	for k, v := range o.values {
		was, ok := other.values[k]
		inner, isTree := v.(*tree)
		below, wasTree := was.(*tree)
		if !ok || isTree != wasTree || isTree && !inner.equal(below) || !isTree && v != was {
			return false
		}
	}
	return true
}

func (o *tree) set(key string, v any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

func (o *tree) remove(key string) {
	delete(o.values, key)
	for i, k := range o.keys {
		if k == key {
			o.keys = append(o.keys[:i:i], o.keys[i+1:]...)
			return
		}
	}
}

// randomEvent makes events of all kinds that the envelope meets: both formats, members of the envelope in the client's JSON or not.
func randomEvent(r *rand.Rand) *Event {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	some := func(parts ...string) string {
		var list []string
		for _, p := range parts {
			if r.IntN(3) == 0 {
				list = append(list, p)
			}
		}
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return "{" + strings.Join(list, pick(",", " , ")) + "}"
	}
	user := func() string {
		if r.IntN(5) == 0 {
			return pick(`null`, `"bob"`, `[]`, `{}`)
		}
		return some(`"id":12345678901234567890`, `"email":`+pick(`null`, `""`), `"hashed_anonymous_id":"mine"`, `"Email":" "`, `"a":[1, 2]`, `"b":1.50`)
	}
	common := []string{`"user":` + user(), `"user_agent":` + pick(`"own"`, `null`), `"location":` + pick(`{"city":"Rom"}`, `null`), `"parsed_ua":` + pick(`{"bot":true}`, `1`, `{}`)}
	context := append([]string{`"event_id":` + pick(`""`, `"e1"`, `5`), `"x":{"y":1e2}`}, common...)
	top := append([]string{
		`"event_type":"a"`, `"event_id":` + pick(`""`, `"e1"`, `"other"`, `7`), `"eventn_ctx_event_id":` + pick(`"e1"`, `null`), `"api_key":"secret"`, `"_timestamp":"2020"`,
		`"src":"own"`, `"source_ip":` + pick(`"9.9.9.9"`, `""`), `"__HTTP_CONTEXT__":{"headers":{"x":["made up"]}}`, `"n":12345678901234567890`, `"d":1.10`,
		`"s":"\ud800\u003c"`, `"\u0061b":[1,{"c":null}]`, `"o":{"k" : "v"}`,
	}, common...)
	if r.IntN(2) == 0 {
		top = append(top, `"eventn_ctx":`+pick(some(context...), some(context...), `null`, `"text"`))
	}
	ev := &Event{ID: "e1", APIKey: "k", Received: time.Unix(1700000000, 0).UTC(), Source: pick("", "api"), SourceIP: pick("", "10.0.0.1"), UserAgent: pick("", "UA"), JSON: []byte(some(top...))}
	if r.IntN(2) == 0 {
		ev.AnonymousHash = "hash"
	}
	if ev.User().IsObject() && r.IntN(2) == 0 {
		if _, own := ev.OwnEmail(); !own {
			ev.Email = "a@b.co"
		}
	}
	if r.IntN(2) == 0 {
		ev.Added = []byte(some(`"location":{"city":"Ulm"}`, `"parsed_ua":{"ua_family":"curl","bot":false}`, `"__HTTP_CONTEXT__":{"headers":{}}`))
		if len(ev.Added) == 2 {
			ev.Added = nil
		}
	}
	return ev
}

// TestChangedLeavesAlone: what a transform does not touch is as it was, and so is the JSON of the client.
func TestChangedLeavesAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range trial.Rounds(t, 1_500) {
		ev := randomEvent(r)
		view := ev.AppendView(nil)
		spread := []byte(parseTree(t, string(view)).json()) // as written by somebody else: other spaces, other escapes
		for _, result := range [][]byte{view, spread} {
			got := ev.Changed(view, result, 0)
			want := *ev
			if !bytes.Equal(view, result) { // members that nobody sees may have moved
				if before, after := parseTree(t, string(ev.JSON)), parseTree(t, string(got.JSON)); !before.equal(after) {
					t.Fatalf("JSON %s\nview %s\nbecame %s\n%s", ev.JSON, view, got.JSON, cmp.Diff(before.plain(), after.plain()))
				}
				want.JSON = got.JSON
			}
			if !reflect.DeepEqual(&want, got) {
				t.Fatalf("JSON %s\nview %s\n%s", ev.JSON, view, cmp.Diff(&want, got))
			}
		}
	}
}

// TestChangedShowsTheChange: one member removed, changed or added, at any place, is so in the view of the result; and nothing else is otherwise, neither in
// the view nor in the JSON.
func TestChangedShowsTheChange(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range trial.Rounds(t, 6_000) {
		ev := randomEvent(r)
		view := ev.AppendView(nil)
		want := parseTree(t, string(view))
		place, path := want, ""
		for _, name := range []string{"eventn_ctx", "user"} {
			if inner, ok := place.values[name].(*tree); ok && r.IntN(2) == 0 {
				place, path = inner, path+"/"+name
			}
		}
		names := append([]string{
			"new", "user", "eventn_ctx", "eventn_ctx", "eventn_ctx", "email", "hashed_anonymous_id", "event_id", "eventn_ctx_event_id", "source_ip", "src", "_timestamp", "user_agent", "location",
			"parsed_ua", "__HTTP_CONTEXT__", "api_key",
		}, place.keys...)
		name := names[r.IntN(len(names))]
		what := "removed"
		if r.IntN(3) == 0 {
			place.remove(name)
		} else {
			values := []any{`"new"`, `5`, `null`, `""`, `"e1"`, `[1]`, `{}`, `{"id":1}`, `12345678901234567891`, `"` + strings.Repeat("x", 300) + `"`}
			v := values[r.IntN(len(values))]
			what = "set to " + v.(string)
			if v.(string)[0] == '{' {
				v = parseTree(t, v.(string))
			}
			place.set(name, v)
		}
		result := want.json()
		got := ev.Changed(view, []byte(result), 0)
		if v, ok := want.values["api_key"]; ok && v != `"k"` {
			want.values["api_key"] = `"k"` // which cannot be changed
		}
		shown := got.AppendView(nil)
		if visible := parseTree(t, string(shown)); !want.equal(visible) {
			t.Fatalf("%s %s/%s\nJSON %s, %+v\nview %s\nresult %s\nbecame %s\nshown %s\n(-want +shown)\n%s",
				what, path, name, ev.JSON, ev, view, result, got.JSON, shown, cmp.Diff(want.plain(), visible.plain()))
		}
		if path+"/"+name == "/eventn_ctx" || strings.Contains(name, "event_id") || ev.User().IsObject() && name == "email" {
			continue // which move other parts of the envelope
		}
		before, after := parseTree(t, string(ev.JSON)), parseTree(t, string(got.JSON))
		top := strings.Split(path+"/"+name, "/")[1]
		before.remove(top)
		after.remove(top)
		if top == "eventn_ctx" || top == "user" {
			continue // TestChanged has these
		}
		if !before.equal(after) {
			t.Fatalf("%s %s/%s\nJSON %s\nresult %s\nbecame %s\n(-before +after)\n%s", what, path, name, ev.JSON, result, got.JSON, cmp.Diff(before.plain(), after.plain()))
		}
	}
}

func TestChanged(t *testing.T) {
	base := Event{
		ID: "e1", APIKey: "k", Received: time.Unix(1700000000, 0).UTC(), Source: "api", SourceIP: "10.0.0.1", UserAgent: "UA", Email: "a@b.co", AnonymousHash: "h",
		Added: []byte(`{"location":{"city":"Ulm"},"parsed_ua":{"bot":true}}`),
	}
	f := func(in string, edit func(*tree), wantJSON, wantEnvelope string) {
		t.Helper()
		ev := base
		ev.JSON = []byte(in)
		view := ev.AppendView(nil)
		result := parseTree(t, string(view))
		edit(result)
		got := ev.Changed(view, []byte(result.json()), 0)
		if string(got.JSON) != wantJSON {
			t.Errorf("%s with %s\n got %s\nwant %s", in, result.json(), got.JSON, wantJSON)
		}
		envelope := fmt.Sprintf("%s %s %s %s %s %s %d", got.ID, got.SourceIP, got.UserAgent, got.Email, got.AnonymousHash, got.Added, got.Hidden)
		if envelope != wantEnvelope {
			t.Errorf("%s with %s\n got %s\nwant %s", in, result.json(), envelope, wantEnvelope)
		}
	}
	const all = `{"location":{"city":"Ulm"},"parsed_ua":{"bot":true}}`
	const event = `{"event_type":"a","user":{"id":1}}`
	set := func(k string, v any) func(*tree) { return func(r *tree) { r.set(k, v) } }
	remove := func(k string) func(*tree) { return func(r *tree) { r.remove(k) } }
	inUser := func(edit func(*tree)) func(*tree) { return func(r *tree) { edit(r.values["user"].(*tree)) } }
	inContext := func(edit func(*tree)) func(*tree) { return func(r *tree) { edit(r.values["eventn_ctx"].(*tree)) } }

	f(event, set("plan", `"pro"`), `{"event_type":"a","user":{"id":1},"plan":"pro"}`, "e1 10.0.0.1 UA a@b.co h "+all+" 0")
	// What is removed is gone.
	f(event, inUser(remove("email")), event, "e1 10.0.0.1 UA  h "+all+" 0")
	f(event, inUser(remove("hashed_anonymous_id")), event, "e1 10.0.0.1 UA a@b.co  "+all+" 0")
	f(event, remove("user"), `{"event_type":"a"}`, "e1 10.0.0.1 UA   "+all+" 0")
	f(event, remove("source_ip"), event, "e1  UA a@b.co h "+all+" 0")
	f(event, remove("user_agent"), event, "e1 10.0.0.1  a@b.co h "+all+" 0")
	f(event, remove("location"), event, `e1 10.0.0.1 UA a@b.co h {"parsed_ua":{"bot":true}} 0`)
	f(`{"source_ip":"9.9.9.9","user_agent":"own","location":{}}`, func(r *tree) { r.remove("source_ip"); r.remove("user_agent"); r.remove("location") }, `{}`,
		`e1   a@b.co h {"parsed_ua":{"bot":true}} 0`)
	f(event, remove("api_key"), event, "e1 10.0.0.1 UA a@b.co h "+all+" 2")
	f(event, remove("_timestamp"), event, "e1 10.0.0.1 UA a@b.co h "+all+" 4")
	f(event, remove("src"), event, "e1 10.0.0.1 UA a@b.co h "+all+" 8")
	f(event, remove("eventn_ctx_event_id"), event, "e1 10.0.0.1 UA a@b.co h "+all+" 1")
	// What is changed is in the JSON, and the envelope forgets what it was.
	f(event, set("source_ip", `"10.0.0.0"`), `{"event_type":"a","user":{"id":1},"source_ip":"10.0.0.0"}`, "e1  UA a@b.co h "+all+" 0")
	f(event, inUser(set("email", `"x@b.co"`)), `{"event_type":"a","user":{"id":1,"email":"x@b.co"}}`, "e1 10.0.0.1 UA  h "+all+" 0")
	f(event, set("api_key", `"x"`), event, "e1 10.0.0.1 UA a@b.co h "+all+" 0")
	f(event, set("eventn_ctx_event_id", `"e2"`), event, "e2 10.0.0.1 UA a@b.co h "+all+" 0")
	f(event, set("eventn_ctx_event_id", `5`), `{"event_type":"a","user":{"id":1},"eventn_ctx_event_id":5}`, "5 10.0.0.1 UA a@b.co h "+all+" 1")
	f(event, set("eventn_ctx_event_id", `null`), `{"event_type":"a","user":{"id":1},"eventn_ctx_event_id":null}`, "e1 10.0.0.1 UA a@b.co h "+all+" 1")
	long := strings.Repeat("x", 300)
	f(event, set("eventn_ctx_event_id", `"`+long+`"`), `{"event_type":"a","user":{"id":1},"eventn_ctx_event_id":"`+long+`"}`,
		CleanID(`"`+long+`"`)+" 10.0.0.1 UA a@b.co h "+all+" 1")
	// The compatibility format.
	const compat = `{"eventn_ctx":{"event_id":"","user":{"id":1}},"event_type":"a"}`
	f(compat, set("plan", `1`), `{"eventn_ctx":{"event_id":"","user":{"id":1}},"event_type":"a","plan":1}`, "e1 10.0.0.1 UA a@b.co h "+all+" 0")
	f(compat, inContext(remove("event_id")), `{"eventn_ctx":{"user":{"id":1}},"event_type":"a"}`, "e1 10.0.0.1 UA a@b.co h "+all+" 1")
	f(compat, inContext(set("event_id", `"e2"`)), `{"eventn_ctx":{"user":{"id":1}},"event_type":"a"}`, "e2 10.0.0.1 UA a@b.co h "+all+" 0")
	f(compat, set("eventn_ctx_event_id", `"e2"`), `{"eventn_ctx":{"event_id":"e1","user":{"id":1}},"event_type":"a","eventn_ctx_event_id":"e2"}`,
		"e2 10.0.0.1 UA a@b.co h "+all+" 1")
	f(compat, inContext(remove("user_agent")), compat, "e1 10.0.0.1  a@b.co h "+all+" 0")
	f(compat, inContext(remove("location")), compat, `e1 10.0.0.1 UA a@b.co h {"parsed_ua":{"bot":true}} 0`)
	f(compat, inContext(inUser(remove("email"))), compat, "e1 10.0.0.1 UA  h "+all+" 0")
	f(compat, remove("eventn_ctx"), `{"event_type":"a"}`, "e1 10.0.0.1     1")
	// A whole new event.
	f(event, func(r *tree) { *r = *parseTree(t, `{"event_type":"b","user":{"id":1}}`) }, `{"event_type":"b","user":{"id":1}}`, "e1      15")
}

// TestChangedOutputs: the second output of an event is another event.
func TestChangedOutputs(t *testing.T) {
	f := func(in, result string, index int, wantID, wantJSON string) {
		t.Helper()
		ev := &Event{ID: "e1", APIKey: "k", JSON: []byte(in)}
		view := ev.AppendView(nil)
		if result == "$" {
			result = string(view)
		}
		given := []byte(result)
		got := ev.Changed(view, given, index)
		for _, b := range [...][]byte{view, given} {
			copy(b, bytes.Repeat([]byte("~"), len(b))) // they belong to the caller, who uses them again
		}
		if got.ID != wantID || string(got.JSON) != wantJSON {
			t.Errorf("output %d, %s of %s\n got %s %s\nwant %s %s", index, result, in, got.ID, got.JSON, wantID, wantJSON)
		}
		id := gjson.GetBytes(got.AppendView(nil), FieldEventID).Str + gjson.GetBytes(got.AppendView(nil), "eventn_ctx.event_id").Str
		if want := map[bool]string{true: wantID}[index > 0 || strings.Contains(result, FieldEventID)]; id != want {
			t.Errorf("output %d, %s of %s shows the id %q, want %q", index, result, in, id, want)
		}
	}
	f(`{"event_id":"e1","a":1}`, "$", 0, "e1", `{"event_id":"e1","a":1}`)
	f(`{"event_id":"e1","a":1}`, "$", 1, "e1_1", `{"a":1}`)
	f(`{"eventn_ctx":{"event_id":"e1"}}`, "$", 2, "e1_2", `{"eventn_ctx":{}}`)
	f(`{"a":1}`, `{"b":1}`, 0, "e1", `{"b":1}`)
	f(`{"a":1}`, `{"b":1}`, 1, "e1_1", `{"b":1}`)
	f(`{"a":1}`, `{"eventn_ctx_event_id":"mine"}`, 1, "mine", `{}`)
	f(`{"a":1}`, `{"eventn_ctx_event_id":"e1"}`, 10, "e1_10", `{}`)
}

func TestHiddenRecord(t *testing.T) {
	for hidden := range hideAll + 1 {
		ev := sample()
		ev.Hidden = hidden
		var got Event
		if err := got.Decode(ev.AppendTo(nil)); err != nil || got.Hidden != hidden || !got.Server {
			t.Errorf("%d: got %d, server %v, %v", hidden, got.Hidden, got.Server, err)
		}
	}
}

func TestSame(t *testing.T) {
	f := func(script, was string, want bool) {
		t.Helper()
		if got := same(script, was); got != want {
			t.Errorf("%s after %s: %v", script, was, got)
		}
	}
	f(`12345678901234567000`, `12345678901234567890`, true)
	f(`12345678901234567891`, `12345678901234567890`, false)
	f(`1.5`, `1.50`, true)
	f(`1.50`, `1.5`, false) // no script writes that
	f(`1e+21`, `1E21`, true)
	f(`1e-7`, `0.0000001`, true)
	f(`0`, `-0.0`, true)
	f(`"\u003c"`, `"<"`, true)
	f(`"\ud800"`, `"\ud801"`, false)
	f(`{"a":1,"b":[1,{"c":2}]}`, `{ "b" : [1.0,{"c":2}], "a":1}`, true)
	f(`{"a":1}`, `{"a":1,"b":2}`, false)
	f(`[1,2]`, `[1]`, false)
	f(`[1]`, `[1,2]`, false)
	f(`null`, `false`, false)
}

// FuzzChanged: no JSON makes it panic, write what is no JSON, or name a member twice.
func FuzzChanged(f *testing.F) {
	f.Add(`{"a":1}`, `{"a":2}`)
	f.Add(`{"user":{"id":1},"eventn_ctx":{"event_id":5}}`, `{"eventn_ctx":null,"eventn_ctx_event_id":[]}`)
	f.Add(`{"user":{}}`, `{"user":{"email":"a@b.co"},"eventn_ctx":{"user":{"email":"x"}}}`)
	f.Fuzz(func(t *testing.T, in, result string) {
		for _, s := range []string{in, result} {
			if !json.Valid([]byte(s)) || !strings.HasPrefix(s, "{") || depth([]byte(s)) > 100 || strings.Contains(s, `\u`) {
				t.Skip("no event")
			}
		}
		ev := &Event{
			ID: "e1", APIKey: "k", Source: "api", SourceIP: "i", UserAgent: "u", Email: "a@b.co", AnonymousHash: "h", Added: []byte(`{"location":{},"parsed_ua":{"b":1}}`),
			JSON: Normalize([]byte(in)),
		}
		view, out := ev.AppendView(nil), Normalize([]byte(result))
		for index := range 2 {
			got := ev.Changed(view, out, index)
			if !json.Valid(got.JSON) || !json.Valid(got.AppendView(nil)) {
				t.Fatalf("%s\nwith %s\nbecame %s", view, out, got.JSON)
			}
			want, shown := parseTree(t, string(out)), parseTree(t, string(got.AppendView(nil)))
			if index > 0 {
				continue
			}
			if _, ok := want.values["api_key"]; ok {
				want.values["api_key"] = `"k"`
			}
			if diff := cmp.Diff(values(want), values(shown)); diff != "" {
				t.Fatalf("%s\nwith %s\nbecame %s\nshown %s\n%s", view, out, got.JSON, shown.json(), diff)
			}
		}
	})
}

// values are the leaves of a tree as JavaScript tells them apart.
func values(o *tree) map[string]string {
	m := map[string]string{}
	for k, v := range o.values {
		if inner, ok := v.(*tree); ok {
			m[k] = "{}"
			for name, leaf := range values(inner) {
				m[strconv.Quote(k)+"/"+name] = leaf
			}
			continue
		}
		var plain any
		_ = json.Unmarshal([]byte(v.(string)), &plain)
		m[k] = fmt.Sprint(plain)
	}
	return m
}

func BenchmarkChanged(b *testing.B) {
	ev := &Event{ID: "e1", APIKey: "k", Source: "api", SourceIP: "10.0.0.1", UserAgent: "UA", AnonymousHash: "h", JSON: bytes.Replace(payload, []byte(`"event_type"`), []byte(`"pad":"`+strings.Repeat("x", 800)+`","event_type"`), 1)}
	view := ev.AppendView(nil)
	f := func(name string, result []byte) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(view)))
			b.ReportAllocs()
			for b.Loop() {
				ev.Changed(view, result, 0)
			}
		})
	}
	f("untouched", bytes.Clone(view))
	f("one added", append(bytes.Clone(view[:len(view)-1]), `,"plan":"pro"}`...))
	f("one changed", bytes.Replace(view, []byte("pageview"), []byte("visit"), 1))
	f("anew", []byte(`{"event_type":"visit","user":{"id":1}}`))
}

// TestEnvelopesAreOfTransforms: what a client says in the name of a transform is data.
func TestEnvelopesAreOfTransforms(t *testing.T) {
	f := func(client, result string, want bool) {
		t.Helper()
		ev := &Event{ID: "1", APIKey: "k", JSON: []byte(client)}
		view := ev.AppendView(nil)
		if result == "" {
			result = string(view)
		}
		got := ev.Changed(view, []byte(result), 0)
		again := &Event{}
		if err := again.Decode(got.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		if got.Enveloped != want || again.Enveloped != want {
			t.Errorf("%s to %s: enveloped %v, and %v once it was kept; want %v", client, result, got.Enveloped, again.Enveloped, want)
		}
	}
	f(`{"a":1}`, ``, false)
	f(`{"a":1}`, `{"a":1,"JITSU_ENVELOP":{"url":"https://a"}}`, true)
	f(`{"JITSU_ENVELOP":{"url":"https://a"}}`, ``, false)
	f(`{"JITSU_ENVELOP":{"url":"https://a"}}`, `{"b":2,"JITSU_ENVELOP":{"url":"https://a"}}`, false)
	f(`{"JITSU_ENVELOP":{"url":"https://a"}}`, `{"b":2,"JITSU_ENVELOP":{"url":"https://b"}}`, true)
	f(`{"JITSU_ENVELOP":{"url":"https://a"}}`, `{"b":2}`, false)
}
