package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"eventrouter/pkg/destinations"
)

const (
	// maxAnswer is how much of an answer is read: all that is wanted is its status, and words for people.
	maxAnswer = 64 << 10
	// maxRedirects is how many redirects are followed.
	maxRedirects = 3
	// endpointPost names the calls in metrics.
	endpointPost = "webhook"
)

// call is one request to make.
type call struct {
	target    *target
	id        string
	body      []byte
	signature string
}

// exchange makes a call and uses up p. Its error says that no whole answer came.
func (d *Destination) exchange(ctx context.Context, p *permit, c *call) (*answer, error) {
	if !p.use() {
		return nil, errors.New("BUG: a permit is used twice")
	}
	ctx, cancel := context.WithTimeout(ctx, d.set.Timeout)
	defer cancel()
	req, err := d.request(ctx, c)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	a, err := d.answerTo(req)
	status := 0
	if a != nil {
		status = a.status
	}
	d.metrics.Call(d.name, endpointPost, status, time.Since(began))
	return a, err
}

// request makes the HTTP request, and signs it for the configuration's own host.
func (d *Destination) request(ctx context.Context, c *call) (*http.Request, error) {
	var body io.Reader = http.NoBody
	if c.body != nil {
		body = bytes.NewReader(c.body)
	}
	req, err := http.NewRequestWithContext(ctx, c.target.method, c.target.url, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", destinations.PlainError(err))
	}
	req.Header.Set("User-Agent", destinations.UserAgent())
	if c.body != nil {
		req.Header.Set("Content-Type", c.target.contentType)
	}
	for _, h := range c.target.headers {
		req.Header.Set(h.name, h.value)
	}
	now := time.Now()
	req.Header.Set(headerID, c.id)
	req.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	if len(d.signer.keys) > 0 && !c.target.foreign {
		c.signature = d.signer.sign(c.id, now, c.body)
		req.Header.Set(headerSignature, c.signature)
	}
	return req, nil
}

// answerTo sends req and reads the answer, or as much of it as is wanted.
func (d *Destination) answerTo(req *http.Request) (*answer, error) {
	res, err := d.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return &answer{status: res.StatusCode, header: res.Header, body: body}, nil
}

// newClient makes the client, with a transport that destinations of one kind share and a reload keeps.
func (d *Destination) newClient(env destinations.Env) http.Client {
	transport := env.Transport
	if transport == nil {
		transport = destinations.Of(env.Shared, d.transportKey(), func() http.RoundTripper { return d.newTransport() })
	}
	return http.Client{Transport: transport, CheckRedirect: follow}
}

// follow says whether a redirect is followed: to the same host, and with method and body as they were. Any other leads to a page, such as one to log in, whose
// answer says nothing about the event.
func follow(req *http.Request, via []*http.Request) error {
	first := via[0]
	status := req.Response.StatusCode
	if status != http.StatusTemporaryRedirect && status != http.StatusPermanentRedirect || len(via) > maxRedirects || req.Method != first.Method || req.URL.User != nil || origin(req.URL) != origin(first.URL) && !secured(first.URL, req.URL) {
		return http.ErrUseLastResponse
	}
	return nil
}

// secured says whether a URL is another one over TLS, at the usual ports.
func secured(from, to *url.URL) bool {
	return strings.EqualFold(from.Hostname(), to.Hostname()) && from.Scheme == "http" && to.Scheme == "https" && portOf(from) == "80" && portOf(to) == "443"
}
