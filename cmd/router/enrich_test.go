package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// writeGeo writes a database in which 81.2.69.0/24 is in Ulm, and 9.9.9.0/24 in the United States.
func writeGeo(t *testing.T, path string) {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City"})
	if err != nil {
		t.Fatal(err)
	}
	insert := func(cidr string, record mmdbtype.Map) {
		t.Helper()
		_, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(network, record); err != nil {
			t.Fatal(err)
		}
	}
	named := func(name string) mmdbtype.Map { return mmdbtype.Map{"en": mmdbtype.String(name)} }
	insert("81.2.69.0/24", mmdbtype.Map{
		"country":      mmdbtype.Map{"iso_code": mmdbtype.String("DE"), "names": named("Germany"), "is_in_european_union": mmdbtype.Bool(true)},
		"city":         mmdbtype.Map{"names": named("Ulm")},
		"subdivisions": mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("BW")}},
		"postal":       mmdbtype.Map{"code": mmdbtype.String("89073")},
	})
	insert("9.9.9.0/24", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("US"), "names": named("United States")}})
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

const chromeOnMac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"

// browse posts an event as a browser at an address does, behind a proxy.
func (r *running) browse(address, userAgent, body string, parameters ...string) {
	r.t.Helper()
	status, answer := ask(r.t, http.MethodPost, r.url+"/api/v1/event?"+strings.Join(append(parameters, "token=js.web"), "&"), body, "X-Forwarded-For", address, "User-Agent", userAgent)
	if status != http.StatusOK {
		r.t.Fatalf("posting: %d %s", status, answer)
	}
}

// startEnriching starts a router with a database and a sandbox; destination is what stands under crm: beside its type, settings what stands under hubspot:.
func startEnriching(t *testing.T, destination, settings string) (*running, *sandbox.Sandbox) {
	t.Helper()
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	remote := httptest.NewServer(box)
	t.Cleanup(remote.Close)
	dir := t.TempDir()
	writeGeo(t, filepath.Join(dir, "City.mmdb"))
	cfg, err := config.Parse("test.yaml", fmt.Appendf(nil, `
server: {data_dir: %s, min_free_bytes: 1MiB}
geo: {maxmind_path: %s}
api_keys: [{id: web, client_secret: js.web, server_secret: s2s.web}]
destinations:
  crm:
    type: hubspot
%s
    hubspot:
      access_token: %s
      hub_id: %q
      base_url: %s
%s`, filepath.Join(dir, "data"), dir, destination, demoToken, demoHub, remote.URL, settings), nil)
	if err != nil {
		t.Fatal(err)
	}
	return startService(t, cfg), box
}

// wantContact compares some properties of a contact; "" is one that it does not have.
func wantContact(t *testing.T, box *sandbox.Sandbox, email string, want map[string]string) {
	t.Helper()
	contact, ok := box.Contact(email)
	if !ok {
		t.Fatalf("HubSpot has no contact %s", email)
	}
	got := map[string]string{}
	for name := range want {
		got[name] = contact.Properties[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", email, diff)
	}
}

// TestExpressionsReadLocation: where the client posts from and with what becomes what expressions make of it, and nothing else.
func TestExpressionsReadLocation(t *testing.T) {
	run, box := startEnriching(t, "", `
      properties:
        map: {country: "$.location?.country_name", state: "{{.location.region}} on {{.parsed_ua.os_family}}"}
      events:
        properties: {map: {where: "$.location?.city", browser: "$.parsed_ua?.ua_family"}}
`)
	run.browse("81.2.69.7", chromeOnMac, `{"event_type":"user_identify","user":{"email":"ada@example.com"}}`)
	run.browse("81.2.69.7", chromeOnMac, `{"event_type":"signup","user":{"email":"ada@example.com"},"plan":"pro"}`)
	run.browse("8.8.8.8", "", `{"event_type":"user_identify","user":{"email":"bob@example.com"}}`)
	run.post("s2s.web", `{"event_type":"user_identify","source_ip":"81.2.69.8","user":{"email":"eve@example.com"}}`)
	run.browse("81.2.69.7", chromeOnMac, `{"event_type":"user_identify","user":{"email":"own@example.com"},"location":{"country_name":"France"}}`)
	run.browse("81.2.69.7", "node", `{"eventn_ctx":{"user":{"email":"compat@example.com"},"user_agent":"curl/8"},"event_type":"user_identify"}`)
	run.settle()
	wantContact(t, box, "ada@example.com", map[string]string{"country": "Germany", "state": "BW on Mac OS X", "city": "", "zip": ""})
	wantContact(t, box, "bob@example.com", map[string]string{"country": "", "city": ""})
	wantContact(t, box, "eve@example.com", map[string]string{"country": "Germany"})
	wantContact(t, box, "own@example.com", map[string]string{"country": "France"})
	wantContact(t, box, "compat@example.com", map[string]string{"country": ""}) // inside eventn_ctx
	for _, ev := range box.Events() {
		got := map[string]string{}
		for name, value := range ev.Properties {
			if name != "hs_user_agent" {
				got[name] = value
			}
		}
		if diff := cmp.Diff(map[string]string{"where": "Ulm", "browser": "Chrome", "plan": "pro"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ev.EventName, diff)
		}
	}
	if n := len(box.Events()); n != 1 {
		t.Errorf("%d custom events", n)
	}
}

// TestFilterDropsBots: by the header of the post, in both formats, and counted.
func TestFilterDropsBots(t *testing.T) {
	run, box := startEnriching(t, `
    data_layout: {table_name_template: '$.parsed_ua?.bot || $.eventn_ctx?.parsed_ua?.bot ? "" : $.event_type'}`, "")
	const bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
	run.browse("81.2.69.7", bot, `{"event_type":"user_identify","user":{"email":"bot1@example.com"}}`)
	run.browse("81.2.69.7", chromeOnMac, `{"event_type":"user_identify","user_agent":"acme-Crawler","user":{"email":"bot2@example.com"}}`)
	run.browse("81.2.69.7", bot, `{"event_type":"user_identify","eventn_ctx":{"user":{"email":"bot3@example.com"}}}`)
	run.browse("81.2.69.7", chromeOnMac, `{"event_type":"user_identify","user":{"email":"ada@example.com"}}`)
	run.post("s2s.web", `{"event_type":"user_identify","user":{"email":"bob@example.com"}}`)
	run.settle()
	for i := range 3 {
		if _, ok := box.Contact(fmt.Sprintf("bot%d@example.com", i+1)); ok {
			t.Errorf("bot %d is a contact", i+1)
		}
	}
	wantContact(t, box, "ada@example.com", map[string]string{"email": "ada@example.com"})
	wantContact(t, box, "bob@example.com", map[string]string{"email": "bob@example.com"})
	families, err := run.srv.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "router_bot_events_total" && f.GetMetric()[0].GetCounter().GetValue() == 3 {
			return
		}
	}
	t.Error("bots are not counted")
}

// TestComplyAsksTheDatabase: an address in the Union is made coarse before it is stored, and its place is that of its network.
func TestComplyAsksTheDatabase(t *testing.T) {
	run, box := startEnriching(t, "", `
      properties:
        map: {country: "$.location?.country_name", address: $.source_ip}
`)
	f := func(address, wantAddress, wantCountry string) {
		t.Helper()
		email := strings.ReplaceAll(address, ".", "-") + "@example.com"
		run.browse(address, chromeOnMac, `{"event_type":"user_identify","user":{"email":"`+email+`"}}`, "ip_policy=comply")
		run.settle()
		wantContact(t, box, email, map[string]string{"address": wantAddress, "country": wantCountry})
	}
	f("81.2.69.7", "81.2.69.1", "Germany")
	f("9.9.9.7", "9.9.9.7", "United States")
	f("8.8.8.7", "8.8.8.1", "")
}

// TestEnrichmentRules: what a rule writes is the event's own: of the user a property, of the event HubSpot's own properties.
func TestEnrichmentRules(t *testing.T) {
	run, box := startEnriching(t, `
    enrichment:
      - {name: ip_lookup, from: /source_ip, to: /user}
      - {name: ip_lookup, from: /source_ip, to: /location}
      - {name: user_agent_parse, from: /user_agent, to: /parsed_ua}`, "")
	run.browse("81.2.69.7", chromeOnMac, `{"event_type":"user_identify","user":{"email":"ada@example.com","city":"Rome"}}`)
	run.browse("81.2.69.7", chromeOnMac, `{"event_type":"signup","user":{"email":"ada@example.com"}}`)
	run.settle()
	wantContact(t, box, "ada@example.com", map[string]string{"country": "DE", "city": "Ulm", "zip": "89073"})
	events := box.Events()
	if len(events) != 1 {
		t.Fatalf("%d custom events", len(events))
	}
	got := map[string]string{}
	for _, name := range []string{"hs_browser", "hs_operating_system", "hs_device_type", "hs_city", "hs_country"} {
		got[name] = events[0].Properties[name]
	}
	want := map[string]string{"hs_browser": "Chrome", "hs_operating_system": "Mac OS X", "hs_device_type": "Desktop", "hs_city": "Ulm", "hs_country": "Germany"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWrongEnrichmentStopsTheStart: with file and line, all at once.
func TestWrongEnrichmentStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "router.yaml")
	if err := os.WriteFile(file, []byte(`
api_keys: js.web
geo:
  maxmind_path: `+dir+`/none.mmdb
destinations:
  crm:
    type: hubspot
    enrichment:
      - {name: ip_lookup, from: /source_ip, to: /location}
      - {name: lookup, from: /, to: /location}
    hubspot: {access_token: pat, hub_id: 1}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := load(file)
	want := strings.ReplaceAll(`FILE:4: geo.maxmind_path: DIR/none.mmdb: no such file or directory
FILE:10: destinations.crm.enrichment[1].name: must be ip_lookup or user_agent_parse, not "lookup"
FILE:10: destinations.crm.enrichment[1].from: must name a member, such as /source_ip; "/" is the whole event`, "FILE", file)
	want = strings.ReplaceAll(want, "DIR", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
