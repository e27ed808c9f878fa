package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		fmt.Fprintln(os.Stderr, beKilled(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

const lateAfter = 100 * time.Second

// remote is a remote system as a destination sees it: contacts that remember every write, and events. What a call answers is up to the test.
type remote struct {
	contactKeys, eventEntries, inFlight int
	answer                              func(call) []error      // nil: all is well; one error per entry, or a single one for all
	acquire                             func(lane string) error // nil: at once
	hub                                 string
	keyOf                               func(*event.Event) string // by which contacts are known; nil: their e-mail
	watch                               *witness                  // nil: none

	mu       sync.Mutex
	writes   map[string][]string // values of v by key, in the order in which they were applied
	state    map[string]contact
	events   []string // ids in the order in which they arrived
	calls    []call
	running  map[string]int // by lane and key: concurrent calls, which must not be
	overlaps []string
	permits  chan struct{} // nil: no quota
}

// call is one call that reached the remote.
type call struct {
	n       int
	lane    string
	at      time.Time
	entries []destinations.Entry
	remote  *remote
	ctx     context.Context
}

// ids are the event ids of a call.
func (c call) ids() []string {
	out := make([]string, len(c.entries))
	for i, e := range c.entries {
		out[i] = e.Event.ID
	}
	return out
}

// apply does what the call asks for.
func (c call) apply() {
	c.remote.mu.Lock()
	defer c.remote.mu.Unlock()
	for i := range c.entries {
		c.applyLocked(i)
	}
	c.remote.watch.applied(c.lane, c.entries)
}

func (c call) applyLocked(i int) {
	e, r := c.entries[i], c.remote
	if c.lane == "contacts" {
		if r.state[e.Plan.ID] == nil {
			r.state[e.Plan.ID] = contact{}
		}
		for _, name := range written(e) {
			r.state[e.Plan.ID][name] = e.Event.ID
			if name == "v" {
				r.writes[e.Plan.Key] = append(r.writes[e.Plan.Key], gjson.GetBytes(e.Event.JSON, "user.v").Raw)
			}
		}
	} else if !slices.Contains(r.events, e.Event.ID) {
		r.events = append(r.events, e.Event.ID)
	}
}

// contact says of each property which event wrote it.
type contact map[string]string

// written are the properties that an entry writes: v and w, where its event has them and no later event's value is remembered.
func written(e destinations.Entry) (names []string) {
	newest := recalled(e.Memory)
	for _, name := range []string{"v", "w"} {
		if !gjson.GetBytes(e.Event.JSON, "user."+name).Exists() {
			continue
		}
		if at, ok := newest[name]; e.Event.Class == event.Live && !e.Late || !ok || at <= countsAt(e) {
			names = append(names, name)
		}
	}
	return names
}

// countsAt is when an entry counts, as a number. Of the same time what is live counts as later.
func countsAt(e destinations.Entry) int64 {
	at := 2 * e.CountsAt().UnixMicro()
	if e.Event.Class == event.Live {
		at++
	}
	return at
}

// recalled reads a memory: of each property when its newest value counts.
func recalled(memory []byte) map[string]int64 {
	newest := map[string]int64{}
	if memory != nil && json.Unmarshal(memory, &newest) != nil {
		panic(fmt.Sprintf("not a memory: %q", memory))
	}
	return newest
}

// remember is the memory after an entry.
func remember(memory []byte, e destinations.Entry) []byte {
	newest := recalled(memory)
	for _, name := range written(e) {
		newest[name] = max(newest[name], countsAt(e))
	}
	memory, err := json.Marshal(newest)
	if err != nil {
		panic(err)
	}
	return memory
}

func newRemote() *remote {
	return &remote{
		contactKeys: 100, eventEntries: 500, inFlight: 4, hub: "hub1", writes: map[string][]string{}, state: map[string]contact{}, running: map[string]int{},
	}
}

func (r *remote) Plan(ev *event.Event) ([]destinations.Plan, error) {
	if gjson.GetBytes(ev.JSON, "panic").Exists() {
		panic("asked to")
	}
	if gjson.GetBytes(ev.JSON, "refuse").Exists() {
		return nil, errors.New("can not be planned")
	}
	key := strings.ToLower(ev.UserEmail())
	if r.keyOf != nil {
		key = r.keyOf(ev)
	}
	if key == "" {
		return nil, destinations.Unidentified(destinations.Skip("no identity"))
	}
	var also []string
	gjson.GetBytes(ev.JSON, "also").ForEach(func(_, v gjson.Result) bool { also = append(also, v.Str); return true })
	if ev.Type() == "user_identify" {
		return []destinations.Plan{{Lane: "contacts", Key: key, ID: key, Also: also}}, nil
	}
	return []destinations.Plan{{Lane: "contacts", Key: key, ID: key, IfNew: true}, {Lane: "events", Key: key, ID: key, Also: also}}, nil
}

func (r *remote) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{
		{Name: "contacts", MaxKeys: r.contactKeys, InFlight: r.inFlight, LateAfter: lateAfter, MarksKeys: true, Remembers: true},
		{Name: "events", MaxEntries: r.eventEntries, InFlight: r.inFlight},
	}
}

func (r *remote) Hub(string) string { return r.hub }

type permit struct{}

func (permit) Release() {}

func (r *remote) Acquire(ctx context.Context, _, lane string) (destinations.Permit, error) {
	if r.acquire != nil {
		if err := r.acquire(lane); err != nil {
			return nil, err
		}
	}
	if r.permits == nil {
		return permit{}, nil
	}
	select {
	case <-r.permits:
		return permit{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *remote) Send(ctx context.Context, _ destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	r.mu.Lock()
	c := call{n: len(r.calls), lane: batch[0].Plan.Lane, at: time.Now(), entries: slices.Clone(batch), remote: r, ctx: ctx}
	r.calls = append(r.calls, c)
	ids := map[string]string{}
	for _, e := range batch {
		key := c.lane + " " + e.Plan.Key
		if _, again := ids[key]; !again {
			r.running[key]++
			if r.running[key] > 1 {
				r.overlaps = append(r.overlaps, key)
			}
		}
		ids[key] = e.Plan.ID
	}
	answer := r.answer
	r.watch.sent(c.lane, batch)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		for key := range ids {
			r.running[key]--
		}
		r.watch.ended(c.lane, batch)
		r.mu.Unlock()
	}()
	var errs []error
	if answer != nil {
		errs = answer(c)
	}
	if len(errs) == 1 && len(batch) > 1 {
		errs = slices.Repeat(errs, len(batch))
	}
	outcomes := make([]destinations.Outcome, len(batch))
	r.mu.Lock()
	defer r.mu.Unlock()
	var done []destinations.Entry
	memories := map[string][]byte{}
	for i, e := range batch {
		if errs != nil && errs[i] != nil {
			outcomes[i].Err = errs[i]
		} else {
			c.applyLocked(i)
			done = append(done, e)
			if _, ok := memories[e.Plan.ID]; !ok {
				memories[e.Plan.ID] = e.Memory
			}
			memories[e.Plan.ID] = remember(memories[e.Plan.ID], e)
			outcomes[i].Memory = memories[e.Plan.ID]
		}
	}
	r.watch.applied(c.lane, done)
	r.watch.answered(c.lane, batch, outcomes)
	return outcomes
}

// rig is a router with its log and store in a directory, that can be stopped and started again.
type rig struct {
	t      *testing.T
	dir    string
	remote *remote
	routes func(*rig) []Route
	logs   io.Writer
	grace  time.Duration
	window int   // entries of a stream's window; 0: as many as ever
	most   int64 // bytes of the windows of all accounts; 0: as many as ever

	outcomes int64          // less than 0: none are kept
	handler  slog.Handler   // instead of logs
	redact   *redact.Fields // of the router
	keys     *seal.Ring     // nil: nothing is encrypted
	crash    string         // of the process before
	early    []Route        // given to Reload before Run; nil: it is not called

	log    *log.Log
	bulk   *log.Log
	store  *store.Store
	router *Router
	cancel context.CancelFunc
	done   chan error
	n      int
}

// newRig makes a rig; change, if not nil, changes the one route.
func newRig(t *testing.T, r *remote, change func(*Route)) *rig {
	t.Helper()
	return &rig{t: t, dir: memoryDir(t), remote: r, logs: io.Discard, grace: 10 * time.Second, routes: func(g *rig) []Route {
		route := Route{
			Name: "crm", Type: "fake", Destination: g.remote,
			Retry: config.Retry{MaxAge: 24 * time.Hour, MaxDelay: 5 * time.Minute},
			Lanes: config.LaneLimits{OnFull: config.Refuse},
		}
		if change != nil {
			change(&route)
		}
		return []Route{route}
	}}
}

// memoryDir is a directory in memory where there is such a thing: these tests sync thousands of times, and no power is cut.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "router-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (g *rig) start() {
	g.t.Helper()
	g.open()
	g.run()
}

// open opens store and logs.
func (g *rig) open() {
	g.t.Helper()
	var err error
	if g.store, err = store.Open(filepath.Join(g.dir, "store"), store.Options{Keys: g.keys, SeenWindow: 24 * time.Hour, SeenMax: 100_000, OutcomeBytes: max(0, 16<<20+g.outcomes<<40)}); err != nil {
		g.t.Fatal(err)
	}
	if g.log, err = log.Open(filepath.Join(g.dir, "log"), log.Options{Keys: g.keys, Position: log.Offset(g.store.Position())}); err != nil {
		g.t.Fatal(err)
	}
	if g.bulk, err = log.Open(filepath.Join(g.dir, "bulk"), log.Options{Keys: g.keys, Position: BulkPosition(g.store)}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) run() {
	g.t.Helper()
	var err error
	if g.handler == nil {
		g.handler = slog.NewTextHandler(g.logs, nil)
	}
	g.router, err = New(Options{
		Log: g.log, BulkLog: g.bulk, Store: g.store, Routes: g.routes(g), Registerer: prometheus.NewRegistry(),
		Logger: slog.New(g.handler), Grace: g.grace, MarkFile: filepath.Join(g.dir, "mark"), Redact: g.redact, Crash: g.crash,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	if g.window > 0 {
		g.router.windowEntries, g.router.readBytes = g.window, 1 // a block at a time
	}
	if g.most > 0 {
		g.router.windowsBytes = g.most
	}
	if g.early != nil {
		if err := g.router.Reload(g.early); err != nil {
			g.t.Fatal(err)
		}
	}
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(context.Background())
	g.done = make(chan error, 1)
	go func() { g.done <- g.router.Run(ctx) }()
}

// stop ends the router and closes logs and store.
func (g *rig) stop() {
	g.t.Helper()
	g.cancel()
	if err := <-g.done; err != nil {
		g.t.Errorf("Run: %v", err)
	}
	g.closeFiles()
}

func (g *rig) closeFiles() {
	g.t.Helper()
	if err := errors.Join(g.log.Close(), g.bulk.Close(), g.store.Close()); err != nil {
		g.t.Error(err)
	}
}

// post appends events of JSON texts as ingest would, from a server key.
func (g *rig) post(texts ...string) {
	g.t.Helper()
	g.postAs(true, texts...)
}

func (g *rig) postAs(server bool, texts ...string) {
	g.t.Helper()
	g.append(event.Event{Server: server}, texts...)
}

// postBulk appends events as an import would, which count at their own utc_time.
func (g *rig) postBulk(texts ...string) {
	g.t.Helper()
	g.append(event.Event{Server: true, Class: event.Bulk}, texts...)
}

// append appends events with the class and the trust of like.
func (g *rig) append(like event.Event, texts ...string) {
	g.t.Helper()
	var recs [][]byte
	for _, text := range texts {
		if !json.Valid([]byte(text)) {
			g.t.Fatalf("not JSON: %s", text)
		}
		g.n++
		id := gjson.Get(text, "id").Str
		if id == "" {
			id = fmt.Sprintf("e%d", g.n)
		}
		ev := like
		ev.ID, ev.APIKey, ev.JSON = id, "key", []byte(text)
		ev.Received = time.Now().UTC().Truncate(time.Microsecond)
		recs = append(recs, ev.AppendTo(nil))
	}
	into := g.log
	if like.Class != event.Live {
		into = g.bulk
	}
	if err := into.Append(recs...); err != nil {
		g.t.Fatal(err)
	}
}

// identify is a write of value v to a contact.
func identify(email string, v int) string {
	return fmt.Sprintf(`{"event_type":"user_identify","user":{"email":%q,"v":%d}}`, email, v)
}

// identifyAt is one that counts at a time.
func identifyAt(email string, v int, at time.Time) string {
	return fmt.Sprintf(`{"event_type":"user_identify","utc_time":%q,"user":{"email":%q,"v":%d}}`, at.UTC().Format(time.RFC3339Nano), email, v)
}

// track is a custom event of a person.
func track(id, email string) string {
	return fmt.Sprintf(`{"id":%q,"event_type":"t","user":{"email":%q}}`, id, email)
}

// drain waits until nothing is left to do; it fails the test after a virtual hour.
func (g *rig) drain() {
	g.t.Helper()
	g.drainWithin(time.Hour)
}

func (g *rig) drainWithin(most time.Duration) {
	g.t.Helper()
	for began := time.Now(); !g.router.Idle(); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > most {
			g.t.Fatalf("not idle after %s: %+v", most, g.router.Status())
		}
	}
}

// wrote is what was written to a contact.
func (r *remote) wrote(key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.writes[key], " ")
}

func (g *rig) writes(key string) string { return g.remote.wrote(key) }

func (g *rig) events() string {
	g.remote.mu.Lock()
	defer g.remote.mu.Unlock()
	return strings.Join(g.remote.events, " ")
}

// calls are those of one lane.
func (g *rig) calls(lane string) []call {
	g.remote.mu.Lock()
	defer g.remote.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.remote.calls), func(c call) bool { return c.lane != lane })
}

func (g *rig) deadLetters() []store.DeadLetter {
	g.t.Helper()
	all, err := g.store.DeadLetters(context.Background(), store.DeadLetterQuery{Limit: 1000, Bodies: true})
	if err != nil {
		g.t.Fatal(err)
	}
	return all
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func (g *rig) want(what, got, want string) {
	g.t.Helper()
	if got != want {
		g.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
