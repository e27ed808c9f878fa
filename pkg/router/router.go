package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/enrich"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/log"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/store"
)

// Filter decides whether an event goes to a destination. One goroutine calls it at a time.
type Filter interface {
	Eval(ev *event.Event) (filters.Result, error)
}

// Transform makes of an event the outputs that go to a destination; none: it is not for this one, and why. One goroutine calls it at a time.
type Transform interface {
	Eval(ev *event.Event, w filters.World) (outputs []filters.Output, why string, err error)
	// UsesKV says whether it may reach World.KV.
	UsesKV() bool
}

// Route is one destination with what stands before it. Who passes one on does not change what it points to.
type Route struct {
	Name, Type      string
	APIKeys         map[string]bool // ids of the API keys whose events it gets; nil: all
	Notices         []string        // event.NoticeKey of what it is told of; nil: nothing
	Connection      string          // the app whose accounts it delivers to; "": it has one account, of its own settings
	Account         *AccountOf      // reads whose an event is, if a server posted it and neither token nor API key say it; nil: nothing does
	UnknownTTL      time.Duration   // how long events of an account that is not connected wait; 0: as long as it takes
	UnknownAccounts int             // for how many such accounts events wait at most; 0: as many as there are
	Enrichment      *enrich.Rules   // what is written into its events before the transform; nil: nothing
	Transform       Transform       // nil: events stay as they are
	Match           *filters.Match  // conditions on what comes out of the transform; nil: none
	Filter          Filter          // asked after Match; nil: all events
	Destination     destinations.Destination
	Lanes           config.LaneLimits
	Retry           config.Retry

	epoch     uint64        // another number where a reload changed the destination
	filtering chan struct{} // capacity 1: whoever has put something in may call Transform and Filter; the sorter and the aside share it
}

// Options of a Router. All but BulkLog, Enricher, MarkFile and Watcher are required.
type Options struct {
	Log        *log.Log
	BulkLog    *log.Log // of bulk events and replays, opened at [BulkPosition]; nil: there are none
	Store      *store.Store
	Routes     []Route
	Enricher   *enrich.Enricher // nil: nothing is added to events
	Registerer prometheus.Registerer
	Logger     *slog.Logger
	Grace      time.Duration // for calls in flight when Run is told to stop
	MarkFile   string        // names the records in hand, to find the one that kills the process; "": none
	Crash      string        // what the runtime wrote when the process before ended of itself (debug.SetCrashOutput); "": it did not, or was killed
	Watcher    Watcher       // nil: nobody watches
	Letters    DeadLetterBounds
	Redact     *redact.Fields // what errors and details do not show of events; nil: nothing is hidden
}

// Router moves events from the log to the destinations.
type Router struct {
	live    *intake
	bulk    *intake // nil: there is none
	store   *store.Store
	logger  *slog.Logger
	grace   time.Duration
	calls   *callMarks
	crash   string // of the process before
	metrics *metrics
	watcher Watcher
	redact  *redact.Fields

	enricher *enrich.Enricher

	windowEntries int // fewer in tests
	readBytes     int64
	windowsBytes  int64

	refusals        atomic.Pointer[refusals]
	letterBounds    atomic.Pointer[DeadLetterBounds]
	lettersWereFull map[string]bool       // by destination, when refuse looked last; watch's own
	pushedTold      map[string]time.Time  // by destination: when the log was told of dead letters that made room; watch's own
	table           atomic.Pointer[table] // changed by the sorter once Run has begun, with mu held

	forgetTurn chan struct{} // capacity 1: whoever has put something in may forget a person

	joins atomic.Int64 // how often some of what waited was moved
	// waitingUse is held, for reading, by who puts something into lanes that wait for accounts, until that is on disk; and by who deletes such lanes.
	waitingUse sync.RWMutex

	joinTurn chan struct{} // capacity 1: whoever has put something in may move or give up what waits for accounts; after routing

	rerouted chan struct{} // capacity 1: refusals are to be worked out anew

	routing chan struct{} // capacity 1: taken while routes are put in force, and while something is done to lanes that none feeds; before mu

	mu         sync.Mutex // guards the fields below; nothing waits or writes with it held
	accounts   map[accountName]*account
	worked     map[accountName]*atomic.Int64 // by destination and hub: when the last call began that went through, in ticks
	retiring   map[accountName]*account      // of former routes, with calls in flight: the account that is in force begins when they have ended
	leaving    map[string]*aside             // the same of asides, by destination, for which all its accounts wait too
	waiting    map[accountName]bool          // accounts that are not connected, for which the store may hold something
	waitingFor map[string]int                // how many these are, by destination
	joining    map[accountName]bool          // what waited for these is moved to their lanes: they do not begin before that is done
	moves      []*move                       // of these, by turns
	begunMoves int64
	changed    map[change]bool       // by Connected, until the sorter has seen to it
	gates      map[string]*gate      // by destination, of those that deliver to accounts
	wanted     []Route               // by Reload, until the sorter takes them up; nil: none
	probing    bool                  // Probe was called, until the sorter has seen to it
	epochs     uint64                // given to routes so far
	scriptings map[string]*scripting // by destination
	interrupt  context.CancelFunc    // ends what the sorter waits for
	errands    []func()              // for the sorter, between two batches
	forgetting *forgetting           // the last person to be forgotten
	forgetStep func(name string)     // for tests; nil: none
	ending     <-chan struct{}       // closed when Run is told to stop, or something has failed
	made       time.Time             // see ticks
	start      func(*account)        // starts the account's goroutines; nil until Run
	startAside func(*aside)
}

// accountName identifies an account of a destination.
type accountName struct{ destination, hub, account string }

// New makes a router. It touches neither the network nor the disk and starts nothing.
func New(o Options) (*Router, error) {
	r := &Router{
		calls: newCallMarks(o.MarkFile), crash: o.Crash,
		live: newIntake("live", o.Log, o.Store.Position(), deathMark{path: o.MarkFile}),
		made: time.Now(), store: o.Store, logger: o.Logger, grace: o.Grace, windowEntries: windowEntries, readBytes: readBytes, windowsBytes: windowsBytes,
		accounts: map[accountName]*account{}, worked: map[accountName]*atomic.Int64{}, retiring: map[accountName]*account{}, leaving: map[string]*aside{}, scriptings: map[string]*scripting{},
		waiting: map[accountName]bool{}, waitingFor: map[string]int{}, joining: map[accountName]bool{}, changed: map[change]bool{}, gates: map[string]*gate{}, joinTurn: make(chan struct{}, 1), routing: make(chan struct{}, 1),
		rerouted: make(chan struct{}, 1), pushedTold: map[string]time.Time{}, forgetTurn: make(chan struct{}, 1), watcher: o.Watcher, redact: o.Redact, enricher: o.Enricher,
	}
	if o.BulkLog != nil {
		r.bulk = newIntake("bulk", o.BulkLog, uint64(BulkPosition(o.Store)), deathMark{path: o.MarkFile, at: markBytes})
	}
	r.letterBounds.Store(&o.Letters)
	if r.watcher == nil {
		r.watcher = nobody{}
	}
	if err := checkRoutes(o.Routes); err != nil {
		return nil, err
	}
	r.metrics = newMetrics(o.Registerer, r)
	r.table.Store(r.nextTableLocked(&table{}, o.Routes))
	return r, nil
}

// Run sorts and delivers until ctx ends, then lets calls in flight finish within the grace time. It returns nil when it was stopped, and an
// error when the log or the store failed: then nothing more can be promised and the process must end.
func (r *Router) Run(ctx context.Context) error {
	if err := r.calls.open(r.crash); err != nil {
		r.logger.Warn("calls that end the process can not be found out", "error", err.Error())
	}
	defer r.calls.close()
	g, ctx := errgroup.WithContext(ctx)
	// What is in flight when ctx ends has the grace time before it is cut.
	sendCtx, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(r.grace, cut)
		context.AfterFunc(sendCtx, func() { timer.Stop() })
	})

	r.mu.Lock()
	r.ending = ctx.Done()
	r.start = func(a *account) { a.run(ctx, sendCtx, g) }
	r.startAside = func(a *aside) { a.start(ctx, g) }
	r.mu.Unlock()
	if err := r.resume(); err != nil {
		g.Go(func() error { return err }) // ends what resume has started
		return g.Wait()
	}
	g.Go(func() error { return r.sort(ctx) })
	g.Go(func() error { return r.watch(ctx) })
	var bulkFailed <-chan struct{}
	if r.bulk != nil {
		bulkFailed = r.bulk.log.Failed()
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-r.live.log.Failed():
			return fmt.Errorf("log: %w", r.live.log.Err())
		case <-bulkFailed:
			return fmt.Errorf("bulk log: %w", r.bulk.log.Err())
		case <-r.store.Failed():
			return fmt.Errorf("store: %w", r.store.Err())
		}
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// intakes are the logs that there are, live first.
func (r *Router) intakes() []*intake {
	if r.bulk == nil {
		return []*intake{r.live}
	}
	return []*intake{r.live, r.bulk}
}

const diskFull = "the disk is full: nothing is sorted or delivered until there is room"

// commit makes a batch durable. A disk without room is waited for: what was acknowledged must get in.
func (r *Router) commit(ctx context.Context, b *store.Batch) error {
	for told := false; ; told = true {
		// Once begun it is finished, also when we are stopping.
		err := r.store.Commit(context.WithoutCancel(ctx), b)
		if !errors.Is(err, store.ErrFull) {
			return err
		}
		if !told {
			r.logger.Error(diskFull, "error", err.Error())
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return err
		}
	}
}

// resume finds the lanes of earlier runs, with their calls that were in flight and the holds of keys.
func (r *Router) resume() error {
	left, err := r.leftovers()
	if err != nil {
		return err
	}
	found, err := r.takeUpLanes(func(string) bool { return true })
	if err != nil {
		return err
	}
	for _, a := range found {
		r.mu.Lock()
		a.mended = a.mended || r.joining[a.key()]
		r.mu.Unlock()
		if !a.mended { // else it does so itself
			a.takeUp(left)
		}
	}
	r.begin(found)
	return nil
}

// takeUpLanes finds the lanes in the store of those destinations that are concerned: it makes their accounts, which it returns, has those set aside
// whose events wait unsorted, and tells which lanes are parked. The sorter calls it, and Run before there is one.
func (r *Router) takeUpLanes(concerned func(destination string) bool) ([]*account, error) {
	t := r.table.Load()
	r.findWaiting(t, concerned)
	for _, stored := range r.store.Lanes() {
		if stored.Entries == 0 || !concerned(stored.Name.Destination) {
			continue
		}
		i := t.index(stored.Name.Destination)
		why := ""
		switch {
		case i < 0:
			why = "its destination is not configured"
		case isUnsorted(stored.Name):
			if a := r.aside(t, i); stored.Name.Lane != unidentifiedLane && !a.active.Load() {
				r.setAside(t, i)
			}
		case r.parked(stored.Name, t.routes[i]):
			why = "its destination delivers to another hub now"
			if t.routes[i].Connection != "" {
				why = "its account is not connected to its hub any more"
			}
		}
		if why != "" {
			r.logger.Warn("lane is parked: "+why, "destination", stored.Name.Destination, "hub", stored.Name.Hub, "lane", stored.Name.Lane,
				"entries", stored.Entries)
		}
	}
	return r.storedAccounts(t, concerned)
}

// atWork is a snapshot of the accounts that hold windows: those in force, but for such as wait, and those that are retiring.
func (r *Router) atWork() (all []*account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, accounts := range []map[accountName]*account{r.accounts, r.retiring} {
		for _, a := range accounts {
			if a.begun {
				all = append(all, a)
			}
		}
	}
	return all
}

// allAccounts is a snapshot.
func (r *Router) allAccounts() []*account {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*account, 0, len(r.accounts))
	for _, a := range r.accounts {
		all = append(all, a)
	}
	return all
}
