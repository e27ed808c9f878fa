package hubspot

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

const (
	// idleHub is how long what is known of a hub is kept in memory when no call needs it. What has to outlast that, such as its schema and the calls of its day, is in the cache.
	idleHub = 15 * time.Minute
	// mostHubs are kept in memory, but for those with calls under way: an account's properties take some hundred kilobytes.
	mostHubs = 1000
	// sweepHubs is how often it is looked for what is idle.
	sweepHubs = time.Minute
)

// switchedOff is why what an account does not want is not sent.
const switchedOff = reasonOff

// Accounts delivers to the accounts of customers that have installed an app. Each has a Destination of its own, which knows one hub and asks for that account's tokens only: nothing
// is shared by two hubs but the settings. They are made when they are needed and forgotten when they are idle.
type Accounts struct {
	base        *Destination // of no account: the settings, and Plan
	env         destinations.Env
	connections destinations.Connections
	hubs        *hubs
	tierNews    *tierNews

	mu      sync.Mutex // guards the fields below
	members map[memberName]*member
	swept   time.Time
}

type memberName struct{ hub, account string }

// member is one account of one hub.
type member struct {
	*Destination
	name memberName

	users int       // calls under way, guarded by Accounts.mu, as is
	used  time.Time // when the last one ended
}

// newAccounts makes the destination of which base has the settings.
func newAccounts(base *Destination, env destinations.Env) *Accounts {
	known := destinations.Of(env.Shared, hubsKey(env.App, base.baseURL, base.eventsURL), newHubs)
	usedHubsOf(env.Shared, env.App, base.baseURL).set(known, base.terms)
	return &Accounts{
		base: base, env: env, connections: env.Connections, members: map[memberName]*member{}, hubs: known,
		tierNews: destinations.Of(env.Shared, "hubspot/tier|"+env.App+"|"+env.Name, func() *tierNews { return &tierNews{} }),
	}
}

func hubsKey(app, baseURL, eventsURL string) string {
	return strings.Join([]string{"hubspot/hubs", app, baseURL, eventsURL}, "|")
}

// Plan implements [destinations.Destination]. Whose an event is stands in its envelope.
func (a *Accounts) Plan(ev *event.Event) ([]destinations.Plan, error) {
	if ev.Account == "" {
		return nil, destinations.Skip("no account")
	}
	if a.connections.Choices(ev.Account).EventTypes[ev.Type()] { // else its contact would count as made
		return nil, destinations.Skip(switchedOff)
	}
	plans, err := a.base.Plan(ev)
	for i := range plans {
		plans[i].Account = ev.Account
	}
	return plans, err
}

// Lanes implements [destinations.Destination].
func (a *Accounts) Lanes() []destinations.LaneSpec { return a.base.Lanes() }

// Hub implements [destinations.Destination].
func (a *Accounts) Hub(account string) string { return a.connections.Hub(account) }

// Address implements [destinations.Addressed].
func (a *Accounts) Address(lane string) (method, url string) { return a.base.Address(lane) }

// Acquire implements [destinations.Destination].
func (a *Accounts) Acquire(ctx context.Context, account, lane string) (destinations.Permit, error) {
	return a.AcquireAt(ctx, a.connections.Hub(account), account, lane)
}

// AcquireAt implements [destinations.Connected].
func (a *Accounts) AcquireAt(ctx context.Context, hub, account, lane string) (destinations.Permit, error) {
	if hub == "" || a.connections.Hub(account) != hub {
		return nil, destinations.Block(notConnected(account, hub), destinations.AccountScope, time.Time{})
	}
	// Who has no token gets no place in a quota.
	if _, err := a.connections.Token(ctx, account, hub); err != nil {
		return nil, err
	}
	m := a.enter(memberName{hub, account})
	p, err := m.Acquire(ctx, account, lane)
	if err != nil {
		a.leave(m)
		return nil, err
	}
	return &memberPermit{Permit: p, accounts: a, member: m}, nil
}

func notConnected(account, hub string) error {
	if hub == "" {
		return fmt.Errorf("the account %s is not connected", account)
	}
	return fmt.Errorf("the account %s is not connected to hub %s any more", account, hub)
}

// memberPermit is the right to make a call to one hub.
type memberPermit struct {
	destinations.Permit
	accounts *Accounts
	member   *member
	once     sync.Once
}

// Release implements [destinations.Permit].
func (p *memberPermit) Release() {
	p.Permit.Release()
	p.once.Do(func() { p.accounts.leave(p.member) })
}

// Send implements [destinations.Destination]. Where the entries go was decided when the permit was given.
func (a *Accounts) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	held, ok := p.(*memberPermit)
	if !ok {
		panic(fmt.Sprintf("BUG: permit of another destination: %T", p))
	}
	defer held.Release()
	for i := range batch {
		if batch[i].Plan.Account != held.member.name.account {
			panic("BUG: a batch of another account than its permit")
		}
	}
	return held.member.Send(ctx, held.Permit, batch)
}

// enter returns an account's destination, which stays until leave.
func (a *Accounts) enter(name memberName) *member {
	now := time.Now()
	state := a.hubs.account(name.hub, now, a.newAccount) // the one that is in use: quotas of a hub are counted once
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.members[name]
	if m == nil || m.account != state && m.users == 0 {
		m = &member{name: name, Destination: a.destination(name, state)}
		a.members[name] = m
	}
	m.users++
	if now.Sub(a.swept) >= sweepHubs || len(a.members) > mostHubs {
		a.swept = now
		forgetIdle(a.members, now)
	}
	return m
}

func (a *Accounts) leave(m *member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m.users--
	m.used = time.Now()
}

func (m *member) idle() (since time.Time, idle bool) { return m.used, m.users == 0 }

// forgetIdle takes away what has been idle for long, and of more than are kept those that have been idle longest.
func forgetIdle[K comparable, V interface{ idle() (time.Time, bool) }](known map[K]V, now time.Time) {
	type candidate struct {
		key   K
		since time.Time
	}
	var idle []candidate
	for key, v := range known {
		switch since, ok := v.idle(); {
		case ok && now.Sub(since) >= idleHub:
			delete(known, key)
		case ok:
			idle = append(idle, candidate{key, since})
		}
	}
	if len(known) <= mostHubs {
		return
	}
	slices.SortFunc(idle, func(a, b candidate) int { return a.since.Compare(b.since) })
	for _, c := range idle[:min(len(idle), len(known)-mostHubs*9/10)] { // some more, so that not each one that comes has others looked for
		delete(known, c.key)
	}
}

// newAccount is what is known of a hub at first: what the cache has of its day.
func (a *Accounts) newAccount(hubID string) *account {
	today := newDay()
	today.remember(a.base.cache, dayKey(a.base.baseURL, hubID))
	return newAccount(today)
}

// destination makes an account's destination. It makes no call.
func (a *Accounts) destination(name memberName, state *account) *Destination {
	base := a.base
	rules := *base.rules
	rules.hubID = name.hub
	d := &Destination{
		hubID: name.hub, baseURL: base.baseURL, eventsURL: base.eventsURL, paths: base.paths, lateAfter: base.lateAfter, terms: base.terms, events: base.events,
		contacts: base.contacts, rules: &rules,
		log: base.log.With("hub", name.hub, "account", name.account), cache: base.cache, metrics: base.metrics, simulation: base.simulation,
		connections: a.connections, of: name.account, tierNews: a.tierNews,
	}
	d.account = state
	d.client = newClient(a.env, d.account, "")
	return d
}

// hubs are what is known of the hubs of one app's accounts, with their quotas. They outlive a reload, and destinations with the same app share them.
type hubs struct {
	mu    sync.Mutex // guards the field below
	known map[string]*hub
}

func newHubs() *hubs { return &hubs{known: map[string]*hub{}} }

// hub is one of them.
type hub struct {
	account *account
	asked   time.Time // when it was last asked for
}

// idle says since when nobody asked for it. Who has it already goes on with it: quotas of one hub are one value while anybody counts in them.
func (h *hub) idle() (since time.Time, idle bool) { return h.asked, !h.account.busy() }

// account returns what is known of a hub, made by make where that is nothing.
func (hs *hubs) account(name string, now time.Time, make func(hubID string) *account) *account {
	if known := hs.ask(name, now, nil); known != nil {
		return known
	}
	return hs.ask(name, now, make(name))
}

// ask returns what is known of a hub, which is made where that is nothing; nil: nothing is known.
func (hs *hubs) ask(name string, now time.Time, made *account) *account {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.known[name]
	if h == nil && made == nil {
		return nil
	}
	if h == nil {
		if len(hs.known) >= 2*mostHubs {
			forgetIdle(hs.known, now)
		}
		h = &hub{account: made}
		hs.known[name] = h
	}
	h.asked = now
	return h.account
}

// busy says whether calls count in the account's quotas at present.
func (a *account) busy() bool { return a.crm.busy() || a.events.busy() || a.search.busy() }

func (w *window) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.expireLocked(now)
	return w.inFlight > 0 || len(w.ended) > 0 || len(w.queue) > 0 || now.Before(w.closed)
}

// QuotaLeft is how many calls are left in the quotas of a hub, by policy, as far as destinations of an app have learned it lately; nil: they have not.
func QuotaLeft(shared *destinations.Shared, app, baseURL, eventsURL, hubID string) map[string]int {
	if eventsURL = trimURL(eventsURL); eventsURL == "" {
		eventsURL = trimURL(baseURL)
	}
	hs := destinations.Of(shared, hubsKey(app, trimURL(baseURL), eventsURL), newHubs)
	hs.mu.Lock()
	h := hs.known[hubID]
	hs.mu.Unlock()
	if h == nil {
		return nil
	}
	left := map[string]int{}
	whole := terms{share: 1}
	for _, w := range []*window{h.account.crm, h.account.events} {
		if n, ok := w.remaining(whole); ok {
			left[w.policy] = n
		}
	}
	if n, _ := h.account.day.left(whole); n >= 0 {
		left[dailyPolicy] = n
	}
	return left
}

// simulatedHub is the hub of simulations: all accounts are connected to it.
const simulatedHub = "1"

// Schema implements [destinations.Simulated]. Of whose account it would be nobody has said: a new one's.
func (a *Accounts) Schema(context.Context) (json.RawMessage, error) {
	return nil, fmt.Errorf("the destination delivers to the accounts that connect, of which each has a schema of its own: it is simulated with a new account's")
}

// Simulate implements [destinations.Simulated].
func (a *Accounts) Simulate(schema json.RawMessage) (http.RoundTripper, error) {
	hub := cmp.Or(a.connections.Hub(""), simulatedHub)
	token, err := a.connections.Token(context.Background(), "", hub)
	if err != nil {
		return nil, err
	}
	d := a.destination(memberName{hub: hub}, a.newAccount(hub))
	d.client.token = token
	return d.Simulate(schema)
}

// Test implements [destinations.Tester].
func (a *Accounts) Test(context.Context) []destinations.Finding {
	return []destinations.Finding{{
		Check: checkAccount, Level: destinations.FindingOK, Text: "delivers to the accounts that connect through the app; each is checked when it connects, and its calls show how it is since",
	}}
}
