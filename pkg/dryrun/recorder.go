package dryrun

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// recorder is the transport of a destination that is played: it passes requests on to the stand-in and keeps what may be shown of them.
type recorder struct {
	remote http.RoundTripper // nil: there is none, and every call fails

	mu    sync.Mutex // guards calls: destinations may read beside a call
	calls []Request
}

// maxAnswer bounds what is kept of an answer.
const maxAnswer = 2000

// RoundTrip implements [http.RoundTripper].
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		req.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	seen := requestOf(req, body)
	if r.remote == nil {
		return nil, errNoRemote
	}
	onward := req.Clone(req.Context())
	onward.Body = io.NopCloser(bytes.NewReader(body))
	res, err := r.remote.RoundTrip(onward)
	if err != nil {
		return nil, err
	}
	res.Request = req
	answer, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(answer))
	seen.Status = res.StatusCode
	if res.StatusCode >= http.StatusBadRequest {
		seen.Answer = refusalOf(answer)
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		r.mu.Lock()
		r.calls = append(r.calls, seen)
		r.mu.Unlock()
	}
	return res, nil
}

// refusalOf is what an answer says for people. Its times and ids are a stand-in's, and others each time.
func refusalOf(answer []byte) string {
	var said struct{ Message string }
	if json.Unmarshal(answer, &said) == nil && said.Message != "" {
		answer = []byte(said.Message)
	}
	return string(answer[:min(len(answer), maxAnswer)])
}

// take returns the calls since the last one.
func (r *recorder) take() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

// requestOf is what may be shown of a request. It keeps body.
func requestOf(req *http.Request, body []byte) Request {
	u := *req.URL
	if u.User != nil {
		u.User = nil
	}
	out := Request{Method: req.Method, URL: u.String(), ContentType: req.Header.Get("Content-Type")}
	for name, values := range req.Header {
		for _, value := range values {
			if name == "Content-Type" {
				continue
			}
			out.Headers = append(out.Headers, Header{name, shownHeader(name, value)})
		}
	}
	slices.SortStableFunc(out.Headers, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	if json.Valid(body) {
		out.Body = body
	} else {
		out.Text = string(body)
	}
	return out
}

// secretWords tell from a header's name that its value is secret.
var secretWords = []string{"auth", "token", "secret", "password", "key", "credential", "cookie", "signature", "session"}

func shownHeader(name, value string) string {
	name = strings.ToLower(name)
	if name != "idempotency-key" && slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(name, word) }) {
		return "***"
	}
	return value
}
