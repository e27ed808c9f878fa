package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
	"eventrouter/pkg/trial"
)

// TestTorture sends writes and events of some persons, who share identities, live ones and imported ones that count earlier, through two remotes that
// fail in every way they can, one of them behind a filter that is slow at times, while the router is stopped, with and without time for its
// calls to end, and started, and while its destinations are replaced, taken away and put back, and dead letters are replayed. A third destination delivers to accounts that connect and
// disconnect meanwhile: see customers. Their transforms make several outputs of some events, leave some
// out, fail on some, and count all of them in $kv. In the end each contact holds the values that count as last, each event has arrived once, what did not is a dead
// letter, on the way nothing was out of order, and no hub got what is another account's. See witness. Of half of the runs all dead letters are replayed in the end, so that nothing but what can not be
// sent is one. TORTURE_SEEDS is how many runs there are.
func TestTorture(t *testing.T) {
	seeds := 4 // every combination of blocked and surrendering, with windows small and large, and more than one restart each
	if text := os.Getenv("TORTURE_SEEDS"); text != "" {
		var err error
		if seeds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) { newTorture(t, uint64(seed)).run() })
		})
	}
}

// torture is one run.
type torture struct {
	t         *testing.T
	rnd       *rand.Rand
	g         *rig
	victims   map[string]*victim // by destination, or account
	texts     []posted
	recovers  bool             // all dead letters are replayed in the end
	away      string           // the destination that is not there
	current   map[string]Route // in force, or last so
	surrender bool             // lanes give up their oldest
	logs      trial.Log
	diary     []string

	mu     sync.Mutex        // guards the fields below
	hubs   map[string]string // by account
	owners map[string]string // accounts of outputs
}

// posted is an output of an event.
type posted struct {
	id, email, property string
	write               bool
	away                string // the destination that was not there

	event string // its id
	key   string // under which the event is counted
	owner string // an account; "": nobody's
	fate  string // skip, fail: there are no outputs
}

// victim is one of the remotes.
type victim struct {
	destination, account string

	remote *remote
	moods  *rand.Rand // has its own numbers: calls come in no certain order
	blocks bool       // lanes are blocked at times
	calm   bool       // guarded by remote.mu

	recounted map[string]int // how often replays may have counted, by key
}

// gets says whether an event is for a victim, which may be away.
func (v *victim) gets(p *posted) bool { return v.account == "" || v.account == p.owner }

func newTorture(t *testing.T, seed uint64) *torture {
	x := &torture{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), victims: map[string]*victim{}, surrender: seed%4 >= 2, recovers: seed%3 == 0,
		hubs: map[string]string{}, owners: map[string]string{},
	}
	for i, name := range append([]string{"crm", "slow"}, accountNames...) {
		v := &victim{destination: name, remote: newRemote(), moods: rand.New(rand.NewPCG(seed, uint64(2+i))), blocks: seed%2 == 0, recounted: map[string]int{}}
		if hubsOf[name] != nil {
			v.destination, v.account = customers, name
		}
		v.remote.contactKeys, v.remote.inFlight = 1+x.rnd.IntN(10), 1+x.rnd.IntN(4)
		v.remote.watch = newWitness(!v.blocks && name != "restless" && name != "moving") // to be disconnected is to be blocked
		v.remote.answer = v.misbehave
		x.victims[name] = v
	}
	x.g = newRig(t, x.victims["crm"].remote, nil)
	x.g.logs = &x.logs
	if x.rnd.IntN(2) == 0 {
		x.g.window = 1 + x.rnd.IntN(8) // most of an import is not loaded
	}
	x.current = map[string]Route{}
	for _, name := range destinationNames {
		x.current[name] = x.route(name)
	}
	x.g.routes = func(*rig) []Route { return x.routes() }
	return x
}

var destinationNames = []string{"crm", "slow", customers}

// routes are those in force.
func (x *torture) routes() (all []Route) {
	for _, name := range destinationNames {
		if name != x.away {
			all = append(all, x.current[name])
		}
	}
	return all
}

// note writes a line of the diary, which is told if the run fails.
func (x *torture) note(format string, args ...any) {
	x.diary = append(x.diary, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// reload replaces destinations, or takes one away, or puts it back; or nothing has changed.
func (x *torture) reload() {
	x.note("reload")
	defer func() { x.note("reloaded, away: %q", x.away) }()
	for _, name := range destinationNames {
		switch x.rnd.IntN(4) {
		case 0:
			x.current[name] = x.route(name)
		case 1: // with another filter
			route := x.route(name)
			route.Destination = x.current[name].Destination
			x.current[name] = route
		}
	}
	if goes := x.away == "" && x.rnd.IntN(2) == 0; goes || x.away != "" { // what is posted before is sorted by the routes of that time
		for slices.ContainsFunc(x.g.router.intakes(), func(in *intake) bool { return in.unsorted() > 0 }) {
			time.Sleep(time.Millisecond)
		}
		x.away = ""
		if goes {
			x.away = destinationNames[x.rnd.IntN(3)]
		}
	}
	if err := x.g.router.Reload(x.routes()); err != nil {
		x.t.Error(err)
	}
}

func (x *torture) route(name string) Route {
	route := Route{
		Name: name, Lanes: config.LaneLimits{OnFull: config.Refuse},
		Retry: config.Retry{MaxAge: 24 * time.Hour, MaxDelay: time.Minute},
	}
	if name == customers {
		route = x.customersRoute(route)
	} else {
		route.Destination = &handle{remote: x.victims[name].remote}
	}
	if x.surrender {
		route.Lanes = config.LaneLimits{MaxAge: 4 * time.Minute, OnFull: config.DeadLetterOldest}
	}
	route.Transform = &scripted{kv: true}
	if name == "slow" {
		route.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) {
			if gjson.GetBytes(ev.JSON, "user.v").Int()/50%2 == 1 {
				time.Sleep(time.Second)
			}
			return filters.Result{Keep: true}, nil
		})
	}
	return route
}

func (x *torture) run() {
	x.g.start()
	for i := range 300 {
		if x.rnd.IntN(10) == 0 { // an import, as one hand-over
			for n := range x.rnd.IntN(12) {
				x.post(1000*(i+1)+n, true)
			}
		}
		x.post(i, false)
		time.Sleep(time.Duration(1+x.rnd.IntN(4000)) * time.Millisecond)
		if x.rnd.IntN(12) == 0 {
			x.connections(i, true)
		}
		if x.rnd.IntN(25) == 0 {
			x.replay(false)
		}
		if x.rnd.IntN(15) == 0 {
			for range 1 + x.rnd.IntN(3) {
				x.reload()
			}
		}
		if x.rnd.IntN(40) == 0 {
			x.g.grace = time.Duration(x.rnd.IntN(4)) * time.Second
			x.g.router.grace = x.g.grace
			x.note("stop")
			x.g.stop()
			x.note("stopped")
			time.Sleep(time.Duration(x.rnd.IntN(200)) * time.Second)
			x.connections(i, false)
			x.g.start()
			x.note("started")
		}
	}
	for _, v := range x.victims {
		v.remote.mu.Lock()
		v.calm = true
		v.remote.mu.Unlock()
	}
	if x.away != "" {
		x.reload()
	}
	x.emptied()
	if x.recovers {
		x.replay(true)
		x.emptied()
	}
	time.Sleep(lateAfter) // what is applied late has been
	dead := x.letters()
	counts := map[string]map[string]string{}
	for name, v := range x.victims {
		counts[name] = map[string]string{}
		for _, p := range x.texts {
			counts[name][p.key] = x.g.kept(v.destination, ScopedKey(v.account, p.key))
		}
	}
	x.g.stop()
	defer func() {
		if x.t.Failed() {
			x.t.Logf("what was done:\n%s\nlog:\n%s", strings.Join(x.diary, "\n"), x.logs.String())
		}
	}()
	if !strings.Contains(x.logs.String(), "scripts are slow") {
		x.t.Error("the slow destination was never set aside")
	}
	for name, v := range x.victims {
		of := slices.DeleteFunc(slices.Clone(dead), func(d store.DeadLetter) bool { return x.victimOf(d) != v })
		x.check(name, v, x.byOutput(name, v, of, counts[name]))
	}
}

// byOutput checks the dead letters of events that got no outputs, and what was counted, and returns those of outputs: an event that was given up unsorted
// stands for all of them.
func (x *torture) byOutput(name string, v *victim, dead []store.DeadLetter, counts map[string]string) (all []store.DeadLetter) {
	failed, unsorted := map[string]bool{}, map[string]bool{}
	for _, d := range dead {
		all = append(all, x.outputsOf(d)...)
		switch {
		case d.Reason == "transform":
			if failed[d.EventID] {
				x.t.Errorf("%s: %s has failed twice", name, d.EventID)
			}
			failed[d.EventID] = true
		case d.Lane == "":
			unsorted[d.EventID] = true
		}
		if x.recovers && d.Reason != "transform" {
			x.t.Errorf("%s: %s is a dead letter in the end, %s: %s; %s", name, d.EventID, d.Reason, d.Error, d.Problem)
		}
	}
	want, counted := map[string]int{}, map[string]bool{}
	for _, p := range x.texts {
		if p.away == v.destination || unsorted[p.event] || !v.gets(&p) {
			continue
		}
		if failed[p.event] != (p.fate == "fail") {
			x.t.Errorf("%s: %s is to %s, is a dead letter for that: %t", name, p.event, p.fate, failed[p.event])
		}
		if p.fate != "fail" && !counted[p.event] {
			want[p.key]++
			counted[p.event] = true
		}
	}
	for key, n := range want {
		if got, _ := strconv.Atoi(counts[key]); got < n || got > n+v.recounted[key] {
			x.t.Errorf("%s: %s events of %s are counted, want %d and at most %d by replays", name, counts[key], key, n, v.recounted[key])
		}
	}
	return all
}

// post posts the ith event, which a transform makes one or several outputs of, or none. A bulk one counts up to some minutes ago.
func (x *torture) post(i int, bulk bool) {
	at := time.Now().Truncate(time.Microsecond)
	if bulk { // no two count at the same time
		at = at.Add(-time.Duration(x.rnd.IntN(6)*x.rnd.IntN(100))*time.Second - time.Second + time.Duration(len(x.texts))*time.Microsecond)
	}
	id, key := fmt.Sprintf("e%d", i), fmt.Sprintf("k%d", x.rnd.IntN(5))
	outputs, fate := 1, ""
	owner := append([]string{"", ""}, accountNames...)[x.rnd.IntN(5)]
	switch x.rnd.IntN(12) {
	case 0:
		fate = "skip"
	case 1:
		fate = "fail"
	case 2, 3, 4:
		outputs = 2 + x.rnd.IntN(3)
	}
	var texts []string
	for k := range outputs {
		p := posted{
			id: id, email: fmt.Sprintf("p%d@b.co", x.rnd.IntN(12)), property: []string{"v", "w"}[x.rnd.IntN(2)],
			write: x.rnd.IntN(3) > 0, away: x.away, event: id, key: key, fate: fate, owner: owner,
		}
		if k > 0 {
			p.id += "_" + strconv.Itoa(k)
		}
		texts = append(texts, x.output(p, i, bulk, at))
	}
	text := texts[0]
	if outputs > 1 {
		text = fmt.Sprintf(`{"event_type":"several","into":[%s]}`, strings.Join(texts, ","))
	}
	if fate != "" {
		text = fmt.Sprintf(`{%q:"as posted",%s`, fate, text[1:])
	}
	like := event.Event{Server: true}
	if bulk {
		like.Class = event.Bulk
	}
	x.g.append(like, fmt.Sprintf(`{"id":%q,"count":%q,"tenant":%q,%s`, id, key, owner, text[1:]))
}

// output notes an output of the ith event and returns its text.
func (x *torture) output(p posted, i int, bulk bool, at time.Time) string {
	names := []string{p.email}
	also := "[]"
	if n := x.rnd.IntN(16); n < 4 {
		names = append(names, fmt.Sprintf("u%d", n))
		also = fmt.Sprintf(`["u%d"]`, n)
	}
	x.mu.Lock()
	x.owners[p.id] = p.owner
	x.mu.Unlock()
	for _, v := range x.victims {
		if v.destination == x.away || p.fate != "" || !v.gets(&p) {
			continue
		}
		known := names
		if hubs := hubsOf[v.account]; len(hubs) > 1 {
			known = nil
			for _, hub := range hubs {
				for _, name := range names {
					known = append(known, knownAt(hubPermit{hub, v.account}, name))
				}
			}
		}
		v.remote.mu.Lock()
		v.remote.watch.posted(p.id, known, p.write, bulk, at)
		v.remote.mu.Unlock()
	}
	kind, property := "t", "" // what makes a contact that is new to a hub writes nothing
	if p.write {
		kind, property = "user_identify", fmt.Sprintf(`,%q:%d`, p.property, i)
	}
	x.texts = append(x.texts, p)
	return fmt.Sprintf(`{"event_type":%q,"utc_time":%q,"also":%s,"user":{"email":%q%s}}`, kind, at.Format(time.RFC3339Nano), also, p.email, property)
}

// check looks at one remote when all is over.
func (x *torture) check(name string, v *victim, dead []store.DeadLetter) {
	t, r := x.t, v.remote
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fault := range r.watch.verdict(dead) {
		t.Errorf("%s: %s", name, fault)
	}
	lost := map[string]bool{} // by event, in the lane that it is for
	for _, d := range dead {
		if (d.Reason == "lane_full" || d.Reason == "unknown_account") && !x.surrender {
			t.Errorf("%s: %s was given up", name, d.EventID)
		}
		write := slices.ContainsFunc(x.texts, func(p posted) bool { return p.id == d.EventID && p.write })
		if write || d.Lane != "contacts" {
			lost[d.EventID] = true
		}
	}
	type place struct{ email, property string }
	last := map[place]string{}
	for _, p := range x.texts {
		if !v.gets(&p) {
			continue
		}
		if p.away == v.destination {
			if slices.Contains(r.events, p.id) || !r.watch.settled[p.id].IsZero() {
				t.Errorf("%s: %s arrived, which came while it was away", name, p.id)
			}
			continue
		}
		there := slices.Contains(r.events, p.id)
		if p.fate != "" {
			if there || !r.watch.settled[p.id].IsZero() {
				t.Errorf("%s: %s arrived, which is to %s", name, p.id, p.fate)
			}
			continue
		}
		if p.write {
			there = !r.watch.settled[p.id].IsZero()
			at := place{p.email, p.property}
			if had := last[at]; !lost[p.id] && (had == "" || r.watch.posts[had].before(r.watch.posts[p.id])) {
				last[at] = p.id
			}
		}
		if !there && !lost[p.id] {
			t.Errorf("%s: %s has not arrived and is no dead letter", name, p.id)
		}
	}
	if len(hubsOf[v.account]) > 1 {
		clear(last) // each hub has got a part
	}
	for at, want := range last {
		// One that is a dead letter may have been applied all the same.
		if got := r.state[at.email][at.property]; got != want && !(ofOneEvent(got, want) && (r.watch.wasReplayed(got) || r.watch.wasReplayed(want))) && !(lost[got] && r.watch.posts[want].before(r.watch.posts[got])) {
			t.Errorf("%s: %s of %s ends with the value of %q, want that of %s", name, at.property, at.email, got, want)
		}
	}
	if len(r.overlaps) > 0 {
		t.Errorf("%s: concurrent calls share keys %v", name, r.overlaps)
	}
}

// misbehave answers a call in some way that remotes have.
func (v *victim) misbehave(c call) []error {
	r := v.remote
	r.mu.Lock()
	quiet := v.calm
	kind, wait := v.moods.IntN(20), time.Duration(v.moods.IntN(3000))*time.Millisecond
	late := time.Duration(v.moods.IntN(95)) * time.Second
	pick := c.entries[v.moods.IntN(len(c.entries))].Plan.ID
	r.mu.Unlock()
	if quiet {
		return nil
	}
	began := time.Now()
	select {
	case <-time.After(wait):
	case <-c.ctx.Done():
		if kind%2 == 0 {
			return []error{context.Canceled} // before it was sent
		}
		time.AfterFunc(late, c.apply)
		return []error{destinations.Ambiguous(c.ctx.Err())}
	}
	one := func(err error) []error { // entries of one identity share their outcome
		errs := make([]error, len(c.entries))
		for i, e := range c.entries {
			if e.Plan.ID == pick {
				errs[i] = err
			}
		}
		return errs
	}
	switch kind {
	case 0, 1:
		time.AfterFunc(late, c.apply)
		return []error{destinations.Ambiguous(errors.New("timeout"))}
	case 2:
		c.apply()
		return []error{destinations.Ambiguous(errors.New("answer lost"))}
	case 3:
		return []error{errors.New("connection refused")}
	case 4:
		return one(destinations.RetryAfter(errors.New("locked"), 2*time.Second))
	case 5, 6:
		if !v.blocks {
			return nil
		}
		if kind == 5 {
			return []error{destinations.Block(errors.New("429"), destinations.LaneScope, time.Now().Add(10*time.Second))}
		}
		return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
	case 7: // one entry has no answer and is applied late, the others are fine
		part := c
		part.entries = slices.DeleteFunc(slices.Clone(c.entries), func(o destinations.Entry) bool { return o.Plan.ID != pick })
		time.AfterFunc(late-time.Since(began), part.apply)
		return one(destinations.Ambiguous(errors.New("timeout")))
	case 8:
		return one(destinations.Reject(errors.New("400")))
	case 9:
		panic("a fault of the destination")
	}
	return nil
}
