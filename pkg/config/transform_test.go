package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// scriptDir makes a folder with files to name in transform_file.
func scriptDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"crm.js": "return $.a", "pipelines/crm.js": "return $.b", "bom.js": "\uFEFFreturn $.c", "empty.js": " \n", "bom-only.js": "\uFEFF",
		"latin1.js": "return 1\n// \xfcber", "long.js": "return 1" + strings.Repeat(" ", 1<<20), "longest.js": "return 1" + strings.Repeat(" ", 1<<20-8),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

const scripted = "api_keys: js.x\ndestinations:\n  crm:\n    type: hubspot\n    data_layout:\n"

// TestTransformFile: where the script comes from and begins, and what is wrong with it, with the line that names it.
func TestTransformFile(t *testing.T) {
	dir := scriptDir(t)
	f := func(layout, want string, at Pos) {
		t.Helper()
		cfg, err := Parse(filepath.Join(dir, "router.yaml"), []byte(scripted+layout), nil)
		if err != nil {
			t.Errorf("%s: %v", layout, err)
			return
		}
		d := cfg.Destinations[0]
		if at.File = filepath.Join(dir, at.File); at.Line == 0 {
			at = Pos{}
		}
		if strings.TrimSpace(d.Transform) != want || d.TransformPos != at {
			t.Errorf("%s: %.50q at %v, want %q at %v", layout, d.Transform, d.TransformPos, want, at)
		}
	}
	f("      transform_file: crm.js", "return $.a", Pos{"crm.js", 1})
	f("      transform_file: pipelines/crm.js", "return $.b", Pos{"pipelines/crm.js", 1})
	f("      transform_file: ./pipelines/../crm.js", "return $.a", Pos{"crm.js", 1})
	f("      transform_file: "+dir+"/crm.js", "return $.a", Pos{"crm.js", 1})
	f("      transform_file: bom.js", "return $.c", Pos{"bom.js", 1})
	f("      transform_file: longest.js", "return 1", Pos{"longest.js", 1})
	f("      transform: return 1", "return 1", Pos{"router.yaml", 6})
	f("      transform_file: ''\n      transform: return 1", "return 1", Pos{"router.yaml", 7})
	// What is switched off needs no file.
	f("      transform_file: crm.js\n      transform_enabled: false", "", Pos{})
	f("      transform_file: none.js\n      transform_enabled: false", "", Pos{})
	f("      transform: return 1\n      transform_enabled: false", "", Pos{})
	f("      transform: ' '", "", Pos{})

	bad := func(layout, want string) {
		t.Helper()
		_, err := Parse(filepath.Join(dir, "router.yaml"), []byte(scripted+layout), nil)
		if err == nil || strings.ReplaceAll(err.Error(), dir+"/", "") != "router.yaml:"+want {
			t.Errorf("%s: %v, want %s", layout, err, want)
		}
	}
	const at = "6: destinations.crm.data_layout.transform_file: "
	bad("      transform_file: none.js", at+"there is no file none.js; names are relative to the folder of the configuration file")
	bad("      transform_file: pipelines", at+"pipelines is a folder, and must be a file")
	bad("      transform_file: pipe", at+"pipe must be a file, which it is not")
	bad("      transform_file: empty.js", at+"empty.js is empty; without transform_file events stay as they are")
	bad("      transform_file: bom-only.js", at+"bom-only.js is empty; without transform_file events stay as they are")
	bad("      transform_file: latin1.js", at+"latin1.js is no text in UTF-8, in its line 2")
	bad("      transform_file: long.js", at+"long.js is longer than 1 MiB")
	bad("      transform_file: https://example.com/crm.js", at+"must be the name of a file, not a URL")
	bad("      transform_file: crm.js\n      transform: return 1", at+"stands beside transform; keep one of the two")
}

// TestTransformFileElsewhere: what comes from elsewhere names no files of this machine, switched off or not.
func TestTransformFileElsewhere(t *testing.T) {
	dir := scriptDir(t)
	for _, layout := range []string{`{"transform_file": "crm.js"}`, `{"transform_file": "` + dir + `/crm.js", "transform_enabled": false}`} {
		read := false
		_, err := ParseWith(filepath.Join(dir, "router.yaml"), []byte("api_keys: js.x\ndestinations: https://example.com/d"), Options{
			Read: func(Address, Server) ([]byte, error) {
				return []byte("{\"destinations\": {\"crm\": {\"type\": \"hubspot\",\n\"data_layout\": " + layout + "}}}"), nil
			},
			ReadScript: func(string) ([]byte, error) { read = true; return nil, errors.New("read") },
		})
		const want = "https://example.com/d:2: destinations.crm.data_layout.transform_file: can only be named in the configuration file itself; write the script into transform"
		if err == nil || err.Error() != want || read {
			t.Errorf("%s: %v, want %s; read: %v", layout, err, want, read)
		}
	}
}

// TestScripts: the configuration tells which files were read, also those that were wrong.
func TestScripts(t *testing.T) {
	dir := scriptDir(t)
	cfg, _ := Parse(filepath.Join(dir, "router.yaml"), []byte("api_keys: js.x\ndestinations:\n  a: {type: hubspot, data_layout: {transform_file: crm.js}}\n"+
		"  b: {type: hubspot, data_layout: {transform_file: none.js}}\n  c: {type: hubspot, data_layout: {transform_file: empty.js}}\n"), nil)
	want := []Script{{dir + "/crm.js", []byte("return $.a")}, {dir + "/none.js", nil}, {dir + "/empty.js", []byte(" \n")}}
	if len(cfg.Scripts) != len(want) {
		t.Fatalf("%+v", cfg.Scripts)
	}
	for i, s := range cfg.Scripts {
		if s.Path != want[i].Path || string(s.Data) != string(want[i].Data) || (s.Data == nil) != (want[i].Data == nil) {
			t.Errorf("%d: %+v, want %+v", i, s, want[i])
		}
	}
}
