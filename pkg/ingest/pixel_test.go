package ingest

import (
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

const frozenTime = `"utc_time":"2026-11-21T03:00:00.123456Z"`

// TestPixel: what is stored of a pixel's query, "" for nothing.
func TestPixel(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(query string, want string, headers ...string) {
		t.Helper()
		got := send(t, "GET", base+pixelPath+query, nil, headers...)
		if got.status != 200 || got.body != string(pixelImage) || !strings.Contains(got.header.Get("Cache-Control"), "no-store") || len(got.body) != 43 {
			t.Errorf("%s: %d %q %v", query, got.status, got.body, got.header)
		}
		stored := ""
		evs := log.take(t)
		for _, ev := range evs {
			stored = string(ev.JSON)
			if ev.Server || ev.Class != event.Live || ev.Source != "jitsu_gif" || ev.APIKey == "" {
				t.Errorf("%s: envelope %+v", query, ev)
			}
		}
		cookie := got.header.Get("Set-Cookie")
		id, _, _ := strings.Cut(strings.TrimPrefix(cookie, visitorCookie+"="), ";")
		if id != "" && cookie != visitorCookie+"="+id+cookieAttributes {
			t.Errorf("%s: cookie %q", query, cookie)
		}
		want = strings.ReplaceAll(strings.ReplaceAll(want, "TIME", frozenTime), "NEW", id)
		if stored != want || len(evs) > 1 || strings.Contains(stored, "js.open") {
			t.Errorf("%s\n got %s\nwant %s", query, stored, want)
		}
	}
	data := func(json string) string {
		return "&data=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(json)))
	}
	const token = "?token=js.open"

	// Members of the query.
	f(token, `{TIME,"user":{"anonymous_id":"NEW"}}`)
	f(token+"&event_type=open&user.email=q%40b.co&user.email=r%40b.co", `{"event_type":"open","user":{"email":"r@b.co","anonymous_id":"NEW"},TIME}`)
	f(token+"&a.b.c=1&a.b.d=2&a.b=3&a.x=%22%ff", `{"a":{"b":"3","x":"\"`+"\ufffd"+`"},TIME,"user":{"anonymous_id":"NEW"}}`)
	f(token+"&a..b=1&.=2&.c.=3&=4&d", `{"a":{"b":"1"},"c":"3","d":"",TIME,"user":{"anonymous_id":"NEW"}}`)
	f(token+"&user=bob", `{"user":"bob",TIME}`)
	f(token+"&cookie_policy=keep&ip_policy=keep&compat=false&p_1=2&copy=js.open", `{"p_1":"2",TIME,"user":{"anonymous_id":"NEW"}}`)

	// Data, and where the secret stands.
	const plain = `{"token":"js.open","event_type":"é>?","n":12345678901234567890,"a":1,"a":{"b":[1]}}`
	const stored = `{"event_type":"é>?","n":12345678901234567890,"a":{"b":[1]},TIME,"user":{"anonymous_id":"NEW"}}`
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		f("?data="+url.QueryEscape(e.EncodeToString([]byte(plain))), stored)
		f("?data="+e.EncodeToString([]byte(plain)), stored) // a plus is a blank then
	}
	f("?"+data(`{"api_key":"js.open","a":{"token":"mine"}}`), `{"a":{"token":"mine"},TIME,"user":{"anonymous_id":"NEW"}}`)
	f("?"+data(`{"token":"js.open","api_key":"js.open"}`), `{TIME,"user":{"anonymous_id":"NEW"}}`)
	f("?"+data(`{"eventn_ctx":{"api_key":"js.open"},"token":"js.open"}`), `{"eventn_ctx":{TIME,"user":{"anonymous_id":"NEW"}}}`)
	f("?a=1", `{"a":"1",TIME,"user":{"anonymous_id":"NEW"}}`, "X-Auth-Token", "js.open")
	f("?p_x=js.open&a=1", `{"a":"1",TIME,"user":{"anonymous_id":"NEW"}}`)
	f(token+data(`{"a":1,"b":{"c":2},"d":3}`)+"&a=x&b.e=y&d.f=z", `{"a":"x","b":{"c":2,"e":"y"},"d":{"f":"z"},TIME,"user":{"anonymous_id":"NEW"}}`)
	f(token+data("\ufeff {\"a\":\"\xff\"} "), `{"a":"`+"\ufffd"+`",TIME,"user":{"anonymous_id":"NEW"}}`)
	f(token+data(`{"template":{"a":1},"events":[{},{}]}`), `{"template":{"a":1},"events":[{},{}],TIME,"user":{"anonymous_id":"NEW"}}`)

	// Nobody's.
	f("?a=1", ``)
	f("?token=nobody&a=1", ``)
	f("?token=s2s.open&a=1", ``) // a server's secret is no secret in a mail
	f("?"+data(`{"token":["js.open"]}`), ``)

	// What the page and the browser tell.
	const page = `"url":"https://a.b:8443/c/d?e=f\u0026g","doc_host":"a.b","doc_path":"/c/d","doc_search":"e=f\u0026g"`
	f(token+"&x=1", `{"x":"1",TIME,`+page+`,"user":{"anonymous_id":"NEW"}}`, "Referer", "https://a.b:8443/c/d?e=f&g")
	f(token+"&x=1&url=mine", `{"x":"1","url":"mine",TIME,"doc_host":"a.b","doc_path":"/","user":{"anonymous_id":"NEW"}}`, "Referer", "https://a.b/")
	f(token+"&x=1", `{"x":"1",TIME,"user":{"anonymous_id":"NEW"}}`, "Referer", "about:blank")
	f(token+"&utc_time=t", `{"utc_time":"t","user":{"anonymous_id":"NEW"}}`)
	f(token, `{TIME,"user":{"anonymous_id":"mine"}}`, "Cookie", "a=b; __eventn_id=mine; c=d")
	f(token+"&user.anonymous_id=1", `{"user":{"anonymous_id":"1"},TIME}`, "Cookie", "__eventn_id=mine")
	f(token, `{TIME,"user":{"anonymous_id":"NEW"}}`, "Cookie", "__eventn_id="+strings.Repeat("x", 101))
	f(token+"&compat=true&x=1", `{"x":"1","eventn_ctx":{TIME,"url":"https://a.b/","doc_host":"a.b","doc_path":"/","user":{"anonymous_id":"NEW"}}}`, "Referer", "https://a.b/")
	f(token+"&compat=true&user.email=a%40b.co", `{"user":{"email":"a@b.co","anonymous_id":"NEW"},"eventn_ctx":{TIME}}`)
	f(token+"&compat=1"+data(`{"eventn_ctx":7}`), `{"eventn_ctx":7,TIME,"user":{"anonymous_id":"NEW"}}`)

	// Policies.
	for _, policy := range []string{"strict", "comply"} {
		got := send(t, "GET", base+pixelPath+token+"&a=1&cookie_policy="+policy+"&ip_policy="+policy, nil, "Cookie", "__eventn_id=mine", "X-Forwarded-For", german, "User-Agent", agent)
		ev := log.take(t)[0]
		if want := `{"a":"1",` + frozenTime + `,"user":{"anonymous_id":"` + hashOf("198.51.100.1") + `"}}`; string(ev.JSON) != want || ev.SourceIP != "198.51.100.1" {
			t.Errorf("%s: got %s %s\nwant %s", policy, ev.SourceIP, ev.JSON, want)
		}
		if cookie := got.header.Get("Set-Cookie"); cookie != cookieGone {
			t.Errorf("%s: cookie %q, want it deleted", policy, cookie)
		}
		got = send(t, "GET", base+pixelPath+token+"&cookie_policy="+policy, nil)
		if cookie := got.header.Values("Set-Cookie"); len(cookie) > 0 {
			t.Errorf("%s: sets %q", policy, cookie)
		}
		log.take(t)
	}

	// A look at whether it is there is no event.
	if got := send(t, "HEAD", base+pixelPath+token, nil); got.status != 200 || got.header.Get("Content-Type") != "image/gif" || len(log.take(t)) > 0 {
		t.Errorf("HEAD: %d %v", got.status, got.header)
	}
}

// TestPixelIDs: each look is an event, unless the client says when it was or gives it an id.
func TestPixelIDs(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(query string, same bool) {
		t.Helper()
		for range 2 {
			send(t, "GET", base+pixelPath+"?token=js.open"+query, nil, "Cookie", "__eventn_id=mine")
		}
		evs := log.take(t)
		if got := evs[0].ID == evs[1].ID; got != same {
			t.Errorf("%s twice: ids %s and %s", query, evs[0].ID, evs[1].ID)
		}
	}
	f("", false)
	f("&compat=true", false)
	f("&utc_time=t", true)
	f("&event_id=7", true)
	f("&eventn_ctx.event_id=7", true)
	f("&compat=true&eventn_ctx.utc_time=t", true)
}

// TestBadPixel: what is no event, or too much of one, is refused and not stored.
func TestBadPixel(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	o.Server.MaxEventBytes = 3000
	base := start(t, o)
	f := func(query string, status int, want string) {
		t.Helper()
		got := send(t, "GET", base+pixelPath+"?token=js.open&"+query, nil)
		if text := message(got.body); got.status != status || !strings.HasPrefix(text, want) || len(log.take(t)) > 0 {
			t.Errorf("%.100s: %d %s, want %d %s", query, got.status, text, status, want)
		}
	}
	data := func(json string) string { return "data=" + base64.RawURLEncoding.EncodeToString([]byte(json)) }
	f("data=%25", 400, pixelMessage+"illegal base64 data at input byte 0")
	f("data=a", 400, pixelMessage+"illegal base64 data")
	f(data("hello"), 400, pixelMessage+"invalid character 'h' looking for beginning of value")
	f(data(`{"a":1`), 400, pixelMessage+"unexpected EOF")
	f(data(`{"a":1}x`), 400, pixelMessage+"invalid character 'x' after top-level value")
	f(data(`{"a":tru}`), 400, pixelMessage+"invalid character '}' in literal true (expecting 'e')")
	f(data(`[{}]`), 400, pixelMessage+"not an object")
	f(data(`7`), 400, pixelMessage+"not an object")
	f(data(` `), 400, pixelMessage+"unexpected")
	f(data(strings.Repeat(`{"a":`, 129)+`1`+strings.Repeat(`}`, 129)), 400, pixelMessage+"nesting exceeds limit: 128")
	f("x"+strings.Repeat(".a", 200)+"=1", 400, "Error parsing events body: nesting exceeds limit: 128")
	f(strings.Repeat("a&", 1000), 400, "Error parsing events body: Number of query parameters exceeds limit: 1000")
	f("x="+strings.Repeat("a", 3000), 400, "Error parsing events body: Event size")

	log.fail(errors.New("disk on fire"))
	f("a=1", 503, "Events can not be stored at the moment")
	log.fail(nil)
}

// TestPixelOfFullLane: nobody sends a pixel again, but the operator can count them.
func TestPixelOfFullLane(t *testing.T) {
	o := testOptions(&memoryLog{refuse: log.ErrFull})
	full := true
	o.Refused = func(string, event.Class) (string, bool) { return "contacts", full }
	base := start(t, o)
	for range 2 {
		if got := send(t, "GET", base+pixelPath+"?token=js.open", nil); got.status != 503 || got.header.Get("Retry-After") != "5" || got.header.Get("Set-Cookie") != "" {
			t.Errorf("%d %v %s", got.status, got.header, got.body)
		}
		full = false // then the log is
	}
}

// FuzzPixel: whatever a query says, what is stored of it is one JSON object of bounded depth and without the key, and its parameters are in it.
func FuzzPixel(f *testing.F) {
	for _, seed := range []string{
		"token=js.open", "data=eyJ0b2tlbiI6ImpzLm9wZW4ifQ", "token=js.open&a.b=1&a=2&a.b.c=3", "token=js.open&user=1&compat=1", "data=e30&api_key=js.open",
		"token=js.open&data=eyJhIjp7ImIiOlsxXX19&a.b.c=%ff%22", "p_=js.open&.=&..a=&a.=%00", "token=js.open&cookie_policy=strict&eventn_ctx.user.anonymous_id=1&source_ip=::1&ip_policy=strict",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		log := &memoryLog{}
		s := newServer(t, testOptions(log))
		var req fasthttp.Request
		req.Header.SetMethod("GET")
		req.SetRequestURI(pixelPath)
		req.URI().SetQueryString(query)
		req.Header.Set("X-Auth-Token", "js.open")
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
		s.Handler(&ctx)
		status := ctx.Response.StatusCode()
		if status == 500 || status != 200 && len(log.recs) > 0 {
			t.Fatalf("%d %s, stored %d", status, ctx.Response.Body(), len(log.recs))
		}
		for _, ev := range log.take(t) {
			v := decoded(t, ev.JSON)
			if _, ok := v.(map[string]any); !ok || nesting(ev.JSON) > maxDepth || len(ev.JSON) > s.limits().event {
				t.Errorf("stored %s", ev.JSON)
			}
			for _, name := range []string{"token", "api_key", "compat"} {
				if gjson.GetBytes(ev.JSON, name).Exists() {
					t.Errorf("%s is stored: %s", name, ev.JSON)
				}
			}
			if view := ev.AppendView(nil); !gjson.ValidBytes(view) {
				t.Errorf("view %s", view)
			}
		}
	})
}

// malformedBodies keeps the bodies that a watcher is shown.
type malformedBodies struct{ all []string }

func (*malformedBodies) Accepted(string, [][]byte) {}

func (m *malformedBodies) Malformed(_ string, body []byte, _ string) {
	m.all = append(m.all, string(body))
}

// Who looks on sees what is in bad data, for only there can secrets be found and hidden: base64 keeps nobody from reading them.
func TestMalformedPixelIsShownDecoded(t *testing.T) {
	w := &malformedBodies{}
	o := testOptions(&memoryLog{})
	o.Watcher = w
	s := newServer(t, o)
	const event = `{"event_type":"x","user":{"password":"hunter2"},"api_key":"js.open"}`
	encoded := base64.StdEncoding.EncodeToString([]byte(event))
	for _, bad := range []string{encoded[:len(encoded)-5] + "%7E", "%7E" + encoded, encoded[:40] + "%7E" + encoded[40:], encoded[:len(encoded)-7]} {
		if got := handle(s, "GET", pixelPath+"?token=js.open&data="+bad, "").StatusCode(); got != 400 {
			t.Errorf("%s: got %d", bad, got)
		}
	}
	if len(w.all) != 4 {
		t.Errorf("the watcher saw %q", w.all)
	}
	for _, body := range w.all {
		if strings.Contains(body, encoded[8:16]) {
			t.Errorf("the watcher is shown %s", body)
		}
	}
}
