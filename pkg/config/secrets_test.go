package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSecrets(t *testing.T) {
	cfg := mustParse(t, `
server: {admin_token: the admin token}
api_keys:
  - {id: web, client_secret: [js.secret1, js.secret-old], server_secret: s2s.secret1}
  - {id: short, client_secret: abc}
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: "${env.HUBSPOT_TOKEN}", api_key: old-key-1, hub_id: "20546336", properties: {map: {plan: "$.token_of_nobody"}}}
  eu:
    type: hubspot
    config: {access_token: pat-eu1-abc, oauth: {client_secret: "oauth secret", tokens: [first-token, second-token]}}
`)
	want := []string{
		"the admin token", "js.secret-old", "oauth secret", "pat-from-env", "second-token", "first-token", "pat-eu1-abc", "s2s.secret1", "js.secret1", "old-key-1",
	}
	if diff := cmp.Diff(want, cfg.Secrets()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
