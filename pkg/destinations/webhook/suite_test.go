package webhook

import (
	"net/http"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/destinationtest"
)

func suite(more string) destinationtest.Suite {
	return destinationtest.Suite{
		New: New,
		Settings: `url: https://example.com/services/T0000000000000001/in?key=urls3cr3t
headers: {Authorization: Bearer headers3cr3t, X-Person: '{{.user.email}}'}
secret: [whsec_c2lnbmluZ3MzY3IzdHNpZ25pbmdzM2NyM3Q=, signings3cr3t-of-yesterday]
` + more,
		Secrets: []string{"urls3cr3t", "headers3cr3t", "c2lnbmluZ3MzY3IzdHNpZ25pbmdzM2NyM3Q", "signings3cr3t", "T0000000000000001"},
		Broken: `url: ftp://example.com/
method: FETCH
headers:
  Content-Length: "7"
  a b: c
secret: short
batch:
  max_events: 0
allow_private: perhaps
body: '$.user.email =='
`,
		Problems: []string{"1: url", "2: method", "4: headers.Content-Length", "5: headers.a b", "6: secret", "8: batch.max_events", "9: allow_private", "10: body"},
		Remote:   func() http.RoundTripper { return taker{} },
		Events:   map[string]func(string) string{laneEvents: func(email string) string { return `{"event_type":"a","user":{"email":"` + email + `"}}` }},
		Blocking: []destinationtest.Answer{
			{Status: 401},
			{Status: 402},
			{Status: 403},
			{Status: 404},
			{Status: 405},
			{Status: 407},
			{Status: 410},
			{Status: 415},
			{Status: 302, Header: http.Header{"Location": {"https://elsewhere.example.com/headers3cr3t"}}},
			{Status: 307, Header: http.Header{"Location": {"https://headers3cr3t.example.com/"}}},
		},
	}
}

// TestContract is about one event in each request.
func TestContract(t *testing.T) { destinationtest.Run(t, suite("")) }

// TestContractOfBatches is about several. The header with a person's e-mail would part them.
func TestContractOfBatches(t *testing.T) {
	s := suite("batch: {max_events: 50}\nmax_per_second: 0.1\n")
	s.Settings = strings.Replace(s.Settings, ", X-Person: '{{.user.email}}'", "", 1)
	destinationtest.Run(t, s)
}
