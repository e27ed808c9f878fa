package main

import (
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// send posts a body to a route, with Basic credentials as Segment's SDKs send them, and waits until all is delivered.
func (v *virtual) send(path, secret, body string) {
	v.t.Helper()
	var req fasthttp.Request
	req.Header.SetMethod("POST")
	req.SetRequestURI(path)
	req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(secret+":")))
	req.SetBodyString(body)
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, nil)
	v.srv.ingest.Handler(&ctx)
	if ctx.Response.StatusCode() != 200 {
		v.t.Fatalf("%s %s: %d %s", path, body, ctx.Response.StatusCode(), ctx.Response.Body())
	}
	v.drain(time.Minute)
}

// occurrences are the events in HubSpot: name, e-mail, and properties of the names.
func (v *virtual) occurrences(properties ...string) (all []string) {
	for _, ev := range v.box.Events() {
		_, name, _ := strings.Cut(ev.EventName, "_")
		text := name + " " + ev.Email
		for _, p := range properties {
			if value, ok := ev.Properties[p]; ok {
				text += fmt.Sprintf(" %s=%s", p, value)
			}
		}
		all = append(all, text)
	}
	return all
}

func (v *virtual) want(want []string, got []string) {
	v.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		v.t.Errorf("HubSpot has (-want +got):\n%s", diff)
	}
}

// inVirtual runs f with a router and a HubSpot in virtual time.
func inVirtual(t *testing.T, f func(v *virtual)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour) // the bubble's clock begins in 2000
		v := newVirtual(t, sandbox.Options{Properties: demoProperties()}, constant(10*time.Millisecond), "")
		v.start()
		defer func() { v.stop() }()
		f(v)
	})
}

// TestMessagesOfServers: track, page, screen and group that servers send carry no e-mail. The identity memory supplies it.
func TestMessagesOfServers(t *testing.T) {
	inVirtual(t, func(v *virtual) {
		v.send("/v1/track", "s2s.app", `{"event":"Too Early","userId":"u1"}`) // nobody knows whose it is
		v.send("/v1/batch", "s2s.app", `{"batch":[
			{"type":"identify","userId":"u1","traits":{"email":"Ada@Example.com","firstName":"Ada","score":7},"messageId":"m1"},
			{"type":"track","event":"Signed Up","userId":"u1","properties":{"plan":"pro","user":"not this","event_type":"not this"},"messageId":"m2"}]}`)
		v.stop()
		v.start() // the memory is on disk
		v.send("/v1/track", "s2s.app", `{"event":"Order Completed","userId":"u1","properties":{"plan":"max","revenue":99.5},"messageId":"m3"}`)
		v.send("/v1/track", "s2s.app", `{"event":"Order Completed","userId":"u1","properties":{"plan":"max"},"messageId":"m3"}`) // sent again
		v.send("/v1/page", "s2s.app", `{"userId":"u1","name":"Pricing","context":{"page":{"url":"https://shop.example.com/pricing","title":"Prices"}}}`)
		v.send("/v1/screen", "s2s.app", `{"userId":"u1","name":"Cart"}`)
		v.send("/v1/group", "s2s.app", `{"userId":"u1","groupId":"acme","traits":{"email":"sales@acme.example","firstName":"Acme"}}`)
		v.want([]string{
			"signed_up ada@example.com plan=pro",
			"order_completed ada@example.com plan=max revenue=99.5",
			"pageview ada@example.com name=Pricing hs_page_url=https://shop.example.com/pricing hs_page_title=Prices",
			"screen ada@example.com name=Cart",
			"group ada@example.com group_id=acme",
		}, v.occurrences("plan", "revenue", "name", "group_id", "user", "hs_page_url", "hs_page_title", "channel", "event", "type"))
		c, ok := v.box.Contact("ada@example.com")
		if !ok || v.box.ContactCount() != 1 || c.Properties["firstname"] != "Ada" || c.Properties["score"] != "7" {
			t.Errorf("contacts: %d, %+v", v.box.ContactCount(), c)
		}
	})
}

// TestMessagesOfBrowsers: who was a visitor becomes known, and stays known by the visitor's id.
func TestMessagesOfBrowsers(t *testing.T) {
	inVirtual(t, func(v *virtual) {
		v.send("/v1/p", "js.app", `{"anonymousId":"a1","properties":{"url":"https://shop.example.com/"}}`)
		v.want(nil, v.occurrences())
		v.send("/v1/i", "js.app", `{"userId":"u1","anonymousId":"a1","traits":{"email":"ada@example.com","firstName":"Ada"}}`)
		v.send("/v1/t", "js.app", `{"event":"Signed Up","anonymousId":"a1"}`)
		v.send("/v1/t", "s2s.app", `{"event":"Paid","userId":"u1"}`)
		v.send("/v1/i", "js.app", `{"userId":"u1","anonymousId":"a2"}`) // the same person in another browser
		v.send("/v1/t", "js.app", `{"event":"Came Back","anonymousId":"a2"}`)
		v.want([]string{"signed_up ada@example.com", "paid ada@example.com", "came_back ada@example.com"}, v.occurrences())

		// What a server said stays, whatever browsers say.
		v.send("/v1/identify", "s2s.app", `{"userId":"u2","traits":{"email":"bob@example.com"}}`)
		v.send("/v1/i", "js.app", `{"userId":"u2","traits":{"email":"thief@example.com"}}`)
		v.send("/v1/a", "js.app", `{"userId":"u1","previousId":"u2"}`)
		v.send("/v1/track", "s2s.app", `{"event":"Invoice","userId":"u2"}`)
		if got := v.occurrences(); got[len(got)-1] != "invoice bob@example.com" {
			t.Errorf("the last event is %s", got[len(got)-1])
		}
	})
}

// TestAliasMessages: an id that becomes another one takes its e-mail along, in either direction.
func TestAliasMessages(t *testing.T) {
	inVirtual(t, func(v *virtual) {
		v.send("/v1/identify", "s2s.app", `{"anonymousId":"visitor","traits":{"email":"ada@example.com"}}`)
		v.send("/v1/alias", "s2s.app", `{"userId":"ada","previousId":"visitor"}`)
		v.send("/v1/track", "s2s.app", `{"event":"By New Id","userId":"ada"}`)
		v.send("/v1/identify", "s2s.app", `{"userId":"bob","traits":{"email":"bob@example.com"}}`)
		v.send("/v1/alias", "s2s.app", `{"userId":"bob","previousId":"old bob"}`)
		v.send("/v1/track", "s2s.app", `{"event":"By Old Id","userId":"old bob"}`)
		v.send("/v1/track", "s2s.app", `{"event":"By Old Visitor","anonymousId":"old bob"}`)
		got := slices.DeleteFunc(v.occurrences(), func(s string) bool { return strings.HasPrefix(s, "alias ") })
		v.want([]string{"by_new_id ada@example.com", "by_old_id bob@example.com", "by_old_visitor bob@example.com"}, got)
	})
}

// TestPropertiesOfSegmentEvents: an occurrence has the properties of the message, also by Jitsu's routes, which leave all else of it at the top level.
func TestPropertiesOfSegmentEvents(t *testing.T) {
	inVirtual(t, func(v *virtual) {
		const message = `{"type":%q,"event":"Did It",%s"groupId":"g","traits":{"email":"ada@example.com"},"properties":{"plan":"pro","channel":"mail"},"channel":"server",` +
			`"version":2,"sentAt":"2026-11-21T12:00:00Z","projectId":"p","context":{"timezone":"UTC","sessionId":7,"traits":{"email":"ada@example.com"}}}`
		for _, path := range []string{"/v1/batch", "/api/v1/segment", "/api/v1/segment/compat"} {
			for kind, want := range map[string]string{"track": "map[channel:mail plan:pro]", "page": "map[channel:mail name:N plan:pro]", "group": "map[channel:mail group_id:g plan:pro]"} {
				v.send(path, "s2s.app", fmt.Sprintf(message, kind, map[string]string{"page": `"name":"N",`}[kind]))
				all := v.box.Events()
				if got := fmt.Sprint(all[len(all)-1].Properties); got != want {
					t.Errorf("%s, %s: got %s, want %s", path, kind, got, want)
				}
			}
		}
	})
}

// TestIdentifyOfEachProtocol: an identify writes a contact, and what comes after it finds it.
func TestIdentifyOfEachProtocol(t *testing.T) {
	inVirtual(t, func(v *virtual) {
		for i, p := range []struct{ identify, track, secret, more string }{
			{"/v1/identify", "/v1/track", "s2s.app", `"timestamp":"2026-11-21T12:00:00Z"`},
			{"/v1/identify", "/v1/track", "js.app", `"originalTimestamp":"2026-11-21T12:00:00Z"`},
			{"/api/s/identify", "/api/s/track", "app:js.app", `"sentAt":"2026-11-21T12:00:00Z"`},
			{"/api/s/s2s/identify", "/api/s/s2s/event", "app:s2s.app", `"x":1`},
			{"/api/v1/segment", "/api/v1/segment", "s2s.app", `"x":1`},
			{"/api/v1/segment/compat", "/api/v1/segment/compat/v1/batch", "s2s.app", `"x":1`},
			{"/v1/import", "/v1/batch", "s2s.app", `"timestamp":"2016-11-21T12:00:00Z"`},
		} {
			email := fmt.Sprintf("p%d@example.com", i)
			v.send(p.identify, p.secret, fmt.Sprintf(`{"type":"identify","userId":"u%d","traits":{"email":%q,"firstName":"P%d"},%s}`, i, email, i, p.more))
			v.send(p.track, p.secret, fmt.Sprintf(`{"type":"track","event":"Did It","userId":"u%d",%s}`, i, p.more))
			c, ok := v.box.Contact(email)
			if !ok || c.Properties["firstname"] != fmt.Sprintf("P%d", i) {
				t.Errorf("%s: contact %+v", p.identify, c)
			}
			if got := v.occurrences(); len(got) != i+1 || got[i] != "did_it "+email {
				t.Errorf("%s: events %q", p.track, got)
			}
		}
	})
}

// TestBrowserTakesNoServersID: who has read a client secret in a page can guess ids, and must not keep a server's events from counting with them.
func TestBrowserTakesNoServersID(t *testing.T) {
	inVirtual(t, func(v *virtual) {
		v.send("/v1/identify", "s2s.app", `{"userId":"u1","traits":{"email":"ada@example.com"}}`)
		v.send("/v1/t", "js.app", `{"event":"Guessed","userId":"u1","messageId":"order-1"}`)
		v.send("/v1/track", "s2s.app", `{"event":"Paid","userId":"u1","messageId":"order-1"}`)
		v.send("/v1/track", "s2s.app", `{"event":"Paid","userId":"u1","messageId":"order-1"}`) // sent again
		v.send("/v1/t", "js.app", `{"event":"Guessed","userId":"u1","messageId":"order-1"}`)
		v.want([]string{"guessed ada@example.com", "paid ada@example.com"}, v.occurrences())
	})
}
