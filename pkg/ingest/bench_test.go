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
	f("100x1KiB", "/api/v1/event?token=js.client", benchArray(100))
	f("template-100", "/api/v1/event?token=js.client", fmt.Appendf(nil, `{"template":{"src":"t"},"events":%s}`, benchArray(100)))
}

// BenchmarkParse shows what of the handler is reading JSON: the whole of parse, and gjson.ValidBytes alone.
func BenchmarkParse(b *testing.B) {
	body := benchEvent("u")
	lim := limits{event: 51200, body: 1 << 20}
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
