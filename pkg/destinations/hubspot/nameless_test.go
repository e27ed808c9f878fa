package hubspot

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// rewritten changes what HubSpot answers to calls of a path.
func rewritten(r *rig, path string, f func(body []byte) []byte) {
	r.env.Transport = script(func(req *http.Request) (*http.Response, error) {
		res, err := r.box.RoundTripper().RoundTrip(req)
		if err != nil || !strings.Contains(req.URL.Path, path) {
			return res, err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		body = f(body)
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return res, nil
	})
	r.reload()
}

// HubSpot documents trace ids for a few calls only. Without them a contact is recognised by its identity, and not sent again.
func TestResultsWithoutTraceIDs(t *testing.T) {
	f := func(o sandbox.Options, settings string, users ...string) {
		t.Helper()
		inBubble(t, o, settings, func(t *testing.T, r *rig) {
			r.put("old@x.co", `{"email":"old@x.co"}`)
			c, _ := r.box.Contact("old@x.co")
			if err := r.box.AddEmail("old@x.co", "second@x.co"); err != nil {
				t.Fatal(err)
			}
			rewritten(r, "/contacts/batch/up", func(body []byte) []byte {
				for i := range gjson.GetBytes(body, "results.#").Int() {
					body, _ = sjson.DeleteBytes(body, fmt.Sprintf("results.%d.objectWriteTraceId", i))
				}
				return body
			})
			var entries []destinations.Entry
			for _, user := range users {
				contacts, _ := r.entries(identify(strings.ReplaceAll(user, "ID", c.ID)))
				entries = append(entries, contacts...)
			}
			for i, o := range r.send(entries) {
				if o.Err != nil {
					t.Errorf("%s: %v", users[i], o.Err)
					continue
				}
				id := detail(t, o).ContactID
				for _, c := range r.box.Contacts() {
					if c.ID == id && c.Properties["firstname"] != gjson.Get(users[i], "firstname").Str {
						t.Errorf("%s: contact %s is %v", users[i], id, c.Properties)
					}
				}
			}
		})
	}
	f(sandbox.Options{}, "", `{"email":"A@x.co","firstname":"A"}`, `{"email":"b@x.co","firstname":"B"}`, `{"email":"second@x.co","firstname":"Old"}`)
	f(externalID(), byExternalID, `{"external_id":"a","firstname":"A"}`, `{"external_id":"b","firstname":"B"}`)
	f(sandbox.Options{}, byObjectID, `{"hs_object_id":"ID","firstname":"A"}`)
}
