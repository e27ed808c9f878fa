package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The forms and the default ids are those that Jitsu 1.44 was observed to have.
func TestAPIKeyForms(t *testing.T) {
	f := func(file string, want ...APIKey) {
		t.Helper()
		if diff := cmp.Diff(want, mustParse(t, file).APIKeys); diff != "" {
			t.Errorf("%s\n(-want +got):\n%s", file, diff)
		}
	}
	one := APIKey{ID: "c78b13487b9a1a3ad951b2952adab4ae", ClientSecret: "clientsecret1"}
	two := APIKey{ID: "c3600cb96ade6678e343924ca2030928", ClientSecret: "clientsecret2"}
	inline := []APIKey{
		{ID: "id1", ClientSecret: "cl_secret1", ServerSecret: "sr_secret1", Origins: []string{"abc.com", "rr.ru"}},
		{ID: "31429624a471b9bdc6d60350c6cfc24d", ClientSecret: "cl_secret2"},
		{ID: "03f9ed11a0268dd78766686f8f292b7b", ServerSecret: "sr_secret3"},
	}

	f("api_keys: clientsecret1", one)
	f("api_keys: [clientsecret1, clientsecret2]", one, two)
	f("api_keys:\n  - clientsecret1\n  - client_secret: clientsecret2", one, two)
	f("api_keys:\n  - server_secret: server1", APIKey{ID: "a8438da78e679f44a5cff9e44ebacfbd", ServerSecret: "server1"})
	f("api_keys:\n- {id: 1, client_secret: csecret1, server_secret: ssecret1}\n- {id: 02, client_secret: csecret2}",
		APIKey{ID: "1", ClientSecret: "csecret1", ServerSecret: "ssecret1"}, APIKey{ID: "02", ClientSecret: "csecret2"})
	f("api_keys: ${env.KEYS}", inline...)
	f("api_keys: '${env.KEYS}'", inline...)
	f(`api_keys: '{"tokens":[{"client_secret":"clientsecret1"}]}'`, one)
	f("api_keys: ['${env.UNSET|clientsecret1}']", one)
	f("api_keys: 12345", APIKey{ID: "827ccb0eea8a706c4c34a16891f84e7b", ClientSecret: "12345"}) // md5 of 12345
}

func TestKeysThatFeedNothing(t *testing.T) {
	f := func(destinations string, want int) {
		t.Helper()
		cfg := mustParse(t, "api_keys: [a, b]\ndestinations: "+destinations)
		if len(cfg.Warnings) != want {
			t.Errorf("%s: %d warnings, want %d\n%v", destinations, len(cfg.Warnings), want, cfg.Warnings)
		}
	}
	f("{crm: {}}", 0)
	f("{crm: {only_tokens: [a, b]}}", 0)
	f("{crm: {only_tokens: [a]}, erp: {only_tokens: [b]}}", 0)
	f("{crm: {only_tokens: [a]}}", 1)
	f("{crm: {staged: true}}", 2)
	f("{crm: {staged: true}, erp: {}}", 0)
	f("{crm: {staged: true, only_tokens: [a]}, erp: {only_tokens: [a]}}", 1)
	f("{}", 1) // of the destinations, once
	f("", 1)
}
