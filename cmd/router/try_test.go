package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// tryRig is a configuration in a folder of its own, in front of a sandbox.
type tryRig struct {
	t                *testing.T
	dir, config, url string
}

func newTryRig(t *testing.T, url, settings string) *tryRig {
	t.Helper()
	r := &tryRig{t: t, url: url}
	r.config = write(t, fmt.Sprintf(dryRunConfig, filepath.Join(t.TempDir(), "no-data-directory-is-made"), demoToken, demoHub, url)+settings)
	r.dir = filepath.Dir(r.config)
	return r
}

// file writes a file beside the configuration.
func (r *tryRig) file(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// try runs router try and checks that no secret is told.
func (r *tryRig) try(events string, args ...string) (out, errText string, code int) {
	r.t.Helper()
	out, errText, code = command(r.t, append([]string{"try", "--config", r.config, "--event", r.file("events.json", events)}, args...)...)
	if all := out + errText; strings.Contains(all, demoToken) || strings.Contains(all, "s2s.x") {
		r.t.Errorf("a secret is told:\n%s", all)
	}
	return out, errText, code
}

func (r *tryRig) wants(out string, all ...string) {
	r.t.Helper()
	for _, want := range all {
		if !strings.Contains(out, want) {
			r.t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

// TestTry: without a network, a data directory or an account.
func TestTry(t *testing.T) {
	r := newTryRig(t, "http://127.0.0.1:1", "")
	out, errText, code := r.try(`{"event_type":"user_identify","event_id":"1","user":{"email":"A@b.co","title":"Eng","createdate":5,"numemployees":"5-25"}}
[{"event_type":"pageview","event_id":"2"}, {"event_type":"both","event_id":"3","user":{"email":"a@b.co"}}]
`)
	if code != exitOK || errText != "" {
		t.Errorf("exit %d, %s", code, errText)
	}
	r.wants(out,
		"crm (hubspot); schema: that of a new account\n", "router schema pull",
		"\nevent 1: user_identify, id 1, API key web\n  crm: delivered\n", `"moved":1`,
		"    lane         contacts of a@b.co, requests 1, 2\n      PROPERTY", `jobtitle      "Eng"   Eng`, "createdate            left out  read-only",
		"\nevent 2: pageview, id 2, API key web\n  crm: filtered: not sent\n    why          table_name_template is empty, null or false\n",
		"crm, output 0: delivered", "crm, output 1: delivered", "events pe"+demoHub+"_second of a@b.co",
		"\n2. POST http://127.0.0.1:1/crm/objects/2026-03/contacts/batch/upsert\n   crm, contacts, of event 1\n   Content-Type: application/json\n",
		"Authorization: ***\n", `"jobtitle": "Eng"`,
	)
	if _, err := os.Stat(filepath.Join(r.dir, "no-data-directory-is-made")); err == nil {
		t.Error("a data directory is made")
	}

	out, errText, code = r.try(`{"event_type":"broken","event_id":"1","user":{"email":"a@b.co"}}`, "--json")
	if code != exitFailed || !strings.Contains(errText, "1 output would become a dead letter") ||
		gjson.Get(out, "events.0.destinations.0.outputs.0.error").String() != "transform line 3, column 9: Error: no a@b.co" {
		t.Errorf("exit %d, %s\n%s", code, errText, out)
	}
	out, _, _ = r.try(`{"event_type":"user_identify","user":{"email":"a@b.co"}} {"event_type":"user_identify","user":{"email":"a@b.co","city":"x"}}`, "--json", "--together")
	if n := gjson.Get(out, `events.1.destinations.0.outputs.0.deliveries.0.detail.merged`).Int(); n != 2 {
		t.Errorf("merged %d:\n%s", n, out)
	}

	f := func(events, want string, wantCode int, args ...string) {
		t.Helper()
		if _, errText, code := r.try(events, args...); code != wantCode || !strings.Contains(errText, want) {
			t.Errorf("%s %v: exit %d, %s, want %s", events, args, code, errText, want)
		}
	}
	f("\n\n{\"a\":", "events.json:3: no JSON", exitFailed)
	f("", "holds no event", exitFailed)
	f("{}\n[{}, 7]", "events.json:2: element 1 is a number, not an object", exitFailed)
	f("{}", "no destination is called nobody; there are: crm", exitUsage, "--destination", "nobody")
	f("{}", "the API key other feeds no destination", exitFailed, "--api-key", "other")
	f("{}", "API key with id=[zz] does not exist", exitFailed, "--api-key", "zz")
	f("{}", "--ip", exitUsage, "--ip", "here")
	if _, errText, code := command(t, "try", "--config", r.config, "--event", filepath.Join(r.dir, "none")); code != exitUsage || !strings.Contains(errText, "no such file") {
		t.Errorf("no file: exit %d, %s", code, errText)
	}
}

// TestSchemaPull: what is pulled is the account's, is the same each time, and is what try goes by.
func TestSchemaPull(t *testing.T) {
	box := sandbox.New(sandbox.Options{
		HubID: demoHub, Token: demoToken, Groups: []string{"empty"}, Properties: []sandbox.Property{
			{Name: "plan_level", Label: "Plan", Type: "enumeration", FieldType: "select", Options: []sandbox.Option{{Value: "gold", Label: "Gold plan"}}},
			{Name: "planted", Label: "x " + demoToken, Type: "enumeration", FieldType: "select", Options: []sandbox.Option{{Value: demoToken, Label: "of " + demoToken}}},
		},
		Definitions: []sandbox.Definition{{
			Name: "order", Label: "Order", IncludeDefaults: true, Properties: []sandbox.Property{{Name: "n", Label: "n", Type: "number", FieldType: "number"}},
		}},
	})
	remote := httptest.NewServer(box)
	defer remote.Close()
	r := newTryRig(t, remote.URL, "  gone: {type: hubspot, staged: true, hubspot: {access_token: "+demoToken+", hub_id: \"1\", base_url: \"http://127.0.0.1:1\"}}\n")
	out, errText, code := command(t, "schema", "pull", "--config", r.config)
	if code != exitFailed || !strings.Contains(errText, "gone: load contact properties: no answer from HubSpot") || !strings.Contains(errText, "1 schema could not be read, 1 read") {
		t.Errorf("exit %d, %s", code, errText)
	}
	file := filepath.Join(r.dir, "schemas", "crm.json")
	if out != "crm: "+file+" is written\n" {
		t.Errorf("it says %q", out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
	if strings.Contains(string(data)+out+errText, demoToken) {
		t.Error("the token is in the file")
	}
	for path, want := range map[string]string{
		`properties.#(name=="plan_level")`:            `{"name":"plan_level","type":"enumeration","fieldType":"select","groupName":"contactinformation","options":[{"value":"gold","label":"Gold plan"}]}`,
		`event_definitions.0.name`:                    `"order"`,
		`event_definitions.0.properties.#(name=="n")`: `{"name":"n","type":"number"}`,
		`groups.#(=="empty")`:                         `"empty"`,
	} {
		if got := compact(gjson.GetBytes(data, path).Raw); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if out, _, code := command(t, "schema", "pull", "--config", r.config, "--destination", "crm"); code != exitOK || !strings.HasSuffix(out, "is up to date\n") {
		t.Errorf("again: exit %d, %s", code, out)
	}

	remote.Close() // try needs it no more
	out, errText, code = r.try(`{"event_type":"user_identify","user":{"email":"a@b.co","plan_level":"Gold plan"}} {"event_type":"order","user":{"email":"a@b.co"},"n":5}`, "--destination", "crm")
	if code != exitOK {
		t.Errorf("exit %d, %s", code, errText)
	}
	r.wants(out, "schema: "+file, `"Gold plan"  gold    made label`, `n         5     5`)
	if strings.Contains(out, "event-definitions\n") && !strings.Contains(out, "event-definitions/order/property") {
		t.Errorf("a definition is made that the account has:\n%s", out)
	}
}

// TestSchemaPullFails: errors are in words, and tell no secret.
func TestSchemaPullFails(t *testing.T) {
	f := func(h http.Handler, want string) {
		t.Helper()
		remote := httptest.NewServer(h)
		defer remote.Close()
		r := newTryRig(t, remote.URL, "")
		out, errText, code := command(t, "schema", "pull", "--config", r.config)
		if code != exitFailed || !strings.Contains(errText, want) || strings.Contains(out+errText, demoToken) {
			t.Errorf("exit %d, %s%s, want %s", code, out, errText, want)
		}
	}
	f(sandbox.New(sandbox.Options{HubID: demoHub, Token: "another"}), "check access_token: HubSpot answered 401")
	f(sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, MissingScopes: []string{"crm.schemas.contacts.read"}}), "crm.schemas.contacts.read")
	f(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.Header.Get("Authorization"), http.StatusTeapot)
	}), "HubSpot answered 418")
	f(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"results":[]}`) }), "the list of properties is empty")
}

// TestSchemaWithoutEvents: an account that may have no custom events is one.
func TestSchemaWithoutEvents(t *testing.T) {
	remote := httptest.NewServer(sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, NoEnterprise: true}))
	defer remote.Close()
	r := newTryRig(t, remote.URL, "")
	if _, errText, code := command(t, "schema", "pull", "--config", r.config); code != exitOK {
		t.Fatalf("exit %d, %s", code, errText)
	}
	out, _, code := r.try(`{"event_type":"order","user":{"email":"a@b.co"}}`)
	if code != exitOK {
		t.Errorf("exit %d", code)
	}
	r.wants(out, "crm: waits: its lane is blocked", "HubSpot answered 403")
}

func compact(raw string) string {
	var v any
	if json.Unmarshal([]byte(raw), &v) != nil {
		return raw
	}
	return strings.NewReplacer("\n", "", "  ", "", `": `, `":`).Replace(raw)
}
