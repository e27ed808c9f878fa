package filters

import (
	"testing"
	"time"

	"eventrouter/pkg/event"
)

const requestHeaders = `{"__HTTP_CONTEXT__":{"headers":{"user-agent":["curl/8"],"x-plan":["gold","silver"],"accept":[]}},"location":{"country":"DE"}}`

// contextEvent is one whose request headers and hash the router has noted.
func contextEvent(json string) *event.Event {
	return &event.Event{
		ID: "e1", APIKey: "k1", Received: time.Unix(1600000000, 0), AnonymousHash: "0a1b", Added: []byte(requestHeaders), JSON: []byte(json),
	}
}

func TestHeader(t *testing.T) {
	f := func(src, json, want string) {
		t.Helper()
		c, err := Compile(src, patient)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		for range 2 {
			got, err := c.Eval(contextEvent(json))
			if err != nil || got.Name != want {
				t.Errorf("%s on %s: got %q, %v, want %q", src, json, got.Name, err, want)
			}
		}
		none := &event.Event{JSON: []byte(`{}`)} // what the last event left behind
		if got, err := c.Eval(none); err != nil || got.Name != "null" {
			t.Errorf("%s without headers: got %q, %v", src, got.Name, err)
		}
	}
	f(`$context.header("user-agent")`, `{}`, "curl_8")
	f(`$context.header("User-Agent")`, `{}`, "curl_8")
	f(`$context.header("x-plan")`, `{}`, "gold")
	f(`$context.header("accept")`, `{}`, "null")
	f(`$context.header("cookie")`, `{}`, "null")
	f(`$context.header()`, `{}`, "null")
	f(`{{header . "User-Agent"}}`, `{}`, "curl_8")
	f(`{{header . "x-plan"}}`, `{}`, "gold")
	f(`{{header . "accept"}}`, `{}`, "null")
	f(`{{header . "nothing"}}`, `{}`, "null")
	// What a client makes up does not replace what was noted.
	f(`$context.header("user-agent")`, `{"__HTTP_CONTEXT__":{"headers":{"user-agent":["made up"]}}}`, "curl_8")
	f(`{{header . "user-agent"}}`, `{"__HTTP_CONTEXT__":{"headers":{"user-agent":["made up"]}}}`, "curl_8")
}

// TestValueOfEnvelope: a path finds what the router added, as a whole script does.
func TestValueOfEnvelope(t *testing.T) {
	f := func(path, json, want string) {
		t.Helper()
		for _, src := range []string{path, "(x => x)(" + path + ")"} {
			v, err := CompileValue(src, patient)
			if err != nil {
				t.Fatalf("%s: %v", src, err)
			}
			r, err := v.Eval(NewView(contextEvent(json)))
			if err != nil || r.Raw != want {
				t.Errorf("%s on %s: got %s, %v, want %s", src, json, r.Raw, err, want)
			}
		}
	}
	f("$.user.hashed_anonymous_id", `{"user":{"id":1}}`, `"0a1b"`)
	f("$.user.hashed_anonymous_id", `{"user":{"hashed_anonymous_id":"made up"}}`, `"0a1b"`)
	f("$.user.hashed_anonymous_id", `{}`, "")
	f("$.user.id", `{"user":{"id":1}}`, `1`)
	f("$.eventn_ctx.user.hashed_anonymous_id", `{"eventn_ctx":{"user":{"id":1}}}`, `"0a1b"`)
	f("$.location.country", `{}`, `"DE"`)
	f("$.location.country", `{"location":{"country":"FR"}}`, `"FR"`)
	f("$.__HTTP_CONTEXT__.headers.accept", `{}`, `[]`)
	f("$.eventn_ctx_event_id", `{"event_id":"e1"}`, `"e1"`)
	f("$.event_id", `{"event_id":"e1"}`, "")
}
