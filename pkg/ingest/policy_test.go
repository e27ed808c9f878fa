package ingest

import (
	"crypto/md5"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"eventrouter/pkg/event"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

func TestCoarse(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		if got := coarse(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s becomes %s, want %s", addr, got, want)
		}
	}
	f("203.0.113.77", "203.0.113.1")
	f("203.0.113.1", "203.0.113.1")
	f("::ffff:203.0.113.77", "203.0.113.1")
	f("2001:db8:1:2:3:4:5:6", "2001:db8:1::")
	f("2001:db8::7", "2001:db8::")
	f("fe80::1%eth0", "fe80::")
	f("::1", "::")
}

// placed is a server whose clients are in Germany (198.51.100.0/24), in the United States (203.0.113.0/24), or nobody knows where.
func placed(t *testing.T, log *memoryLog, change func(*Options)) string {
	o := testOptions(log)
	o.Place = func(addr netip.Addr) (country string, union, known bool) {
		switch {
		case netip.MustParsePrefix("198.51.100.0/24").Contains(addr):
			return "DE", true, true
		case netip.MustParsePrefix("203.0.113.0/24").Contains(addr):
			return "US", false, true
		case netip.MustParsePrefix("192.0.2.0/24").Contains(addr):
			return "NO", false, true
		}
		return "", false, false
	}
	if change != nil {
		change(&o)
	}
	return start(t, o)
}

const (
	german, american, norwegian, nobody = "198.51.100.7", "203.0.113.7", "192.0.2.7", "2001:db8:1:2::7"
	agent                               = "UA/1"
)

func hashOf(addr string) string { return fmt.Sprintf("%x", md5.Sum([]byte(addr+agent))) }

// TestPolicies: what is stored of an event, by the policies of its request.
func TestPolicies(t *testing.T) {
	log := &memoryLog{}
	base := placed(t, log, nil)
	f := func(query, from, body, wantIP, wantJSON string) {
		t.Helper()
		got := send(t, "POST", base+"/api/v1/event?token=js.open"+query, []byte(body), "X-Forwarded-For", from, "User-Agent", agent)
		evs := log.take(t)
		if got.status != 200 || len(evs) != 1 {
			t.Fatalf("%s: %d %s, %d events", query, got.status, got.body, len(evs))
		}
		wantJSON = strings.ReplaceAll(strings.ReplaceAll(wantJSON, "HASH", hashOf(from)), "OWN", hashOf(american))
		if ev := evs[0]; ev.SourceIP != wantIP || string(ev.JSON) != wantJSON {
			t.Errorf("%s from %s of %s\n got %s %s\nwant %s %s", query, from, body, ev.SourceIP, ev.JSON, wantIP, wantJSON)
		}
		if deleted := got.body == string(bodyNoCookie); deleted != strings.Contains(query, "=deleted") {
			t.Errorf("%s from %s: %s", query, from, got.body)
		}
	}
	const user = `{"a":1,"user":{"anonymous_id":"x","id":2}}`
	// Addresses.
	f("", german, user, german, user)
	f("&ip_policy=keep", german, user, german, user)
	f("&ip_policy=nonsense", german, user, german, user)
	f("&ip_policy=strict", german, user, "198.51.100.1", user)
	f("&ip_policy=STRICT", nobody, user, "2001:db8:1::", user)
	f("&ip_policy=comply", german, user, "198.51.100.1", user)
	f("&ip_policy=comply", norwegian, user, "192.0.2.1", user)
	f("&ip_policy=comply", american, user, american, user)
	f("&ip_policy=comply", nobody, user, "2001:db8:1::", user)
	f("&ip_policy=remove", german, user, "", user)
	f("&ip_policy=stripLastOctet", german, user, "198.51.100.1", user)
	// Addresses in the event, which decide.
	f("", german, `{"source_ip":"203.0.113.7"}`, german, `{"source_ip":"203.0.113.7"}`)
	f("&ip_policy=strict", german, `{"source_ip":"203.0.113.7","a":1}`, "198.51.100.1", `{"source_ip":"203.0.113.1","a":1}`)
	f("&ip_policy=strict", german, `{"a":1,"source_ip":"[2001:db8:1:2::7]:80"}`, "198.51.100.1", `{"a":1,"source_ip":"2001:db8:1::"}`)
	f("&ip_policy=strict", german, `{"a":1,"source_ip":"at home"}`, "198.51.100.1", `{"a":1}`)
	f("&ip_policy=strict", german, `{"source_ip":["203.0.113.7"],"a":1}`, "198.51.100.1", `{"a":1}`)
	f("&ip_policy=strict", german, `{"source\u005fip":"203.0.113.7"}`, "198.51.100.1", `{"source\u005fip":"203.0.113.1"}`)
	f("&ip_policy=strict", german, `{"source_ip":"203.0.113.7","source_ip":"203.0.113.8"}`, "198.51.100.1", `{"source_ip":"203.0.113.1","source_ip":"203.0.113.1"}`)
	f("&ip_policy=strict", german, `{"eventn_ctx":{"source_ip":"203.0.113.7"}}`, "198.51.100.1", `{"eventn_ctx":{"source_ip":"203.0.113.1"}}`)
	f("&ip_policy=remove", german, `{"source_ip":"203.0.113.7"}`, "", `{}`)
	f("&ip_policy=comply", german, `{"source_ip":"203.0.113.7"}`, german, `{"source_ip":"203.0.113.7"}`)
	f("&ip_policy=comply", american, `{"source_ip":"198.51.100.9"}`, "203.0.113.1", `{"source_ip":"198.51.100.1"}`)
	// Cookies.
	f("&cookie_policy=strict&x=deleted", german, user, german, `{"a":1,"user":{"id":2,"anonymous_id":"HASH"}}`)
	f("&cookie_policy=comply&x=deleted", german, user, german, `{"a":1,"user":{"id":2,"anonymous_id":"HASH"}}`)
	f("&cookie_policy=comply", american, user, american, user)
	f("&cookie_policy=comply&x=deleted", nobody, user, nobody, `{"a":1,"user":{"id":2,"anonymous_id":"HASH"}}`)
	f("&cookie_policy=strict&x=deleted", german, `{}`, german, `{"user":{"anonymous_id":"HASH"}}`)
	f("&cookie_policy=strict&x=deleted", german, `{"user":{}}`, german, `{"user":{"anonymous_id":"HASH"}}`)
	f("&cookie_policy=strict&x=deleted", german, `{"user":"bob"}`, german, `{"user":"bob"}`)
	f("&cookie_policy=strict&x=deleted", german, `{"user":{"anonymous_id":"x","\u0061nonymous_id":"y"}}`, german, `{"user":{"anonymous_id":"HASH"}}`)
	f("&cookie_policy=strict&x=deleted", german, `{"eventn_ctx":{"user":{"anonymous_id":"x"}}}`, german, `{"eventn_ctx":{"user":{"anonymous_id":"HASH"}}}`)
	f("&cookie_policy=strict&x=deleted", german, `{"eventn_ctx":{"url":"u"}}`, german, `{"eventn_ctx":{"url":"u","user":{"anonymous_id":"HASH"}}}`)
	f("&cookie_policy=strict&x=deleted", german, `{"user":{"id":1},"eventn_ctx":{"user":{"anonymous_id":"x"}}}`, german,
		`{"user":{"id":1,"anonymous_id":"HASH"},"eventn_ctx":{"user":{}}}`)
	f("&cookie_policy=strict&x=deleted", german, `{"source_ip":"203.0.113.7"}`, german, `{"source_ip":"203.0.113.7","user":{"anonymous_id":"OWN"}}`)
	// The hash tells no more of the address than is stored.
	f("&cookie_policy=strict&ip_policy=strict&x=deleted", german, user, "198.51.100.1", `{"a":1,"user":{"id":2,"anonymous_id":"`+hashOf("198.51.100.1")+`"}}`)
	f("&cookie_policy=strict&ip_policy=strict&x=deleted", german, `{"source_ip":"203.0.113.7","user":{}}`, "198.51.100.1",
		`{"source_ip":"203.0.113.1","user":{"anonymous_id":"`+hashOf("203.0.113.1")+`"}}`)
	f("&cookie_policy=strict&ip_policy=remove&x=deleted", german, user, "", `{"a":1,"user":{"id":2}}`)
	// The header of the second version.
	got := send(t, "POST", base+"/api/v1/event?token=js.open", []byte(`{}`), "X-Forwarded-For", german, "X-IP-Policy", "stripLastOctet")
	if ev := log.take(t)[0]; ev.SourceIP != "198.51.100.1" {
		t.Errorf("X-IP-Policy: %s, stored %s", got.body, ev.SourceIP)
	}
}

// TestPoliciesOfServers: a server has no visitor of its own.
func TestPoliciesOfServers(t *testing.T) {
	log := &memoryLog{}
	base := placed(t, log, nil)
	f := func(body, want string) {
		t.Helper()
		got := send(t, "POST", base+"/s2s/event?token=s2s.open&cookie_policy=strict", []byte(body), "X-Forwarded-For", german, "User-Agent", agent)
		if ev := log.take(t)[0]; string(ev.JSON) != want || got.body != string(bodyNoCookie) {
			t.Errorf("%s: %s, stored %s, want %s", body, got.body, ev.JSON, want)
		}
	}
	f(`{"user":{"anonymous_id":"x","id":1}}`, `{"user":{"id":1}}`)
	f(`{}`, `{}`)
	f(`{"source_ip":"203.0.113.7","user":{"anonymous_id":"x"}}`, `{"source_ip":"203.0.113.7","user":{"anonymous_id":"`+hashOf(american)+`"}}`)
}

// TestEachEventHasItsPolicy: events of one request with addresses of several places, and the ids that a client's copy would get again.
func TestEachEventHasItsPolicy(t *testing.T) {
	log := &memoryLog{}
	base := placed(t, log, nil)
	body := []byte(`[{"n":1},{"n":2,"source_ip":"203.0.113.7"},{"n":3,"source_ip":"198.51.100.9"},{"n":4,"utc_time":"t"}]`)
	var ids []string
	for _, from := range []string{german, nobody} {
		send(t, "POST", base+"/api/v1/event?token=js.open&cookie_policy=comply&ip_policy=comply", body, "X-Forwarded-For", from, "User-Agent", agent)
		evs := log.take(t)
		var got []string
		for _, ev := range evs {
			got = append(got, fmt.Sprint(ev.AnonymousHash, " ", gjson.GetBytes(ev.JSON, "user.anonymous_id").Exists(), " ", gjson.GetBytes(ev.JSON, "source_ip").Str))
		}
		stored := map[string]string{german: "198.51.100.1", nobody: "2001:db8:1::"}[from]
		want := []string{hashOf(stored) + " true ", hashOf(american) + " false 203.0.113.7", hashOf("198.51.100.1") + " true 198.51.100.1", hashOf(stored) + " true "}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
		ids = append(ids, evs[3].ID)
	}
	if ids[0] != ids[1] {
		t.Errorf("a copy that is sent from another address has the id %s, the first had %s", ids[1], ids[0])
	}
}

// TestPoliciesOfMessages: other protocols' messages hold addresses and ids of their own, and are kept.
func TestPoliciesOfMessages(t *testing.T) {
	log := &memoryLog{}
	base := placed(t, log, nil)
	const secret, message = "COOKIE", `{"type":"track","event":"e","anonymousId":"COOKIE","properties":{"p":[{"anonymousId":"COOKIE"},[]]},
		"context":{"ip":"198.51.100.99","traits":{"anonymousId":"COOKIE","anonymous_id":"COOKIE","ip":"mine"},"library":{"name":"x"}}}`
	for _, path := range []string{"/v1/track?writeKey=js.open", "/api/s/track?token=js.open", "/api/v1/segment?token=s2s.open", "/api/v1/segment/compat?token=s2s.open"} {
		got := send(t, "POST", base+path+"&cookie_policy=strict&ip_policy=strict", []byte(message), "X-Write-Key", "js.open", "User-Agent", agent)
		evs := log.take(t)
		if got.status != 200 || len(evs) != 1 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
			continue
		}
		json := string(evs[0].JSON)
		if strings.Contains(json, secret) || strings.Contains(json, "198.51.100.99") || !gjson.Valid(json) || !strings.Contains(json, `"mine"`) {
			t.Errorf("%s: stored %s", path, json)
		}
	}
}

// TestPoliciesOfUploads: many chunks, each event by its own address, and nobody's hash.
func TestPoliciesOfUploads(t *testing.T) {
	log := &memoryLog{}
	base := placed(t, log, nil)
	var body strings.Builder
	const n = 2*bulkChunkEvents + 1
	for range n {
		body.WriteString(`{"user":{"anonymous_id":"x"},"source_ip":"198.51.100.9"}` + "\n" + `{"user":{"anonymous_id":"x"},"source_ip":"203.0.113.9"}` + "\n{}\n")
	}
	got := send(t, "POST", base+"/api/v1/events/bulk?token=s2s.secret&cookie_policy=comply&ip_policy=comply", []byte(body.String()), "X-Forwarded-For", german)
	evs := log.take(t)
	if got.status != 200 || len(evs) != 3*n {
		t.Fatalf("%d %s, %d events", got.status, got.body, len(evs))
	}
	want := []string{`{"user":{},"source_ip":"198.51.100.1"}`, `{"user":{"anonymous_id":"x"},"source_ip":"203.0.113.9"}`, `{}`}
	wantIP := []string{"198.51.100.1", german, "198.51.100.1"}
	for i, ev := range evs {
		if string(ev.JSON) != want[i%3] || ev.SourceIP != wantIP[i%3] || ev.AnonymousHash != "" {
			t.Fatalf("event %d: %s %s %s, want %s %s", i, ev.JSON, ev.SourceIP, ev.AnonymousHash, want[i%3], wantIP[i%3])
		}
	}
}

// TestHashCanBeSwitchedOff: then nothing takes the place of the cookie's id.
func TestHashCanBeSwitchedOff(t *testing.T) {
	log := &memoryLog{}
	base := placed(t, log, func(o *Options) { o.Server.AnonymousHash = false })
	send(t, "POST", base+"/api/v1/event?token=js.open&cookie_policy=strict", []byte(`{"user":{"anonymous_id":"x","id":1}}`))
	send(t, "POST", base+"/api/v1/event?token=js.open", []byte(`{"user":{"anonymous_id":"x","id":1}}`))
	for i, want := range []string{`{"user":{"id":1}}`, `{"user":{"anonymous_id":"x","id":1}}`} {
		if ev := log.recs[i]; !strings.HasSuffix(string(ev), want) {
			t.Errorf("stored %q, want %s at the end", ev, want)
		}
	}
	for _, ev := range log.take(t) {
		if ev.AnonymousHash != "" {
			t.Errorf("a hash %s", ev.AnonymousHash)
		}
	}
}

// TestHTTPContext: headers without secrets, and without what tells the address where that is not to be stored.
func TestHTTPContext(t *testing.T) {
	log := &memoryLog{}
	base := placed(t, log, func(o *Options) { o.Server.HTTPContext = true })
	headers := []string{
		"User-Agent", agent, "Accept-Encoding", "br", "X-Plan", "gold", "X-Plan", "silver", "Authorization", "Basic c2VjcmV0", "Cookie", "sid=secret", "Api_key", "js.open",
		"X-Auth-Token", "js.open", "X-Write-Key", "a:secret", "X-Admin-Token", "secret", "X-Api-Key", "secret", "Cf-Access-Client-Secret", "secret", "X-Session-Id", "secret",
		"X-Copy", "see js.open there", "X-Forwarded-For", german, "X-Real-Ip", german, "X-Note", "from " + german, "X-Quote", "\"\\\x80",
	}
	f := func(query, want string) {
		t.Helper()
		if got := send(t, "POST", base+"/api/v1/event?token=js.open"+query, []byte(`{}`), headers...); got.status != 200 {
			t.Fatalf("%s", got.body)
		}
		want = `{"__HTTP_CONTEXT__":{"headers":{` + want + `}}}`
		if diff := cmp.Diff(decode([]byte(want)), decoded(t, log.take(t)[0].Added)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	const client, rest = `"content-length":["2"],"user-agent":["UA/1"],"accept-encoding":["br"]`, `"x-plan":["gold","silver"],"x-quote":["\"\\\ufffd"]`
	f("", client+`,"x-forwarded-for":["198.51.100.7"],"x-note":["from 198.51.100.7"],`+rest+`,"x-real-ip":["198.51.100.7"]`)
	f("&ip_policy=strict", client+","+rest)

	// What proxies say in headers of their own: addresses in other spellings, and where the request went, with its key.
	headers = []string{
		"User-Agent", agent, "Accept-Encoding", "br", "X-Forwarded-For", "2001:db8::7", "X-Acme-Client-Ip", "192.0.2.99", "X-Peer_addr", "192.0.2.99", "X-Visitor", "2001:DB8:0:0::7",
		"X-Original-Forwarded-Host", "a", "X-Network", "2001:db8::/48", "AnonymousId", "c2VjcmV0", "X-Forwarded-Uri", "/x?writekey=js%2Eopen", "X-Original-Url", "/x?token=j%73.open&y=1",
		"X-Skip", "shipped by zip", "X-Version", "120.0.0.0",
	}
	const plain, harmless = `"content-length":["2"],"user-agent":["UA/1"],"accept-encoding":["br"]`, `"x-original-forwarded-host":["a"],"x-skip":["shipped by zip"],"x-version":["120.0.0.0"]`
	f("&ip_policy=strict&cookie_policy=strict", plain+`,`+harmless)
	f("&cookie_policy=strict", plain+`,"x-forwarded-for":["2001:db8::7"],"x-acme-client-ip":["192.0.2.99"],"x-peer_addr":["192.0.2.99"],"x-visitor":["2001:DB8:0:0::7"],"x-network":["2001:db8::/48"],`+harmless)
	f("", plain+`,"x-forwarded-for":["2001:db8::7"],"x-acme-client-ip":["192.0.2.99"],"x-peer_addr":["192.0.2.99"],"x-visitor":["2001:DB8:0:0::7"],"x-network":["2001:db8::/48"],"anonymousid":["c2VjcmV0"],`+harmless)

	long := send(t, "POST", base+"/api/v1/event?token=js.open", []byte(`{}`), "X-Long", strings.Repeat("x", 9000))
	if ev := log.take(t)[0]; long.status != 200 || len(ev.Added) > maxContextBytes+200 || !gjson.ValidBytes(ev.Added) {
		t.Errorf("%d: %d bytes are noted of a long request: %s", long.status, len(ev.Added), ev.Added)
	}
}

func TestUnknownPolicyIsCounted(t *testing.T) {
	s := newServer(t, testOptions(&memoryLog{}))
	for _, name := range []string{"", "keep", "strict", "comply", "remove", "stripLastOctet"} {
		s.policyNamed([]byte(name))
	}
	if s.unknownPolicy.Load() {
		t.Error("a known policy is taken for an unknown one")
	}
	if got := s.policyNamed([]byte("strickt")); got != keep || !s.unknownPolicy.Load() {
		t.Errorf("an unknown policy is %v", got)
	}
}

// FuzzPolicies: whatever a body holds, what is stored of it under strict policies is JSON, differs only where it must, and holds neither address nor id.
func FuzzPolicies(f *testing.F) {
	for _, seed := range []string{
		`{"user":{"anonymous_id":"x","a":1}}`, `{"eventn_ctx":{"user":{"anonymous_id":"x"},"source_ip":"203.0.113.7"}}`, `{"source_ip":"203.0.113.7","source_ip":7}`,
		`{"user":null,"user":{},"eventn_ctx":[]}`, `{"us\u0065r":{"anonymous\u005fid":"\ud800"}}`, `[{},{"eventn_ctx":{}},{"a":{"user":{"anonymous_id":1}}}]`, `{"":{"":""}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		log := &memoryLog{}
		s := newServer(t, testOptions(log))
		b := acquireBatch()
		defer b.release()
		if b.parse(body, s.limits()) != nil {
			return
		}
		var free []any
		for i := range b.elements {
			free = append(free, decoded(t, append([]byte(nil), b.withoutWriteKeys(&b.elements[i])...)))
		}
		b.who = visitor{front: s, addr: netip.MustParseAddr(german), userAgent: []byte(agent), policies: policies{ip: strict, cookie: strict}}
		b.encode(event.Event{APIKey: "k", Received: receipt})
		for i, rec := range b.recs {
			var ev event.Event
			if err := ev.Decode(rec); err != nil {
				t.Fatal(err)
			}
			got := decoded(t, ev.JSON).(map[string]any)
			want := free[i].(map[string]any)
			for _, place := range []string{"", "eventn_ctx"} {
				g, w := got, want
				if place != "" {
					g, _ = got[place].(map[string]any)
					w, _ = want[place].(map[string]any)
				}
				if ip, ok := g["source_ip"].(string); ok {
					if addr, err := netip.ParseAddr(ip); err != nil || coarse(addr) != addr {
						t.Errorf("address %s", ip)
					}
				} else if g["source_ip"] != nil {
					t.Errorf("address %v", g["source_ip"])
				}
				delete(g, "source_ip")
				delete(w, "source_ip")
				if user, ok := g["user"].(map[string]any); ok {
					if id := user["anonymous_id"]; id != nil && id != ev.AnonymousHash {
						t.Errorf("id %v, hash %s", id, ev.AnonymousHash)
					}
					delete(user, "anonymous_id")
					if len(user) == 0 && w["user"] == nil {
						delete(g, "user")
					}
				}
				if user, ok := w["user"].(map[string]any); ok {
					delete(user, "anonymous_id")
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\nstored %s (-want +got):\n%s", body, ev.JSON, diff)
			}
		}
	})
}
