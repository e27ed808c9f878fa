package router

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"
	"pgregory.net/rapid"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// world is the accounts of an app with their hubs, and what was written there.
type world struct {
	mu     sync.Mutex
	hubs   map[string]string   // by account
	router *Router             // that is told; nil: none
	wrote  map[string][]string // values of v by hub and contact
	events map[string][]string // ids by hub
	faults []string
	life   int
	took   map[string]int // calls by hub
	sent   map[string]int // by hub and event id
	answer func(hub string) error
	next   []string // answers of the next calls
}

func newWorld() *world {
	return &world{hubs: map[string]string{}, wrote: map[string][]string{}, events: map[string][]string{}, took: map[string]int{}, sent: map[string]int{}}
}

// connect connects an account to a hub; "" disconnects it.
func (w *world) connect(account, hub string) {
	w.connectUntold(account, hub)
	w.mu.Lock()
	r := w.router
	w.mu.Unlock()
	if r != nil {
		r.Connected("app", account)
	}
}

// connectUntold does so, and nobody is told.
func (w *world) connectUntold(account, hub string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hubs[account] = hub
}

func (w *world) at(account string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hubs[account]
}

// written is what was written of a contact in a hub, in order.
func (w *world) written(hub, key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.wrote[hub+" "+key], " ")
}

// shared delivers to the accounts of a world, as one router sees it.
type shared struct {
	*world
	life int
	n    int // another destination for each reload
}

type hubPermit struct{ hub, account string }

func (hubPermit) Release() {}

func (d *shared) Plan(ev *event.Event) ([]destinations.Plan, error) {
	plans, err := newRemote().Plan(ev)
	for i := range plans {
		plans[i].Account = ev.Account
	}
	return plans, err
}

func (d *shared) Lanes() []destinations.LaneSpec { return newRemote().Lanes() }

func (d *shared) Hub(account string) string { return d.at(account) }

func (d *shared) Acquire(context.Context, string, string) (destinations.Permit, error) {
	panic("BUG: a destination of accounts is asked for a permit of no hub")
}

func (d *shared) AcquireAt(_ context.Context, hub, account, _ string) (destinations.Permit, error) {
	if d.at(account) != hub {
		return nil, destinations.Block(errors.New("not connected"), destinations.AccountScope, time.Time{})
	}
	return hubPermit{hub, account}, nil
}

func (d *shared) Send(_ context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	to := p.(hubPermit)
	time.Sleep(20 * time.Millisecond)
	d.mu.Lock()
	defer d.mu.Unlock()
	outcomes := make([]destinations.Outcome, len(batch))
	d.took[to.hub]++
	if d.life != d.world.life {
		for i := range outcomes {
			outcomes[i].Err = destinations.Unavailable(errGone)
		}
		return outcomes
	}
	lost := false // the answer is, not what was asked for
	if len(d.next) > 0 {
		answer := d.next[0]
		d.next = d.next[1:]
		var err error
		switch answer {
		case "never", "lost":
			err = destinations.Ambiguous(errors.New("timeout"))
			lost = answer == "lost"
		case "retry":
			err = destinations.RetryAfter(errors.New("locked"), 2*time.Second)
		case "block":
			err = destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})
		case "reject":
			if batch[0].Plan.Lane == "events" {
				err = destinations.Reject(errors.New("400"))
			}
		}
		for i := range outcomes {
			outcomes[i].Err = err
		}
		if err != nil && !lost {
			return outcomes
		}
	}
	if d.world.answer != nil {
		if err := d.world.answer(to.hub); err != nil {
			for i := range outcomes {
				outcomes[i].Err = err
			}
			return outcomes
		}
	}
	for _, e := range batch {
		d.sent[to.hub+" "+e.Event.ID]++
		owner := gjson.GetBytes(e.Event.JSON, "owner").Str
		if !strings.HasPrefix(to.hub, owner+"-") || e.Plan.Account != owner || e.Event.Account != owner {
			d.faults = append(d.faults, fmt.Sprintf("event %s of %s was sent to hub %s for account %s", e.Event.ID, owner, to.hub, e.Plan.Account))
		}
		if !strings.HasSuffix(e.Plan.Key, "@"+owner) {
			d.faults = append(d.faults, fmt.Sprintf("event %s of %s is about %s", e.Event.ID, owner, e.Plan.Key))
		}
		if v := gjson.GetBytes(e.Event.JSON, "user.v"); e.Plan.Lane == "contacts" && v.Exists() {
			d.wrote[to.hub+" "+e.Plan.Key] = append(d.wrote[to.hub+" "+e.Plan.Key], v.Raw)
		}
		if e.Plan.Lane == "events" {
			d.events[to.hub] = append(d.events[to.hub], e.Event.ID)
		}
	}
	return outcomes
}

// accountStep is one thing that happens to a router with accounts.
type accountStep struct {
	What            string
	Account, Person int
	Key             string // whose key posts
	Answer          string // of the next call
	Hub             int
	Wait            time.Duration
}

func accountSteps() *rapid.Generator[[]accountStep] {
	one := rapid.Custom(func(t *rapid.T) accountStep {
		return accountStep{
			What:    rapid.SampledFrom([]string{"identify", "identify", "track", "track own", "track own", "import", "same id", "connect", "connect", "disconnect", "connect untold", "answer", "answer", "replay", "drop", "move", "reload", "expression", "stop", "crash", "wait"}).Draw(t, "what"),
			Account: rapid.IntRange(0, 2).Draw(t, "account"), Person: rapid.IntRange(0, 1).Draw(t, "person"), Hub: rapid.IntRange(1, 2).Draw(t, "hub"),
			Answer: rapid.SampledFrom([]string{"fine", "lost", "never", "retry", "block", "reject"}).Draw(t, "answer"),
			Key:    rapid.SampledFrom([]string{"fixed", "token", "server", "server", "client", "client that names"}).Draw(t, "key"),
			Wait:   rapid.SampledFrom([]time.Duration{0, time.Microsecond, time.Millisecond, 6 * time.Millisecond, 25 * time.Millisecond, 4 * time.Second, 2 * time.Minute}).Draw(t, "wait"),
		}
	})
	return rapid.SliceOfN(one, 1, 40)
}

// TestAccountsModel plays generated sequences: events of three accounts, whose users have the same ids, from keys of one account, from tokens, from server keys with an expression and from browsers
// that name an account in the body, while accounts connect, disconnect and connect to other hubs, told and untold, calls fail in all ways, dead letters are replayed, parked lanes moved and dropped,
// and the router is reloaded, stopped and killed. Nothing ever reaches a hub that is not the event's, or a person of another account; nothing is lost, and each contact is written in order. -rapid.checks=10000 looks for long.
func TestAccountsModel(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if was := checks.Value.String(); was == checks.DefValue {
		checks.Value.Set("25")
		defer checks.Value.Set(was)
	}
	rapid.Check(t, func(rt *rapid.T) {
		script, small := accountSteps().Draw(rt, "steps"), rapid.Bool().Draw(rt, "small windows")
		var err error
		synctest.Test(t, func(t *testing.T) {
			m := newAccountsModel(t)
			if small { // and what waited for an account moves a block at a time
				m.g.window = 2
			}
			err = m.play(script)
		})
		if err != nil || t.Failed() {
			rt.Fatal(err)
		}
	})
}

type accountsModel struct {
	t       *testing.T
	g       *rig
	w       *world
	dest    *shared
	account *AccountOf
	written map[string][]string // by contact
	tracked map[string]string   // owner by event id
	been    map[string][]string // hubs by account
	n       int
}

func newAccountsModel(t *testing.T) *accountsModel {
	m := &accountsModel{t: t, w: newWorld(), written: map[string][]string{}, tracked: map[string]string{}, been: map[string][]string{}}
	m.dest = &shared{world: m.w}
	m.g = newRig(t, newRemote(), nil)
	m.account = tenantOf(t)
	m.g.routes = func(*rig) []Route {
		return []Route{{
			Name: "customers", Type: "fake", Connection: "app", Account: m.account, Destination: m.dest, Transform: thief{},
			Retry: config.Retry{MaxAge: 24 * time.Hour, MaxDelay: 5 * time.Minute}, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest},
		}}
	}
	return m
}

func tenantOf(t *testing.T) *AccountOf {
	t.Helper()
	account, err := CompileAccount("{{.tenant}}", filters.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// thief is a transform that would like to send what it sees to another account.
type thief struct{}

func (thief) Eval(ev *event.Event, _ filters.World) ([]filters.Output, string, error) {
	out := *ev
	out.JSON = []byte(strings.Replace(string(ev.JSON), `"event_type"`, `"tenant":"a0","account":"a0","eventn_ctx":{"account":"a0"},"event_type"`, 1))
	return []filters.Output{{Event: &out}}, "", nil
}

func (thief) UsesKV() bool { return false }

func (m *accountsModel) start() {
	m.g.start()
	m.w.mu.Lock()
	m.w.router = m.g.router
	m.w.mu.Unlock()
}

func (m *accountsModel) play(script []accountStep) error {
	defer func() {
		if m.t.Failed() {
			m.t.Logf("steps: %+v", script)
		}
	}()
	m.start()
	for _, s := range script {
		m.step(s)
		time.Sleep(s.Wait)
	}
	// Each account goes once more through all hubs that it was ever connected to: what is parked leaves.
	m.w.mu.Lock()
	m.w.next = nil
	m.w.mu.Unlock()
	m.replay(store.Replay{})
	for a := range 3 {
		account := "a" + strconv.Itoa(a)
		for _, hub := range append(slices.Clone(m.been[account]), account+"-h1") {
			m.w.connect(account, hub)
			for began := time.Now(); !m.idle(account, hub); time.Sleep(time.Second) {
				if time.Since(began) > 2*time.Hour {
					err := fmt.Errorf("stuck at hub %s: %+v", hub, m.g.router.Status())
					m.g.stop()
					return err
				}
			}
		}
	}
	err := m.check()
	m.g.stop()
	return err
}

// idle says whether nothing waits for an account at a hub, or unsorted.
func (m *accountsModel) idle(account, hub string) bool {
	if live, bulk := m.g.router.Unsorted(); live+bulk > 0 || len(m.g.store.ReplaysLeft()) > 0 {
		return false
	}
	for _, l := range m.g.store.Lanes() {
		if l.Entries > 0 && (isUnsorted(l.Name) || l.Name.Account == account && (l.Name.Hub == hub || l.Name.Hub == "")) {
			return false
		}
	}
	return true
}

func (m *accountsModel) step(s accountStep) {
	account := "a" + strconv.Itoa(s.Account)
	switch s.What {
	case "identify", "track", "track own", "import", "same id":
		m.post(s, account)
	case "answer":
		m.w.mu.Lock()
		m.w.next = append(m.w.next, slices.Repeat([]string{s.Answer}, 1+s.Person)...)
		m.w.mu.Unlock()
	case "replay":
		m.replay(store.Replay{AsIs: s.Hub == 2})
	case "drop", "move": // of events: contacts would be written out of order
		q := ParkedQuery{Destination: "customers", Account: account, Lane: "events"}
		if s.What == "move" {
			q.To = "customers"
		}
		if _, err := m.g.router.Unpark(context.Background(), q); err != nil && !errors.Is(err, ErrNotParked) {
			m.t.Error(err)
		}
	case "connect", "connect untold":
		hub := fmt.Sprintf("%s-h%d", account, s.Hub)
		m.been[account] = append(m.been[account], hub)
		if s.What == "connect" {
			m.w.connect(account, hub)
		} else {
			m.w.connectUntold(account, hub)
		}
	case "disconnect":
		m.w.connect(account, "")
	case "expression":
		m.account = tenantOf(m.t)
		if err := m.g.router.Reload(m.g.routes(m.g)); err != nil {
			m.t.Fatal(err)
		}
	case "reload":
		m.dest = &shared{world: m.w, life: m.dest.life, n: m.dest.n + 1}
		if err := m.g.router.Reload(m.g.routes(m.g)); err != nil {
			m.t.Fatal(err)
		}
	case "stop":
		m.g.stop()
		m.start()
	case "crash":
		synctest.Wait()
		dir := memoryDir(m.t)
		if err := os.CopyFS(dir, os.DirFS(m.g.dir)); err != nil {
			m.t.Fatal(err)
		}
		m.w.mu.Lock()
		m.w.life++
		m.dest = &shared{world: m.w, life: m.w.life, n: m.dest.n + 1}
		m.w.mu.Unlock()
		m.g.cancel()
		<-m.g.done
		m.g.closeFiles()
		os.RemoveAll(m.g.dir)
		m.g.dir = dir
		m.start()
	}
}

// replay has all dead letters sent again.
func (m *accountsModel) replay(how store.Replay) {
	if _, err := m.g.store.MarkReplay(context.Background(), store.DeadLetterQuery{OldestFirst: true, Limit: 1000}, how); err != nil {
		m.t.Error(err)
	}
}

// post posts an event: an identify names its person by id and e-mail, any other one by id alone, once that is known.
func (m *accountsModel) post(s accountStep, account string) {
	m.n++
	ev := event.Event{ID: "e" + strconv.Itoa(m.n), APIKey: s.Key, Server: true, Received: time.Now().UTC().Truncate(time.Microsecond)}
	if s.What == "same id" { // of another account's event
		ev.ID = "same"
	}
	tenant := ""
	delivered := true
	switch s.Key {
	case "fixed":
		ev.APIKey, ev.Account = "fixed-"+account, account
	case "token":
		ev.APIKey, ev.Account, ev.Server = "shared", account, false
	case "server":
		ev.APIKey = "shared"
		tenant = fmt.Sprintf(`"tenant":%q,`, account)
	case "client":
		ev.APIKey, ev.Server, delivered = "shared", false, false
	case "client that names":
		ev.APIKey, ev.Server, delivered = "shared", false, false
		tenant = fmt.Sprintf(`"tenant":%q,"account":%q,"sub":%q,`, account, account, account)
	}
	contact := fmt.Sprintf("p%d@%s", s.Person, account)
	into := m.g.log
	if s.What == "import" {
		ev.Class, into = event.Bulk, m.g.bulk
	}
	user := fmt.Sprintf(`"id":"u%d","email":%q,"v":%d`, s.Person, contact, m.n)
	kind := "user_identify"
	switch s.What {
	case "same id":
		kind, user = "t", fmt.Sprintf(`"email":%q`, contact)
		if delivered {
			m.tracked[ev.ID+" "+account+" "+ev.APIKey+" "+strconv.FormatBool(ev.Server)] = account
		}
	case "track":
		kind, user = "t", fmt.Sprintf(`"id":"u%d"`, s.Person)
	case "track own", "import":
		kind, user = "t", fmt.Sprintf(`"id":"u%d","email":%q`, s.Person, contact)
		if delivered {
			m.tracked[ev.ID+" "+account] = account
		}
	default:
		if delivered {
			m.written[contact] = append(m.written[contact], strconv.Itoa(m.n))
		}
	}
	ev.JSON = fmt.Appendf(nil, `{%s"owner":%q,"event_type":%q,"user":{%s}}`, tenant, account, kind, user)
	if err := into.Append(ev.AppendTo(nil)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *accountsModel) check() error {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if len(m.w.faults) > 0 {
		return errors.New(strings.Join(m.w.faults, "\n"))
	}
	for key, ids := range m.w.sent {
		hub, id, _ := strings.Cut(key, " ")
		outcomes, err := m.g.store.Outcomes(context.Background(), store.OutcomeQuery{EventID: id, Limit: 100})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(outcomes, func(o store.Outcome) bool { return o.Hub == hub && o.Status == store.Delivered }) {
			return fmt.Errorf("event %s was sent to hub %s %d times, and its lane is none of that: %+v", id, hub, ids, outcomes)
		}
	}
	if letters := m.g.deadLetters(); len(letters) > 0 {
		return fmt.Errorf("a dead letter: %s %s", letters[0].Reason, letters[0].Error)
	}
	for contact, all := range m.written {
		got := map[string]bool{}
		for key, values := range m.w.wrote {
			if !strings.HasSuffix(key, " "+contact) {
				continue
			}
			before := 0
			for i, text := range values {
				v, _ := strconv.Atoi(text)
				got[text] = true
				if i+1 < len(values) { // a call that is sent again writes again what it had merged: 1 2 1 2 is in order, 1 2 1 is not
					if next, _ := strconv.Atoi(values[i+1]); next > v {
						continue
					}
				}
				if v < before {
					return fmt.Errorf("%s was written out of order: %v", key, values)
				}
				before = v
			}
		}
		for _, v := range all {
			if !got[v] {
				return fmt.Errorf("write %s of %s is lost: %v", v, contact, m.w.wrote)
			}
		}
	}
	for name, owner := range m.tracked {
		id, _, _ := strings.Cut(name, " ")
		arrived := 0
		for hub, ids := range m.w.events {
			if strings.HasPrefix(hub, owner+"-") && slices.Contains(ids, id) {
				arrived++
			}
		}
		if arrived == 0 {
			return fmt.Errorf("event %s of %s is lost", name, owner)
		}
	}
	return nil
}
