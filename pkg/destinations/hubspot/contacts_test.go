package hubspot

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

func TestIdentifyAndTrack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		got := r.run(
			identify(`{"email":" John.Doe@Example.com ","First Name":"x","firstname":"John","unknown_prop":"x","createdate":"2020-01-01","empty":"","lastname":null}`),
			serverEvent(`{"event_type":"Signed Up","plan":"pro","revenue":9.5,"user":{"email":"new@example.com"},"url":"https://a.b/c","source_ip":"1.2.3.4"}`),
		)
		mustDeliver(t, got)
		if diff := cmp.Diff(map[string]string{"firstname": "John"}, r.properties("john.doe@example.com")); diff != "" {
			t.Error(diff)
		}
		r.properties("new@example.com")
		evs := r.box.Events()
		if len(evs) != 1 || evs[0].EventName != "pe12345_signed_up" || evs[0].ContactID == "" {
			t.Fatalf("events: %+v", evs)
		}
		want := map[string]string{"plan": "pro", "revenue": "9.5", "hs_page_url": "https://a.b/c"}
		if diff := cmp.Diff(want, evs[0].Properties); diff != "" {
			t.Error(diff)
		}
		for _, g := range got {
			t.Logf("%s %s", g.entry.Plan.Lane, g.outcome.Detail)
		}
	})
}
