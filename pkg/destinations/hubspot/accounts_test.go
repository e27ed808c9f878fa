package hubspot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// customers are connections of a test: accounts a1 and a2 to hubs 1 and 2, with tokens t1 and t2, but for those that are stale.
type customers struct {
	mu    sync.Mutex     // guards the fields below while calls are under way
	stale map[string]int // by account: how many tokens more HubSpot does not know
	off   destinations.Choices
	// scopes are what is known of them by account.
	scopes map[string][]string
	told   []string
}

func (c *customers) Hub(account string) string { return strings.TrimPrefix(account, "a") }

func (c *customers) Token(_ context.Context, account, hub string) (config.Secret, error) {
	if c.Hub(account) != hub {
		return "", destinations.Block(errors.New("not connected"), destinations.AccountScope, time.Time{})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale[account] > 0 {
		return config.Secret("stale-" + hub), nil
	}
	return config.Secret("t" + hub), nil
}

func (c *customers) Refused(account string, token config.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale[account]--
	c.told = append(c.told, "refused "+account)
}

func (c *customers) Delivered(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, "delivered "+account)
}

func (c *customers) Choices(string) destinations.Choices { return c.off }

func (c *customers) Scopes(account string) []string { return c.scopes[account] }

// byToken sends each call to the hub whose token it carries.
type byToken map[string]http.RoundTripper

func (t byToken) RoundTrip(req *http.Request) (*http.Response, error) {
	token := req.Header.Get("Authorization")
	return t[token[len(token)-1:]].RoundTrip(req)
}

// TestAccounts: each account's events reach its own hub, without what it has switched off; a token that is refused is tried once more as another one, and no call goes to a hub for which
// the permit is not.
func TestAccounts(t *testing.T) {
	boxes := map[string]*sandbox.Sandbox{}
	transport := byToken{}
	for _, hub := range []string{"1", "2"} {
		boxes[hub] = sandbox.New(sandbox.Options{HubID: hub, Token: "t" + hub})
		transport[hub] = boxes[hub].RoundTripper()
	}
	r := newRig(t, sandbox.Options{}, "")
	conns := &customers{stale: map[string]int{}}
	env := r.env
	env.App, env.Connections, env.Transport, env.Shared = "app", conns, transport, &destinations.Shared{}
	s, err := config.NewSettings("test.yaml", "destinations.crm.hubspot", []byte("events: {create: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := New(s, env)
	if err != nil {
		t.Fatal(err)
	}
	dest := made.(*Accounts)
	send := func(account, body string) destinations.Outcome {
		t.Helper()
		ev := serverEvent(body)
		ev.Account = account
		plans, err := dest.Plan(ev)
		if err != nil {
			return destinations.Outcome{Err: err}
		}
		p, err := dest.AcquireAt(t.Context(), dest.Hub(account), account, plans[0].Lane)
		if err != nil {
			return destinations.Outcome{Err: err}
		}
		return dest.Send(t.Context(), p, []destinations.Entry{{Plan: plans[0], Event: ev, Attempt: 1}})[0]
	}
	identify := func(email string) string {
		return fmt.Sprintf(`{"event_type":"user_identify","user":{"email":%q,"firstname":"Ann","lastname":"Lee"}}`, email)
	}
	for _, account := range []string{"a1", "a2"} {
		if out := send(account, identify(account+"@b.co")); out.Err != nil {
			t.Fatalf("%s: %v", account, out.Err)
		}
	}
	for hub, box := range boxes {
		if all := box.Contacts(); len(all) != 1 || all[0].Properties["email"] != "a"+hub+"@b.co" {
			t.Errorf("hub %s holds %+v", hub, all)
		}
	}
	conns.off = destinations.Choices{Properties: map[string]bool{"lastname": true}, EventTypes: map[string]bool{"t": true}}
	out := send("a1", identify("off@b.co"))
	if c, _ := boxes["1"].Contact("off@b.co"); c.Properties["firstname"] != "Ann" || c.Properties["lastname"] != "" || !strings.Contains(string(out.Detail), switchedOff) {
		t.Errorf("with lastname switched off: %+v, %s", c.Properties, out.Detail)
	}
	if reason, ok := destinations.IsSkip(send("a1", `{"event_type":"t","user":{"email":"x@b.co"}}`).Err); !ok || reason != switchedOff {
		t.Errorf("an event type that is switched off: %q", reason)
	}
	conns.off, conns.told, conns.stale["a2"] = destinations.Choices{}, nil, 1
	// Beside its own call it may ask for the account's details, with the same token.
	if out := send("a2", identify("again@b.co")); out.Err != nil || !slices.Contains(conns.told, "refused a2") || !slices.Contains(conns.told, "delivered a2") {
		t.Errorf("with a stale token: %v, told %v", out.Err, conns.told)
	}
	conns.stale["a2"] = 10
	var block *destinations.BlockError
	if out := send("a2", identify("never@b.co")); !errors.As(out.Err, &block) || block.Scope != destinations.AccountScope {
		t.Errorf("with two stale tokens: %v", out.Err)
	}
	if _, err := dest.AcquireAt(t.Context(), "2", "a1", laneContacts); !errors.As(err, &block) || block.Scope != destinations.AccountScope {
		t.Errorf("a permit for another hub: %v", err)
	}
	if _, err := dest.Plan(&event.Event{JSON: []byte(identify("x@b.co"))}); err == nil {
		t.Error("an event of no account has a plan")
	}
	s, _ = config.NewSettings("test.yaml", "destinations.crm.hubspot", []byte("access_token: x\nhub_id: 1\n"))
	if _, err := New(s, env); err == nil || !strings.Contains(err.Error(), "access_token: must be absent") || !strings.Contains(err.Error(), "hub_id: must be absent") {
		t.Errorf("with a token of its own: %v", err)
	}
}

// TestAccountsWithoutCustomEvents: an account whose people have not granted the scopes costs no call and blocks nothing; that HubSpot refuses others is told once, and not for each account.
func TestAccountsWithoutCustomEvents(t *testing.T) {
	r := newRig(t, sandbox.Options{}, "")
	boxes, transport := map[string]*sandbox.Sandbox{}, byToken{}
	for _, hub := range []string{"1", "2", "3"} {
		boxes[hub] = sandbox.New(sandbox.Options{HubID: hub, Token: "t" + hub, NoEnterprise: hub != "1"})
		transport[hub] = boxes[hub].RoundTripper()
	}
	ofContacts := []string{scopeReadContacts, scopeWriteContacts, scopeReadSchema}
	all := append(slices.Clone(ofContacts), scopeSendEvents, scopeDefinitions)
	conns := &customers{stale: map[string]int{}, scopes: map[string][]string{"a1": ofContacts, "a2": all}}
	env := r.env
	env.App, env.Connections, env.Transport, env.Shared = "app", conns, transport, &destinations.Shared{}
	settings, err := config.NewSettings("test.yaml", "destinations.crm.hubspot", []byte("events: {create: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is after a reload
		dest, err := New(settings, env)
		if err != nil {
			t.Fatal(err)
		}
		f := func(account, want string) {
			t.Helper()
			ev := serverEvent(`{"event_type":"signed up","user":{"email":"ann@b.co"}}`)
			ev.Account = account
			plans, err := dest.Plan(ev)
			if err != nil {
				t.Fatal(err)
			}
			plan := plans[slices.IndexFunc(plans, func(p destinations.Plan) bool { return p.Lane == laneEvents })]
			p, err := dest.Acquire(t.Context(), account, laneEvents)
			if err != nil {
				t.Fatal(err)
			}
			out := dest.Send(t.Context(), p, []destinations.Entry{{Plan: plan, Event: ev, Attempt: 1}})[0]
			got := outcomeOf(out.Err)
			if reason, skipped := destinations.IsSkip(out.Err); skipped {
				got = "skipped: " + reason
			}
			if got != want {
				t.Errorf("a custom event of %s: %s (%v), want %s", account, got, out.Err, want)
			}
		}
		f("a1", "skipped: no tier or scope")
		f("a2", "lane") // granted, and lost since
		f("a3", "lane") // what it granted is not known
	}
	if calls := boxes["1"].Calls(); len(calls) != 0 {
		t.Errorf("calls to a hub without the scopes: %v", calls)
	}
	for text, want := range map[string]int{"level=ERROR": 0, "has not granted the scopes of custom events": 1, "refuses the custom events of an account": 1} {
		if n := r.logs.Count(text); n != want {
			t.Errorf("the log has %q %d times, want %d", text, n, want)
		}
	}
}
