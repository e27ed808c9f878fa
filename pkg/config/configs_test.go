package config

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const configs = "../../configs/"

func mustLoad(t *testing.T, name string) (*Config, []byte) {
	t.Helper()
	data, err := os.ReadFile(configs + name)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Parse(name, data, testEnv)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Warnings) > 0 {
		t.Errorf("%s warns:\n%v", name, cfg.Warnings)
	}
	return cfg, data
}

// TestAccountsYAMLIsWhole: accounts.yaml has every key of an app, at its default.
func TestAccountsYAMLIsWhole(t *testing.T) {
	cfg, data := mustLoad(t, "accounts.yaml")
	tree, err := parseYAML("accounts.yaml", data, &variables{lookup: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	root := Settings{node: tree}
	for prefix, keys := range map[string][]string{
		"apps.*.": Keys(app{}), "apps.*.tokens.": Keys(endUserTokens{}), "apps.*.portal.": Keys(portal{}), "apps.*.portal.options.*.": Keys(portalOption{}), "apps.*.proxy.": Keys(appProxy{}),
	} {
		for _, key := range keys {
			if !root.Has(prefix + key) {
				t.Errorf("accounts.yaml lacks %s%s", prefix, key)
			}
		}
	}
	got, want := cfg.Apps[0], DefaultApp("crm")
	got.ClientID, got.ClientSecret, got.RedirectURL, got.Scopes, got.Portal.Options, got.AppEvents, got.Pos = "", "", "", nil, nil, Settings{}, Pos{}
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("crm is not at its defaults (-default +accounts.yaml):\n%s", diff)
	}
}

// router.yaml documents every key that the decoder knows, at its default.
func TestRouterYAMLIsWhole(t *testing.T) {
	cfg, data := mustLoad(t, "router.yaml")
	tree, err := parseYAML("router.yaml", data, &variables{lookup: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	root := Settings{node: tree}
	known := map[string][]string{
		"":               Keys(file{}),
		"api_keys.*.":    Keys(apiKey{}),
		"destinations.*": Keys(destination{}),
	}
	for prefix, keys := range known {
		for _, key := range keys {
			if key == "config" { // stands for the section that is named after the type, and cannot stand beside it
				if !strings.Contains(string(data), "`config:`") {
					t.Error("config is not mentioned")
				}
				continue
			}
			if path := strings.TrimPrefix(strings.TrimSuffix(prefix, ".")+"."+key, "."); !root.Has(path) {
				t.Errorf("router.yaml lacks %s", path)
			}
		}
	}

	want := Default().Server
	if diff := cmp.Diff(want, cfg.Server, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("server is not at its defaults (-default +router.yaml):\n%s", diff)
	}
	crm, unset := cfg.Destinations[0], DefaultDestination("crm")
	if crm.Lanes != unset.Lanes || crm.Retry != unset.Retry || crm.Staged != unset.Staged {
		t.Errorf("crm is not at its defaults: %+v", crm)
	}
	if k := cfg.APIKeys[0]; k.ClientSecret != "js.from-env" || k.ServerSecret != "s2s.from-env" {
		t.Error("the API key's secrets are not the environment's")
	}
}

// The settings of router.yaml have the types that their destination will want.
func TestRouterYAMLHubSpot(t *testing.T) {
	cfg, _ := mustLoad(t, "router.yaml")
	type eventProperties struct {
		Map    map[string]string `yaml:"map"`
		Only   []string          `yaml:"only"`
		Except []string          `yaml:"except"`
	}
	type events struct {
		Map              map[string]string `yaml:"map"`
		Only             []string          `yaml:"only"`
		Except           []string          `yaml:"except"`
		Properties       eventProperties   `yaml:"properties"`
		Anonymous        string            `yaml:"anonymous"`
		Create           bool              `yaml:"create"`
		Define           []string          `yaml:"define"`
		NewPerAccount    int               `yaml:"new_per_account"`
		BrowserNewPerDay int               `yaml:"browser_new_per_day"`
		Hold             time.Duration     `yaml:"hold"`
	}
	type properties struct {
		Map     map[string]string `yaml:"map"`
		Only    []string          `yaml:"only"`
		Except  []string          `yaml:"except"`
		Write   map[string]string `yaml:"write"`
		Null    string            `yaml:"null"`
		Unknown string            `yaml:"unknown"`
		Options string            `yaml:"options"`
		Group   string            `yaml:"group"`

		NewPerAccount         int `yaml:"new_per_account"`
		NewOptionsPerProperty int `yaml:"new_options_per_property"`
	}
	type hubspot struct {
		IDProperty    string     `yaml:"id_property"`
		MissingKey    string     `yaml:"missing_key"`
		ContactEvents Words      `yaml:"contact_events"`
		TimeZone      string     `yaml:"time_zone"`
		Properties    properties `yaml:"properties"`

		AccessToken Secret        `yaml:"access_token"`
		HubID       Text          `yaml:"hub_id"`
		BaseURL     string        `yaml:"base_url"`
		EventsURL   string        `yaml:"events_url"`
		APIVersion  Text          `yaml:"api_version"`
		LateAfter   time.Duration `yaml:"late_after"`
		DailyBudget int           `yaml:"daily_budget"`
		QuotaShare  float64       `yaml:"quota_share"`
		Events      events        `yaml:"events"`
	}
	var got hubspot
	if err := cfg.Destinations[0].Settings.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := hubspot{
		AccessToken: "pat-from-env", HubID: "020546336", BaseURL: "https://api.hubapi.com", EventsURL: "https://api.hubapi.com",
		APIVersion: "2026-03", LateAfter: 100 * time.Second, QuotaShare: 1,
		IDProperty: "email", MissingKey: "skip", ContactEvents: Words{}, TimeZone: "UTC",
		Properties: properties{
			Map: map[string]string{}, Only: []string{}, Except: []string{}, Write: map[string]string{},
			Null: "ignore", Unknown: "strip", Options: "keep", Group: "contactinformation",
			NewPerAccount: 100, NewOptionsPerProperty: 200,
		},
		Events: events{
			Map: map[string]string{}, Only: []string{}, Except: []string{}, Anonymous: "skip",
			Properties: eventProperties{Map: map[string]string{}, Only: []string{}, Except: []string{}},
			Create:     true, Define: []string{}, NewPerAccount: 100, BrowserNewPerDay: 20, Hold: 72 * time.Hour,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJitsuYAML(t *testing.T) {
	cfg, _ := mustLoad(t, "jitsu.yaml")
	d := cfg.Destinations[0]
	if d.Name != "my_hubspot" || d.Type != "hubspot" || d.OnlyTokens != nil || d.Filter != `$.event_type == "pageview" ? "" : $.event_type` {
		t.Errorf("got %+v", d)
	}
	var settings struct {
		AccessToken Secret `yaml:"access_token"`
		HubID       Text   `yaml:"hub_id"`
	}
	if err := d.Settings.Decode(&settings); err != nil || settings.HubID != "20546336" || settings.AccessToken != "pat-abc-b7bc95dc-abcd-abcd-abcd-406aaa56c3cc" {
		t.Errorf("settings: hub %s, %v", settings.HubID, err)
	}
}
