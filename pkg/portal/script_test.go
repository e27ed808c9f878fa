package portal

import (
	"strings"
	"testing"

	"eventrouter/pkg/destinations"
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

// TestProblemsHaveWords: whatever keeps events from HubSpot is said in each language, and in the types of connect.js.
func TestProblemsHaveWords(t *testing.T) {
	types := string(assets["connect.d.ts"].body)
	for _, c := range []destinations.Cause{
		destinations.CausePermission, destinations.CauseLimit, destinations.CauseUnavailable, destinations.CauseRefused, destinations.CauseOther,
	} {
		for _, language := range []string{"en", "de"} {
			if inLanguage(language, "Shop").Problems[string(c)] == "" {
				t.Errorf("%s has no words in %s", c, language)
			}
		}
		if !strings.Contains(types, `"`+string(c)+`"`) {
			t.Errorf("%s is not in connect.d.ts", c)
		}
	}
}
