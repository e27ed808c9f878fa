package docs

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/destinationtest"
)

func TestContract(t *testing.T) {
	destinationtest.Run(t, destinationtest.Suite{
		New:      newCollector,
		Settings: "url: https://collector.example.com/events\ntoken: s3cr3t-token\n",
		Secrets:  []string{"s3cr3t-token"},
		Broken:   "url: nowhere\ntoken: [a, b]\n",
		Problems: []string{"1: url", "2: token", "2: token"}, // no single value, and so none
		Remote:   func() http.RoundTripper { return takesAll{} },
		Events: map[string]func(string) string{
			"events": func(email string) string { return `{"event_type":"signup","user":{"email":"` + email + `"}}` },
		},
	})
}

// takesAll is a collector that takes everything.
type takesAll struct{}

func (takesAll) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}
