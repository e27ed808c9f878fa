package dryrun

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// recorder is the transport of a destination that is played: it passes requests on to the stand-in and keeps what may be shown of them.
type recorder struct {
	remote http.RoundTripper // nil: there is none, and every call fails
	// shown is that of a destinations.Discreet; nil: the usual headers are secret, and all but GET delivers.
	shown func(*http.Request) (url string, header http.Header, delivers bool)

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
	delivers := req.Method != http.MethodGet && req.Method != http.MethodHead
	url, header := withoutUser(req.URL), req.Header
	if r.shown != nil {
		url, header, delivers = r.shown(req)
	}
	seen := requestOf(req.Method, url, header, body)
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
	if delivers {
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

func withoutUser(u *url.URL) string {
	shown := *u
	shown.User = nil
	return shown.String()
}

// requestOf is what may be shown of a request. It keeps body.
func requestOf(method, url string, header http.Header, body []byte) Request {
	out := Request{Method: method, URL: url, ContentType: header.Get("Content-Type")}
	for name, values := range header {
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
