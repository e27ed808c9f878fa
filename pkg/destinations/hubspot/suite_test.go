package hubspot

import (
	"net/http"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/destinationtest"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestContract holds both lanes to what every destination must do.
func TestContract(t *testing.T) {
	destinationtest.Run(t, destinationtest.Suite{
		New:      New,
		Settings: "access_token: " + testToken + "\nhub_id: \"" + testHub + "\"\n",
		Secrets:  []string{testToken},
		Broken:   "hub_id: abc\nbase_url: nowhere\nevents:\n  new_per_account: -1\nproperties: {null: perhaps}\n",
		Problems: []string{"1: hub_id", "2: base_url", "4: events.new_per_account", "5: properties.null", "1: access_token"},
		Remote: func() http.RoundTripper {
			return sandbox.New(sandbox.Options{HubID: testHub, Token: testToken}).RoundTripper()
		},
		Events: map[string]func(string) string{
			laneContacts: func(email string) string { return `{"event_type":"user_identify","user":{"email":"` + email + `"}}` },
			laneEvents:   func(email string) string { return `{"event_type":"x","user":{"email":"` + email + `"}}` },
		},
		Delivers: func(r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/batch/upsert") || strings.HasSuffix(r.URL.Path, "/send/batch")
		},
		Refusal:  destinationtest.Answer{Status: http.StatusBadRequest, Body: `{"category":"VALIDATION_ERROR","message":"no"}`},
		Blocking: []destinationtest.Answer{{Status: 401}, {Status: 403}, {Status: 423}, {Status: 477}},
	})
}
