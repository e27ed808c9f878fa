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

// TestReloadKeepsWhatIsTheSame: what a destination is made of is not made again where it says the same, so that what is at work with it goes on.
func TestReloadKeepsWhatIsTheSame(t *testing.T) {
	t.Parallel()
	const before = `
api_keys: [{id: web, server_secret: s}]
destinations:
  crm:
    type: hubspot
    config: {access_token: pat-planted-good, hub_id: "1"}
    enrichment: [{name: user_agent_parse, from: /user_agent, to: /parsed}]
    data_layout:
      transform: "return {...$, a: 1}"
      table_name_template: "$.event_type"
    filter: {event_type: [a, b]}
`
	make := func(text string, earlier *assembled) *assembled {
		t.Helper()
		cfg, err := config.Parse("router.yaml", []byte(text), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		p := quiet(&destinations.Shared{}, nil)
		p.earlier = earlier
		made, _, err := routes(cfg, p)
		if err != nil {
			t.Fatal(err)
		}
		return &assembled{cfg, made}
	}
	first := make(before, nil)
	f := func(old, new, differs string) {
		t.Helper()
		text := strings.Replace(before, old, new, 1)
		if text == before && old != "" {
			t.Fatalf("%q is not there", old)
		}
		was, is := &first.routes[0], &make(text, first).routes[0]
		var got []string
		for _, part := range []struct {
			name string
			same bool
		}{
			{"destination", was.Destination == is.Destination},
			{"enrichment", was.Enrichment == is.Enrichment},
			{"transform", was.Transform == is.Transform},
			{"filter", was.Match == is.Match},
			{"template", was.Filter == is.Filter},
		} {
			if !part.same {
				got = append(got, part.name)
			}
		}
		if strings.Join(got, " ") != differs {
			t.Errorf("%q instead of %q: made again are %q, want %q", new, old, got, differs)
		}
	}
	f("", "", "")
	f("destinations:", "server: {name: other}\ndestinations:", "")
	f("type: hubspot\n", "type: hubspot\n    lanes: {max_age: 1h}\n", "")
	f(`hub_id: "1"`, `hub_id: "2"`, "destination")
	f("to: /parsed", "to: /ua", "enrichment")
	f("    enrichment: [{name: user_agent_parse, from: /user_agent, to: /parsed}]\n", "", "enrichment")
	f("a: 1", "a: 2", "transform")
	f(`      transform: "return {...$, a: 1}"`+"\n", "", "transform")
	f("[a, b]", "[a, c]", "filter")
	f("    filter: {event_type: [a, b]}\n", "", "filter")
	f("$.event_type", "$.event", "template")
	f("type: hubspot\n    config: {access_token: pat-planted-good, hub_id: \"1\"}", "type: webhook\n    config: {url: \"https://example.com\"}",
		"destination enrichment transform filter template")
}
