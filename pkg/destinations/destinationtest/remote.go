package destinationtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// badEmail is the person whose entries the remote refuses.
const badEmail = "refused@example.com"

// remote stands before the author's double and breaks calls.
type remote struct {
	inner    http.RoundTripper
	delivers func(*http.Request) bool
	refusal  Answer

	mu     sync.Mutex // guards the fields below
	calls  int        // of all kinds
	broken func(*http.Request) (*http.Response, error)
	taken  []string // bodies of calls that deliver and were answered by the double
}

// breakCalls has all calls that deliver go to f, which may return nothing to let one through. Nil: none any more.
func (r *remote) breakCalls(f func(*http.Request) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = f
}

// RoundTrip implements [http.RoundTripper].
func (r *remote) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil { // as a transport does: no call is made
		return nil, err
	}
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req.Body.Close()
	}
	again := func() *http.Request {
		c := req.Clone(req.Context())
		c.Body = io.NopCloser(bytes.NewReader(body))
		return c
	}
	delivers := r.delivers(again())
	r.mu.Lock()
	r.calls++
	broken := r.broken
	r.mu.Unlock()
	if delivers && broken != nil {
		if res, err := broken(again()); res != nil || err != nil {
			return res, err
		}
	}
	if delivers && bytes.Contains(body, []byte(badEmail)) {
		return r.refusal.response(again()), nil
	}
	res, err := r.inner.RoundTrip(again())
	if err == nil && delivers {
		r.mu.Lock()
		r.taken = append(r.taken, req.URL.String()+string(body))
		r.mu.Unlock()
	}
	return res, err
}

// has says whether the remote took what mentions the person.
func (r *remote) has(email string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.taken, func(body string) bool { return strings.Contains(body, email) })
}

func (r *remote) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// response is the answer to a request.
func (a Answer) response(req *http.Request) *http.Response {
	body := a.Body
	if body == "" {
		body = "ECHO"
	}
	body = strings.ReplaceAll(body, "ECHO", echo(req))
	return respond(req, a.Status, a.Header, io.NopCloser(strings.NewReader(body)), int64(len(body)))
}

func respond(req *http.Request, status int, header http.Header, body io.ReadCloser, length int64) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header.Clone(), Body: body, ContentLength: length, Request: req,
	}
}

// echo is what the remote was sent, as it stands inside a JSON string.
func echo(req *http.Request) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(req.Header)) {
		b.WriteString(strings.Join(req.Header[name], " ") + " ")
	}
	b.WriteString(req.URL.String() + " ")
	if req.Body != nil {
		_, _ = io.Copy(&b, req.Body)
	}
	text, _ := json.Marshal(b.String())
	return string(text[1 : len(text)-1])
}

// always answers every call alike.
func always(a Answer) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) { return a.response(req), nil }
}

// noConnection fails before anything is sent.
func noConnection(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

// reset fails after the request was sent.
func reset(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
}

// half says that all is well and ends in the middle of saying so.
func half(req *http.Request) (*http.Response, error) {
	return respond(req, http.StatusOK, nil, io.NopCloser(io.MultiReader(strings.NewReader(`{"re`), failing{io.ErrUnexpectedEOF})), 1000), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// hang never answers.
func hang(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// stall begins to answer and never goes on.
func stall(req *http.Request) (*http.Response, error) {
	return respond(req, http.StatusOK, nil, io.NopCloser(io.MultiReader(strings.NewReader(`{"re`), stalled{req})), 1000), nil
}

type stalled struct{ req *http.Request }

func (s stalled) Read([]byte) (int, error) {
	<-s.req.Context().Done()
	return 0, s.req.Context().Err()
}

// slow answers after a while, or not at all if nobody waits for it.
func slow(d time.Duration) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return nil, nil
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}
