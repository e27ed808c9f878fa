package webhook

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Schema implements [destinations.Simulated]: an endpoint has none.
func (d *Destination) Schema(context.Context) (json.RawMessage, error) { return nil, nil }

// Simulate implements [destinations.Simulated]: an endpoint that takes everything.
func (d *Destination) Simulate(json.RawMessage) (http.RoundTripper, error) { return taker{}, nil }

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
