package jitsuconfig

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/filters"
)

var update = flag.Bool("update", false, "rewrite the expected results")

// unfinished are the files whose results lack something that only a person knows.
var unfinished = map[string]string{"elsewhere.yaml": "stands elsewhere", "configurator.yaml": "stands elsewhere", "eventnative.json": "stands elsewhere"}

// nothingOf are the files of which nothing usable can be made.
var nothingOf = map[string]bool{"only-warehouses.yaml": true}

// corpus calls f for each file of Jitsu's in testdata.
func corpus(t *testing.T, f func(t *testing.T, name string, data []byte)) {
	t.Helper()
	files, err := filepath.Glob("testdata/files/*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) { f(t, filepath.Base(file), data) })
	}
}

// Each file of testdata/files becomes the configuration and the report in testdata/results.
func TestFiles(t *testing.T) {
	corpus(t, func(t *testing.T, name string, data []byte) {
		r, err := Convert(name, data)
		if err != nil {
			t.Fatal(err)
		}
		var notes bytes.Buffer
		if err := WriteNotes(&notes, name, r.Notes); err != nil {
			t.Fatal(err)
		}
		if (r.YAML == nil) != nothingOf[name] {
			t.Errorf("result: %q", r.YAML)
		}
		golden(t, name+".report.txt", notes.Bytes())
		if r.YAML != nil {
			golden(t, name+".router.yaml", r.YAML)
		}
	})
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata/results", name)
	if *update {
		if err := os.MkdirAll("testdata/results", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), rewrite with -update:\n%s", name, diff)
	}
}

// anything is an environment in which every variable is set.
func anything(name string) (string, bool) {
	if strings.HasSuffix(name, "_UNSET") {
		return "", false
	}
	return "value-of-" + name, true
}

// TestResultsLoad: the project's own loader takes each result, without a warning of a key of Jitsu's, and its scripts compile.
func TestResultsLoad(t *testing.T) {
	corpus(t, func(t *testing.T, name string, data []byte) {
		r, err := Convert(name, data)
		if err != nil {
			t.Fatal(err)
		}
		if r.YAML == nil {
			return
		}
		env := anything
		if name == "everything.yaml" {
			env = func(name string) (string, bool) { return map[string]string{"PORT": "8001"}[name], name == "PORT" }
		}
		cfg, err := config.Parse("router.yaml", r.YAML, env)
		var problems config.Problems
		errors.As(err, &problems)
		for _, p := range problems {
			if want := unfinished[name]; want == "" || !strings.Contains(p.Text, want) {
				t.Errorf("%v\n%s", p, r.YAML)
			}
		}
		for _, w := range cfg.Warnings {
			if strings.Contains(w.Text, "is not used") {
				t.Errorf("warning: %v", w)
			}
		}
		for _, d := range cfg.Destinations {
			o := filters.Options{Destination: d.Name, Type: d.Type}
			if _, err := filters.CompileTransform(d.Transform, o); d.Transform != "" && err != nil {
				t.Errorf("%s: %v\n%s", d.Name, err, d.Transform)
			}
			if _, err := filters.Compile(d.Filter, o); d.Filter != "" && err != nil {
				t.Errorf("%s: %v\n%s", d.Name, err, d.Filter)
			}
		}
	})
}

// TestResultsStay: a result is a file of the router's, so that to convert it once more changes nothing.
func TestResultsStay(t *testing.T) {
	corpus(t, func(t *testing.T, name string, data []byte) {
		first, err := Convert(name, data)
		if err != nil {
			t.Fatal(err)
		}
		if first.YAML == nil {
			return
		}
		second, err := Convert("router.yaml", first.YAML)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(first.YAML), string(second.YAML)); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
		for _, n := range second.Notes {
			if n.Kind == LeftOut {
				t.Errorf("left out of a result: %+v", n)
			}
		}
	})
}

// secretsIn are those that the files of testdata have.
var secretsIn = []string{"0123456789", "hunter22", "other0123", "other01", "01234567-89ab-cdef", "secret0123", "0123456789abcdef", "5f0ab5c4"}

// TestReportsShowNoSecrets: the results hold the secrets that are of use there, and no report has one.
func TestReportsShowNoSecrets(t *testing.T) {
	carried := map[string]bool{}
	corpus(t, func(t *testing.T, name string, data []byte) {
		r, err := Convert(name, data)
		if err != nil {
			t.Fatal(err)
		}
		var notes bytes.Buffer
		if err := WriteNotes(&notes, name, r.Notes); err != nil {
			t.Fatal(err)
		}
		for _, s := range secretsIn {
			if strings.Contains(notes.String(), s) {
				t.Errorf("the report shows %s:\n%s", s, notes.String())
			}
			carried[s] = carried[s] || strings.Contains(string(r.YAML), s)
		}
	})
	for _, s := range []string{"0123456789", "hunter22", "other01", "5f0ab5c4"} {
		if !carried[s] {
			t.Errorf("%s is in no result", s)
		}
	}
	if carried["01234567-89ab-cdef"] {
		t.Error("an API key of HubSpot's, which nothing takes any more, is in a result")
	}
}

// TestSecretsInOddPlaces: a secret is not shown where it stands as something else too, such as a name that was made of it.
func TestSecretsInOddPlaces(t *testing.T) {
	f := func(data string) {
		t.Helper()
		r, err := Convert("jitsu.yaml", []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range r.Notes {
			if text := n.Path + n.Text; strings.Contains(text, "hidden0") {
				t.Errorf("%s: shown: %+v", data, n)
			}
		}
		if len(r.Notes) == 0 {
			t.Errorf("%s: no notes", data)
		}
	}
	f("server: {admin_token: hidden01}\napi_keys: [hidden02]\ndestinations: {hidden01: {type: postgres}, Hidden02: {type: hubspot, hidden02: 1}}")
	f("api_keys: [{client_secret: hidden03, hidden03: 1}]\nhidden03: 1")
	f("api_keys: [{client_secret: hidden03}]\ndestinations: {a: {type: hidden03}, b: {type: hubspot, data_layout: {mapping: [hidden03]}}}")
	f("api_keys: http://u:hidden04@example.com/hidden04\ndestinations: https://example.com/?a=b&token=hidden05")
}

// TestNoConfigurations: what is none is an error with its place.
func TestNoConfigurations(t *testing.T) {
	f := func(data, want string) {
		t.Helper()
		r, err := Convert("jitsu.yaml", []byte(data))
		var problems config.Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), want) || r.YAML != nil {
			t.Errorf("%q: %q and %v, want %s", data, r.YAML, err, want)
		}
	}
	f("", "is no configuration")
	f("# nothing\n", "is no configuration")
	f("just text", "is no configuration")
	f("[a, b]", "is no configuration")
	f("a: [1", "is not valid YAML")
	f("a: &a [*a]", "levels deep")
	f("a: 1\n---\nb: 1", "second document")
	f("a: \xff", "UTF-8")
	f(strings.Repeat(" ", 2<<20), "is larger than")
}

// hasNote says whether a note of a path has a text in it.
func hasNote(notes []Note, kind Kind, path, want string) bool {
	return slices.ContainsFunc(notes, func(n Note) bool {
		return n.Kind == kind && n.Path == path && strings.Contains(n.Text, want) && (n.Line > 0 || kind == ToDo)
	})
}

// TestNotes: what is said of one thing each.
func TestNotes(t *testing.T) {
	const keys = "api_keys: [{id: web, client_secret: js.0123456789}]\n"
	const hub = "hubspot: {access_token: '${env.T}', hub_id: 1}"
	f := func(data string, kind Kind, path, want string) {
		t.Helper()
		r, err := Convert("jitsu.yaml", []byte(data))
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if !hasNote(r.Notes, kind, path, want) {
			t.Errorf("%s: no note of %s with %q: %+v", data, path, want, r.Notes)
		}
	}
	d := func(rest string) string {
		return keys + "destinations: {crm: {type: hubspot, mode: stream, only_tokens: [web], " + hub + rest + "}}"
	}
	f(keys+"destinations: {crm: {type: hubspot, mode: stream, "+hub+"}}", Changed, "destinations.crm.only_tokens", "here it gets those of all")
	f(keys+"destinations: {crm: {type: hubspot, mode: stream, only_tokens: [], "+hub+"}}", Changed, "destinations.crm.only_tokens", "here it gets those of all")
	f(keys+"destinations: {crm: {type: hubspot, mode: stream, only_tokens: [nobody], "+hub+"}}", LeftOut, "destinations.crm.only_tokens", "it is staged")
	f(keys+"destinations: {CRM: {type: hubspot, "+hub+"}}", Changed, "destinations.CRM", "is crm now")
	f(keys+"destinations: {CRM: {type: hubspot, "+hub+"}}", Changed, "destinations.CRM.mode", "meant batch in Jitsu")
	f(keys+"destinations: {crm: {type: hubspot, mode: synchronous, "+hub+"}}", Changed, "destinations.crm.mode", "is stream now")
	f(keys+"destinations: {crm: {type: Postgres}}", LeftOut, "destinations.crm", "type postgres")
	f(keys+"destinations: {crm: [1]}", LeftOut, "destinations.crm", "no keys with values")
	f(keys+"destinations: [1]", LeftOut, "destinations", "is a list")
	f(d(", users_recognition: {enabled: true}"), LeftOut, "destinations.crm.users_recognition", "e-mail addresses are remembered")
	f(d(", staged: false, staged: true"), LeftOut, "destinations.crm.staged", "second time")
	f(d(", webhook: {url: x}"), LeftOut, "destinations.crm.webhook", "another type")
	f(d(", data_layout: {transform: fetch('x')}"), LeftOut, "destinations.crm.data_layout.transform", "fetch is not defined")
	f(d(", data_layout: {table_name_template: '{{.a'}"), LeftOut, "destinations.crm.data_layout.table_name_template", "can not be compiled")
	f(d(", data_layout: {mappings: {fields: [{src: /a, action: move}]}}"), LeftOut, "destinations.crm.data_layout.mappings", "dst is required")
	f(d(", data_layout: {mappings: {fields: [{dst: /a, action: move}]}}"), LeftOut, "destinations.crm.data_layout.mappings", "src is required")
	f(d(", data_layout: {mappings: {fields: [{dst: /a, action: cast}]}}"), LeftOut, "destinations.crm.data_layout.mappings", "type is required")
	f(d(", data_layout: {mappings: {fields: [{dst: /a, action: cast, type: integer}, {dst: /b, action: constant, value: 1}]}}"), LeftOut, "destinations.crm.data_layout.mappings", "that of a column")
	f(d(", data_layout: {mapping: ['/a -> (integer) /b']}"), LeftOut, "destinations.crm.data_layout.mapping", "that of a column")
	f(d(", data_layout: {mapping: ['/a > /b']}"), LeftOut, "destinations.crm.data_layout.mapping", "must be of the form")
	f(d(", data_layout: {mappings: {fields: [{dst: /a, action: constant, value: 'x${env.X}'}]}}"), Changed, "destinations.crm.data_layout.mappings", "no quotes")
	hook := func(rest string) string {
		return keys + "destinations: {hook: {type: webhook, mode: stream, only_tokens: [web], webhook: {" + rest + "}}}"
	}
	f(hook("url: https://example.com/, body: x"), Changed, "destinations.hook.webhook.method", "is POST here")
	f(hook("url: https://example.com/, method: post"), Changed, "destinations.hook.webhook.body", "here it is the event")
	f(hook(`url: https://example.com/, method: POST, body: '{"e": "{{.event_type}}"}'`), ToDo, "destinations.hook.webhook.body", "{{json .field}}")
	f(hook("url: '$.url', method: GET"), ToDo, "destinations.hook.webhook.url", "must begin with https://")
	for _, url := range []string{"http://10.1.2.3/", "http://collector:8080/", "https://[::1]/", "http://a.internal", "http://u:p@localhost/"} {
		f(hook("url: '"+url+"', method: GET"), ToDo, "destinations.hook.webhook.url", "allow_private")
	}
	f(d("")+"\nsources: {a: {}}", LeftOut, "sources", "over HTTP only")
	f(d("")+"\nserver: {ua: {bots: 1}}", LeftOut, "server.ua.bots", "neither Jitsu nor the router")
	f("destinations: {crm: {type: hubspot, mode: stream, "+hub+"}}", ToDo, "api_keys", "are missing")
	f(keys, ToDo, "destinations", "are missing")
	f(keys, ToDo, "", "api_keys.client_secret")
}
