package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestOddAnswers: whatever HubSpot, or something in front of it, makes of an answer, the caller gets one that can be read in one way, or sees that it is not whole.
func TestOddAnswers(t *testing.T) {
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(zw, "plain text") // to a buffer
	zw.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	answers := make(chan string, 1)
	asked := make(chan *http.Request, 1)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil { // else nothing was asked
					asked <- req
					_, _ = io.WriteString(conn, <-answers) // what does not come the caller's answer tells
				}
			}()
		}
	}()
	w := newWire(t, nil)
	w.setBaseURL("http://" + ln.Addr().String())
	f := func(method, header, answer string, status int, body string, whole bool, more ...string) {
		t.Helper()
		// The connection of the answer before is closed, which the transport may not have seen yet.
		w.proxy.opts.Transport.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		answers <- answer
		conn, br := w.dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, w.call(method+" /api/v1/proxy/crm/crm/x", header)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q: %v", answer, err)
		}
		got, err := io.ReadAll(res.Body)
		if res.StatusCode != status || !strings.Contains(string(got), body) || (body == "") != (len(got) == 0) || (err == nil) != whole {
			t.Errorf("%.80q: got %d %q, %v, want %d %q, whole %v", answer, res.StatusCode, got, err, status, body, whole)
		}
		shown := fmt.Sprint(res.Header, res.Trailer, res.ContentLength)
		for i := 0; i < len(more); i += 2 {
			if strings.Contains(shown, more[i+1]) != (more[i] == "with") {
				t.Errorf("%.80q: got %s, want it %s %s", answer, shown, more[i], more[i+1])
			}
		}
		if ae := (<-asked).Header.Get("Accept-Encoding"); method == "GET" && ae != "gzip" && header == "" {
			t.Errorf("HubSpot was asked for %q", ae)
		}
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	f("GET", "", ok+"Content-Length: 5\r\n\r\nhello", 200, "hello", true)
	f("GET", "", ok+"Content-Length: 9\r\n\r\nhello", 200, "hello", false)
	f("GET", "", ok+"Content-Length: 3\r\n\r\nhello", 200, "hel", true)
	f("GET", "", ok+"Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello", 502, "HubSpot does not answer", true)
	f("GET", "", ok+"Content-Length: x\r\n\r\nhello", 502, "HubSpot does not answer", true)
	f("GET", "", ok+"Transfer-Encoding: chunked\r\nTrailer: X-HubSpot-T\r\n\r\n5\r\nhello\r\n0\r\nX-HubSpot-T: a\r\nSet-Cookie: a=b\r\n\r\n", 200, "hello", true, "without", "Set-Cookie")
	f("GET", "", ok+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 200, "hello", false)
	f("GET", "", ok+"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, "hello", true)
	f("GET", "", ok+"\r\nto the end", 200, "to the end", true)
	f("GET", "", "HTTP/1.1 103 Early Hints\r\nLink: <https://elsewhere.example>\r\n\r\n"+ok+"Content-Length: 2\r\n\r\nhi", 200, "hi", true, "without", "elsewhere")
	f("GET", "", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 502, "not passed on", true)
	f("GET", "", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204, "", true)
	f("GET", "", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: e\r\n\r\nhello", 304, "", true, "with", "Etag:[e]")
	f("GET", "", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205, "", true)
	f("GET", "", "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n", 502, "redirects are not followed", true, "without", "elsewhere")
	f("HEAD", "", ok+"Content-Length: 7\r\nContent-Type: text/x\r\n\r\n", 200, "", true, "with", "text/x", "with", " 7")
	f("HEAD", "", ok+"Transfer-Encoding: chunked\r\n\r\n", 200, "", true)
	f("GET", "", ok+"Connection: X-HubSpot-Hop\r\nX-HubSpot-Hop: h\r\nX-HubSpot-Kept: k\r\nSet-Cookie: a=b\r\nSet-Cookie2: c=d\r\nContent-Length: 1\r\n\r\nx", 200, "x", true,
		"without", "Hop", "with", "Kept", "without", "Cookie")
	f("GET", "", ok+"Content-Encoding: gzip\r\nContent-Length: "+fmt.Sprint(zipped.Len())+"\r\n\r\n"+zipped.String(), 200, "plain text", true, "without", "gzip")
	f("GET", "Accept-Encoding: identity", ok+"Content-Length: 1\r\n\r\nx", 200, "x", true)
	f("GET", "Accept-Encoding: br", ok+"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx", 200, "x", true, "with", "Content-Encoding:[br]")
	f("GET", "", ok+"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone", 200, "", false)
	f("GET", "", ok+"X-HubSpot-A: a\r\nX-HubSpot-A : smuggled\r\nContent-Length: 1\r\n\r\nx", 200, "x", true, "without", "smuggled")
	f("GET", "", ok+"X-HubSpot-A: a\x00b\r\nContent-Length: 1\r\n\r\nx", 502, "HubSpot does not answer", true)
	f("GET", "", "HTTP/1.1 200 OK\nX-HubSpot-A: a\n\n", 200, "", true)
	f("GET", "", ok+"X-HubSpot-Big: "+strings.Repeat("x", 300<<10)+"\r\n\r\n", 502, "HubSpot does not answer", true)
	f("GET", "", "HTTP/1.1 99 Odd\r\n\r\n", 502, "HubSpot does not answer", true)
	f("GET", "", "HTTP/1.1 999 Odd\r\nContent-Length: 1\r\n\r\nx", 999, "x", true)
	f("GET", "", "", 502, "HubSpot does not answer", true)
}
