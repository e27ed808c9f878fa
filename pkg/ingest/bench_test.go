package ingest

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

// noLog takes everything and keeps nothing.
type noLog struct{}

func (noLog) Append(...[]byte) error { return nil }

// benchEvent is an event of 1 KiB, shaped as the browser SDK sends it.
func benchEvent(user string) []byte {
	const shape = `{"event_id":"","user":{"anonymous_id":"gqa99970cg","id":"%s","email":"john.doe@example.com","firstname":"John"},"ids":{},` +
		`"utc_time":"2026-11-21T02:52:33.121000Z","local_tz_offset":0,"referer":"https://www.google.com/","url":"http://127.0.0.1/pricing?x=1",` +
		`"page_title":"Pricing page","doc_path":"/pricing","doc_host":"127.0.0.1","doc_search":"?x=1","screen_resolution":"0x0","vp_size":"1024x768",` +
		`"user_agent":"Mozilla/5.0 (linux) AppleWebKit/537.36 (KHTML, like Gecko)","user_language":"en-US","doc_encoding":"UTF-8",` +
		`"utm":{"source":"newsletter","medium":"email","campaign":"spring"},"click_id":{"gclid":"G1"},"api_key":"js.client","src":"jitsu",` +
		`"event_type":"signup","plan":"pro","conversion":{"revenue":99.9,"currency":"USD"},"note":"%s"}`
	return fmt.Appendf(nil, shape, user, strings.Repeat("x", 1024-len(shape)+len("%s%s")-len(user)))
}

func benchArray(n int) []byte {
	var events [][]byte
	for i := range n {
		events = append(events, benchEvent(fmt.Sprint(i)))
	}
	return fmt.Appendf(nil, "[%s]", bytes.Join(events, []byte(",")))
}

// benchRequest makes a server with a log that does nothing, and a request to it.
func benchRequest(t testing.TB, path string, body []byte) (*Server, *fasthttp.RequestCtx) {
	t.Helper()
	o := testOptions(noLog{})
	s := newServer(t, o)
	var req fasthttp.Request
	req.Header.SetMethod("POST")
	req.SetRequestURI(path)
	req.Header.Set("User-Agent", "Mozilla/5.0 (linux) AppleWebKit/537.36")
	req.Header.Set("Origin", "https://app.example.com")
	req.Header.Set("X-Forwarded-For", "198.51.100.1, 10.0.0.1")
	req.SetBody(body)
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
	postAgain(s, ctx)
	return s, ctx
}

func postAgain(s *Server, ctx *fasthttp.RequestCtx) {
	ctx.Response.Reset()
	s.Handler(ctx)
}

func BenchmarkHandler(b *testing.B) {
	f := func(name, path string, body []byte) {
		b.Run(name, func(b *testing.B) {
			s, ctx := benchRequest(b, path, body)
			if ctx.Response.StatusCode() != 200 {
				b.Fatalf("%s", ctx.Response.Body())
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				postAgain(s, ctx)
			}
		})
	}
	f("1KiB", "/api/v1/event?token=js.client", benchEvent("u"))
	f("1KiB-server", "/api/v1/s2s/event?token=s2s.secret", benchEvent("u"))
	f("1KiB-strict", "/api/v1/event?token=js.client&cookie_policy=strict&ip_policy=strict", benchEvent("u"))
	f("100x1KiB", "/api/v1/event?token=js.client", benchArray(100))
	f("template-100", "/api/v1/event?token=js.client", fmt.Appendf(nil, `{"template":{"src":"t"},"events":%s}`, benchArray(100)))
}

// messageBatch is n messages as Segment's library for browsers sends them, each of about 1 KiB, as a batch or as an array.
func messageBatch(n int, asBatch bool) []byte {
	const shape = `{"timestamp":"2026-11-21T02:53:08.292Z","integrations":{},"type":"track","event":"Signed Up","properties":{"plan":"pro","revenue":99.9,` +
		`"currency":"USD","path":"/pricing","title":"Pricing page","coupon":"SPRING"},"context":{"page":{"path":"/pricing","referrer":"https://www.google.com/",` +
		`"search":"?utm_source=newsletter","title":"Pricing page","url":"https://shop.example.com/pricing?utm_source=newsletter"},` +
		`"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36","locale":"en-US",` +
		`"library":{"name":"analytics.js","version":"npm:next-1.84.3"},"campaign":{"source":"newsletter","medium":"email","name":"spring"},` +
		`"timezone":"Europe/Berlin"},"messageId":"ajs-next-1795229588292-%d","userId":"97980cfea0067","anonymousId":"57dd10fd-8433-4210-a33f-5c80194badda",` +
		`"_metadata":{"bundled":["Segment.io"],"unbundled":[],"bundledIds":[]}}`
	var all [][]byte
	for i := range n {
		all = append(all, fmt.Appendf(nil, shape, i))
	}
	list := bytes.Join(all, []byte(","))
	if !asBatch {
		return fmt.Appendf(nil, "[%s]", list)
	}
	return fmt.Appendf(nil, `{"batch":[%s],"writeKey":"s2s.secret","sentAt":"2026-11-21T02:53:08.295Z"}`, list)
}

// BenchmarkMessages takes Segment's default batch over its own route, and the same messages as events of Jitsu's.
func BenchmarkMessages(b *testing.B) {
	f := func(name, path string, body []byte) {
		b.Run(name, func(b *testing.B) {
			s, ctx := benchRequest(b, path, body)
			if ctx.Response.StatusCode() != 200 {
				b.Fatalf("%s", ctx.Response.Body())
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				postAgain(s, ctx)
			}
		})
	}
	f("jitsu", "/api/v1/s2s/events?token=s2s.secret", messageBatch(15, false))
	f("segment", "/v1/batch?token=s2s.secret", messageBatch(15, true))
	f("jitsu-segment", "/api/v1/segment?token=s2s.secret", messageBatch(15, true))
}

// BenchmarkPixel is the whole of a pixel, of which the event is put together anew.
func BenchmarkPixel(b *testing.B) {
	s, ctx := benchRequest(b, pixelPath+"?token=js.open&event_type=open_email&user.email=ada%40example.com&utm.source=newsletter&data=eyJhIjp7ImIiOjF9fQ", nil)
	ctx.Request.Header.SetMethod("GET")
	ctx.Request.Header.Set("Referer", "https://mail.example.com/read?m=1")
	b.ReportAllocs()
	for b.Loop() {
		postAgain(s, ctx)
	}
	if ctx.Response.StatusCode() != 200 {
		b.Fatalf("%s", ctx.Response.Body())
	}
}

// BenchmarkParse shows what of the handler is reading JSON: the whole of parse, and gjson.ValidBytes alone.
func BenchmarkParse(b *testing.B) {
	body := benchEvent("u")
	lim := limits{event: 51200, body: 1 << 20, events: 50_000}
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			batch := acquireBatch()
			if r := batch.parse(body, lim); r != nil {
				b.Fatal(r)
			}
			batch.release()
		}
	})
	b.Run("valid", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if !gjson.ValidBytes(body) {
				b.Fatal("invalid")
			}
		}
	})
}
