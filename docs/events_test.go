package docs

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// TestEventExamples: the table of settings of custom events in hubspot.md, from the event to what HubSpot holds.
func TestEventExamples(t *testing.T) {
	var examples table
	for _, tb := range load(t, "hubspot.md").tables {
		if strings.Join(tb.header, " ") == "settings, under `events` event custom event" {
			examples = tb
		}
	}
	if len(examples.rows) < 10 {
		t.Fatal("hubspot.md lacks its table of settings of events")
	}
	for i, row := range examples.rows {
		synctest.Test(t, func(t *testing.T) {
			name, properties := eventExample(t, i, code(row[0])[0], code(row[1])[0])
			wantName, want := "", map[string]string(nil)
			if spans := code(row[2]); len(spans) == 2 { // else none
				wantName = spans[0]
				if err := json.Unmarshal([]byte(spans[1]), &want); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, properties); name != wantName || diff != "" {
				t.Errorf("%s %s: %s, the page says %s (-page +HubSpot)\n%s", row[0], row[1], name, row[2], diff)
			}
		})
	}
}

// eventExample returns the short name of the event that HubSpot got, and its properties.
func eventExample(t *testing.T, i int, settings, body string) (name string, properties map[string]string) {
	t.Helper()
	const hub = "20546336"
	s, err := config.NewSettings("hubspot.md", "hubspot", []byte("access_token: x\nhub_id: "+hub+"\nevents:\n  "+settings+"\n"))
	if err != nil {
		t.Fatalf("%s: %v", settings, err)
	}
	box := sandbox.New(sandbox.Options{HubID: hub})
	d, err := hubspot.New(s, destinations.Env{Name: "crm", Transport: box.RoundTripper(), Metrics: destinations.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatalf("%s: %v", settings, err)
	}
	if strings.Contains(body, `"user":{`) {
		body = strings.Replace(body, `"user":{`, `"user":{"email":"a@example.com",`, 1)
	} else {
		body = strings.TrimSuffix(body, "}") + `,"user":{"email":"a@example.com"}}`
	}
	ev := &event.Event{ID: strconv.Itoa(i), APIKey: "k", Received: time.Now(), Server: true, JSON: []byte(body)}
	plans, err := d.Plan(ev)
	if _, skipped := destinations.IsSkip(err); skipped {
		return "", nil
	}
	if err != nil {
		t.Fatalf("%s %s: %v", settings, body, err)
	}
	for _, plan := range plans {
		p, err := d.Acquire(context.Background(), "", plan.Lane)
		if err != nil {
			t.Fatal(err)
		}
		batch := []destinations.Entry{{Name: destinations.OutputName{Offset: uint64(i)}, Plan: plan, Event: ev, Attempt: 1}}
		for _, o := range d.Send(context.Background(), p, batch) {
			if o.Err != nil {
				t.Errorf("%s %s: %v", settings, body, o.Err)
			}
		}
	}
	if box.EventCount() != 1 {
		t.Fatalf("%s %s: %d events", settings, body, box.EventCount())
	}
	got := box.Events()[0]
	return strings.TrimPrefix(got.EventName, "pe"+hub+"_"), got.Properties
}
