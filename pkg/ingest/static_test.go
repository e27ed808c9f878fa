package ingest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStaticFiles: the files of the folder, and nothing else of the machine.
func TestStaticFiles(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	script := "(function(){" + strings.Repeat("jitsu();", 500) + "})()"
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(dir, "lib.js", script)
	write(dir, "lib.js.map", "{}")
	write(dir, ".secret", "no")
	write(dir, "empty.txt", "")
	write(dir, "odd name.js", "no")
	write(outside, "passwd", "no")
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(dir, "sub", "x.js"), []byte("no"), 0o600),
		os.Symlink(filepath.Join(outside, "passwd"), filepath.Join(dir, "out.js")), os.Symlink("lib.js", filepath.Join(dir, "latest.js")),
		syscall.Mkfifo(filepath.Join(dir, "pipe.js"), 0o600), os.Truncate(filepath.Join(dir, "empty.txt"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o := testOptions(&memoryLog{})
	o.Server.StaticFilesDir = dir
	base := start(t, o)

	f := func(path string, status int, body, kind string, headers ...string) answer {
		t.Helper()
		got := send(t, "GET", base+path, nil, headers...)
		if got.status != status || body != "" && got.body != body || kind != "" && got.header.Get("Content-Type") != kind {
			t.Errorf("%s: %d %s %.200q, want %d %s %.200q", path, got.status, got.header.Get("Content-Type"), got.body, status, kind, body)
		}
		if got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: no site may read it", path)
		}
		if strings.Contains(got.body, "no") && got.status == 200 {
			t.Errorf("%s: %s", path, got.body)
		}
		return got
	}
	const js = "text/javascript; charset=utf-8"
	plain := f("/s/lib.js", 200, script, js)
	f("/t/lib.js", 200, script, js)
	f("/p/lib.js", 200, script, js)
	f("/s/latest.js", 200, script, js)
	f("/s/lib.js?key=x", 200, script, js)
	f("/s/lib%2Ejs", 200, script, js)
	f("/s/lib.js.map", 200, "{}", "application/json")
	f("/s/empty.txt", 200, "", "text/plain; charset=utf-8")
	if head := send(t, "HEAD", base+"/s/lib.js", nil); head.status != 200 || head.header.Get("Content-Length") != plain.header.Get("Content-Length") || head.body != "" {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}

	// Compressed for who takes it.
	zipped := f("/s/lib.js", 200, "", js, "Accept-Encoding", "br, gzip")
	r, err := gzip.NewReader(strings.NewReader(zipped.body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); string(text) != script || err != nil || zipped.header.Get("Content-Encoding") != "gzip" || len(zipped.body) > len(script)/2 {
		t.Errorf("compressed: %v, %d bytes", err, len(zipped.body))
	}
	if got := f("/s/lib.js.map", 200, "{}", "", "Accept-Encoding", "gzip"); got.header.Get("Content-Encoding") != "" {
		t.Error("two bytes are compressed to more")
	}
	if plain.header.Get("ETag") == zipped.header.Get("ETag") || plain.header.Get("Vary") != "Accept-Encoding" {
		t.Error("caches can not tell the two apart")
	}

	// Known already.
	modified := plain.header.Get("Last-Modified")
	at, err := http.ParseTime(modified)
	if err != nil {
		t.Fatal(err)
	}
	before := at.Add(-time.Second).Format(http.TimeFormat)
	f("/s/lib.js", 304, "", "", "If-None-Match", `"x", W/`+plain.header.Get("ETag"))
	f("/s/lib.js", 304, "", "", "If-Modified-Since", modified)
	f("/s/lib.js", 200, script, js, "If-Modified-Since", before)
	f("/s/lib.js", 200, script, js, "If-None-Match", `"x"`, "If-Modified-Since", modified)
	f("/s/lib.js", 200, "", js, "If-None-Match", plain.header.Get("ETag"), "Accept-Encoding", "gzip")

	// Not to be had.
	for _, path := range []string{
		"/s/nothing.js", "/s/.secret", "/s/", "/s", "/s/sub", "/s/sub/x.js", "/s/out.js", "/s/pipe.js", "/s/odd%20name.js", "/s/..%2f..%2fetc%2fpasswd", "/s/%2e%2e/x",
		"/s/lib.js%00", "/s/..", "/s//lib.js/x", "/s/" + strings.Repeat("a", 300),
	} {
		got := send(t, "GET", base+path, nil)
		if got.status != 404 || !strings.HasPrefix(got.body, "404 page not found") {
			t.Errorf("%s: %d %.100q", path, got.status, got.body)
		}
	}
	f("/s/nothing.js", 404, "404 page not found: server.static_files_dir holds no file nothing.js", "")

	// Changed.
	write(dir, "lib.js", "new")
	f("/s/lib.js", 200, "new", js)
	if got := send(t, "OPTIONS", base+"/s/lib.js", nil); got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != "*" || got.body != "" {
		t.Errorf("OPTIONS: %d %q", got.status, got.body)
	}
	if got := send(t, "POST", base+"/s/lib.js", []byte("x")); got.status != 404 {
		t.Errorf("POST: %d", got.status)
	}
	if err := os.Remove(filepath.Join(dir, "lib.js")); err != nil {
		t.Fatal(err)
	}
	f("/s/lib.js", 404, "", "")
}

func TestStaticFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big.js"), bytes.Repeat([]byte("x"), maxStaticBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openStatic(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.root.Close()
	if _, err := s.file("big.js"); err == nil {
		t.Error("a file above the limit is served")
	}
	for i := range 2 * maxStaticFiles {
		name := strings.Repeat("x", i+1)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.file(name); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.files) > maxStaticFiles {
		t.Errorf("%d files are kept", len(s.files))
	}
}

func TestStaticFilesDirMustBeThere(t *testing.T) {
	o := testOptions(&memoryLog{})
	o.Server.StaticFilesDir = filepath.Join(t.TempDir(), "nothing")
	_, err := New(o)
	if err == nil || !strings.Contains(err.Error(), "server.static_files_dir") {
		t.Errorf("a folder that is not there: %v", err)
	}
}
