package connections

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHubDomain holds that a hub has the domain that HubSpot says, over a restart, and that what is none, or no answer, leaves its number alone and connects the account all the same.
func TestHubDomain(t *testing.T) {
	f := func(name, said, want string) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.via = func(req *http.Request, do func() (*http.Response, error)) (*http.Response, error) {
					res, err := do()
					if err != nil || !strings.HasSuffix(req.URL.Path, "/introspect") {
						return res, err
					}
					body, err := io.ReadAll(res.Body)
					if said == "" {
						res.StatusCode = http.StatusServiceUnavailable
					}
					res.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte(`"hub-1001.example"`), []byte(said))))
					return res, err
				}
				r.mustConnect("a1", hubA)
				r.restart()
				c, _ := r.s.Get("crm", "a1")
				if c.Status != Connected || c.Hub != hubA || c.HubDomain != want {
					t.Errorf("HubSpot says %s: got %s %q %s, want %q", said, c.Hub, c.HubDomain, c.Status, want)
				}
			})
		})
	}
	f("as it is", `"hub-1001.example"`, "hub-1001.example")
	f("markup", `"<b>acme.com</b>"`, "")
	f("too long", `"`+strings.Repeat("a", 254)+`"`, "")
	f("a number", `7`, "")
	f("no answer", "", "")
}
