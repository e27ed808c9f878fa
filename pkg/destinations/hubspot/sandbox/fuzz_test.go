package sandbox

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// FuzzCall sends any body to any operation: whatever it is, the answer is a status that HubSpot gives with a JSON body, and the same
// bytes sent to an account with trace-id semantics never store a contact under two addresses.
func FuzzCall(f *testing.F) {
	for _, body := range []string{
		upsert("a@b.co", "city", "Bonn"), batch(inputOf("t-1", "a@b.co"), inputOf("t-2", "c@d.co", "nosuch", "x")), planTier, signedUp,
		occurrence(`"uuid":"u"`), batch(occurrence("")), `{}`, `{"inputs":[{}]}`, `{"inputs":[[]]}`, `{"properties":[]}`, `nonsense`, ``,
		`{"inputs":[{"id":null,"properties":{"email":null}}]}`, `{"filterGroups":[{"filters":[{"operator":"EQ"}]}],"after":-1}`,
		"{\"inputs\":[{\"idProperty\":\"email\",\"id\":\"\xff@b.co\",\"properties\":{\"\\u0000\":\"\"}}]}",
	} {
		for i := range routes {
			f.Add(uint8(i), "101", body)
		}
	}
	f.Fuzz(func(t *testing.T, at uint8, arg, body string) {
		s := New(Options{})
		rt := &routes[int(at)%len(routes)]
		c := &call{method: rt.method, path: rt.pattern, header: http.Header{"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}}, body: []byte(body)}
		c.query = map[string][]string{"idProperty": {arg}, "after": {arg}, "limit": {"3"}, "properties": {arg}}
		c.route = rt
		if rt.form() {
			c.header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for range strings.Count(rt.pattern, "*") {
			c.args = append(c.args, arg)
		}
		c.version = "2026-03"
		c.parse()
		for c.number = range uint64(2) { // the second time what the first made exists
			a := s.apply(c, s.st)
			if a.status < 200 || a.status > 599 || len(a.body) > 0 && rt.name != "oauth/authorize" && !gjson.ValidBytes(a.body) {
				t.Fatalf("%s %s %q: %d %s", rt.method, rt.pattern, body, a.status, a.body)
			}
		}
		for email, ct := range s.st.contacts.byEmail {
			if ct.archived || email != foldEmail(email) || ct.stored("email") != email {
				t.Fatalf("%q finds contact %s with %q", email, ct.id, ct.stored("email"))
			}
		}
		for i := range s.st.events.list {
			s.st.events.list[i].export()
		}
	})
}

// FuzzPath checks that any path is resolved to a whole operation or to none.
func FuzzPath(f *testing.F) {
	for _, path := range []string{
		upsertPath, propertiesPath + "/email", "/crm/2026-09/objects/contacts/jon%2B1%40x.co", "/events/custom/2026-03/send/batch",
		definitionsPath + "/signed_up/property", "/crm", "//", "/crm/v3/objects/0-1/%2F%zz", "/account-info/v3/details",
	} {
		f.Add("POST", path)
		f.Add("GET", path)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		c := &call{method: method}
		c.resolve(path)
		if c.route != nil && (c.route.method != method || len(c.args) != strings.Count(c.route.pattern, "*") || c.version == "") {
			t.Fatalf("%s %q: %s %s, args %q, version %q", method, path, c.route.method, c.route.pattern, c.args, c.version)
		}
	})
}
