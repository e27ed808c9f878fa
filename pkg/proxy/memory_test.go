package proxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestBodiesAtOnceAreBounded: the bodies that calls under way hold have a bound, of which no account takes more than a quarter, and end users not all.
func TestBodiesAtOnceAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		r.intercept(func(req *http.Request, _ http.RoundTripper) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		})
		body := strings.Repeat("x", 10<<20)
		statuses := make(chan int, 100)
		begin := func(n int, call func() answer) {
			for range n {
				go func() { statuses <- call().status }()
			}
			synctest.Wait()
		}
		server := func() answer { return r.as("a1", "POST", contactsPath, body) }
		user := func() answer { return r.user("a1", "POST", contactsPath, body) }
		f := func(what string, call func() answer, want int) {
			t.Helper()
			if a := call(); a.status != want || want == 429 && a.header["Retry-After"] != "1" {
				t.Errorf("%s: got %d %.200s, want %d", what, a.status, a.body, want)
			}
		}
		begin(2, user)
		f("an end user's third body of 10 MiB", user, 429)
		begin(1, server)
		f("a fourth of the account", server, 429)
		begin(3, func() answer { return r.as("a2", "POST", contactsPath, body) })
		f("a small one of the account", func() answer { return r.as("a1", "POST", contactsPath, "{}") }, 200)
		for range 6 {
			if status := <-statuses; status != 200 {
				t.Errorf("a call that had its place: got %d", status)
			}
		}
		f("a large one after them", user, 200)
	})
}

// TestAnswersAreNotReadAhead: of an answer that its caller does not take the proxy holds little, also where the connection has many of them.
func TestAnswersAreNotReadAhead(t *testing.T) {
	const size = 3 << 20
	taken := make(chan int, 1)
	remote := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// When it is over less has been taken on a slow machine, never more.
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		n := 0
		for chunk := make([]byte, 16<<10); n < size; n += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		taken <- n
	}))
	remote.EnableHTTP2 = true
	remote.StartTLS()
	defer remote.Close()
	tr := newTransport()
	tr.TLSClientConfig = remote.Client().Transport.(*http.Transport).TLSClientConfig
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, remote.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.RoundTrip(req)
	if err != nil || res.ProtoMajor != 2 {
		t.Fatalf("%+v, %v", res, err)
	}
	defer res.Body.Close()
	if n := <-taken; n > 2*aheadBytes {
		t.Errorf("HubSpot has sent %d bytes of an answer that nobody takes, want some %d", n, aheadBytes)
	}
}
