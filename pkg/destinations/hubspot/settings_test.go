package hubspot

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/trial"
)

func newFromYAML(t *testing.T, yaml string) (*Destination, string, error) {
	t.Helper()
	s, err := config.NewSettings("router.yaml", "destinations.crm.hubspot", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	var logs trial.Log
	d, err := New(s, destinations.Env{
		Name: "crm", Log: slog.New(slog.NewTextHandler(&logs, nil)), Metrics: destinations.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		return nil, logs.String(), err
	}
	return d.(*Destination), logs.String(), nil
}

func TestSettings(t *testing.T) {
	d, logs, err := newFromYAML(t, "access_token: pat-abc\nhub_id: 020546336\n")
	if err != nil {
		t.Fatal(err)
	}
	if d.hubID != "020546336" || d.Hub("") != "020546336" || d.baseURL != "https://api.hubapi.com" || d.eventsURL != d.baseURL ||
		d.paths != versions["2026-03"] || d.events.Hold != 72*time.Hour || logs != "" {
		t.Errorf("%+v, logs %q", d, logs)
	}
	want := []destinations.LaneSpec{
		{Name: "contacts", MaxKeys: 100, MaxBytes: 8 << 20, InFlight: 16, LateAfter: 100 * time.Second, MarksKeys: true, Remembers: true},
		{Name: "events", MaxEntries: 500, MaxBytes: 8 << 20, InFlight: 4},
	}
	if diff := cmp.Diff(want, d.Lanes()); diff != "" {
		t.Error(diff)
	}

	d, _, err = newFromYAML(t, "access_token: pat-abc\nhub_id: \"7\"\nbase_url: http://127.0.0.1:9000/\nevents_url: http://127.0.0.1:9001\n"+
		"api_version: v3\nlate_after: 5s\nevents: {create: false, hold: 1h, define: [A B]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if d.baseURL != "http://127.0.0.1:9000" || d.eventsURL != "http://127.0.0.1:9001" || d.paths != versions["v3"] ||
		d.lateAfter != 5*time.Second || d.events.Create || d.events.NewPerAccount != 100 || !d.rules.named["a_b"] {
		t.Errorf("%+v", d)
	}

	_, logs, err = newFromYAML(t, "access_token: pat-abc\napi_key: old-secret\nhub_id: 7\n")
	if err != nil || !strings.Contains(logs, "2022-11-30") || strings.Contains(logs, "old-secret") {
		t.Errorf("api_key beside access_token: %v, logs %q", err, logs)
	}
}

func TestSettingsProblems(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		_, _, err := newFromYAML(t, yaml)
		if err == nil {
			t.Errorf("%q is accepted", yaml)
			return
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(want) {
			t.Errorf("%q: %d problems, want %d:\n%v", yaml, len(lines), len(want), err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: nothing about %q in\n%v", yaml, w, err)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: a secret is in the error: %v", yaml, err)
		}
	}
	f("{}", "access_token: is required", "'hub_id' is required parameter")
	f("api_key: secret-1\nhub_id: 1", "router.yaml:1: destinations.crm.hubspot.api_key: HubSpot switched API keys off on 2022-11-30; make a private app or a service key")
	f("access_token: pat\nhub_id: abc", "router.yaml:2: destinations.crm.hubspot.hub_id: must be the number of the HubSpot account, digits only")
	f("access_token: \"pat secret\"\nhub_id: 1", "holds a character that no token has")
	f("acces_token: pat-secret\nhub_id: 1", `unknown key "acces_token"`, "access_token: is required")
	f("access_token: pat\nhub_id: 1\nbase_url: api.hubapi.com\nevents_url: ftp://x", "base_url: must be an http or https URL", "events_url: must be an http or https URL")
	f("access_token: pat\nhub_id: 1\napi_version: 2025-09", "api_version: must be 2026-03, 2026-09 or v3")
	f("access_token: pat\nhub_id: 1\nlate_after: 0s\nevents: {hold: -1s, new_per_account: -1, browser_new_per_day: -1}",
		"late_after: must be more than 0", "events.hold: must not be negative", "events.new_per_account: must not", "events.browser_new_per_day: must not")
	f("access_token: pat\nhub_id: 1\ndaily_budget: -1\nquota_share: 0", "router.yaml:3: destinations.crm.hubspot.daily_budget: must not be negative; 0 is no limit",
		"router.yaml:4: destinations.crm.hubspot.quota_share: must be more than 0 and at most 1, such as 0.8 to leave a fifth")
	f("access_token: pat\nhub_id: 1\nquota_share: 80", "quota_share: must be more than 0 and at most 1")
	f("access_token: pat\nhub_id: 1\nevents: {creat: true}", `unknown key "creat"`)
}

func TestContactSettingsProblems(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		_, _, err := newFromYAML(t, "access_token: pat\nhub_id: 1\n"+yaml)
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), "destinations.crm.hubspot.", "")
		}
		if diff := cmp.Diff(strings.Join(want, "\n"), got); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", yaml, diff)
		}
	}
	f("id_property: External ID\nmissing_key: drop\ntime_zone: Mars/Olympus",
		"router.yaml:3: id_property: External ID is not the internal name of a property: lower-case letters, digits and _, a letter first, at most 100; is it external_id?",
		"router.yaml:4: missing_key: must be skip or reject",
		"router.yaml:5: time_zone: must be a name of the IANA time zone database, such as Europe/Berlin or UTC")
	f("time_zone: Local", "router.yaml:3: time_zone: must be a name of the IANA time zone database, such as Europe/Berlin or UTC")
	f("time_zone: \"\"", "router.yaml:3: time_zone: must be a name of the IANA time zone database, such as Europe/Berlin or UTC")
	f("contact_events: [a, all]", "router.yaml:3: contact_events: all stands for every event type; write it alone, or only the types")
	f("contact_events: [\"\"]", "router.yaml:3: contact_events: an event type is empty")
	f("contact_events: {a: b}", "router.yaml:3: contact_events: must be a list, not a map")
	f("contact_events: all")
	f("contact_events: [a, b]")
	f("properties: {null: nil, unknown: drop, options: add, group: My Group}",
		"router.yaml:3: properties.null: must be ignore or clear",
		"router.yaml:3: properties.unknown: must be strip or create",
		"router.yaml:3: properties.options: must be keep or create",
		"router.yaml:3: properties.group: must be the internal name of a property group: lower-case letters, digits and _, a letter first")
	f("properties:\n  only: [a, b, b]\n  except: [b, C]",
		"router.yaml:4: properties.only: b stands here twice",
		"router.yaml:5: properties.except: C is not the internal name of a property: lower-case letters, digits and _, a letter first, at most 100; is it c?",
		"router.yaml:5: properties.except: b stands under only as well")
	f("properties:\n  except: [city]\n  write:\n    city: if_empty\n    plan: sometimes\n    Plan: append\n    plan2: force\n    lifecyclestage: force\n    email: if_empty",
		"router.yaml:6: properties.write.city: is never written: it stands under except",
		"router.yaml:7: properties.write.plan: must be overwrite, if_empty, append or force",
		"router.yaml:8: properties.write.Plan: Plan is not the internal name of a property: lower-case letters, digits and _, a letter first, at most 100; is it plan?",
		"router.yaml:9: properties.write.plan2: force is for lifecyclestage alone, the only property that HubSpot does not let go back",
		"router.yaml:11: properties.write.email: is the property that identifies contacts, which has no policy",
	)
	f("id_property: external_id\nproperties:\n  write: {email: if_empty}\n  only: [city, email]\n  map: {external_id: $.user.id}")
	f("properties: {except: [email]}", "router.yaml:3: properties.except: email is the property that identifies contacts, which is always written")
	f("properties:\n  map:\n    plan: pro\n    city: $.a +\n    zip:\n    \"2fa\": $.x\n    a.b: $.x\n    name: user.name\n    long: |\n      const a = 1\n      return b\n  only: [plan, city, zip, long]",
		"router.yaml:4: properties.map.a.b: a.b is not the internal name of a property: lower-case letters, digits and _, a letter first, at most 100; is it a_b?",
		"router.yaml:6: properties.map.city: line 1, column 6: unexpected end of the script",
		`router.yaml:7: properties.map.zip: line 1, column 1: the expression is empty; write '""' for the empty text`,
		"router.yaml:8: properties.map.2fa: 2fa is not the internal name of a property: lower-case letters, digits and _, a letter first, at most 100",
		"router.yaml:10: properties.map.name: is never written: it is not among only",
		`router.yaml:10: properties.map.name: line 1, column 1: "user.name" would be a constant text, not a field; write $.user.name for the field, or '"user.name"' for the text`,
		"router.yaml:11: properties.map.long: line 2, column 8: b is not defined; write $.b for the event's field, or declare the name with let",
	)
	f("properties: {map: [a]}", "router.yaml:3: properties.map: must be a map, not a list")
	f("properties: {mapp: {}}", `router.yaml:3: properties: unknown key "mapp" (did you mean "map"?)`)
	f("properties: {map: {city: {a: b}}}", "router.yaml:3: properties.map.city: must be a single value, not a map")
}

func TestAccountsShareByTokenAndHub(t *testing.T) {
	shared := &destinations.Shared{}
	make := func(yaml string) *account {
		s, err := config.NewSettings("x", "x", []byte(yaml))
		if err != nil {
			t.Fatal(err)
		}
		d, err := New(s, destinations.Env{Name: "x", Shared: shared, Metrics: destinations.NewMetrics(prometheus.NewRegistry())})
		if err != nil {
			t.Fatal(err)
		}
		return d.(*Destination).account
	}
	a := make("access_token: pat-1\nhub_id: 1")
	if b := make("access_token: pat-1\nhub_id: 1\nlate_after: 1s"); a != b {
		t.Error("two destinations of one token do not share the quota")
	}
	for _, other := range []string{"access_token: pat-2\nhub_id: 1", "access_token: pat-1\nhub_id: 2", "access_token: pat-1\nhub_id: 1\nbase_url: http://localhost:1"} {
		if make(other) == a {
			t.Errorf("%q shares what it must not", other)
		}
	}
	if s := fmt.Sprintf("%+v", shared); strings.Contains(s, "pat-1") {
		t.Error("the token is in the keys of what is shared")
	}
}
