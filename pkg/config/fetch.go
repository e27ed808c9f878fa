package config

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

const (
	// fetchTimeout bounds one reading of an address, the connection and all redirects included.
	fetchTimeout = 10 * time.Second
	// maxElsewhereBytes bounds what stands at an address: some 30,000 API keys.
	maxElsewhereBytes = 4 << 20
	maxRedirects      = 5
)

// Elsewhere reads what stands at addresses. It remembers the last answer of each, so that one that is unchanged need not be sent again. Its methods
// may be called from many goroutines; one address is read once at a time.
type Elsewhere struct {
	client *http.Client

	mu   sync.Mutex // guards the map
	seen map[Address]*answer
}

// answer is the last one of an address. Whoever holds turn may use the other fields.
type answer struct {
	turn chan struct{}

	body           []byte
	etag, modified string
	tokenInQuery   bool // the configurator knows the token only there
}

// NewElsewhere makes a reader. transport is for tests; nil: the network, with the proxies of the environment.
func NewElsewhere(transport http.RoundTripper) *Elsewhere {
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost, t.IdleConnTimeout = 1, 30*time.Second
		transport = t
	}
	return &Elsewhere{seen: map[Address]*answer{}, client: &http.Client{Transport: transport, CheckRedirect: checkRedirect}}
}

// checkRedirect bounds redirects, and keeps credentials from whoever else they lead to.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	case first.Scheme == "https" && req.URL.Scheme != "https":
		return errors.New("it redirects from https to " + req.URL.Scheme)
	case hostOf(req.URL) != hostOf(first):
		req.Header.Del("Authorization")
		req.Header.Del("X-Admin-Token")
	}
	req.Header.Del("Referer") // it holds the query
	return nil
}

// Read returns what stands at a now. The bytes are not to be changed. Its error names no secret, and the address is for the caller to name.
func (e *Elsewhere) Read(parent context.Context, a Address) ([]byte, error) {
	return e.read(parent, a, false)
}

// ReadAnew is Read that has all of it sent again: a server may be wrong in what it says of changes.
func (e *Elsewhere) ReadAnew(parent context.Context, a Address) ([]byte, error) {
	return e.read(parent, a, true)
}

func (e *Elsewhere) read(parent context.Context, a Address, anew bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(parent, fetchTimeout)
	defer cancel()
	e.mu.Lock()
	last := e.seen[a]
	if last == nil {
		last = &answer{turn: make(chan struct{}, 1)}
		e.seen[a] = last
	}
	e.mu.Unlock()
	select {
	case last.turn <- struct{}{}:
		defer func() { <-last.turn }()
	case <-ctx.Done():
		return nil, cmp.Or(parent.Err(), errTooSlow)
	}
	if path, ok := a.path(); ok {
		return readFile(path, maxElsewhereBytes)
	}
	if anew {
		last.etag, last.modified = "", ""
	}
	body, err := e.fetch(ctx, a, last)
	if ctx.Err() != nil && err != nil {
		return nil, cmp.Or(parent.Err(), errTooSlow)
	}
	return body, err
}

var errTooSlow = fmt.Errorf("no whole answer within %s", fetchTimeout)

// readFile reads a file that may be at most so large.
func readFile(path string, most int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file") // a pipe would be waited for
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, most)
}

func readAtMost(r io.Reader, most int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err == nil && len(data) > most {
		err = fmt.Errorf("it is larger than %d bytes", most)
	}
	return data, err
}

func (e *Elsewhere) fetch(ctx context.Context, a Address, last *answer) ([]byte, error) {
	res, err := e.get(ctx, a, last)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusUnauthorized && a.token != "" && !last.tokenInQuery {
		// Jitsu's own server sends its token in the query, which proxies may log: so only where the header is not enough.
		res.Body.Close()
		last.tokenInQuery = true
		if res, err = e.get(ctx, a, last); err != nil {
			return nil, err
		}
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotModified && last.body != nil:
		return last.body, nil
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	body, err := readAtMost(res.Body, maxElsewhereBytes)
	if err != nil {
		return nil, plainError(err)
	}
	last.body, last.etag, last.modified = body, res.Header.Get("ETag"), lastModified(res.Header)
	return body, nil
}

// get makes one call, with its redirects.
func (e *Elsewhere) get(ctx context.Context, a Address, last *answer) (*http.Response, error) {
	u, err := url.Parse(string(a.raw))
	if err != nil {
		return nil, errors.New("it is not a valid URL")
	}
	user := u.User
	u.User, u.Fragment = nil, "" // the header is set by hand: credentials in the URL would get into Go's errors
	if last.tokenInQuery {
		q := u.Query()
		q.Set("token", string(a.token))
		u.RawQuery = q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("it is not a valid URL")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "event-router")
	if password, ok := user.Password(); ok || user.Username() != "" {
		req.SetBasicAuth(user.Username(), password)
	}
	if a.token != "" {
		req.Header.Set("X-Admin-Token", string(a.token))
	}
	if last.body != nil && last.etag != "" {
		req.Header.Set("If-None-Match", last.etag)
	}
	if last.body != nil && last.modified != "" {
		req.Header.Set("If-Modified-Since", last.modified)
	}
	res, err := e.client.Do(req)
	if err != nil {
		return nil, plainError(err)
	}
	return res, nil
}

// lastModified is the time to ask with next time. It counts in seconds: a version of the second in which it was sent may be followed by another of the same time.
func lastModified(h http.Header) string {
	text := h.Get("Last-Modified")
	modified, err := http.ParseTime(text)
	sent, dateErr := http.ParseTime(h.Get("Date"))
	if err != nil || dateErr != nil || sent.Sub(modified) < 2*time.Second {
		return ""
	}
	return text
}

// plainError is an error of the HTTP client without the URL, which may hold secrets, be it the one that was redirected to.
func plainError(err error) error {
	var in *url.Error
	for errors.As(err, &in) {
		err = in.Err
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("its host %s cannot be found", dns.Name)
	case errors.Is(err, context.DeadlineExceeded):
		return errTooSlow
	case errors.As(err, &op) && op.Err != nil:
		return op.Err
	case bytes.Contains([]byte(err.Error()), []byte("Location header")): // Go quotes it
		return errors.New("it redirects to what is no URL")
	}
	return err
}
