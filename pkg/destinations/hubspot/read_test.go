package hubspot

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

func mustRead(t *testing.T, r *rig, by string, ids ...string) contactsRead {
	t.Helper()
	read, err := r.dest.readContacts(context.Background(), &permits{d: r.dest}, by, ids, []string{"firstname", "ext_id"})
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// A contact is found by any of its addresses, in any case, by a unique property and by its id, in batches with strangers.
func TestReadContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: []sandbox.Property{
			{Name: "ext_id", Label: "Id", Type: "string", FieldType: "text", HasUniqueValue: true},
		}}, "")
		mustDeliver(t, r.run(identify(`{"email":"a@example.com","firstname":"Ada","ext_id":"x-1"}`), identify(`{"email":"b@example.com"}`)))
		if err := r.box.AddEmail("a@example.com", "second@example.com"); err != nil {
			t.Fatal(err)
		}
		f := func(by, id string, name any) {
			t.Helper()
			read := mustRead(t, r, by, "nobody@example.com", id, "none@example.com")
			values, found := read.found[id]
			if found != (name != nil) || found && values["firstname"] != name {
				t.Errorf("by %s %s: found %v %v", by, id, found, values)
			}
			if len(read.found) > 1 || len(read.refused) > 0 {
				t.Errorf("by %s %s: %+v", by, id, read)
			}
		}
		f("email", "a@example.com", "Ada")
		f("email", "A@Example.com", "Ada")
		f("email", "second@example.com", "Ada")
		f("email", "b@example.com", "")
		f("email", "c@example.com", nil)
		f("ext_id", "x-1", "Ada")
		f("ext_id", "x-2", nil)
		c, _ := r.box.Contact("a@example.com")
		f("hs_object_id", c.ID, "Ada")
		if got := mustRead(t, r, "email", "a@example.com", "second@example.com").found; len(got) != 2 {
			t.Errorf("two addresses of one contact: %v", got)
		}
		var many []string
		for i := range 250 {
			many = append(many, fmt.Sprintf("x%d@example.com", i))
		}
		before := r.calls("contacts/batch/read", 0)
		if got := mustRead(t, r, "email", append(many, "b@example.com")...).found; len(got) != 1 {
			t.Errorf("of 251: %v", got)
		}
		if n := r.calls("contacts/batch/read", 0) - before; n != 3 {
			t.Errorf("251 contacts took %d calls, want 3", n)
		}
	})
}

// What HubSpot may answer in other ways than it is known to.
func TestReadAnswers(t *testing.T) {
	type answers map[string]string // the ids of a call: status and body
	f := func(name string, a answers, ids []string, want map[string]string, wantErr string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			r.env.Transport = script(func(req *http.Request) (*http.Response, error) {
				var body []byte
				var asked []string
				if req.Method == http.MethodGet {
					asked = []string{"GET " + path.Base(req.URL.Path)}
				} else if body, err := io.ReadAll(req.Body); err != nil {
					t.Fatal(err)
				} else {
					for _, id := range gjson.GetBytes(body, "inputs.#.id").Array() {
						asked = append(asked, id.Str)
					}
				}
				text, ok := a[strings.Join(asked, ",")]
				if !ok {
					t.Fatalf("%s: no answer for %s", name, body)
				}
				status, err := strconv.Atoi(text[:3])
				if err != nil {
					t.Fatal(err)
				}
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text[4:])), ContentLength: -1}, nil
			})
			r.restart()
			read, err := r.dest.readContacts(context.Background(), &permits{d: r.dest}, "email", ids, []string{"firstname"})
			if wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), wantErr) {
					t.Errorf("%s: error %v, want %q", name, err, wantErr)
				}
				return
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			got := map[string]string{}
			for id, values := range read.found {
				got[id] = values["firstname"]
			}
			for id := range read.refused {
				got[id] = "refused"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		})
	}
	const ada = `{"id":"1","properties":{"email":"ada@x.co","firstname":"Ada"}}`
	const missing = `{"status":"error","category":"OBJECT_NOT_FOUND","message":"x","context":{"ids":["b@x.co"]}}`
	none := map[string]string{}
	both := []string{"a@x.co", "b@x.co"}
	f("another address, not listed", answers{
		"a@x.co,b@x.co": `207 {"results":[` + ada + `],"errors":[` + missing + `]}`,
		"a@x.co":        `200 {"results":[` + ada + `]}`,
	}, both, map[string]string{"a@x.co": "Ada"}, "")
	f("404 that names one", answers{"a@x.co,b@x.co": `404 ` + missing, "a@x.co": `200 {"results":[` + ada + `]}`},
		both, map[string]string{"a@x.co": "Ada"}, "")
	f("404 that names none", answers{
		"a@x.co,b@x.co": `404 {"category":"OBJECT_NOT_FOUND"}`, "b@x.co": `404 {"category":"OBJECT_NOT_FOUND"}`, "a@x.co": `200 {"results":[` + ada + `]}`,
	}, both, map[string]string{"a@x.co": "Ada"}, "")
	f("404 of the path", answers{"a@x.co,b@x.co": `404 {"message":"resource not found"}`}, both, nil, "check base_url")
	f("400 for one", answers{
		"a@x.co,b@x.co": `400 {"category":"VALIDATION_ERROR"}`, "b@x.co": `400 {"category":"VALIDATION_ERROR"}`, "a@x.co": `200 {"results":[` + ada + `]}`,
	}, both, map[string]string{"a@x.co": "Ada", "b@x.co": "refused"}, "")
	f("missing ones just left out", answers{
		"a@x.co,b@x.co": `200 {"results":[]}`, "GET a@x.co": `404 {"category":"OBJECT_NOT_FOUND"}`, "GET b@x.co": `404 {"category":"OBJECT_NOT_FOUND"}`,
	}, both, none, "")
	f("left out though it is there", answers{
		"a@x.co,b@x.co": `200 {"results":[],"errors":[` + missing + `]}`, "GET a@x.co": `200 ` + ada,
	}, both, map[string]string{"a@x.co": "Ada"}, "")
	f("another error", answers{
		"a@x.co,b@x.co": `207 {"results":[],"errors":[{"category":"INTERNAL"}]}`, "GET a@x.co": `200 ` + ada, "GET b@x.co": `400 {"category":"VALIDATION_ERROR"}`,
	}, both, map[string]string{"a@x.co": "Ada", "b@x.co": "refused"}, "")
	f("nothing one way or the other", answers{"a@x.co,b@x.co": `200 {"results":[]}`, "GET a@x.co": `200 {}`}, both, nil, "with no contact")
	f("no results", answers{"a@x.co,b@x.co": `200 {"status":"COMPLETE"}`}, both, nil, "no results")
	f("not JSON", answers{"a@x.co,b@x.co": `200 <html>`}, both, nil, "no results")
	f("an outage", answers{"a@x.co,b@x.co": `503 x`}, both, nil, "503")
	f("a scope", answers{"a@x.co,b@x.co": `403 {"context":{"requiredGranularScopes":["crm.objects.contacts.read"]}}`}, both, nil, "crm.objects.contacts.read")
}

// A HubSpot that leaves out missing contacts without a word costs a call for each only until that is known; should it then leave out one that it
// has, each is asked for again.
func TestReadsThatLeaveOutWhoIsMissing(t *testing.T) {
	inBubble(t, sandbox.Options{}, ifEmptyNames, func(t *testing.T, r *rig) {
		rewritten(r, "/batch/read", func(body []byte) []byte {
			body, _ = sjson.DeleteBytes(body, "errors")
			return body
		})
		send := func(name string) {
			var events []*event.Event
			for i := range 50 {
				events = append(events, identify(fmt.Sprintf(`{"email":"%s%d@x.co","firstname":"A"}`, name, i)))
			}
			mustDeliver(t, r.run(events...))
		}
		for i := range 20 {
			send(fmt.Sprintf("a%d.", i))
		}
		if n := r.calls("contacts/read", 0); n < maxUnnamed || n > maxUnnamed+20 {
			t.Errorf("%d contacts read alone", n)
		}
		for i := range 3 {
			r.put(fmt.Sprintf("b%d@x.co", i), `{"firstname":"Old"}`)
		}
		before := r.calls("contacts/read", 0)
		rewritten(r, "/batch/read", func([]byte) []byte { return []byte(`{"results":[]}`) })
		send("b")
		if n := r.calls("contacts/read", 0) - before; n != 50 {
			t.Errorf("%d contacts read alone", n)
		}
		for i := range 3 {
			r.want(fmt.Sprintf("b%d@x.co", i), map[string]string{"firstname": "Old"})
		}
	})
}

func FuzzParseRead(f *testing.F) {
	addRecordings(f)
	f.Add([]byte(`{"results":[{"id":1,"properties":{"email":"a@b.co","hs_additional_emails":"c@d.co;e@f.co","x":null}},7],"errors":[{"category":"OBJECT_NOT_FOUND","context":{"ids":["q"]}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, ok := parseRead(body)
		if !ok && len(a.contacts) > 0 {
			t.Error("contacts without a list of results")
		}
		for _, c := range a.contacts {
			for name, value := range c.values {
				if value == "" && name != objectIDProperty {
					t.Errorf("%s is empty", name)
				}
			}
		}
	})
}
