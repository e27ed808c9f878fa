package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse: no input makes Parse panic, hang or fail with anything but Problems that name the file.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.yaml", "../../configs/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds %s: %v", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("fuzz.yaml", data, testEnv)
		if err == nil {
			checkAccepted(t, cfg)
			return
		}
		var ps Problems
		if !errors.As(err, &ps) || len(ps) == 0 {
			t.Fatalf("%T %v", err, err)
		}
		for i, p := range ps {
			if p.Pos.File != "fuzz.yaml" || p.Text == "" || p.Pos.Line < 0 || p.Pos.Line > len(data)+1 {
				t.Fatalf("%q: problem %+v", data, p)
			}
			if i > 0 && ps[i-1].Pos.Line > p.Pos.Line {
				t.Fatalf("%q: not sorted: %v", data, ps)
			}
		}
	})
}

// checkAccepted holds what the rest of the router relies on.
func checkAccepted(t *testing.T, cfg *Config) {
	t.Helper()
	ids, secrets := map[string]bool{}, map[Secret]bool{}
	for _, k := range cfg.APIKeys {
		if k.ID == "" || ids[k.ID] || k.ClientSecret == "" && k.ServerSecret == "" {
			t.Fatalf("keys %#v", cfg.APIKeys)
		}
		own := map[Secret]bool{}
		for _, s := range k.secrets() {
			if secrets[s] {
				t.Fatal("a secret of two keys")
			}
			own[s] = true
		}
		for s := range own {
			secrets[s] = true
		}
		if k.EnforceOrigins && len(k.Origins) == 0 || k.RateLimit.EventsPerSecond < 0 || k.RateLimit.EventsPerSecond > 0 && k.RateLimit.Burst <= 0 {
			t.Fatalf("key %+v", k)
		}
		ids[k.ID] = true
	}
	if len(ids) == 0 || cfg.Server.Port < 0 || cfg.Server.Port > 65535 || cfg.Server.MaxEventBytes <= 0 || cfg.Server.MaxBodyBytes < cfg.Server.MaxEventBytes {
		t.Fatalf("%+v", cfg)
	}
	names := map[string]bool{}
	for _, d := range cfg.Destinations {
		if names[d.Name] || !destinationName.MatchString(d.Name) || d.Type == "" || d.Lanes.MaxBytes <= 0 || d.Retry.MaxDelay <= 0 {
			t.Fatalf("destination %+v", d)
		}
		for _, id := range d.OnlyTokens {
			if !ids[id] {
				t.Fatalf("destination %+v takes an unknown key", d)
			}
		}
		names[d.Name] = true
	}
}

// FuzzDecode: no section makes Decode panic, whatever the struct wants.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("access_token: a\nwords: [a, b]\nnames: {a: b}\nrules: [{from: a, to: 1}]\nper_event: {a: {from: b}}\nnested: {depth: 1}\nlater: [1]"))
	f.Add([]byte("wait: 5\nbuffer: 1ZB\nsmall: 1e3\nratio: x\non: maybe\nnetwork: 1\nlimit: []"))
	f.Add([]byte("a: &a {<<: [*a]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := NewSettings("fuzz.yaml", "p", data)
		var into component
		for _, err := range []error{err, s.Decode(&into)} {
			var ps Problems
			if err != nil && !errors.As(err, &ps) {
				t.Fatalf("%T %v", err, err)
			}
		}
	})
}
