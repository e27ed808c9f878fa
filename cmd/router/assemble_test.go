package main

import (
	"errors"
	"strings"
	"testing"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
)

// TestFactoryThatPanics: a configuration that breaks a factory is refused, and a router that reloads goes on.
func TestFactoryThatPanics(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("router.yaml", []byte(`
api_keys: [{id: web, server_secret: s}]
destinations:
  broken: {type: hubspot, hubspot: {access_token: pat-planted-good, hub_id: "1"}}
  fine: {type: hubspot, hubspot: {access_token: pat-planted-good, hub_id: "1"}}
`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	p := quiet(&destinations.Shared{}, nil)
	for _, value := range []any{errors.New("of pat-planted-good"), "index"} {
		p.types = map[string]destinations.Factory{"hubspot": func(s config.Settings, env destinations.Env) (destinations.Destination, error) {
			if env.Name != "broken" {
				return destinationTypes["hubspot"](s, env)
			}
			if value == "index" {
				return []destinations.Destination{}[len(env.Name)], nil
			}
			panic(value)
		}}
		_, _, err := routes(cfg, p)
		if err == nil || !strings.Contains(err.Error(), "destinations.broken: BUG") || strings.Contains(err.Error(), "planted") || strings.Contains(err.Error(), "fine") {
			t.Errorf("%v: %v", value, err)
		}
		if value == "index" && !strings.Contains(err.Error(), "out of range") {
			t.Errorf("does not say why: %v", err)
		}
	}
}
