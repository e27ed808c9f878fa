package segment

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// maxGrowth bounds a canonical event: the message is kept beside what is made of it, and its ids stand in several places of Jitsu's forms.
const (
	maxGrowth = 5
	maxAdded  = 512
)

// FuzzConvert: of valid JSON comes valid JSON, bounded in size, that keeps the message without its write keys, and in which properties and ids are found.
func FuzzConvert(f *testing.F) {
	for _, seed := range []string{
		`{"type":"track","event":"e","userId":"u","properties":{"a":1,"user":2},"context":{"traits":{"email":"a@b.co"}},"writeKey":"k"}`,
		`{"type":"identify","traits":{"a":{"b":[1,2,{"c":"}"}]}},"api\u005fkey":1,"anonymousId":"a"}`,
		`{"type":"page","name":"n","context":{"page":{"title":"t","url":"u"},"campaign":{"name":"c"},"os":{"name":"o"},"device":{"id":1},"screen":{"width":1,"height":2}}}`,
		`{"type":"group","groupId":1,"traits":{},"timestamp":"2026-11-21T12:00:00Z","sentAt":"2026-11-21T12:00:01Z"}`,
		`{"type":"alias","previousId":"\"","userId":"\\"}`, `{ "a" : "\\\"" , "properties" : { "" : [ ] } }`, `{}`, `{"":{}}`, `{"type":1,"event":[],"context":"c","traits":null}`,
	} {
		f.Add([]byte(seed), byte(0), []byte(`{"ip":"::1"}`))
		f.Add([]byte(seed), byte(1), []byte(`null`))
		f.Add([]byte(seed), byte(5), []byte(`{}`))
	}
	types := []string{"", "identify", "track", "group"}
	f.Fuzz(func(t *testing.T, message []byte, options byte, context []byte) {
		if !isValid(message) || message[0] != '{' {
			return
		}
		o := Options{Protocol: "segment", Form: Form(options % 3), Type: types[options/3%4], Received: received}
		if isValid(context) {
			o.Context, o.SentAt = context, context
		}
		var c Converter
		out, src := c.Append(nil, message, &o)
		if !json.Valid(out) || out[0] != '{' || !utf8.Valid(out) {
			t.Fatalf("became %s", out)
		}
		if most := maxGrowth*(len(message)+len(o.Context)) + maxAdded; len(out) > most {
			t.Errorf("%d bytes became %d", len(message), len(out))
		}
		want := object(t, message)
		delete(want, "writeKey")
		delete(want, "api_key")
		got := object(t, out)
		if diff := cmp.Diff(want, got["segment"]); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(got["segment"], any(object(t, src.Kept))); diff != "" {
			t.Errorf("kept, by the source (-want +got):\n%s", diff)
		}
		properties, _ := want["properties"].(map[string]any)
		for name, value := range properties {
			if topNameOf([]byte(name)) == freeName {
				if diff := cmp.Diff(value, got[name]); diff != "" {
					t.Errorf("property %q (-want +got):\n%s", name, diff)
				}
			}
		}
		if id, ok := want["userId"].(string); ok && id != "" {
			user, _ := got["user"].(map[string]any)
			if compat, ok := got["eventn_ctx"].(map[string]any); ok && o.Form == JitsuCompat {
				user, _ = compat["user"].(map[string]any)
			}
			if user["id"] != id && user["internal_id"] != id {
				t.Errorf("user %v, want id %q", user, id)
			}
		}
		again, _ := c.Append(nil, message, &o)
		if !bytes.Equal(out, again) {
			t.Errorf("the second time it became %s", again)
		}
	})
}

// isValid says whether data is JSON in UTF-8 of the nesting that callers let through, and begins with a value.
func isValid(data []byte) bool {
	if !json.Valid(data) || !utf8.Valid(data) || data[0] <= ' ' || data[len(data)-1] <= ' ' {
		return false
	}
	d, depth := json.NewDecoder(bytes.NewReader(data)), 0
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return true
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > 128 {
			return false
		}
	}
}

func object(t *testing.T, data []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}
