package jitsuconfig

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
)

// FuzzConvert: no file makes the converter panic, no report and no error shows a secret of the file, and a result is YAML that the converter reads again.
func FuzzConvert(f *testing.F) {
	files, err := filepath.Glob("testdata/files/*")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Convert("fuzz.yaml", data)
		if err != nil {
			var problems config.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("%T %v", err, err)
			}
			noSecret(t, data, err.Error())
			return
		}
		var notes bytes.Buffer
		if err := WriteNotes(&notes, "fuzz.yaml", r.Notes); err != nil {
			t.Fatal(err)
		}
		noSecret(t, data, notes.String())
		if r.YAML == nil {
			if len(r.Notes) == 0 {
				t.Fatalf("%q: nothing came out, and nothing is said of it", data)
			}
			return
		}
		if _, err := config.Document("router.yaml", r.YAML); err != nil {
			t.Fatalf("%q: the result is not read again: %v\n%s", data, err, r.YAML)
		}
	})
}

// noSecret fails if what people are shown has a secret of the file: a text below the name of one that stands nowhere else in the file, and in no word of ours.
func noSecret(t *testing.T, data []byte, shown string) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return
	}
	var walk func(n *yaml.Node, secret bool)
	walk = func(n *yaml.Node, secret bool) {
		for i, c := range n.Content {
			switch {
			case n.Kind == yaml.MappingNode && i%2 == 1:
				name := strings.ToLower(n.Content[i-1].Value)
				walk(c, secret || strings.Contains(name, "secret") || strings.Contains(name, "token") && name != "only_tokens" || strings.Contains(name, "passw"))
			case n.Kind != yaml.MappingNode:
				walk(c, secret)
			}
		}
		if secret && n.Kind == yaml.ScalarNode && n.Tag == "!!str" && len(n.Value) >= 8 && !strings.Contains(n.Value, "${env.") && strings.Contains(shown, n.Value) {
			t.Errorf("%q: shows %q:\n%s", data, n.Value, shown)
		}
	}
	walk(&doc, false)
}
