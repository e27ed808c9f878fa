package docs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"eventrouter/pkg/ingest/segment"
)

const messageTables = "Segment, RudderStack, Jitsu v2"

// TestMessageRoutes: each route of the table takes the secrets that it names and no other, answers as it says, and has CORS or not.
func TestMessageRoutes(t *testing.T) {
	t.Parallel()
	d := served(t)
	secrets := map[string]string{"client": "js.change-me", "server": "s2s.change-me"}
	n := 0
	for _, row := range load(t, "protocols.md").tableUnder(t, messageTables).rows {
		for _, span := range code(row[0]) {
			method, path, ok := strings.Cut(span, " ")
			if !ok {
				method, path = "POST", span
			}
			for kind, secret := range secrets {
				body := `{"type":"page"}`
				if strings.HasSuffix(path, "/event") {
					body = `{"type":"track","event":"e"}`
				}
				url := "http://" + d.router + strings.ReplaceAll(path, "KEY", secret)
				req, err := http.NewRequest(method, url, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.SetBasicAuth(secret, "")
				req.Header.Set("Origin", "http://localhost:3000")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if takes := strings.Contains(row[1], kind) || row[1] == "none"; takes != (res.StatusCode == http.StatusOK) {
					t.Errorf("%s %s with a %s secret: %s", method, path, kind, res.Status)
				}
				if cors := res.Header.Get("Access-Control-Allow-Origin") != ""; cors != (row[2] == "yes") {
					t.Errorf("%s %s: CORS %v", method, path, cors)
				}
				if want := code(row[4]); method == "POST" && len(want) > 0 && strings.Contains(row[1], kind) {
					if _, got := answer(t, method, url+"?token="+secret, body); got != want[0] {
						t.Errorf("%s %s: answered %s", method, path, got)
					}
				}
			}
			n++
		}
	}
	if n < 35 {
		t.Errorf("the table has %d routes", n)
	}
}

// TestDialects: each row of the table is a request that is answered and kept as it says.
func TestDialects(t *testing.T) {
	t.Parallel()
	d := served(t)
	requests := []struct {
		members string
		headers []string
	}{
		{`"timestamp":"t"`, []string{"X-Write-Key", "s2s.change-me"}},
		{`"timestamp":"t"`, []string{"AnonymousId", "a"}},
		{`"originalTimestamp":"t"`, nil},
		{`"timestamp":"t"`, nil},
	}
	rows := load(t, "protocols.md").tableUnder(t, "Dialects").rows
	if len(rows) != len(requests) {
		t.Fatalf("%d dialects", len(rows))
	}
	for i, row := range rows {
		r := requests[i]
		id := fmt.Sprintf("dialect-%d", i)
		body := fmt.Sprintf(`{"batch":[{"type":"page","messageId":%q,%s}]}`, id, r.members)
		if _, got := answer(t, "POST", "http://"+d.router+"/v1/batch?token=s2s.change-me", body, r.headers...); got != code(row[3])[0] {
			t.Errorf("%s: answered %s", row[0], got)
		}
		_, cache := answer(t, "GET", "http://"+d.router+"/api/v1/events/cache?namespace=token&ids=web", "")
		name := code(row[4])[0]
		original := gjson.Get(cache, fmt.Sprintf(`events.#(uid==%q).original`, id))
		if original.Get("src").Str != name || original.Get(name+".messageId").Str != id {
			t.Errorf("%s: kept as %s", row[0], original.Raw)
		}
	}
}

// canonical is a message as a canonical event.
func canonical(message string) string {
	var c segment.Converter
	out, _ := c.Append(nil, []byte(message), &segment.Options{Protocol: "segment", Received: time.Now()})
	return string(out)
}

// TestCanonicalEvent: each row of the tables is what the code does, and no member that the code knows is missing.
func TestCanonicalEvent(t *testing.T) {
	p := load(t, "protocols.md")
	var kinds, fields table
	for _, tb := range p.tables {
		switch {
		case tb.heading == "The canonical event" && tb.header[0] == "kind":
			kinds = tb
		case tb.heading == "The canonical event":
			fields = tb
		}
	}
	for _, row := range kinds.rows {
		want := code(row[1])[0]
		if strings.HasPrefix(row[1], "its name") {
			want = "Signed Up"
		}
		if got := gjson.Get(canonical(fmt.Sprintf(`{"type":%q,"event":"Signed Up"}`, code(row[0])[0])), "event_type").Str; got != want {
			t.Errorf("%s: got %s", row[0], got)
		}
	}
	samples := map[string][2]string{ // value, and what it becomes
		"context.page": {`{"path":"/"}`, `{"path":"/"}`}, "context.location": {`{"city":"Rome"}`, `{"city":"Rome"}`}, "traits": {`{"a":1}`, `{"a":1}`},
		"context.screen": {`{"width":1024,"height":768}`, `"1024x768"`}, "timestamp": {`"2026-11-21T12:00:00Z"`, `"2026-11-21T12:00:00.000Z"`},
	}
	listed := map[string]bool{}
	for _, row := range fields.rows {
		from := code(row[0])[0]
		listed[from] = true
		to := code(row[1])
		if len(to) == 0 {
			continue // the id, which is no member
		}
		kind := strings.Trim(strings.Fields(row[2])[0], ",;")
		if kind == "all" {
			kind = "track"
		}
		sample, ok := samples[from]
		if !ok {
			sample = [2]string{`"a value"`, `"a value"`}
		}
		message, err := sjson.SetRaw(fmt.Sprintf(`{"type":%q}`, kind), strings.ReplaceAll(from, "*", "thing"), sample[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := gjson.Get(canonical(message), strings.ReplaceAll(to[0], "*", "thing")).Raw; got != sample[1] {
			t.Errorf("%s: %s is %s in %s", from, to[0], got, canonical(message))
		}
	}
	source, err := os.ReadFile("../pkg/ingest/segment/names.go")
	if err != nil {
		t.Fatal(err)
	}
	_, contexts, _ := strings.Cut(string(source), "func contextFieldOf")
	contexts, _, _ = strings.Cut(contexts, "return otherContext")
	for _, name := range regexp.MustCompile(`case "(\w+)"`).FindAllStringSubmatch(contexts, -1) {
		if !slices.ContainsFunc(fields.rows, func(row []string) bool { return strings.HasPrefix(code(row[0])[0], "context."+name[1]) }) {
			t.Errorf("the table lacks context.%s", name[1])
		}
	}
	if len(listed) < 30 {
		t.Errorf("%d members", len(listed))
	}

	// Reserved names, the list and the code.
	_, reserved, _ := strings.Cut(string(source), "func topNameOf")
	reserved, _, _ = strings.Cut(reserved, "return reservedName")
	var want []string
	for _, name := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(reserved, -1) {
		want = append(want, name[1])
	}
	_, list, _ := strings.Cut(p.text, "**Properties** of the names ")
	list, _, _ = strings.Cut(list, " mean something else")
	got := code(list)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reserved names (-code +page):\n%s", diff)
	}
	for _, name := range got {
		message := fmt.Sprintf(`{"type":"track","event":"e","properties":{%q:"x"}}`, name)
		var all map[string]any
		if err := json.Unmarshal([]byte(canonical(message)), &all); err != nil {
			t.Fatal(err)
		}
		if all[name] == "x" {
			t.Errorf("property %s is taken over", name)
		}
	}
}
