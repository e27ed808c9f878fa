package jitsuconfig

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/docs"
)

// TestJitsuCases: what Jitsu was seen to make of an event by its mappings, and of mappings that are wrong.
func TestJitsuCases(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/jitsu/mappings.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Object json.RawMessage
			Cases  []struct {
				Case       string
				DataLayout map[string]any `json:"data_layout"`
				HTTP       int
				Response   struct{ Result, Error string }
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	g := file.Groups[0]
	if len(g.Cases) != 2 {
		t.Errorf("%d cases, want 2", len(g.Cases))
	}
	listed := docs.Differences("mappings")
	for _, c := range g.Cases {
		if (listed[c.Case] != "") != (c.HTTP != 200) {
			t.Errorf("%s: the documentation lists it among the differences, or does not, and the code does otherwise", c.Case)
		}
		layout := layoutOf(t, c.DataLayout)
		if c.HTTP != 200 {
			// Jitsu does not start such a destination: here it gets no events, and the report says why.
			if !layout.Staged || layout.Transform != "" || !strings.Contains(c.Response.Error, "Unknown mapping action: zzz. Available actions: [move, remove, cast, constant]") ||
				!hasNote(layout.notes, LeftOut, "destinations.hook.data_layout.mappings", "unknown mapping action zzz; there are move, remove, cast and constant") {
				t.Errorf("%s: got %+v", c.Case, layout)
			}
			continue
		}
		got, err := run(t, compile(t, layout.Transform), string(g.Object))
		if err != nil {
			t.Fatalf("%s: %v", c.Case, err)
		}
		if diff := cmp.Diff(decode(t, []byte(c.Response.Result)), got); diff != "" {
			t.Errorf("%s (-Jitsu +transform):\n%s\n%s", c.Case, diff, layout.Transform)
		}
	}
}

// TestMappedByHand: mappings whose results are easier to read than to model.
func TestMappedByHand(t *testing.T) {
	f := func(layout map[string]any, in, want string) {
		t.Helper()
		script := layoutOf(t, layout).Transform
		got, err := run(t, compile(t, script), in)
		if err != nil {
			t.Fatalf("%v of %s: %v\n%s", layout, in, err, script)
		}
		if diff := cmp.Diff(decode(t, []byte(want)), got); diff != "" {
			t.Errorf("%v of %s (-want +got):\n%s\n%s", layout, in, diff, script)
		}
	}
	fields := func(rules ...jitsuRule) map[string]any {
		return map[string]any{"mappings": map[string]any{"fields": rules}}
	}
	// Where Jitsu replaces the whole user and loses the e-mail.
	f(fields(jitsuRule{Src: "/mail", Dst: "/user/mail", Action: "move"}), `{"mail":"m","user":{"email":"a@b.co"}}`, `{"user":{"email":"a@b.co","mail":"m"}}`)
	f(fields(jitsuRule{Src: "/address", Dst: "/user", Action: "move"}), `{"address":{"city":"Rome"},"user":{"email":"a@b.co"}}`, `{"user":{"city":"Rome"}}`)
	f(fields(jitsuRule{Src: "/properties", Dst: "/", Action: "move"}), `{"a":1,"properties":{"a":2,"b":3}}`, `{"a":2,"b":3}`)
	f(fields(jitsuRule{Src: "/a/0", Dst: "/b", Action: "move"}), `{"a":["x"]}`, `{"a":["x"]}`)
	f(fields(jitsuRule{Src: "/user/length", Dst: "/b", Action: "move"}), `{"user":"text"}`, `{"user":"text"}`)
	f(fields(jitsuRule{Src: "/big", Dst: "/user/big", Action: "move"}), `{"big":12345678901234567890}`, `{"user":{"big":12345678901234567890}}`)
	f(fields(jitsuRule{Src: "/big", Dst: "/large", Action: "move"}), `{"big":12345678901234567890}`, `{"large":12345678901234567890}`)
	f(fields(jitsuRule{Dst: "/a", Action: "constant", Value: "${env"}), `{}`, `{"a":"${env"}`)
	f(map[string]any{"mapping": []string{"/a -> /b", "/b ->"}, "mapping_type": "strict"}, `{"a":1}`, `{}`)
	f(map[string]any{"mapping": []string{"/a -> /b", "/c->", "/n -> (integer) /m"}}, `{"a":1,"c":2,"n":3,"x":4}`, `{"b":1,"m":3,"x":4}`)
	f(map[string]any{"mapping": []string{"/a -> /b"}, "mapping_type": "strict"}, `{"a":1,"c":2}`, `{"b":1}`)
	f(map[string]any{"mapping": []string{"/a -> /b"}, "transform": "return null", "transform_enabled": false}, `{"a":1}`, `{"b":1}`)
}
