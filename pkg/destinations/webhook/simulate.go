package webhook

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Schema implements [destinations.Simulated]: an endpoint has none.
func (d *Destination) Schema(context.Context) (json.RawMessage, error) { return nil, nil }

// Simulate implements [destinations.Simulated]: an endpoint that takes everything.
func (d *Destination) Simulate(json.RawMessage) (http.RoundTripper, error) { return taker{}, nil }

// Shown implements [destinations.Discreet]. Values of headers may all be secrets. The time of an attempt is left out: it would differ each time.
func (d *Destination) Shown(req *http.Request) (shown string, header http.Header, delivers bool) {
	header = http.Header{}
	for name, values := range req.Header {
		switch name {
		case "User-Agent", "Content-Type", headerID:
			header[name] = values
		case headerTimestamp:
		default:
			header[name] = []string{"***"}
		}
	}
	u := *req.URL
	u.User = nil
	query := strings.Split(u.RawQuery, "&")
	for i, pair := range query {
		name, value, _ := strings.Cut(pair, "=")
		if value != "" && secretName.MatchString(name) {
			query[i] = name + "=***"
		}
	}
	u.RawQuery = strings.Join(query, "&")
	return hide(u.String(), slices.Clone(d.hidden)), header, true
}

// secretName matches names in a query whose values may be secrets. A name alone may be one as well: those of the configuration are known.
var secretName = regexp.MustCompile(`(?i)key|token|secret|sig|auth|pass|code`)

type taker struct{}

// RoundTrip implements [http.RoundTripper].
func (taker) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r,
	}, nil
}
