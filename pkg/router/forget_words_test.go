package router

import (
	"strings"
	"testing"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// TestForgottenTexts: what names a person in a text of somebody else's, and what does not.
func TestForgottenTexts(t *testing.T) {
	p := newForgottenPerson([]store.PersonID{{Kind: store.KindEmail, Value: annEmail}, {Kind: kindUser, Value: "team/ann 7"}, {Kind: kindAnonymous, Value: "7"}})
	f := func(text, want string) {
		t.Helper()
		if got, _ := p.mask(text); got != want {
			t.Errorf("mask(%q) = %q, want %q", text, got, want)
		}
	}
	stars := strings.Repeat("*", len(annEmail))
	f("no such contact: Ann.Needle@Example.com", "no such contact: "+stars)
	f("“ann.needle@example.com” is no address", "“"+stars+"” is no address")
	f("«team/ann 7»", "«**********»")
	f("İstanbul: ANN.needle@example.com", "İstanbul: "+stars)
	f("Ⱥİ K ann.needle@example.com.", "Ⱥİ K "+stars+".")
	f("\xff\xfe ann.needle@example.com \xff", "\xff\xfe "+stars+" \xff")
	f("Get \"https://x.co/?a=Ann.Needle%40example.com\": timeout", "Get \"https://x.co/?a="+stars+"**\": timeout")
	f(`{"user":"team\/ann 7","mail":"ann.needle\u0040example.com"}`, `{"user":"***********","mail":"`+stars+`*****"}`)
	f("/users/team%2Fann+7 and /users/team%2Fann%207", "/users/************ and /users/**************")
	f("x.ann.needle@example.com ann.needle@example.com.uk ann.needle@example.community öann.needle@example.com", "x.ann.needle@example.com ann.needle@example.com.uk ann.needle@example.community öann.needle@example.com")
	f("steam/ann 7 team/ann 77", "steam/ann 7 team/ann 77")
	f("7", "*")
	f("7 of 9", "7 of 9")
}

// TestForgottenData: data that is left alone unread holds nothing of the person.
func TestForgottenData(t *testing.T) {
	f := func(want bool, kind, value, data string) {
		t.Helper()
		var scratch []byte
		p := newForgottenPerson([]store.PersonID{{Kind: kind, Value: value}})
		if got := p.may([]byte(data), &scratch); got != want {
			t.Errorf("may(%q) of %q = %v, want %v", data, value, got, want)
		}
	}
	f(false, kindUser, "u-7", `{"user":{"id":"u-8"}}`)
	f(true, kindUser, "u-7", `{"user":{"id":"u-7"}}`)
	f(true, kindUser, "team/ann", `{"user":{"id":"team\/ann"}}`)
	f(true, kindUser, `say "ann"`, `{"user":{"id":"say \"ann\""}}`)
	f(true, kindUser, `a\b`, `{"user":{"id":"a\\b"}}`)
	f(true, kindUser, "a\tb", `{"user":{"id":"a\tb"}}`)
	f(false, kindUser, "ann", `{"user":{"id":"bob"},"text":"a\tb"}`)
	f(true, store.KindEmail, annEmail, `{"user":{"email":"ANN.needle@example.com"}}`)
	f(true, store.KindEmail, annEmail, `{"user":{"email":"ann.needle\u0040example.com"}}`)
	f(true, store.KindEmail, "a/b@b.co", `{"user":{"email":"A\/b@b.co"}}`)
	f(true, store.KindEmail, "ännn@b.co", `{"user":{"email":"ÄNNN@b.co"}}`)
	p := newForgottenPerson([]store.PersonID{{Kind: kindUser, Value: "u-7"}})
	p.learn([]store.PersonID{{Kind: kindUser, Value: "u-8"}})
	var scratch []byte
	if !p.may([]byte(`{"user":{"id":"u-8"}}`), &scratch) {
		t.Error("what was learned is not looked for")
	}
}

// TestForgetOtherKeys: a destination orders by another id than the e-mail, in lower case, as HubSpot with an id_property and webhooks do.
func TestForgetOtherKeys(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.keyOf = func(ev *event.Event) string {
			for _, name := range []string{"id", "anonymous_id"} {
				if id := ev.User().Get(name).Str; id != "" {
					return strings.ToLower(id)
				}
			}
			return ""
		}
		g := newRig(t, r, nil)
		g.start()
		defer g.stop()
		g.post(of("a1", "user_identify", `"email":"`+annEmail+`","id":"User-NEEDLE-7","anonymous_id":"`+annAnonymous+`","v":1`, ""), of("a2", "page", annAnon, ""),
			of("b1", "user_identify", `"email":"bob@b.co","id":"user-8","v":1`, ""))
		g.drain()
		done := g.forget(ForgetQuery{Email: annEmail})
		if found := g.left(annEmail, annUser, annAnonymous); found != nil {
			t.Errorf("left: %s\n%+v", strings.Join(found, "\n"), done)
		}
		if done.Outcomes == 0 || done.KnownKeys == 0 || done.Memories == 0 {
			t.Errorf("forgotten: %+v", done)
		}
	})
}

// TestForgetHearsWhatIsTaught: while the memory of identities is read, the sorter goes on teaching it.
func TestForgetHearsWhatIsTaught(t *testing.T) {
	user, device := store.PersonID{Kind: kindUser, APIKey: "key", Value: annUser}, store.PersonID{Kind: kindAnonymous, APIKey: "key", Value: annAnonymous}
	for _, email := range []string{annEmail, "bob@b.co"} {
		f := &forgetting{named: []store.PersonID{user}, person: newForgottenPerson([]store.PersonID{user, {Kind: store.KindEmail, Value: annEmail}})}
		r := &Router{forgetting: f}
		teach := func(id store.PersonID) {
			r.tellTaught(map[identityKey]store.Identity{{id.APIKey, id.Kind, id.Value}: {Email: email}})
		}
		teach(device)
		if f.person.has(device) {
			t.Error("it was told before anybody listens")
		}
		f.telling.Store(true)
		teach(device)
		if f.readAgain.Load() || f.person.has(device) != (email == annEmail) {
			t.Errorf("a device is of %s: person %v", email, f.person.all())
		}
		teach(user)
		if f.readAgain.Load() != (email != annEmail) {
			t.Errorf("who was named is %s: the memory is read again: %v", email, f.readAgain.Load())
		}
	}
}
