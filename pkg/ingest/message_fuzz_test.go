package ingest

import (
	"bytes"
	"encoding/json"
	"net"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

// FuzzMessages posts bodies to the routes of Segment's messages. What is accepted is what encoding/json finds in it, as valid events without
// write keys; nothing panics.
func FuzzMessages(f *testing.F) {
	paths := []string{"/v1/batch", "/v1/t", "/v1/import", "/api/s/s2s/event", "/api/v1/segment", "/api/v1/segment/compat", "/v1/p"}
	for _, seed := range []string{
		`{"batch":[{"type":"track","event":"e","writeKey":"s2s.secret"},{"type":"page"}],"writeKey":"s2s.secret","sentAt":"2026-11-21T02:53:08.295Z","context":{"ip":"::1"}}`,
		`{"type":"identify","userId":"u","traits":{"a":[{"b":1}]},"api\u005fkey":"s2s.secret","timestamp":"2026-11-21T02:53:08.295Z"}`,
		`{"batch":[],"batch":[{}]}`, `{"batch":{}}`, `{"batch":[null]}`, `{"batch":[{}],"x":[1,{}]}`, `{"type":1,"context":[]}`, "\xef\xbb\xbf {\"type\":\"\xff\"}", `[]`, `{"type":"page"} x`,
		`{"\u0062atch":[{"originalTimestamp":1}],"writeKey":"a\"b"}`,
	} {
		for i := range paths {
			f.Add([]byte(seed), byte(i), i%2 == 0)
		}
	}
	log := &memoryLog{}
	o := testOptions(log)
	o.Server.MaxEventBytes, o.Server.MaxBodyBytes = 2000, 20_000
	s := newServer(f, o)
	f.Fuzz(func(t *testing.T, body []byte, path byte, inHeader bool) {
		if bytes.HasPrefix(body, gzipMagic) {
			return
		}
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI(paths[int(path)%len(paths)])
		if inHeader {
			req.Header.Set("Authorization", basic("s2s.secret", ""))
		}
		req.SetBody(body)
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
		s.Handler(&ctx)
		evs := log.take(t)
		if status := ctx.Response.StatusCode(); status != 200 {
			if status >= 500 || len(evs) > 0 {
				t.Errorf("%d with %d events: %s", status, len(evs), ctx.Response.Body())
			}
			return
		}
		body = bytes.TrimPrefix([]byte(string([]rune(string(body)))), byteOrderMark)
		var whole map[string]json.RawMessage
		if err := json.Unmarshal(body, &whole); err != nil {
			t.Fatalf("accepted: %v", err)
		}
		var batch []map[string]any
		want := 1
		if list, ok := whole["batch"]; ok && !bytes.HasPrefix(req.URI().Path(), []byte("/api/s")) && !bytes.HasPrefix(req.URI().Path(), []byte("/v1/t")) &&
			!bytes.HasPrefix(req.URI().Path(), []byte("/v1/p")) {
			if err := json.Unmarshal(list, &batch); err != nil {
				t.Fatalf("accepted: %v", err)
			}
			want = len(batch)
		}
		if len(evs) != want {
			t.Errorf("%d events of %d messages", len(evs), want)
		}
		for _, ev := range evs {
			if !json.Valid(ev.JSON) || !utf8.Valid(ev.JSON) || ev.ID == "" || len(ev.ID) > maxIDBytes {
				t.Fatalf("stored %q: %s", ev.ID, ev.JSON)
			}
			all := decode(ev.JSON).(map[string]any)
			for _, name := range []string{"segment", "rudderstack", "jitsu"} {
				kept, _ := all[name].(map[string]any)
				for _, key := range []string{"writeKey", "api_key"} {
					if kept[key] != nil || all[key] != nil {
						t.Errorf("stored with its write key: %s", ev.JSON)
					}
				}
			}
		}
	})
}
