package hubspot

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

func testDestination(t testing.TB) *Destination {
	t.Helper()
	return newRig(t, sandbox.Options{}, "").dest
}

func TestPlan(t *testing.T) {
	d := testDestination(t)
	contact := func(id string) destinations.Plan { return destinations.Plan{Lane: "contacts", Key: id, ID: id} }
	both := func(id string) []destinations.Plan {
		c := contact(id)
		c.IfNew = true
		return []destinations.Plan{c, {Lane: "events", Key: id, ID: id}}
	}
	f := func(body, remembered string, want []destinations.Plan) {
		t.Helper()
		got, err := d.Plan(&event.Event{JSON: []byte(body), Email: remembered})
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	f(`{"event_type":"user_identify","user":{"email":" A@B.co "}}`, "", []destinations.Plan{contact("a@b.co")})
	f(`{"event_type":"user_identify","eventn_ctx":{"user":{"email":"a@b.co"}}}`, "", []destinations.Plan{contact("a@b.co")})
	f(`{"event_type":"user_identify","user":{"EMAIL":"a@b.co"}}`, "", []destinations.Plan{contact("a@b.co")})
	f(`{"event_type":"user_identify","user":{"id":1}}`, "Me@B.co", []destinations.Plan{contact("me@b.co")})
	f(`{"event_type":"User_Identify","user":{"email":"a@b.co"}}`, "", both("a@b.co"))
	f(`{"event_type":"identify","user":{"email":"a@b.co"}}`, "", both("a@b.co"))
	f(`{"event_type":"pageview"}`, "a@b.co", both("a@b.co"))
	f(`{"user":{"email":"a@b.co"}}`, "", both("a@b.co"))
	f(`{"user":{"email":"a@b.co"}}`, "other@b.co", both("a@b.co"))
}

func TestPlanSkipsWhoHasNoIdentity(t *testing.T) {
	d := testDestination(t)
	for _, body := range []string{
		`{}`, `{"event_type":"user_identify","user":{}}`, `{"user":{"email":""}}`, `{"user":{"email":null}}`, `{"user":{"email":5}}`,
		`{"user":"bob"}`, `{"user":{"email":"  "}}`, `{"email":"a@b.co"}`,
	} {
		_, err := d.Plan(&event.Event{JSON: []byte(body)})
		if reason, ok := destinations.IsSkip(err); !ok || reason != "no identity" {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestEmailSyntax(t *testing.T) {
	f := func(s string, ok bool) {
		t.Helper()
		if err := checkEmail(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"a@b.co", "a+b@b.co", "a/b@b.co", "a?b=c@b.co", "a#b@b.co", "a%zz@b.co", "jürgen@b.co", "a'b@b.co", "x@münchen.de",
		`"a b"@b.co`, `"a@b"@c.co`, "a@localhost", "user@xn--mnchen-3ya.de", strings.Repeat("a", 248) + "@bb.co",
	} {
		f(s, true)
	}
	for _, s := range []string{
		"a", "@", "a@", "@b.co", "a b@b.co", "a@b .co", "a@b.co\n", "a\x00@b.co", "a@b@c.co", "a@.co", "a@b..co", "a@b.co.", "a,b@c.co",
		"<a@b.co>", "mailto:a@b.co", "a@b.co;c@d.co", "a\u00a0b@c.co", "a@b\ufffd.co", strings.Repeat("a", 249) + "@bb.co",
	} {
		f(s, false)
	}
}
