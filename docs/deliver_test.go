package docs

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// hub is the number of the account of the examples.
const hub = "20546336"

// account is a destination with settings of a page, in front of a sandbox in the same process.
type account struct {
	box      *sandbox.Sandbox
	dest     destinations.Destination
	settings string // for messages
	browser  bool   // events come from one
	sent     int
}

func newAccount(t *testing.T, settings string, o sandbox.Options) *account {
	t.Helper()
	s, err := config.NewSettings("hubspot.md", "hubspot", []byte("access_token: pat-na1-example\nhub_id: "+hub+"\n"+settings+"\n"))
	if err != nil {
		t.Fatalf("%s: %v", settings, err)
	}
	o.HubID = hub
	box := sandbox.New(o)
	d, err := hubspot.New(s, destinations.Env{
		Name: "crm", Transport: box.RoundTripper(), Metrics: destinations.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatalf("%s: %v", settings, err)
	}
	return &account{box: box, dest: d, settings: settings}
}

// plan returns the entries that come of an event.
func (a *account) plan(body string) ([]destinations.Entry, error) {
	a.sent++
	ev := &event.Event{ID: strconv.Itoa(a.sent), APIKey: "k", Received: time.Now(), Server: !a.browser, JSON: []byte(body)}
	plans, err := a.dest.Plan(ev)
	var entries []destinations.Entry
	for _, p := range plans {
		entries = append(entries, destinations.Entry{Name: destinations.OutputName{Offset: uint64(a.sent)}, Plan: p, Event: ev, Attempt: 1})
	}
	return entries, err
}

// send delivers entries of one lane in one call of Send.
func (a *account) send(t *testing.T, batch ...destinations.Entry) []destinations.Outcome {
	t.Helper()
	p, err := a.dest.Acquire(context.Background(), "", batch[0].Plan.Lane)
	if err != nil {
		t.Fatalf("%s: %v", a.settings, err)
	}
	return a.dest.Send(context.Background(), p, batch)
}

// deliver is send where all must arrive.
func (a *account) deliver(t *testing.T, batch ...destinations.Entry) []destinations.Outcome {
	t.Helper()
	out := a.send(t, batch...)
	for i, o := range out {
		if o.Err != nil {
			t.Errorf("%s: %s: %v", a.settings, batch[i].Event.JSON, o.Err)
		}
	}
	return out
}
