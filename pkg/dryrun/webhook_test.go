package dryrun

import (
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/webhook"
	"eventrouter/pkg/router"
)

// TestWebhooksAreShown: requests of a destination of another kind, also those that have no body, without their secrets and without the wait that a rate asks for.
func TestWebhooksAreShown(t *testing.T) {
	f := func(settings string, want Request) {
		t.Helper()
		s, err := config.NewSettings("test.yaml", "destinations.hook.webhook", []byte(settings))
		if err != nil {
			t.Fatal(err)
		}
		target := Target{
			Route: router.Route{Name: "hook", Type: "webhook"},
			Make:  func(env destinations.Env) (destinations.Destination, error) { return webhook.New(s, env) },
		}
		began := time.Now()
		r := play(t, Options{Targets: []Target{target}}, posted("1", `{"n":1}`), posted("2", `{"n":2}`))
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s: took %s", settings, took)
		}
		if len(r.Requests) != 2 {
			t.Fatalf("%s: %d requests", settings, len(r.Requests))
		}
		got := r.Requests[0]
		if got.Method != want.Method || got.URL != want.URL || string(got.Body) != string(want.Body) || got.Status != 200 {
			t.Errorf("%s: got %+v, want %+v", settings, got, want)
		}
		for _, h := range got.Headers {
			if strings.Contains(h.Value, "s3cr3t") || h.Name == "Webhook-Timestamp" {
				t.Errorf("%s: header %+v", settings, h)
			}
		}
	}
	const settings = "headers: {X-Odd: s3cr3ts3cr3t}\nsecret: s3cr3ts3cr3ts3cr3t\nmax_per_second: 0.001\n"
	f("url: https://example.com/in?k=s3cr3ts3cr3t\nbody: '({n: $.n})'\n"+settings, Request{Method: "POST", URL: "https://example.com/in?k=***", Body: []byte(`{"n":1}`)})
	f("url: 'https://example.com/{{.n}}'\nmethod: GET\n"+settings, Request{Method: "GET", URL: "https://example.com/1"})
}
