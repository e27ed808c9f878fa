package connections

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestFewerScopes has people grant anew what is less than the app needs: what they had granted before goes on, and the list says what it is now.
func TestFewerScopes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig, o *sandbox.Options) {
			o.Apps[0].OptionalScopes = []string{"crm.schemas.contacts.write"}
			r.app.OptionalScopes = o.Apps[0].OptionalScopes
		})
		r.mustConnect("a1", hubA)
		r.mustConnect("a2", hubA)
		before := r.mustToken()
		b := r.browser()
		back := b.consent(r.link("a1", returns), hubA, true)
		r.app.Scopes = append(slices.Clone(r.app.Scopes), "crm.schemas.contacts.read")
		if err := r.s.SetApps([]config.App{r.app}); err != nil {
			t.Fatal(err)
		}
		if a := b.get(back); word(a) != "scopes_missing" || r.status("a1") != Connected {
			t.Errorf("got %d %s, status %q", a.status, a.location, r.status("a1"))
		}
		if token := r.mustToken(); token != before || !r.valid(token) {
			t.Error("the token of before is not good any more")
		}
		// The hub loses what it could grant, and one of its accounts connects anew.
		r.app.Scopes = r.app.Scopes[:3]
		if err := r.s.SetApps([]config.App{r.app}); err != nil {
			t.Fatal(err)
		}
		if a := serve(r.hub, httptest.NewRequest(http.MethodPatch, "/_sandbox/hubs/"+hubA+"/options", strings.NewReader(`{"missing_scopes":["crm.schemas.contacts.write"]}`))); a.status != 200 {
			t.Fatalf("got %d %s", a.status, a.body)
		}
		r.mustConnect("a2", hubA)
		time.Sleep(time.Hour)
		r.mustToken()
		r.restart()
		if c, _ := r.s.Get("crm", "a1"); slices.Contains(c.Scopes, "crm.schemas.contacts.write") || len(c.Scopes) != 3 {
			t.Errorf("scopes: got %q", c.Scopes)
		}
	})
}
