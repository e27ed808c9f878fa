package docs

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestEventExamples: the table of settings of custom events in hubspot.md, from the event to what HubSpot holds.
func TestEventExamples(t *testing.T) {
	t.Parallel()
	examples := tablesOf(t, "settings, under `events` | event | custom event")
	if len(examples) < 10 {
		t.Fatal("hubspot.md lacks its table of settings of events")
	}
	for _, row := range examples {
		synctest.Test(t, func(t *testing.T) {
			name, properties := eventExample(t, code(row[0])[0], code(row[1])[0])
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
func eventExample(t *testing.T, settings, body string) (name string, properties map[string]string) {
	t.Helper()
	a := newAccount(t, "events:\n  "+settings, sandbox.Options{})
	if strings.Contains(body, `"user":{`) {
		body = strings.Replace(body, `"user":{`, `"user":{"email":"a@example.com",`, 1)
	} else {
		body = strings.TrimSuffix(body, "}") + `,"user":{"email":"a@example.com"}}`
	}
	entries, err := a.plan(body)
	if _, skipped := destinations.IsSkip(err); skipped {
		return "", nil
	}
	if err != nil {
		t.Fatalf("%s %s: %v", settings, body, err)
	}
	for _, e := range entries {
		a.deliver(t, e)
	}
	if a.box.EventCount() != 1 {
		t.Fatalf("%s %s: %d events", settings, body, a.box.EventCount())
	}
	got := a.box.Events()[0]
	return strings.TrimPrefix(got.EventName, "pe"+hub+"_"), got.Properties
}
