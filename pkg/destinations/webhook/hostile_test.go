package webhook

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/destinationtest"
)

// TestGetsAreNotRedirectedElsewhere: what answers a page to log in, or another one, has not taken an event.
func TestGetsAreNotRedirectedElsewhere(t *testing.T) {
	var arrived atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	for _, code := range []int{301, 302, 303, 307, 308} {
		mux.Handle(fmt.Sprintf("/%d", code), http.RedirectHandler("/login", code))
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	f := func(code int, want string) {
		t.Helper()
		arrived.Store(0)
		r := real(t, fmt.Sprintf("url: %s/%d\nmethod: GET\nallow_private: true\n", server.URL, code))
		out := r.send(r.event(`{}`))
		if got := destinationtest.Class(out[0].Err); got != want || (arrived.Load() > 0) != (want == "delivered") {
			t.Errorf("%d: %s (%v), %d arrived, want %s", code, got, out[0].Err, arrived.Load(), want)
		}
	}
	f(301, "blocked")
	f(302, "blocked")
	f(303, "blocked")
	f(307, "delivered")
	f(308, "delivered")
}

// TestNoCallWhileTheRemoteWantsNone: a call that waits for its place in the rate is not made when another one was told to wait meanwhile.
func TestNoCallWhileTheRemoteWantsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "max_per_second: 0.1\n")
		r.at.answers(always(answered{status: 503, header: http.Header{"Retry-After": {"600"}}}))
		p, err := r.dest.Acquire(t.Context(), "", laneEvents)
		if err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		go func() {
			p, err := r.dest.Acquire(context.Background(), "", laneEvents)
			if err == nil {
				p.Release()
			}
			waits <- err
		}()
		synctest.Wait()
		r.dest.Send(t.Context(), p, r.entries(r.event(`{}`)))
		err = <-waits
		var block *destinations.BlockError
		if !errors.As(err, &block) || time.Until(block.Until) <= 580*time.Second {
			t.Errorf("a permit for a call to a remote that wants none for ten minutes: %v", err)
		}
	})
}

// TestHostileAnswers: whatever comes, it ends, in a short error without secrets.
func TestHostileAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var answer atomic.Pointer[string]
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body) // what nobody has read would cut the answer short
				_, _ = conn.Write([]byte(*answer.Load()))
			}()
		}
	}()
	f := func(name, text, want string) {
		t.Helper()
		answer.Store(&text)
		r := real(t, "url: http://"+listener.Addr().String()+"/\nallow_private: true\nheaders: {Authorization: Bearer s3cr3ts3cr3t}\n")
		err := r.send(r.event(`{}`))[0].Err
		if got := destinationtest.Class(err); got != want {
			t.Errorf("%s: %s (%.300v), want %s", name, got, err, want)
		}
		if err != nil && (len(err.Error()) > 600 || strings.Contains(err.Error(), "s3cr3ts3cr3t") || strings.ContainsAny(err.Error(), "\x1b\n\x00")) {
			t.Errorf("%s: the error has %d bytes: %.300q", name, len(err.Error()), err.Error())
		}
	}
	long := strings.Repeat("x", 40_000)
	f("no HTTP", "SSH-2.0-OpenSSH s3cr3ts3cr3t"+long+"\r\n\r\n", "again")
	f("a long status", "HTTP/1.1 "+long+"\r\n\r\n", "again")
	f("a long header", "HTTP/1.1 200 OK\r\nno colon "+long+"\r\n\r\n", "again")
	f("a place that is none", "HTTP/1.1 307 x\r\nLocation: http://a b/%zz"+long+"\r\nContent-Length: 0\r\n\r\n", "again")
	f("endless headers", "HTTP/1.1 200 OK\r\n"+strings.Repeat("A: "+long[:1000]+"\r\n", 100)+"\r\n", "again")
	f("many beginnings", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+long[:1000]+"\r\n\r\n", 200), "again")
	f("another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"+long, "blocked")
	f("half an answer", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "again")
	f("a long answer", "HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat(long, 10), "delivered")
	f("colours", "HTTP/1.1 400 x\r\nConnection: close\r\n\r\n\x1b[2J\x1b]0;title\x07 \u202e \x00 no", "rejected")
}

// TestEchoes: an endpoint that repeats what it got, in whatever spelling, does not make it into an error.
func TestEchoes(t *testing.T) {
	const token, password = `ab/cd+ef"gh<ij&kl=`, "pa55/word<x>"
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + password))
	f := func(header, body string) {
		t.Helper()
		r := newRig(t, "headers: {Authorization: '"+header+"'}\n")
		r.at.answers(always(answered{status: 400, body: body}))
		err := r.send(r.event(`{}`))[0].Err
		for _, secret := range []string{"cd+ef", "cd%2Bef", "pa55", basic} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %s", body, err)
			}
		}
	}
	bearer := "Bearer " + token
	f(bearer, bearer)
	f(bearer, token)
	f(bearer, `{"got":"ab\/cd+ef\"gh<ij&kl="}`)          // PHP
	f(bearer, `{"got":"ab/cd+ef\"gh\u003cij\u0026kl="}`) // Go
	f(bearer, `<p>ab/cd+ef&#34;gh&lt;ij&amp;kl=</p>`)    // HTML
	f(bearer, `<p>ab/cd+ef&quot;gh&lt;ij&amp;kl=</p>`)   // HTML
	f(bearer, `token=ab%2Fcd%2Bef%22gh%3Cij%26kl%3D`)    // a query
	f("Basic "+basic, basic)
	f("Basic "+basic, "no password "+password+" for user")
	f("Basic "+basic, `{"got":"pa55\/word<x>"}`)
	f("Basic "+basic, `{"got":"user:`+password+`"}`)
}

// TestCredentialsOfAnEvent: a refusal of what an event itself says is about that event, and holds up no others.
func TestCredentialsOfAnEvent(t *testing.T) {
	f := func(yaml, envelope string, status int, want string) {
		t.Helper()
		r := newRig(t, yaml)
		r.at.answers(always(answered{status: status}))
		ev := r.event(`{"token":"of-the-event"}`)
		if envelope != "" {
			ev = r.enveloped(`{"token":"of-the-event","JITSU_ENVELOP":` + envelope + `}`)
		}
		if out := r.send(ev); destinationtest.Class(out[0].Err) != want {
			t.Errorf("%s %s %d: %v, want %s", yaml, envelope, status, out[0].Err, want)
		}
	}
	const own = "headers: {Authorization: Bearer abcdef}\n"
	f(own, "", 401, "blocked")
	f(own, `{"body":1}`, 401, "blocked")
	f(own, `{"headers":{"X-A":"b"}}`, 401, "blocked")
	f(own, `{"headers":{"authorization":"Bearer x"}}`, 401, "rejected")
	f(own, `{"headers":{"Cookie":"x"}}`, 401, "blocked") // which of the two is refused?
	f("", `{"headers":{"Cookie":"x"}}`, 401, "rejected")
	f("headers: {Authorization: 'Bearer {{.token}}'}\n", "", 401, "rejected")
	f("headers: {Authorization: 'Bearer {{.token}}'}\n", "", 403, "rejected")
	f("headers: {X-Who: '{{.token}}', Authorization: Bearer abcdef}\n", "", 401, "blocked")
	f("headers: {Authorization: 'Bearer {{.token}}'}\n", "", 402, "blocked")
	f("headers: {Authorization: 'Bearer {{.token}}'}\nsecret: 0123456789abcdef\n", "", 401, "blocked") // or is it the signature?
}
