package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
)

// TestBadSettings: each mistake is told with what to do, and no value of a header or secret.
func TestBadSettings(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		_, err := build(yaml, newRig(t, "").env)
		var problems config.Problems
		errors.As(err, &problems)
		var got []string
		for _, p := range problems {
			got = append(got, strings.TrimPrefix(p.Path, "destinations.hook.webhook.")+": "+p.Text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", yaml, diff)
		}
	}
	f("url: ''", "url: is required: where events are sent to")
	f("url: example.com/in", "url: must begin with https:// or http://")
	f("url: https://", "url: must have a host that no event changes, and a / after it; for another host make another destination, with a filter")
	const host = "url: must have a host that no event changes, and a / after it; for another host make another destination, with a filter"
	f("url: 'https://{{.tenant}}.example.com/'", host)
	f("url: 'https://example.com{{.path}}'", host)
	f("url: '{{.url}}'", "url: must begin with https:// or http://")
	f("url: 'https://example.com:{{.port}}/'", host)
	f("url: https://user:hunter22@example.com/", "url: must not hold a user name or password; write them in headers: {Authorization: Basic …}")
	f("url: 'https://user:{{.p}}@example.com/'", host)
	f("url: https://example.com/#top", "url: must not have a fragment (#…): it would never be sent")
	f("url: https://example.com/a/../b", "url: must not have . or .. in its path")
	f("url: https://example.com:port/", "url: is no URL")
	f("url: 'https://example.com/{{.a'", "url: line 1, column 21: unclosed action; end the action with }}")
	f("url: http://127.0.0.1:8080/", "url: 127.0.0.1 is a private address, which is not called; if it is meant, list its network in allow_private, or write allow_private: true")
	f("url: http://127.0.0.1:8080/\nallow_private: true")
	f("url: http://[fd00:ec2::254]/\nallow_private: true",
		"url: fd00:ec2::254 is an address of the machine's own link or of its cloud, which is not called; if it is meant, list its network in allow_private")
	f("url: http://169.254.169.254/\nallow_private: 169.254.169.254")
	f("method: FETCH", "method: must be POST, PUT, PATCH, DELETE or GET")
	f("method: GET\nbody: '({})'\nbatch: {max_events: 2}", "body: a GET has none; say in the url what is to be said", "batch.max_events: a GET has no body, so it is about one event")
	f("headers: {'X Y': a}", "headers.X Y: is no name of a header")
	f("headers: {x-a: '1', X-A: '2'}", "headers.x-a: stands twice: headers are the same whatever letters are capitals")
	f("headers: {X-A: \"hunter22\\nX-B: 1\"}", "headers.X-A: holds a line break or another character that no header has")
	f("headers: {X-A: '{{.a'}", "headers.X-A: line 1, column 1: unclosed action; end the action with }}")
	f("headers: {host: a, Proxy-X: b, webhook-id: c}", "headers.Proxy-X: is made by the router", "headers.host: is made by the router", "headers.webhook-id: is made by the router")
	f("headers: {Content-Type: text/plain}\ncontent_type: text/html", "headers.Content-Type: content_type says it already")
	f("headers: {Content-Type: '{{.t}}'}", "headers.Content-Type: must not change with the event; write it as content_type")
	f("content_type: text/plain\nbatch: {max_events: 2}", "content_type: several events in one request are JSON; write application/json, or batch.max_events: 1")
	f("body: '$.a =='", "body: line 1, column 7: unexpected end of the script")
	f("body: hello", "body: what the template gives is not JSON; return an object, write {{json .field}} in a Go template, or set content_type to what it is")
	f("body: hello\ncontent_type: text/plain")
	f("secret: short", "secret: is shorter than 16 bytes; make one with: openssl rand -base64 32")
	f("secret: whsec_???", "secret: what begins with whsec_ goes on in base64, and this does not")
	f("secret: whsec_c2hvcnQ=", "secret: is shorter than 16 bytes; make one with: openssl rand -base64 32")
	f("key: persn", "key: must be person, none, all or an expression such as $.order.id")
	f("key: '$.a =='", "key: line 1, column 7: unexpected end of the script")
	f("batch: {max_events: 0, max_bytes: 0, format: xml}",
		"batch.max_events: must be from 1 to 1000", "batch.max_bytes: must be from 1 to 33554432", "batch.format: must be array or ndjson")
	f("in_flight: 0\ntimeout: 0s\nmax_per_second: -1",
		"in_flight: must be from 1 to 256", "timeout: must be more than 0", "max_per_second: must be at least 0.001; 0 is no limit")
	f("allow_private: [10.0.0.0/8, everything]", `allow_private[1]: "everything" is neither true, false nor a network such as 10.1.0.0/16`)
	f("proxy: socks5://proxy.example.com", "proxy: must be the URL of an HTTP proxy, such as http://proxy.example.com:3128")
}

// TestPlaces: what belongs together when the settings change, and what people are shown of a URL.
func TestPlaces(t *testing.T) {
	f := func(url, hub, shown string) {
		t.Helper()
		r := newRig(t, "url: '"+url+"'\n")
		method, address := r.dest.Address(laneEvents)
		if r.dest.Hub("") != hub || method != "POST" || address != shown {
			t.Errorf("%s: hub %s, shown as %s %s; want %s and %s", url, r.dest.Hub(""), method, address, hub, shown)
		}
	}
	f("https://Example.com", "https://example.com", "https://example.com")
	f("https://example.com:8443/in?key=1", "https://example.com:8443/in", "https://example.com:8443/in?…")
	f("https://example.com/u/{{.user.id}}", "https://example.com/u/{{.user.id}}", "https://example.com/u/{{.user.id}}")
	f(`https://example.com/{{if eq .a "?"}}x{{end}}/y?z`, `https://example.com/{{if eq .a "?"}}x{{end}}/y`, `https://example.com/{{if eq .a "?"}}x{{end}}/y?…`)
	f("https://hooks.example.com/services/T00/B1234567890123456/x", "https://hooks.example.com/services/T00/***/x#93fef717", "https://hooks.example.com/services/T00/***/x")
	f("https://hooks.example.com/services/T00/B1234567890123457/x", "https://hooks.example.com/services/T00/***/x#fc0e5ae2", "https://hooks.example.com/services/T00/***/x")
	f("https://example.com/a-long-name-without-digits", "https://example.com/a-long-name-without-digits", "https://example.com/a-long-name-without-digits")
}

// TestKeys: what orders events.
func TestKeys(t *testing.T) {
	f := func(yaml, json, want string) {
		t.Helper()
		r := newRig(t, yaml)
		plans, err := r.dest.Plan(r.event(json))
		got := fmt.Sprint(err)
		if err == nil {
			got = plans[0].Key
		}
		if got != want || err == nil && plans[0].ID != plans[0].Key {
			t.Errorf("%s %s: %q, want %q", yaml, json, got, want)
		}
	}
	f("", `{"user":{"email":" A@b.co ","id":"1","anonymous_id":"x"}}`, "a@b.co")
	f("", `{"user":{"id":"U1","anonymous_id":"x"}}`, "user U1")
	f("", `{"user":{"internal_id":7}}`, "user 7")
	f("", `{"eventn_ctx":{"user":{"anonymous_id":"x"}}}`, "anonymous x")
	f("", `{"user":{"id":{"a":1}}}`, "")
	f("", `{}`, "")
	f("", `{"user":{"id":"`+strings.Repeat("é", 1000)+`"}}`, "user "+strings.Repeat("é", 253))
	f("key: none", `{"user":{"email":"a@b.co"}}`, "")
	f("key: all", `{}`, "all")
	f("key: $.order.id", `{"order":{"id":12345678901234567890}}`, "12345678901234567890")
	f("key: $.order.id", `{}`, "")
	f("key: '{{.user.email}}/{{.shop}}'", `{"user":{"email":"a"},"shop":"b"}`, "a/b")
	f("key: $.order", `{"order":{"id":1}}`, "key: an object or a list orders nothing; the expression returns text or a number")
	f("key: $.order.trim()", `{"order":1}`, "key: line 1, column 13: TypeError: Object has no member 'trim'")
}

// TestLanes: the limits of the one lane.
func TestLanes(t *testing.T) {
	f := func(yaml string, want destinations.LaneSpec) {
		t.Helper()
		if diff := cmp.Diff([]destinations.LaneSpec{want}, newRig(t, yaml).dest.Lanes()); diff != "" {
			t.Errorf("%s:\n%s", yaml, diff)
		}
	}
	f("", destinations.LaneSpec{Name: "events", MaxEntries: 1, MaxBytes: 1 << 20, InFlight: 4})
	f("in_flight: 9\nbatch: {max_events: 50, max_bytes: 2KB}", destinations.LaneSpec{Name: "events", MaxEntries: 50, MaxBytes: 2000, InFlight: 9})
}

// TestWarnings: what works and is hardly meant is told at start.
func TestWarnings(t *testing.T) {
	r := newRig(t, "body: 'if ($.a) { $.b }'\n")
	if got := r.log.String(); !strings.Contains(got, "body: the script has no return: it never has a value") {
		t.Errorf("got %s", got)
	}
}

// TestSecretsOfTheFile: those that the rest of the router keeps out of what it shows.
func TestSecretsOfTheFile(t *testing.T) {
	cfg, err := config.Parse("router.yaml", []byte(`
api_keys: js.key
destinations:
  hook:
    type: webhook
    config:
      url: https://example.com/
      secret: [0123456789abcdef, fedcba9876543210]
      headers: {Authorization: Bearer abcdefgh, X-Api-Key: ijklmnop, Accept: application/json}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := cfg.Secrets()
	for _, want := range []string{"0123456789abcdef", "fedcba9876543210", "Bearer abcdefgh", "ijklmnop"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among the secrets %q", want, got)
		}
	}
	if slices.Contains(got, "application/json") {
		t.Errorf("a harmless header is among the secrets %q", got)
	}
}

// TestWhatDryRunsShow: requests without what may be a secret.
func TestWhatDryRunsShow(t *testing.T) {
	f := func(yaml, envelope, want string) {
		t.Helper()
		r := newRig(t, yaml)
		var shown string
		r.dest.http.Transport = transport(func(req *http.Request) {
			url, header, delivers := r.dest.Shown(req)
			delete(header, "User-Agent")
			delete(header, "Webhook-Id")
			shown = fmt.Sprint(url, " ", header, " ", delivers)
		})
		r.send(r.enveloped(`{"a":"abcdefgh","JITSU_ENVELOP":` + envelope + `}`))
		if shown != want {
			t.Errorf("%s %s: %s, want %s", yaml, envelope, shown, want)
		}
	}
	const typ = "map[Content-Type:[application/json]] true"
	f("", `null`, "https://example.com/in "+typ)
	f("headers: {X-A: secret1, X-B: '{{.a}}'}\nsecret: 0123456789abcdef\n", `null`,
		"https://example.com/in map[Content-Type:[application/json] Webhook-Signature:[***] X-A:[***] X-B:[***]] true")
	f("url: 'https://example.com/T0000000000000001/{{.a}}?p=s3cr3t&q={{.a}}&key={{.a}}&r'\n", `null`, "https://example.com/***/abcdefgh?p=***&q=abcdefgh&key=***&r "+typ)
	f("", `{"url":"https://api.example.net/x?api_key=abc&b=c","headers":{"X-C":"secret2"}}`,
		"https://api.example.net/x?api_key=***&b=c map[Content-Type:[application/json] X-C:[***]] true")
	f("method: GET\n", `null`, "https://example.com/in map[] true")
}

// transport shows requests to a function and takes them.
type transport func(*http.Request)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) {
	f(req)
	return taker{}.RoundTrip(req)
}
