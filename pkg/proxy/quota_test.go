package proxy

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/seal"
)

// refusedBy counts the calls that a hub has refused for want of quota.
func refusedBy(hub *sandbox.Sandbox) (n int) {
	for _, c := range hub.Counts() {
		if c.Status == 429 {
			n += c.Calls
		}
	}
	return n
}

// TestQuota: the proxy uses the account's quota to the last call and HubSpot refuses none; who is told to wait gets through after that.
func TestQuota(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		burst := func(account string) (through int, refused answer) {
			for {
				a := r.as(account, "GET", contactsPath, "")
				if a.status != 200 {
					return through, a
				}
				through++
			}
		}
		n, a := burst("a1")
		wait, _ := strconv.Atoi(a.header["Retry-After"])
		if message, _ := a.said(); n != 110 || a.status != 429 || !strings.Contains(message, "no room") || !strings.Contains(a.body, `"policyName":"TEN_SECONDLY_ROLLING"`) || wait < 1 || wait > 11 {
			t.Errorf("got %d calls through and then %d %s, Retry-After %q, want 110 and a wait of 1 to 11 s", n, a.status, a.body, a.header["Retry-After"])
		}
		if n, _ := burst("a2"); n != 110 {
			t.Errorf("another account: got %d calls through, want its own 110", n)
		}
		time.Sleep(time.Duration(wait) * time.Second)
		if n, a := burst("a1"); n != 110 {
			t.Errorf("after the wait that it was told: got %d calls through and then %d %s, want 110", n, a.status, a.body)
		}
		if n := refusedBy(r.box.Hub("1001")) + refusedBy(r.box.Hub("1002")); n != 0 {
			t.Errorf("HubSpot refused %d calls", n)
		}
	})
}

// TestSearches: searches have a quota of their own, of which HubSpot's answers tell nothing: none is refused by HubSpot, however they come, and other calls and deliveries lose nothing by them.
func TestSearches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		if err := r.proxy.SetApps(r.apps(true)); err != nil {
			t.Fatal(err)
		}
		r.destination()
		hub := r.box.Hub("1001")
		searched := 0
		search := func() answer { return r.user("a1", "POST", contactsPath+"/search", "{}") }
		for range 40 { // ten seconds, each call at a moment of its own
			a := search()
			switch {
			case a.status == 200:
				searched++
			case a.status != 429 || a.header["Retry-After"] != "1" || !strings.Contains(a.body, `"message":"You have reached your secondly limit.","error":"the account's calls of 1s`) ||
				!strings.Contains(a.body, `"policyName":"SECONDLY"`):
				t.Fatalf("got %d %s, Retry-After %q", a.status, a.body, a.header["Retry-After"])
			}
			time.Sleep(time.Duration(100+searched*7) * time.Millisecond)
		}
		if n := refusedBy(hub); n != 0 || searched < 25 {
			t.Errorf("HubSpot refused %d of %d searches, want none of some five a second", n, searched)
		}
		for range 5 {
			search()
		}
		if a := search(); a.status != 429 {
			t.Errorf("a sixth search at once: got %d %s", a.status, a.body)
		}
		if a := r.user("a1", "GET", contactsPath, ""); a.status != 200 {
			t.Errorf("another call while there is no room for searches: got %d %s", a.status, a.body)
		}
		time.Sleep(2 * time.Second)
		hub.Inject(sandbox.Fault{Endpoint: "contacts/search", Status: 429, Body: `{"status":"error","message":"You have reached your secondly limit.","category":"RATE_LIMITS"}`, Times: 1})
		for i, want := range []int{429, 429} { // HubSpot's, for others search in the account as well; then ours
			if a := search(); a.status != want || strings.Contains(a.body, `"error":`) != (i == 1) {
				t.Errorf("search %d: got %d %s, want %d", i, a.status, a.body, want)
			}
		}
		if a := r.user("a1", "GET", contactsPath, ""); a.status != 200 {
			t.Errorf("another call after a search was refused: got %d %s", a.status, a.body)
		}
		time.Sleep(1100 * time.Millisecond)
		if a := search(); a.status != 200 {
			t.Errorf("a search a second later: got %d %s", a.status, a.body)
		}
	})
}

// TestHubSpotsOwn429 reaches the caller, and closes the window where it is the window's.
func TestHubSpotsOwn429(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		hub := r.box.Hub("1001")
		f := func(body string, next int) {
			t.Helper()
			hub.Inject(sandbox.Fault{Endpoint: "contacts", Status: 429, Body: body, Times: 1})
			if a := r.as("a1", "GET", contactsPath, ""); a.status != 429 || a.body != body {
				t.Errorf("%s: got %d %s", body, a.status, a.body)
			}
			if a := r.as("a1", "GET", contactsPath, ""); a.status != next {
				t.Errorf("%s: the next call got %d %s, want %d", body, a.status, a.body, next)
			}
			time.Sleep(11 * time.Second)
			if a := r.as("a1", "GET", contactsPath, ""); a.status != 200 {
				t.Errorf("%s: after 11 s got %d %s", body, a.status, a.body)
			}
		}
		f(`{"status":"error","message":"You have reached your secondly limit.","policyName":"SECONDLY"}`, 200)
		f(`{"status":"error","message":"You have reached your ten_secondly_rolling limit.","policyName":"TEN_SECONDLY_ROLLING"}`, 429)
	})
}

// TestDeliveriesGoFirst: a destination of the same app counts in the same window, a part of it is left to that, and while a delivery waits nobody else is let through.
func TestDeliveriesGoFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		if err := r.proxy.SetApps(r.apps(true)); err != nil {
			t.Fatal(err)
		}
		dest := r.destination()
		acquire := func(patience time.Duration) (destinations.Permit, error) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return dest.Acquire(ctx, "a1", "contacts")
		}
		through := 0
		var last answer
		for last = r.as("a1", "GET", contactsPath, ""); last.status == 200; last = r.as("a1", "GET", contactsPath, "") {
			through++
		}
		if want := 110 - 110/4 - 16; through < want || through > 110-110/4 { // 16: calls of an earlier process may be on their way
			t.Errorf("got %d calls through before %s, want %d to %d, with a quarter left to deliveries", through, last.body, want, 110-110/4)
		}
		time.Sleep(5 * time.Second)
		began := time.Now()
		var held []destinations.Permit
		for range 10 { // deliveries find room
			p, err := acquire(10 * time.Second)
			if err != nil {
				t.Fatalf("delivery %d: %v", len(held), err)
			}
			held = append(held, p)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("10 deliveries waited %v", took)
		}
		for _, p := range held {
			p.Release()
		}
		time.Sleep(20 * time.Second)
		for range 110 { // until one waits for the distance between calls, with room for more
			go func() { _, _ = acquire(time.Hour) }()
		}
		synctest.Wait()
		if a := r.as("a1", "GET", contactsPath, ""); a.status != 429 || !strings.Contains(a.body, "deliveries to the account need its quota") {
			t.Errorf("while deliveries wait: got %d %s", a.status, a.body)
		}
		time.Sleep(time.Hour)
	})
}

// TestCallsCountInTheDailyBudget: daily_budget is what the router may call in an account, deliveries and calls of others together; a tenth of it is left to deliveries.
func TestCallsCountInTheDailyBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		dest := r.destination("daily_budget: 50")
		if err := r.proxy.SetApps(r.apps(true)); err != nil {
			t.Fatal(err)
		}
		through := 0
		var last answer
		for last = r.as("a1", "GET", contactsPath, ""); last.status == 200; last = r.as("a1", "GET", contactsPath, "") {
			through++
		}
		if through != 45 || last.status != 429 || !strings.Contains(last.body, `"policyName":"DAILY"`) {
			t.Errorf("got %d calls through, then %d %s, want 45 and the day's 429", through, last.status, last.body)
		}
		var held []destinations.Permit
		for len(held) < 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			p, err := dest.Acquire(ctx, "a1", "contacts")
			cancel()
			if err != nil {
				break
			}
			held = append(held, p)
		}
		if len(held) != 5 {
			t.Errorf("then %d deliveries found room, want the 5 that are left of the budget", len(held))
		}
		for _, p := range held {
			p.Release()
		}
		if a := r.as("a2", "GET", contactsPath, ""); a.status != 200 {
			t.Errorf("another account: got %d %s", a.status, a.body)
		}
		time.Sleep(25 * time.Hour)
		if a := r.as("a1", "GET", contactsPath, ""); a.status != 200 {
			t.Errorf("the day after: got %d %s", a.status, a.body)
		}
	})
}

// destination is one that delivers to the accounts of the app, as the router has it.
func (r *rig) destination(settings ...string) destinations.Destination {
	r.t.Helper()
	cfg, err := config.Parse("router.yaml", []byte(`
server: {encryption: {key: "`+seal.NewKey()+`"}}
api_keys: [{id: web, server_secret: s2s.change-me}]
apps:
  crm: {client_id: client-1, client_secret: x, redirect_url: "`+home+`callback", scopes: [oauth]}
destinations:
  customers: {type: hubspot, connection: crm, account: "{{.tenant}}", hubspot: {`+strings.Join(settings, ", ")+`}}
`), func(string) (string, bool) { return "", false })
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := hubspot.New(cfg.Destinations[0].Settings, destinations.Env{
		Name: "customers", App: "crm", Shared: r.shared, Transport: r.box.RoundTripper(), Metrics: destinations.NewMetrics(r.reg), Connections: r.conns.For("crm"),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}
