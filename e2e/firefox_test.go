package e2e

import (
	"os"
	"testing"

	"github.com/tidwall/gjson"
)

// TestConnectPageInFirefox plays the connect page in Firefox, in a frame and in a window. make firefox runs it; it is no part of make test, which has Chromium.
func TestConnectPageInFirefox(t *testing.T) {
	firefox := os.Getenv("FIREFOX")
	if firefox == "" {
		t.Skip("FIREFOX names no browser: make firefox runs this")
	}
	r := newConnectRig(t)
	seen := gjson.Parse(run(t, "firefox", "node", "connect.mjs", firefox, r.site))
	f := func(path, want string) {
		t.Helper()
		if got := seen.Get(path); got.String() != want {
			t.Errorf("%s: got %s, want %s", path, got.Raw, want)
		}
	}
	f("framed.focus", "connection")
	f("framed.checked", `[false,false,true]`)
	f("framed.changes", `["not_connected","connected 1001","not_connected"]`)
	f("window.changes", `["not_connected","connected 1002"]`)
	f("said", `[]`)
}
