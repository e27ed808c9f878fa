package enrich

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

// testGeo is a database of some networks.
func testGeo(t testing.TB) *Geo {
	t.Helper()
	path := filepath.Join(t.TempDir(), "City.mmdb")
	writeDatabase(t, path, "GeoLite2-City", cities())
	g, err := OpenGeo(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const (
	curl      = `{"ua_family":"curl","ua_version":"8","os_family":"Other","device_family":"Other"}`
	britain   = `{"country":"GB","country_name":"United Kingdom"}`
	states    = `{"country":"US","country_name":"United States"}`
	addedBoth = `{"location":` + britain + `,"parsed_ua":` + curl + `}`
)

func TestEnrich(t *testing.T) {
	geo := testGeo(t)
	f := func(o Options, ev event.Event, want string) {
		t.Helper()
		before := string(ev.JSON)
		New(o).Enrich(&ev)
		if string(ev.Added) != want {
			t.Errorf("%s of %s\n got %s\nwant %s", ev.JSON, ev.SourceIP, ev.Added, want)
		}
		if string(ev.JSON) != before {
			t.Errorf("the client's event became %s", ev.JSON)
		}
	}
	all := Options{UserAgent: true, Location: true, Geo: geo}
	post := func(text string) event.Event {
		return event.Event{SourceIP: "10.9.1.1", UserAgent: "curl/8", JSON: []byte(text)}
	}
	f(all, post(`{}`), addedBoth)
	f(all, post(`{"source_ip":" 2001:db8::1 "}`), `{"location":`+states+`,"parsed_ua":`+curl+`}`) // a server speaks of its visitor
	f(all, post(`{"source_ip":"","user_agent":""}`), addedBoth)
	f(all, post(`{"source_ip":7,"user_agent":{}}`), addedBoth)
	f(all, post(`{"source_ip":"somewhere"}`), `{"parsed_ua":`+curl+`}`)
	f(all, event.Event{SourceIP: "10.9.1.1", JSON: []byte(`{"user_agent":"curl/8"}`)}, addedBoth)
	f(all, event.Event{SourceIP: "10.9.1.1", UserAgent: "node", JSON: []byte(`{"eventn_ctx":{"user_agent":"curl/8"},"user_agent":"wget/1"}`)}, addedBoth)
	f(all, event.Event{JSON: []byte(`{}`)}, ``)
	f(all, event.Event{SourceIP: "8.8.8.8", JSON: []byte(`{}`)}, ``)
	f(Options{UserAgent: true, Geo: geo}, post(`{}`), `{"parsed_ua":`+curl+`}`)
	f(Options{Location: true, Geo: geo}, post(`{}`), `{"location":`+britain+`}`)
	f(Options{UserAgent: true, Location: true}, post(`{}`), `{"parsed_ua":`+curl+`}`)
	with := func(added string) event.Event {
		ev := post(`{}`)
		ev.Added = []byte(added)
		return ev
	}
	f(all, with(`{}`), addedBoth)
	f(all, with(`{"headers":{"x":"y"}}`), `{"headers":{"x":"y"},`+addedBoth[1:])
	f(all, with(addedBoth), addedBoth) // a replay
	f(Options{}, with(`{"headers":{}}`), `{"headers":{}}`)
	ev := post(`{}`)
	if (*Enricher)(nil).Enrich(&ev) || ev.Added != nil {
		t.Error("no enricher adds something")
	}
	ev.UserAgent = "Googlebot/2.1"
	if !New(all).Enrich(&ev) {
		t.Error("a bot is not known")
	}
}

func TestRules(t *testing.T) {
	e := New(Options{Geo: testGeo(t)})
	f := func(name, from, to, in, want string) {
		t.Helper()
		rules, _, err := e.Rules([]config.Enrichment{{Name: name, From: from, To: to}}, "enrichment")
		if err != nil {
			t.Fatal(err)
		}
		ev := &event.Event{SourceIP: "10.9.1.1", UserAgent: "curl/8", JSON: []byte(in)}
		got := rules.Apply(ev)
		if string(got.JSON) != want {
			t.Errorf("%s from %s to %s of %s\n got %s\nwant %s", name, from, to, in, got.JSON, want)
		}
		if string(ev.JSON) != in {
			t.Errorf("other destinations get %s", ev.JSON)
		}
	}
	f(ipLookup, "/source_ip", "/location", `{}`, `{"location":`+britain+`}`)
	f(ipLookup, "source_ip", "location", `{"a":1}`, `{"a":1,"location":`+britain+`}`)
	f(ipLookup, "/source_ip", "/", `{"a":1,"country":"x"}`, `{"a":1,"country":"GB","country_name":"United Kingdom"}`)
	f(ipLookup, "/source_ip", "/user", `{"user":{"email":"a@b.co"},"b":2}`, `{"user":{"email":"a@b.co","country":"GB","country_name":"United Kingdom"},"b":2}`)
	f(ipLookup, "/source_ip", "/user/geo", `{"user":{"geo":5}}`, `{"user":{"geo":`+britain+`}}`)
	f(ipLookup, "/source_ip", "/a/b/c", `{"a":"text"}`, `{"a":{"b":{"c":`+britain+`}}}`)
	f(ipLookup, "/source_ip", "/x/y||/location", `{}`, `{"location":`+britain+`}`)
	f(ipLookup, "/source_ip", "/x/y||/location", `{"x":{}}`, `{"x":{"y":`+britain+`}}`)
	f(ipLookup, "/source_ip", "/x/y||/z/y", `{}`, `{"x":{"y":`+britain+`}}`)
	f(ipLookup, "/source_ip", "/eventn_ctx/location||/location", `{"eventn_ctx":{}}`, `{"eventn_ctx":{"location":`+britain+`}}`)
	f(ipLookup, "/ip||/user/ip||/source_ip", "/l", `{"user":{"ip":"2001:db8::9"}}`, `{"user":{"ip":"2001:db8::9"},"l":`+states+`}`)
	f(ipLookup, "/ip", "/l", `{}`, `{}`)
	f(ipLookup, "/ip", "/l", `{"ip":"8.8.8.8"}`, `{"ip":"8.8.8.8"}`)
	f(ipLookup, "/a.b/c*", "/l.x/y?", `{"a.b":{"c*":"10.9.0.1"}}`, `{"a.b":{"c*":"10.9.0.1"},"l.x":{"y?":`+britain+`}}`)
	f(userAgentParse, "/user_agent", "/ua", `{}`, `{"ua":`+curl+`}`)
	f(userAgentParse, "/eventn_ctx/user_agent||/user_agent", "/ua", `{"eventn_ctx":{}}`, `{"eventn_ctx":{},"ua":`+curl+`}`)
	f(userAgentParse, "/eventn_ctx/user_agent||/user_agent", "/b", `{"user_agent":"acme-bot"}`,
		`{"user_agent":"acme-bot","b":{"ua_family":"acme-bot","os_family":"Other","device_family":"Spider","device_brand":"Spider","device_model":"Desktop","bot":true}}`)
	f(userAgentParse, "/Agent", "/UA", `{"Agent":"curl/8"}`, `{"Agent":"curl/8","UA":`+curl+`}`)

	rules, _, err := e.Rules([]config.Enrichment{{Name: ipLookup, From: "/source_ip", To: "/a"}, {Name: userAgentParse, From: "/user_agent", To: "/a"}}, "enrichment")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a":` + strings.TrimSuffix(britain, "}") + `,` + strings.TrimPrefix(curl, "{") + `}`
	if got := string(rules.Apply(&event.Event{SourceIP: "10.9.1.1", UserAgent: "curl/8", JSON: []byte(`{}`)}).JSON); got != want {
		t.Errorf("two rules\n got %s\nwant %s", got, want)
	}
	ev := &event.Event{JSON: []byte(`{}`)}
	if (*Rules)(nil).Apply(ev) != ev || rules.Apply(ev) != ev {
		t.Error("an event of which nothing is known is copied")
	}
}

func TestWrongRules(t *testing.T) {
	f := func(rule config.Enrichment, want string) {
		t.Helper()
		rule.Pos = config.Pos{File: "router.yaml", Line: 7}
		_, warnings, err := New(Options{}).Rules([]config.Enrichment{rule}, "destinations.crm.enrichment")
		got := warnings.Error()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v\n got %s\nwant %s", rule, got, want)
		}
	}
	const at = "router.yaml:7: destinations.crm.enrichment[0]."
	f(config.Enrichment{Name: "ip", From: "/a", To: "/b"}, at+`name: must be ip_lookup or user_agent_parse, not "ip"`)
	f(config.Enrichment{Name: userAgentParse, From: "/", To: "/b"}, at+`from: must name a member, such as /source_ip; "/" is the whole event`)
	f(config.Enrichment{Name: userAgentParse, From: "", To: "/b"}, at+`from: is required: a path such as /location or /user/location`)
	f(config.Enrichment{Name: userAgentParse, From: "/a", To: "/b//c"}, at+`to: "/b//c" has an empty name; write /a/b`)
	f(config.Enrichment{Name: userAgentParse, From: "/a", To: strings.Repeat("/b", 17)}, at+`to: "`+strings.Repeat("/b", 17)+`" has more than 16 names in a row`)
	f(config.Enrichment{Name: userAgentParse, From: "/a", To: strings.Repeat("b", 1025)}, at+`to: is longer than 1024 bytes`)
	f(config.Enrichment{Name: ipLookup, From: "/a", To: "/b"}, at+`name: finds nothing: there are no databases; name them in geo.maxmind_path`)
}

// FuzzPath: what is written at a path is found there, and everything else is as it was.
func FuzzPath(f *testing.F) {
	f.Add("/a/b||c", `{"a":{"x":1},"c":{"found":"old","y":[1]}}`)
	f.Add("/", `{}`)
	f.Add(`/"\u0061/b.c*`, `{"\"\\u0061":{"b.c*":null}}`)
	f.Fuzz(func(t *testing.T, text, in string) {
		p, err := parsePath(text)
		root := gjson.Parse(in)
		var before map[string]any
		if err != nil || len(in) > 10_000 || json.Unmarshal([]byte(in), &before) != nil || before == nil || strings.ContainsRune(text, '\uFFFD') || !valid(text) {
			return
		}
		root = gjson.ParseBytes(event.Normalize([]byte(root.Raw)))
		names := p.target(root)
		out := appendWith(nil, root, names, gjson.Parse(`{"found":"it"}`))
		var after map[string]any
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%q in %s: %s: %v", text, in, out, err)
		}
		if got := find(gjson.ParseBytes(out), names); member(got, "found").Str != "it" {
			t.Fatalf("%q in %s: not found in %s", text, in, out)
		}
		_ = json.Unmarshal([]byte(root.Raw), &before)
		at := before
		for _, name := range names {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		at["found"] = "it"
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q in %s became %s", text, in, out)
		}
	})
}

func valid(s string) bool { return strings.ToValidUTF8(s, "") == s }

func BenchmarkEnrich(b *testing.B) {
	geo := testGeo(b)
	mix := agentMix(200)
	e := New(Options{UserAgent: true, Location: true, Geo: geo})
	text := []byte(`{"event_type":"pageview","user":{"email":"a@example.com","id":"u1"},"utc_time":"2026-11-21T02:52:27.371000Z","url":"https://shop.example.com/pricing","page_title":"` +
		strings.Repeat("x", 800) + `"}`)
	events := make([]event.Event, 200)
	for i := range events {
		events[i] = event.Event{SourceIP: fmt.Sprintf("81.2.69.%d", i), UserAgent: mix[i], JSON: text}
		e.Enrich(&events[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ev := &events[i%len(events)]
		ev.Added = nil
		e.Enrich(ev)
	}
}

func BenchmarkGeo(b *testing.B) {
	geo, addr := testGeo(b), netip.MustParseAddr("81.2.69.7")
	b.ReportAllocs()
	for b.Loop() {
		geo.Location(addr)
	}
}
