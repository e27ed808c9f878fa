package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// mostForgotten is how many ids one person may have.
const mostForgotten = 10_000

// forgetting is one person being forgotten.
type forgetting struct {
	store  *store.Store
	logs   []*log.Log // live, bulk; the second may be missing
	router *Router    // nil: none runs
	routes []Route    // where none runs: those of the next start
	logger *slog.Logger
	dry    bool
	atStep func(name string) // for tests; nil: none

	named    []store.PersonID
	person   *forgottenPerson
	marked   store.Forgotten
	result   *Forgotten
	finished map[store.Ref]bool // by this, in windows

	telling   atomic.Bool // the sorter tells what is taught
	readAgain atomic.Bool // what was taught may bring more with it
	scratch   []byte
}

// Forget erases all that the router holds of a person, and returns when that is done: what came in before the call is not delivered any more, and nothing of it is
// on the disk. What comes after is new, and is delivered. One is forgotten at a time.
//
// When ctx ends first the error is a *ForgetWait. Then, and after a crash, what was found is not delivered, and another call finishes the rest.
func (r *Router) Forget(ctx context.Context, q ForgetQuery) (*Forgotten, error) {
	select {
	case r.forgetTurn <- struct{}{}:
		defer func() { <-r.forgetTurn }()
	case <-ctx.Done():
		return nil, &ForgetWait{"another person to be forgotten", ctx.Err()}
	}
	f := &forgetting{store: r.store, router: r, logger: r.logger, dry: q.DryRun, atStep: r.forgetStep}
	defer f.letGo()
	for _, in := range r.intakes() {
		f.logs = append(f.logs, in.log)
	}
	return f.run(ctx, q)
}

// Stored is what a router that does not run has left on disk. Store and logs are open for writing, and nobody else's.
type Stored struct {
	Store   *store.Store
	Log     *log.Log
	BulkLog *log.Log // nil: none
	Routes  []Route  // those of its next start: they know of which account an event is that waits to be sorted. Only what Whose needs is used
	Logger  *slog.Logger
}

// Forget is Router.Forget where no router runs.
func (s Stored) Forget(ctx context.Context, q ForgetQuery) (*Forgotten, error) {
	return newForgettingStored(s, q).run(ctx, q)
}

func newForgettingStored(s Stored, q ForgetQuery) *forgetting {
	f := &forgetting{store: s.Store, logs: []*log.Log{s.Log}, routes: s.Routes, logger: s.Logger, dry: q.DryRun}
	if s.BulkLog != nil {
		f.logs = append(f.logs, s.BulkLog)
	}
	return f
}

func (f *forgetting) run(ctx context.Context, q ForgetQuery) (*Forgotten, error) {
	began := time.Now()
	ids, err := q.ids()
	if err != nil {
		return nil, err
	}
	f.result = &Forgotten{DryRun: f.dry, Notes: []string{}, Exports: []ForgottenFile{}}
	f.finished = map[store.Ref]bool{}
	f.named = ids
	if f.dry {
		if err = f.expand(ctx); err == nil {
			f.marked = f.ends()
			err = errors.Join(f.blocks(ctx), f.rows(ctx))
		}
	} else {
		err = f.erase(ctx)
	}
	if err == nil {
		err = f.tell(ctx)
	}
	f.result.Took = time.Since(began).Seconds()
	if err != nil {
		return nil, err
	}
	return f.result, nil
}

// ends are the logs as they end now.
func (f *forgetting) ends() store.Forgotten {
	ends := store.Forgotten{At: time.Now(), Position: uint64(f.logs[0].Stats().End)}
	if len(f.logs) > 1 {
		ends.BulkPosition = uint64(f.logs[1].Stats().End)
	}
	return ends
}

// before says whether an offset is below the marks.
func (f *forgetting) before(offset uint64) bool {
	if offset >= uint64(FirstBulk) {
		return offset < f.marked.BulkPosition
	}
	return offset < f.marked.Position
}

// cameBefore says whether what is kept of an event came before the marks. Of a dead letter that was imported the offset may be one of another router's log: it
// counts when it was received.
func (f *forgetting) cameBefore(offset uint64, received time.Time) bool {
	return f.before(offset) || received.Before(f.marked.At)
}

// forgetStep is one of the steps in which a person is erased. After a crash in the midst of any of them another call finishes it.
type forgetStep struct {
	name string
	do   func(context.Context) error
}

// steps are all of them. The order matters: first nothing new comes of what there is, then that goes, then the marks, then what the disk still has of it.
func (f *forgetting) steps() []forgetStep {
	var steps []forgetStep
	if f.router != nil {
		steps = []forgetStep{
			{"mark", f.mark},
			{"what is not sorted", f.sorted},
			{"windows", f.windows},
			{"blocks", f.blocks},
			{"blocks in hand", f.loads},
			{"windows again", f.windows},
		}
	} else {
		steps = []forgetStep{{"mark", f.mark}, {"rewrite the logs", f.rewriteLogs}, {"blocks", f.blocks}}
	}
	return append(steps, []forgetStep{
		{"$kv", f.kv},
		{"dead letters", f.letters},
		{"outcomes", f.outcomes},
		{"hashes", f.hashes},
		{"texts", f.texts},
		{"unmark", f.unmark},
		{"logs", f.eraseLogs},
		{"files kept aside", f.eraseKeptAside},
		{"write-ahead log", f.truncate},
		{"between rows", f.scrub},
		{"write-ahead log again", f.truncate},
	}...)
}

// erase does it.
func (f *forgetting) erase(ctx context.Context) error {
	for _, step := range f.steps() {
		if f.atStep != nil {
			f.atStep(step.name)
		}
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				if wait := (*ForgetWait)(nil); !errors.As(err, &wait) {
					err = &ForgetWait{"the disk", err}
				}
			}
			return err
		}
	}
	return nil
}

// sorted waits until all that the logs hold of the person is passed.
func (f *forgetting) sorted(ctx context.Context) error {
	return f.await(ctx, func() string {
		for _, in := range f.router.intakes() {
			end := f.marked.Position
			if in == f.router.bulk {
				end = f.marked.BulkPosition
			}
			if position := in.position.Load(); position < end {
				return fmt.Sprintf("the sorter: %d records of the %s log", end-position, in.name)
			}
		}
		return ""
	})
}

// awaitPause is between two looks. What is waited for is the state of several goroutines, as a rule for milliseconds, and nobody is slower for it.
const awaitPause = 5 * time.Millisecond

// await waits until missing returns "", or else says what it is missing.
func (f *forgetting) await(ctx context.Context, missing func() string) error {
	for {
		what := missing()
		if what == "" {
			return nil
		}
		select {
		case <-time.After(awaitPause):
		case <-f.router.stopped():
			return &ForgetWait{what, errors.New("the router stops")}
		case <-ctx.Done():
			return &ForgetWait{what, ctx.Err()}
		}
	}
}

// stopped is closed when Run ends.
func (r *Router) stopped() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ending
}
