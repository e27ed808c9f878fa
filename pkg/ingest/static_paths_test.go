package ingest

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStaticFilesOfSDKs: where the web pages of each SDK look for its script.
func TestStaticFilesOfSDKs(t *testing.T) {
	o := testOptions(&memoryLog{})
	o.Server.StaticFilesDir = t.TempDir()
	for _, name := range []string{"lib.js", "p.js", "analytics.min.js", "auto-track.bundle.f131ce01.js"} {
		if err := os.WriteFile(filepath.Join(o.Server.StaticFilesDir, name), []byte("// "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := start(t, o)
	f := func(path string, status int, body string) {
		t.Helper()
		if got := send(t, "GET", base+path, nil); got.status != status || status == 200 && got.body != body {
			t.Errorf("%s: got %d %s, want %d %s", path, got.status, got.body, status, body)
		}
	}
	f("/s/lib.js", 200, "// lib.js")
	f("/p.js", 200, "// p.js")
	f("/analytics.js/v1/js.client/analytics.min.js", 200, "// analytics.min.js")
	f("/analytics.js/v1/js.client/other.js", 404, "")
	f("/analytics-next/bundles/auto-track.bundle.f131ce01.js", 200, "// auto-track.bundle.f131ce01.js")
	f("/analytics-next/bundles/../lib.js", 404, "")
	f("/analytics-next/bundles/", 404, "")
	f("/analytics.js/v1/js.client/../../lib.js", 404, "")
	f("/analytics.js/v1/analytics.min.js", 404, "")
	f("/lib.js", 404, "")
}
