package portal

import (
	"strings"
	"testing"
)

// TestConnectScript: connect.js is small, needs nothing else, and asks for no cookies.
func TestConnectScript(t *testing.T) {
	const most = 3 << 10
	text := string(assets["connect.js"].body)
	if len(text) > most {
		t.Errorf("connect.js has %d bytes, want at most %d", len(text), most)
	}
	for _, word := range []string{"import ", "require(", "cookie", "localStorage", "sessionStorage", "innerHTML", "eval("} {
		if strings.Contains(text, word) {
			t.Errorf("connect.js has %q", word)
		}
	}
}
