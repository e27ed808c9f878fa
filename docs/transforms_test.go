package docs

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// compileTransform gives a busy machine time, as compile does.
func compileTransform(src string) (*filters.Transform, error) {
	return filters.CompileTransform(src, filters.Options{Destination: "crm", Type: "hubspot", Limit: patience(src)})
}

// transform is what becomes of an event: the JSON of each output, or that there is none, or "dead letter" with the error.
func transform(t *testing.T, src, json string) (becomes string, outputs []filters.Output, err error) {
	t.Helper()
	compiled, err := compileTransform(src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return transformed(compiled, json)
}

// transformed is what becomes of an event by a transform, nil for one that changes nothing.
func transformed(compiled *filters.Transform, json string) (becomes string, outputs []filters.Output, err error) {
	ev := &event.Event{ID: "1", APIKey: "web", Received: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), JSON: []byte(json)}
	if compiled == nil {
		return "`" + json + "`", []filters.Output{{Event: ev}}, nil
	}
	outputs, why, err := compiled.Eval(ev, filters.World{KV: filters.NewMemoryKV(nil)})
	if err != nil {
		return "dead letter", nil, err
	}
	var parts []string
	for _, o := range outputs {
		if o.Table != nil && !o.Table.Keep {
			why = o.Table.Why
			continue
		}
		parts = append(parts, "`"+string(o.Event.JSON)+"`")
	}
	if len(parts) == 0 {
		return "filtered: " + why, outputs, nil
	}
	return strings.Join(parts, ", "), outputs, nil
}

// TestTransformTables runs every transform of the page's tables.
func TestTransformTables(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, tb := range load(t, "transforms.md").tables {
		column := slices.Index(tb.header, "transform")
		if column < 0 {
			continue
		}
		for _, row := range tb.rows {
			src := code(row[column])[0]
			ran++
			switch what := tb.header[column+1]; what {
			case "message":
				if _, err := compileTransform(src); err == nil || err.Error() != row[column+1] {
					t.Errorf("%s:\n got %v\nwant %s", src, err, row[column+1])
				}
			case "warning":
				compiled, err := compileTransform(src)
				if err != nil || len(compiled.Warnings()) != 1 || compiled.Warnings()[0] != row[column+1] {
					t.Errorf("%s:\n got %v %v\nwant %s", src, compiled, err, row[column+1])
				}
			case "keeps of what the router added":
				if diff := cmp.Diff(code(row[column+1]), kept(t, src)); diff != "" {
					t.Errorf("%s (-page +kept):\n%s", src, diff)
				}
			case "event":
				becomes, _, err := transform(t, src, code(row[column+1])[0])
				want, got := row[column+2], becomes
				if tb.header[column+2] == "error" {
					got = ""
					if err != nil {
						got = err.Error()
					}
				}
				if got != want {
					t.Errorf("%s of %s:\n got %s (%v)\nwant %s", src, row[column+1], got, err, want)
				}
			default:
				t.Errorf("nobody runs the column %q", what)
			}
		}
	}
	if ran < 50 {
		t.Errorf("%d transforms", ran)
	}
}

// kept are the members that the view of the first output has of what the router added to its event.
func kept(t *testing.T, src string) (names []string) {
	t.Helper()
	compiled, err := compileTransform(src)
	if err != nil {
		t.Fatal(err)
	}
	ev := &event.Event{
		ID: "1", APIKey: "web", Received: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), Source: "jitsu", SourceIP: "10.0.0.1", UserAgent: "UA", Email: "a@b.co",
		AnonymousHash: "0a1b", Added: []byte(`{"location":{"country":"DE"}}`), JSON: []byte(`{"event_type":"a","user":{"id":1}}`),
	}
	outputs, _, err := compiled.Eval(ev, filters.World{})
	if err != nil {
		t.Fatal(err)
	}
	view := outputs[0].Event.AppendView(nil)
	for _, name := range []string{
		"api_key", "eventn_ctx_event_id", "src", "source_ip", "user_agent", "_timestamp", "location", "user.email", "user.hashed_anonymous_id",
	} {
		if gjson.GetBytes(view, name).Exists() {
			names = append(names, name)
		}
		if gjson.GetBytes(outputs[0].Event.JSON, name).Exists() {
			t.Errorf("%s makes %s a member of the event", src, name)
		}
	}
	return names
}

// TestTransformLimits runs what is over each limit.
func TestTransformLimits(t *testing.T) {
	t.Parallel()
	for _, row := range load(t, "transforms.md").tableUnder(t, "Limits").rows {
		if len(code(row[2])) == 0 {
			continue
		}
		src := code(row[2])[0]
		compiled, err := compileTransform(src)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		_, _, err = compiled.Eval(&event.Event{ID: "1", JSON: []byte(`{}`)}, filters.World{KV: filters.NewMemoryKV(nil)})
		says := strings.Fields(strings.NewReplacer(",", "", " KiB", "", " MiB", "048576", "20 ms", "").Replace(row[1])) // the number, as errors write it
		named := err != nil && len(says) > 0 && strings.Contains(err.Error(), says[0])
		if err == nil || !errors.Is(err, filters.ErrLimit) && !named {
			t.Errorf("%s: %s: %v", row[0], src, err)
		}
	}
}

// TestToSegment: each field comes from where the page says, in both formats, and there are no others.
func TestToSegment(t *testing.T) {
	t.Parallel()
	page := load(t, "transforms.md")
	compiled, err := compileTransform("toSegment($)")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{"JITSU_TABLE_NAME": true}
	for _, row := range page.tableUnder(t, "`toSegment($)`").rows {
		field, value, want := code(row[0])[0], `"x"`, `"x"`
		if field == "timestamp" || field == "sent_at" {
			value, want = `"2026-11-21T10:00:00Z"`, `"2026-11-21T10:00:00.000Z"`
		}
		seen[field] = true
		for _, path := range code(row[1]) {
			formats := []string{path}
			if !strings.HasPrefix(path, "src_payload") && path != "source_ip" && path != "app" {
				formats = append(formats, "eventn_ctx."+path)
			}
			for _, path := range formats {
				json := value
				names := strings.Split(path, ".")
				for _, name := range slices.Backward(names) {
					json = `{"` + name + `":` + json + `}`
				}
				_, outputs, err := transformed(compiled, json)
				if err != nil {
					t.Fatal(err)
				}
				made := gjson.ParseBytes(outputs[0].Event.JSON)
				if got := made.Get(field).Raw; got != want {
					t.Errorf("%s of %s: %q in %s", field, json, got, made.Raw)
				}
				made.ForEach(func(k, _ gjson.Result) bool {
					if !seen[k.Str] && !strings.Contains(page.text, "| `"+k.Str+"` |") {
						t.Errorf("the page does not have %s", k.Str)
					}
					return true
				})
			}
		}
	}
	for eventType, want := range map[string]string{"user_identify": "identifies", "identify": "identifies", "page": "pages", "pageview": "pages", "signup": "signup"} {
		if _, outputs, _ := transformed(compiled, `{"event_type":"`+eventType+`"}`); outputs[0].Table == nil || outputs[0].Table.Name != want {
			t.Errorf("%s: %+v", eventType, outputs[0].Table)
		}
	}
}

// TestKVExample: what the page keeps between events.
func TestKVExample(t *testing.T) {
	t.Parallel()
	p := load(t, "transforms.md")
	for _, row := range p.tableUnder(t, "`$kv`").rows {
		if becomes, _, err := transform(t, code(row[0])[0]+"; return {ok: true}", "{}"); err != nil && becomes != "`{\"ok\":true}`" {
			t.Errorf("%s: %s, %v", row[0], becomes, err)
		}
	}
	src := ""
	for _, b := range p.blocks {
		if b.lang == "js" && slices.Equal(b.words, []string{"transform"}) {
			src = b.text
		}
	}
	compiled, err := compileTransform(src)
	if err != nil {
		t.Fatal(err)
	}
	kv := filters.NewMemoryKV(nil)
	f := func(json, want string) {
		t.Helper()
		outputs, _, err := compiled.Eval(&event.Event{ID: "1", JSON: []byte(json)}, filters.World{KV: kv})
		if err != nil || gjson.GetBytes(outputs[0].Event.JSON, "first_utm.source").Str != want {
			t.Errorf("%s: %v", json, err)
		}
	}
	f(`{"user":{"anonymous_id":"v1"},"utm":{"source":"news"}}`, "news")
	f(`{"user":{"anonymous_id":"v1"},"utm":{"source":"ads"}}`, "news")
	f(`{"user":{"anonymous_id":"v2"},"utm":{"source":"ads"}}`, "ads")
}
