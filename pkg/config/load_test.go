package config

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameSettings leaves a destination's undecoded settings out of comparisons.
var sameSettings = cmpopts.IgnoreUnexported(Settings{})

func mustParse(t *testing.T, file string) *Config {
	t.Helper()
	cfg, err := Parse("test.yaml", []byte(file), testEnv)
	if err != nil {
		t.Fatalf("%s\nrefused: %v", file, err)
	}
	return cfg
}

func mustFail(t *testing.T, file string) error {
	t.Helper()
	_, err := Parse("test.yaml", []byte(file), testEnv)
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("%s\ngot error %v, want Problems", file, err)
	}
	return err
}

// TestApps: what is wrong with apps is said, and what is right is read.
func TestApps(t *testing.T) {
	f := func(apps, rest string, want ...string) {
		t.Helper()
		text := "api_keys: x\nserver: {encryption: {key: \"${env.ROUTER_ENCRYPTION_KEY}\"}}\ndestinations: {hooks: {type: webhook}, crm: {type: hubspot" + rest + "}}\napps: " + apps
		_, err := Parse("test.yaml", []byte(text), testEnv)
		got := ""
		if err != nil {
			got = err.Error()
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q lacks %q", text, got, w)
			}
		}
		if len(want) == 0 && err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	const good = "client_id: c, client_secret: s, redirect_url: \"https://a.example/connect/crm/callback\", scopes: [oauth]"
	f("{crm: {"+good+"}}", ", connection: crm, account: \"{{.tenant}}\"")
	f("{crm: {"+good+"}}", ", connection: crm, lanes: {on_full: dead_letter_oldest}")
	f("{crm: {"+good+"}}", ", connection: crm, lanes: {on_full: refuse}", "destinations.crm.lanes.on_full: can not be refuse with `connection`")
	f("{crm: {"+good+"}}", "}, out: {type: webhook, connection: crm", "destinations.out.connection: is for destinations of type hubspot")
	f("{crm: {"+good+", notify: hooks, proxy: {allow: [contacts.read, \"ANY /crm/objects/2026-03/contacts/*\"]}}}", "")
	f("{crm: {}}", "", "apps.crm.client_id: is required", "apps.crm.client_secret: is required", "apps.crm.redirect_url: must be this router's", "apps.crm.scopes: is required")
	f("{}", ", connection: crm", `destinations.crm.connection: "crm" is none of apps`)
	f("{}", ", account: x", "destinations.crm.account: means nothing without")
	f("{}", ", unknown_account_ttl: -1s", "unknown_account_ttl: must not be negative")
	f("[x]", "", "apps: must be a map")
	f("{crm: 5}", "", "apps.crm: must hold keys")
	f("{a.b: {"+good+"}}", "", "a name is made of")
	f("{crm: {"+good+", optional_scopes: [oauth]}}", "", "oauth stands in scopes, too")
	f("{crm: {"+good+", return_urls: [/x], notify: crm, link_age: 1s, state_age: 1s}}", "", "/x must be a URL", `"crm" is no destination of the type webhook`, "link_age: must", "state_age: must")
	f("{crm: {"+good+", api_version: v3, base_url: x, authorize_url: \"https://a.example/?q\", type: x}}", "", "api_version: must", "base_url: must", "authorize_url: must", "type: must")
	f("{crm: {"+good+", tokens: {skew: 2h, max_age: 0s, jwks_url: x}}}", "", "tokens.skew: must", "tokens.max_age: must", "tokens.jwks_url: must")
	f("{crm: {"+good+", tokens: {jwks_url: \"https://a.example/keys.json\"}}}", "", "tokens.audience: is required with tokens.jwks_url")
	f("{crm: {"+good+", tokens: {jwks_url: \"http://a.example/keys.json\", audience: router}}}", "", "tokens.jwks_url: must be an https URL")
	f("{crm: {"+good+", notify: hooks, tokens: {jwks_url: \"http://127.0.0.1:1/keys.json\", audience: router}}}", "")
	f("{crm: {"+good+", portal: {parents: [\"https://a.example/x\", \"https://App.example\", \"https://b.example:443\", \"https://*.example\", \"null\"], options: {a: {label: {fr: x}}, b.c: {events: [x]}}}}}", "",
		"portal.parents: https://a.example/x must be an origin", "https://App.example must be", "https://b.example:443 must be", "https://*.example must be", "null must be", "portal.options.a: needs properties or events", `"fr" is none`, "a name is made of")
	f("{crm: {"+good+", proxy: {allow: [\"get /x\"], timeout: 0s, max_bytes: 0}}}", "", `"get /x" must be`, "proxy.timeout: must", "proxy.max_bytes: must")
}

func TestEveryKeyIsTakenOver(t *testing.T) {
	cfg := mustParse(t, `
server:
  name: eu-1
  host: "::1"
  port: 0
  admin_token: admin
  log: {level: WARN, format: json}
  max_event_size: 1KiB
  max_body_size: 2MB
  data_dir: /var/lib/router
  max_log_bytes: 3GB
  min_free_bytes: 4_096
  trusted_proxies: [10.1.2.3, "2001:db8::1/32"]
  grace: 0s
  dedupe: {window: 1ms, max_ids: 1}
  outcomes: {max_bytes: 0, max_age: 1h}
  dead_letters: {max_bytes: 5KiB, max_age: 2h}
  identities: {max_age: 3h, max_entries: 8}
  kv: {max_entries: 9, max_bytes: 4KiB}
  events_cache: {capacity: 7, interval: 5s}
  static_files_dir: ./testdata
  event_enrichment: {http_context: true, hashed_anonymous_id: false, user_agent: false, location: no}
  api_keys_reload_sec: 7
  destinations_reload_sec: 0
  tls: {cert_file: c.pem, key_file: k.pem, min_version: "1.3"}
  max_header_size: 8KiB
  max_events_per_request: 11
  max_connections: 12
  max_connections_per_ip: 13
  read_timeout: 14s
  idle_timeout: 15s
  min_body_rate: 16
  rate_limit: {events_per_second: 17.5}
  enforce_origins: true
  admin_access: token
  metrics_access: public
  redact: [password, user.ssn, "*.card"]
  ua: {bot_keywords: [probe, "2"]}
  max_bulk_size: 3MB
geo: {maxmind_path: /geo}
api_keys:
  - {id: web, client_secret: [cs, cs-old, cs-older], server_secret: [ss, ss-old], origins: ["*.a.com", b.com], rate_limit: {events_per_second: 1, burst: 2}}
  - {id: app, client_secret: other, enforce_origins: false, rate_limit: {events_per_second: 0}}
destinations:
  crm:
    type: hubspot
    only_tokens: [app, ss-old, cs-older, web]
    staged: true
    data_layout:

      table_name_template: "{{.event_type}}"
    lanes: {max_bytes: 1, max_age: 2h, on_full: dead_letter_oldest}
    retry: {max_age: 3h, max_delay: 4s}
    enrichment:
      - name: ip_lookup
        from: /source_ip
        to: /user
      - {name: x, to: y}
  hubspot: {}
`)
	want := &Config{
		File: "test.yaml",
		Server: Server{
			Name: "eu-1", Host: "::1", Port: 0, AdminToken: "admin", LogLevel: slog.LevelWarn, LogFormat: "json",
			MaxEventBytes: 1024, MaxBodyBytes: 2e6, MaxBulkBytes: 3e6, DataDir: "/var/lib/router", MaxLogBytes: 3e9, MinFreeBytes: 4096,
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("2001:db8::/32")},
			Grace:          0, DedupeWindow: time.Millisecond, DedupeMaxIDs: 1,
			OutcomesMaxBytes: 0, OutcomesMaxAge: time.Hour, DeadLettersMaxBytes: 5120, DeadLettersMaxAge: 2 * time.Hour, IdentitiesMaxAge: 3 * time.Hour, IdentitiesMaxEntries: 8, KVMaxEntries: 9, KVMaxBytes: 4096, EventsCacheCapacity: 7, EventsCacheInterval: 5 * time.Second,
			StaticFilesDir: "./testdata", HTTPContext: true,
			APIKeysReload: 7 * time.Second, DestinationsReload: 0,
			TLS:            TLS{CertFile: "c.pem", KeyFile: "k.pem", MinVersion: tls.VersionTLS13, Pos: Pos{"test.yaml", 25}},
			MaxHeaderBytes: 8192, MaxEvents: 11, MaxConnections: 12, MaxConnectionsPerIP: 13,
			ReadTimeout: 14 * time.Second, IdleTimeout: 15 * time.Second, MinBodyRate: 16,
			RateLimit: RateLimit{17.5, 17}, EnforceOrigins: true, AdminAccess: AccessToken, MetricsAccess: AccessPublic,
			Redact:      []string{"password", "user.ssn", "*.card"},
			BotKeywords: []string{"probe", "2"},
		},
		Geo: Geo{"/geo", Pos{"test.yaml", 40}},
		APIKeys: []APIKey{
			{
				ID: "web", ClientSecret: "cs", ServerSecret: "ss", Origins: []string{"*.a.com", "b.com"},
				OldClientSecrets: []Secret{"cs-old", "cs-older"}, OldServerSecrets: []Secret{"ss-old"},
				EnforceOrigins: true, RateLimit: RateLimit{1, 2},
			},
			{ID: "app", ClientSecret: "other"},
		},
		Destinations: []Destination{
			{
				Name: "crm", Type: "hubspot", OnlyTokens: []string{"app", "web"}, Staged: true,
				Filter: "{{.event_type}}", FilterPos: Pos{"test.yaml", 51},
				Lanes: LaneLimits{1, 2 * time.Hour, DeadLetterOldest}, Retry: Retry{3 * time.Hour, 4 * time.Second},
				UnknownAccountTTL: 72 * time.Hour, UnknownAccounts: 10_000,
				Enrichment: []Enrichment{{"ip_lookup", "/source_ip", "/user", Pos{"test.yaml", 55}}, {"x", "", "y", Pos{"test.yaml", 58}}},
			},
			DefaultDestination("hubspot"),
		},
	}
	want.Destinations[1].FilterPos = Pos{"test.yaml", 59}
	if diff := cmp.Diff(want, cfg, sameSettings, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	want := Default().Server
	for _, file := range []string{
		"api_keys: a",
		"api_keys: a\nserver:",
		"api_keys: a\nserver: {port: , name: ~, log: , dedupe: {window: null}, trusted_proxies: }",
		"api_keys: a\nserver:\n  name: ${env.EMPTY|}",
	} {
		got := mustParse(t, file).Server
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s\n(-want +got):\n%s", file, diff)
		}
	}
	if got := mustParse(t, "api_keys: a\nserver: {trusted_proxies: []}").Server.TrustedProxies; len(got) != 0 {
		t.Errorf("an empty list trusts %v", got)
	}
}

func TestLogLevels(t *testing.T) {
	f := func(text string, want slog.Level) {
		t.Helper()
		if got := mustParse(t, "api_keys: a\nserver: {log: {level: "+text+"}}").Server.LogLevel; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	f("debug", slog.LevelDebug)
	f("info", slog.LevelInfo)
	f("Warn", slog.LevelWarn)
	f("warning", slog.LevelWarn)
	f("ERROR", slog.LevelError)
}

// Of two values the key's own goes before a merged one, wherever the merge stands, and an earlier merge before a later one.
func TestMergeKeys(t *testing.T) {
	cfg := mustParse(t, `
api_keys: a
server: &server {name: &name merged, port: 1}
destinations:
  *name :
    lanes: &a {max_age: 1h, max_bytes: 1}
    retry: {<<: {max_age: 2h}, max_age: 1h}
  b:
    lanes: {<<: [{max_age: 3h}, *a]}
`)
	a, b := cfg.Destinations[0], cfg.Destinations[1]
	if a.Name != "merged" || a.Retry.MaxAge != time.Hour {
		t.Errorf("first: %+v", a)
	}
	if want := (LaneLimits{MaxBytes: 1, MaxAge: 3 * time.Hour, OnFull: Refuse}); b.Lanes != want {
		t.Errorf("second: %+v, want %+v", b.Lanes, want)
	}
}

// TestLanesOfAccounts: where each account has lanes of its own they are smaller, unless the file says how large they are.
func TestLanesOfAccounts(t *testing.T) {
	f := func(destination string, want int64) {
		t.Helper()
		cfg := mustParse(t, `
api_keys: a
server: {encryption: {key: "${env.ROUTER_ENCRYPTION_KEY}"}}
apps: {crm: {client_id: c, client_secret: s, redirect_url: "https://a.example/connect/crm/callback", scopes: [oauth]}}
destinations: {out: {type: hubspot`+destination+`}}
`)
		if got := cfg.Destinations[0].Lanes.MaxBytes; got != want {
			t.Errorf("%s: lanes of %d bytes, want %d", destination, got, want)
		}
	}
	f("", 4<<30)
	f(", connection: crm", 256<<20)
	f(", connection: crm, lanes: {max_age: 1h}", 256<<20)
	f(", connection: crm, lanes: {max_bytes: 1GiB}", 1<<30)
}

func TestDestinationSettings(t *testing.T) {
	f := func(destinations, wantPath string, wantLine int, wantHub string) {
		t.Helper()
		cfg := mustParse(t, "api_keys: a\ndestinations:\n"+destinations)
		s := cfg.Destinations[0].Settings
		var into struct {
			HubID Text `yaml:"hub_id"`
		}
		if err := s.Decode(&into); err != nil {
			t.Errorf("%s\n%v", destinations, err)
		}
		if s.Path() != wantPath || s.Pos().Line != wantLine || string(into.HubID) != wantHub {
			t.Errorf("%s\ngot %s, line %d, hub %q; want %s, line %d, hub %q", destinations, s.Path(), s.Pos().Line, into.HubID, wantPath, wantLine, wantHub)
		}
		if exists := !strings.Contains(destinations, "{type: hubspot}"); s.Exists() != exists {
			t.Errorf("%s\nExists() = %v", destinations, s.Exists())
		}
	}
	f("  crm:\n    type: hubspot\n    hubspot: {hub_id: 020}", "destinations.crm.hubspot", 5, "020")
	f("  crm:\n    hubspot:\n      hub_id: 7\n    type: hubspot", "destinations.crm.hubspot", 4, "7")
	f("  crm:\n    type: hubspot\n    config: {hub_id: 7}", "destinations.crm.config", 5, "7")
	f("  crm:\n    type: hubspot\n    hubspot: {hub_id: 1}\n    config: {hub_id: 2}", "destinations.crm.config", 6, "2")
	f("  crm:\n    type: hubspot\n    hubspot: {hub_id: 1}\n    config: {}", "destinations.crm.hubspot", 5, "1")
	f("  hubspot:\n    hubspot: {hub_id: 1}", "destinations.hubspot.hubspot", 4, "1")
	f("  hubspot:\n    config: {hub_id: 1}", "destinations.hubspot.config", 4, "1")
	f("  crm:\n    type: hubspot\n    hubspot:", "destinations.crm.hubspot", 5, "")
	f("  crm: {type: hubspot}", "destinations.crm.hubspot", 3, "")
	f("  crm:\n    type: hubspot\n    hubspot: {hub_id: '${env.HUBSPOT_HUB_ID}'}", "destinations.crm.hubspot", 5, "020546336")
	f("  crm:\n    type: hubspot\n    hubspot:\n      hub_id: ${env.HUBSPOT_HUB_ID}", "destinations.crm.hubspot", 5, "020546336")
}

func TestDestinationsKeepTheirOrder(t *testing.T) {
	var got []string
	for _, d := range mustParse(t, "api_keys: a\ndestinations: {z: {}, A: {}, m-1: {}, b_2: {}}").Destinations {
		got = append(got, d.Name)
	}
	if want := "z A m-1 b_2"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "router.yaml")
	if err := os.WriteFile(path, []byte("api_keys: a"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path)
	if err != nil || cfg.File != path {
		t.Fatalf("Load: %+v, %v", cfg, err)
	}

	var ps Problems
	if _, err := Load(filepath.Join(dir, "missing.yaml")); !errors.Is(err, fs.ErrNotExist) || errors.As(err, &ps) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(dir); err == nil || errors.As(err, &ps) {
		t.Errorf("a folder: %v", err)
	}
	if err := os.WriteFile(path, []byte("api_keys: a\n"+strings.Repeat("#", maxFileBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.As(err, &ps) || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestParseUsesTheProcessEnvironment(t *testing.T) {
	t.Setenv("CONFIG_TEST_SECRET", "from-process")
	cfg, err := Parse("test.yaml", []byte("api_keys: ${env.CONFIG_TEST_SECRET}"), nil)
	if err != nil || cfg.APIKeys[0].ClientSecret != "from-process" {
		t.Errorf("got %v, %v", cfg, err)
	}
}
