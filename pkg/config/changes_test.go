package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const changesBase = `
api_keys:
  - {id: web, client_secret: js.secret-1, server_secret: s2s.secret-1, origins: [a.com]}
  - {id: app, client_secret: js.secret-2}
destinations:
  crm:
    type: hubspot
    only_tokens: [web]
    hubspot: {access_token: pat-secret-1, hub_id: 1, properties: {map: {a: "$.b"}, write: {a: append}}, contact_events: [x, y]}
    data_layout: {table_name_template: $.event_type}
  erp:
    type: hubspot
    hubspot: {access_token: pat-secret-2, hub_id: 2}
`

func TestChanges(t *testing.T) {
	old := mustParse(t, changesBase)
	f := func(replace string, want ...string) {
		t.Helper()
		text := changesBase
		for line := range strings.Lines(replace) {
			from, to, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
			if !strings.Contains(text, from) {
				t.Fatalf("nothing to replace: %q", from)
			}
			text = strings.Replace(text, from, to, 1)
		}
		now := mustParse(t, text)
		got := now.Changes(old)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", replace, diff)
		}
		if all := strings.Join(got, "\n"); strings.Contains(all, "secret-") {
			t.Errorf("a secret in %s", all)
		}
		for i, d := range now.Destinations {
			touched := slices.ContainsFunc(want, func(line string) bool { return strings.HasPrefix(line, "destination crm: hubspot.") })
			if i == 0 && d.Name == "crm" && d.Settings.Same(old.Destinations[0].Settings) == touched {
				t.Errorf("%s: settings are the same: %v", replace, !touched)
			}
		}
	}
	f("")
	f("js.secret-1 => js.secret-9", "API key web: client_secret changed")
	f("s2s.secret-1 => s2s.secret-9\n[a.com] => [a.com, b.com]", "API key web: server_secret changed", "API key web: origins changed")
	f("id: app => id: ios", "API key ios: added", "API key app: removed")
	f("pat-secret-1 => pat-secret-9", "destination crm: hubspot.access_token changed")
	f(`a: "$.b" => a: "$.c"`, "destination crm: hubspot.properties.map changed")
	f(`{map: {a: "$.b"}, write: {a: append}} => {write: {a: append}, map: {a: "$.b"}}`) // another order
	f(`, write: {a: append} => `, "destination crm: hubspot.properties.write changed")
	f(`, properties: {map: {a: "$.b"}, write: {a: append}} => `, "destination crm: hubspot.properties.map changed", "destination crm: hubspot.properties.write changed")
	f(`[x, y] => [y, x]`, "destination crm: hubspot.contact_events changed")
	f("hub_id: 1 => hub_id: '1'")
	f("only_tokens: [web] => only_tokens: [js.secret-1]")
	f("only_tokens: [web] => only_tokens: [app]", "destination crm: only_tokens changed")
	f("only_tokens: [web] => staged: true", "destination crm: only_tokens changed", "destination crm: staged changed")
	f("only_tokens: [web] => lanes: {max_bytes: 1MiB}\n$.event_type => $.x",
		"destination crm: only_tokens changed", "destination crm: data_layout.table_name_template changed", "destination crm: lanes.max_bytes changed")
	f("{table_name_template: => {transform: return $, table_name_template:", "destination crm: data_layout.transform changed")
	f("only_tokens: [web] => filter: {event_type: a}", "destination crm: only_tokens changed", "destination crm: filter changed")
	f("  erp: =>   abc:", "destination abc: added", "destination erp: removed")
}

func TestMerge(t *testing.T) {
	cfg, next := Default(), Default()
	running := cfg.Server
	wanted := running
	wanted.Port, wanted.LogLevel, wanted.MaxEventBytes, wanted.DedupeWindow = 9, 8, 7, time.Hour
	wanted.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	applies := map[string]bool{"log.level": true, "max_event_size": true, "trusted_proxies": true}
	next.Server, next.APIKeys = wanted, []APIKey{{ID: "new"}}
	all, taken, waiting := cfg.Merge(&next, func(key string) bool { return applies[key] })
	merged := all.Server
	if len(all.APIKeys) != 1 || len(cfg.APIKeys) != 0 {
		t.Errorf("keys: %v, before: %v", all.APIKeys, cfg.APIKeys)
	}
	want := running
	want.LogLevel, want.MaxEventBytes, want.TrustedProxies = 8, 7, wanted.TrustedProxies
	prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, merged, prefixes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"server.log.level", "server.max_event_size", "server.trusted_proxies"}, taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"server.port", "server.dedupe.window"}, waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
}

// What stands on another line is the same, also inside of lists.
func TestSame(t *testing.T) {
	type rule struct {
		Name     string
		Settings Settings
		Pos      Pos
	}
	made := func(line int, text string) []rule {
		s, err := NewSettings("a.yaml", "p", []byte(strings.Repeat("\n", line)+text))
		if err != nil {
			t.Fatal(err)
		}
		return []rule{{"r", s, Pos{"a.yaml", line}}}
	}
	f := func(a, b []rule, want bool) {
		t.Helper()
		if got := same(reflect.ValueOf(a), reflect.ValueOf(b)); got != want {
			t.Errorf("%+v and %+v: %v", a, b, got)
		}
	}
	f(made(1, "a: 1"), made(5, "a: 1"), true)
	f(made(1, "a: 1"), made(1, "a: 2"), false)
	f(made(1, "a: 1"), nil, false)
	f(made(1, "a: 1"), append(made(1, "a: 1"), rule{}), false)
	f(nil, nil, true)
}
