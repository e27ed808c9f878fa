package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnset: what stands for placeholders of which nothing is set, and for those alone.
func TestUnset(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		cfg, err := ParseWith("router.yaml", []byte("api_keys: js.x\nserver: {name: \""+value+"\"}\ndestinations: {}\n"), Options{
			Env: func(name string) (string, bool) { return strings.ToLower(name), name == "SET" },
			Unset: func(names []string) (string, bool) {
				return strings.Join(names, "+"), names[0] != "REFUSED"
			},
		})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = cfg.Server.Name
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
	f("${env.SET}", "set")
	f("${env.A}", "A")
	f("${env.A|env.B} and ${env.SET}", "A+B and set")
	f("${env.A|env.SET}", "set")
	f("${env.A|none}", "none")
	f("x${env.A|}", "x")
	f("${env.REFUSED}", "router.yaml:2: server.name: environment variable REFUSED is empty or not set; set it, or write a default: ${env.REFUSED|default}")
}

// TestBase: a base says what the file does not, map by map, and problems keep the file's lines.
func TestBase(t *testing.T) {
	const base = `
api_keys: [{id: base, server_secret: s2s.base}]
destinations:
  crm: {type: hubspot, hubspot: {access_token: base, hub_id: "1"}}
`
	f := func(text, keys, want string) {
		t.Helper()
		cfg, err := ParseWith("case.yaml", []byte(text), Options{Base: []byte(base)})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var s struct {
			Token string `yaml:"access_token"`
			Hub   string `yaml:"hub_id"`
		}
		if err := cfg.Destinations[0].Settings.Decode(&s); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := s.Token + " " + s.Hub; got != want || cfg.APIKeys[0].ID != keys {
			t.Errorf("%s: got %s with key %s, want %s with key %s", text, got, cfg.APIKeys[0].ID, want, keys)
		}
	}
	f("", "base", "base 1")
	f("destinations: {crm: {type: hubspot}}", "base", "base 1")
	f("destinations: {crm: {hubspot: }}", "base", "base 1")
	f("destinations: {crm: {hubspot: {hub_id: \"2\"}}}", "base", "base 2")
	f("api_keys: [{id: own, server_secret: s2s.own}]\ndestinations: {crm: {hubspot: {access_token: own}}}", "own", "own 1")

	_, err := ParseWith("case.yaml", []byte("# comment\ndestinations:\n  crm:\n    stagedd: true\n"), Options{Base: []byte(base)})
	if err == nil || !strings.HasPrefix(err.Error(), "case.yaml:4: destinations.crm: unknown key") {
		t.Errorf("a problem over a base: %v", err)
	}
}

// TestReadScript: a transform file may come from elsewhere than the disk; what is not there comes from the disk.
func TestReadScript(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "disk.js"), []byte("return 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(name, want string) {
		t.Helper()
		file := filepath.Join(dir, "router.yaml")
		cfg, err := ParseWith(file, []byte("api_keys: js.x\ndestinations: {crm: {type: hubspot, hubspot: {}, data_layout: {transform_file: "+name+"}}}"), Options{
			ReadScript: func(path string) ([]byte, error) {
				if path == filepath.Join(dir, "pipelines/own.js") {
					return []byte("return 2"), nil
				}
				return nil, fs.ErrNotExist
			},
		})
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), dir, "")
		} else {
			got = cfg.Destinations[0].Transform
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f("pipelines/own.js", "return 2")
	f("disk.js", "return 1")
	f("none.js", "/router.yaml:2: destinations.crm.data_layout.transform_file: there is no file /none.js; names are relative to the folder of the configuration file")
}
