package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// ForgetQuery names a person who is to be forgotten, by one id at least.
type ForgetQuery struct {
	Email       string `json:"email,omitempty"` // in any case of letters
	UserID      string `json:"user_id,omitempty"`
	AnonymousID string `json:"anonymous_id,omitempty"`
	APIKey      string `json:"api_key,omitempty"` // of UserID and AnonymousID; "": any API key's
	DryRun      bool   `json:"dry_run,omitempty"` // nothing is erased, only counted
}

// Forgotten says what was erased of a person, or would be.
type Forgotten struct {
	DryRun bool          `json:"dry_run"`
	IDs    []ForgottenID `json:"ids"` // all that are known of the person

	Waiting      int64 `json:"waiting"`       // entries of lanes, which are not delivered: skipped, for forgotten
	Unsorted     int64 `json:"unsorted"`      // the same of events that waited to be sorted
	Delivered    int64 `json:"delivered"`     // entries that were done, beside others that are not
	Logged       int64 `json:"logged"`        // events taken out of the logs, where no router ran to sort them
	DeadLetters  int64 `json:"dead_letters"`  //
	Outcomes     int64 `json:"outcomes"`      // what explain tells
	Identities   int64 `json:"identities"`    //
	Memories     int64 `json:"memories"`      // of which event wrote which property
	KnownKeys    int64 `json:"known_keys"`    // by which the router knew that a remote has the contact
	KV           int64 `json:"kv"`            // entries of $kv
	Holds        int64 `json:"holds"`         // of writes, after a call without an answer
	Masked       int64 `json:"masked"`        // errors and details of others that named the person
	RecentEvents int64 `json:"recent_events"` // of the events cache
	KeptAside    int64 `json:"kept_aside"`    // files with damaged data
	Pages        int64 `json:"pages"`         // of the database, cleaned of what stood between rows

	Mentioned  int64            `json:"mentioned"`  // dead letters of others that name the person: they stay
	Unreadable int64            `json:"unreadable"` // blocks and rows that are damaged: nobody can say whose they are
	Exports    []ForgottenFile  `json:"exports"`    // of dead letters, which the router can not reach
	Notes      []string         `json:"notes"`
	Took       float64          `json:"took_seconds"`
	ids        []store.PersonID //
}

// ForgottenID is one of a person's ids.
type ForgottenID struct {
	Kind   string `json:"kind"` // email, user_id, anonymous_id
	APIKey string `json:"api_key,omitempty"`
	Value  string `json:"value"`
}

// ForgottenFile is an export that was made earlier.
type ForgottenFile struct {
	At      time.Time `json:"at"`
	Target  string    `json:"target"`
	Letters int64     `json:"letters"`
}

// ErrForgetQuery is for a query that names nobody.
var ErrForgetQuery = errors.New("name the person by an e-mail, a user id or an anonymous id")

// ForgetWait says what forgetting waits for. What is done is done; to ask again goes on with the rest.
type ForgetWait struct {
	For string
	Err error
}

func (w *ForgetWait) Error() string { return "not all is erased yet: waiting for " + w.For }
func (w *ForgetWait) Unwrap() error { return w.Err }

// mostForgotten is how many ids one person may have.
const mostForgotten = 10_000

// forgetting is one person being forgotten.
type forgetting struct {
	store  *store.Store
	logs   []*log.Log // live, bulk; the second may be missing
	router *Router    // nil: none runs
	logger *slog.Logger
	dry    bool

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
	f := &forgetting{store: r.store, router: r, logger: r.logger, dry: q.DryRun}
	defer f.letGo()
	for _, in := range r.intakes() {
		f.logs = append(f.logs, in.log)
	}
	return f.run(ctx, q)
}

// ForgetStored is Forget where no router runs on the store and the logs, which are open for writing and nobody else's. bulk may be nil.
func ForgetStored(ctx context.Context, st *store.Store, live, bulk *log.Log, logger *slog.Logger, q ForgetQuery) (*Forgotten, error) {
	f := &forgetting{store: st, logs: []*log.Log{live}, logger: logger, dry: q.DryRun}
	if bulk != nil {
		f.logs = append(f.logs, bulk)
	}
	return f.run(ctx, q)
}

// ids are those that a query names.
func (q *ForgetQuery) ids() (ids []store.PersonID, err error) {
	if email := strings.ToLower(strings.TrimSpace(q.Email)); email != "" {
		ids = append(ids, store.PersonID{Kind: store.KindEmail, Value: email})
	}
	for kind, value := range map[string]string{kindUser: q.UserID, kindAnonymous: q.AnonymousID} {
		if len(value) > maxIDBytes {
			return nil, fmt.Errorf("%s: ids have at most %d bytes", kind, maxIDBytes)
		}
		if value != "" {
			ids = append(ids, store.PersonID{Kind: kind, APIKey: q.APIKey, Value: value})
		}
	}
	if len(ids) == 0 {
		return nil, ErrForgetQuery
	}
	return ids, nil
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

// erase does it. The order matters: first nothing new comes of what there is, then that goes, then the marks, then what the disk still has of it.
func (f *forgetting) erase(ctx context.Context) error {
	steps := []func(context.Context) error{f.mark, f.blocks, f.rows, f.unmark, f.files}
	if f.router != nil {
		steps = []func(context.Context) error{f.mark, f.sorted, f.windows, f.blocks, f.loads, f.windows, f.rows, f.unmark, f.files}
	} else {
		steps = slices.Insert(steps, 1, f.rewriteLogs)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
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

// mark notes durably who is forgotten, between two batches of the sorter: what it sorts from then on it looks at, and what came before is in the lanes.
func (f *forgetting) mark(ctx context.Context) (err error) {
	// To read the memory of identities takes seconds, in which the sorter goes on. So it is read twice: what is taught during the second time, the sorter tells.
	if err := f.expand(ctx); err != nil {
		return err
	}
	known := len(f.person.all())
	if f.router != nil {
		f.router.mu.Lock()
		f.router.forgetting = f
		f.router.mu.Unlock()
		f.telling.Store(true)
		ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
		if err != nil {
			return err
		}
		f.person.learn(ids)
		f.readAgain.Store(f.readAgain.Load() || len(f.person.all()) > known)
	}
	mark := func() error {
		f.telling.Store(false)
		if f.readAgain.Load() { // this is rare
			ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
			if err != nil {
				return err
			}
			f.person.learn(ids)
		}
		f.marked = f.ends()
		return f.store.MarkForgotten(ctx, slices.Collect(maps.Keys(f.person.all())), f.marked)
	}
	if f.router == nil {
		return mark()
	}
	select {
	case err := <-f.router.betweenBatches(mark):
		return err
	case <-ctx.Done():
		return &ForgetWait{"the sorter", ctx.Err()}
	}
}

// letGo has the sorter teach nothing more to a call that has ended, and hold no ids for it.
func (f *forgetting) letGo() {
	f.router.mu.Lock()
	defer f.router.mu.Unlock()
	f.router.forgetting = nil
}

// expand finds all ids of the person.
func (f *forgetting) expand(ctx context.Context) error {
	ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
	if err == nil {
		f.person = newForgottenPerson(ids)
	}
	return err
}

// taught takes in an identity that the sorter is about to commit.
func (f *forgetting) taught(key identityKey, email string) {
	own, mail := store.PersonID{Kind: key.kind, APIKey: key.apiKey, Value: key.value}, store.PersonID{Kind: store.KindEmail, Value: strings.ToLower(email)}
	switch {
	case f.person.has(mail):
		if !f.person.has(own) {
			f.person.learn([]store.PersonID{own})
		}
	case slices.Contains(f.named, own), slices.Contains(f.named, store.PersonID{Kind: key.kind, Value: key.value}):
		f.readAgain.Store(true)
	}
}

// tellTaught tells whoever is being forgotten what is taught, until the marks are set.
func (r *Router) tellTaught(learned map[identityKey]store.Identity) {
	r.mu.Lock()
	f := r.forgetting
	r.mu.Unlock()
	if f == nil || !f.telling.Load() {
		return
	}
	for key, id := range learned {
		f.taught(key, id.Email)
	}
}

// learn takes in ids that the sorter found in events of the person.
func (f *forgetting) learn(ids []store.PersonID) {
	f.person.learn(ids)
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

// unmark ends it: nothing below the marks is left.
func (f *forgetting) unmark(ctx context.Context) error {
	n, err := f.store.EndForgotten(ctx, slices.Collect(maps.Keys(f.person.all())), f.marked)
	f.result.Identities += int64(n)
	return err
}

// files has the disk hold nothing of what was erased: neither the logs nor the database, between its rows and in the log beside it.
func (f *forgetting) files(ctx context.Context) error {
	for i, l := range f.logs {
		if err := f.eraseLog(ctx, i, l); err != nil {
			return err
		}
		erased, err := l.EraseKeptAside(func(piece []byte) bool { return f.person.may(piece, &f.scratch) })
		if err != nil {
			return fmt.Errorf("erase what was kept aside of damaged logs: %w", err)
		}
		f.result.KeptAside += int64(len(erased))
	}
	kept, err := f.store.EraseKeptAside()
	if err != nil {
		return err
	}
	f.result.KeptAside += int64(kept)
	// Scrub reads the file by pages, where what was deleted stands; what it cleans stands in the log beside it once more.
	for _, truncate := range []bool{true, false, true} {
		if !truncate {
			pages, err := f.store.Scrub(ctx)
			if err != nil {
				return err
			}
			f.result.Pages += pages
			continue
		}
		if err := f.store.Truncate(ctx); err != nil {
			if errors.Is(err, store.ErrReaders) {
				return &ForgetWait{"a program that has router.db open", err}
			}
			return err
		}
	}
	return nil
}

// eraseLog deletes the segments that may hold the person.
func (f *forgetting) eraseLog(ctx context.Context, i int, l *log.Log) error {
	end, err := l.Roll()
	if err != nil {
		return fmt.Errorf("begin a new segment of the log: %w", err)
	}
	if f.router == nil {
		return nil // rewritten
	}
	in := f.router.intakes()[i]
	err = f.await(ctx, func() string {
		if position := in.position.Load(); position < uint64(end) {
			return fmt.Sprintf("the sorter: %d records of the %s log", uint64(end)-position, in.name)
		}
		return ""
	})
	if err != nil {
		return err
	}
	if err := l.Erase(log.Offset(in.position.Load())); err != nil {
		return fmt.Errorf("erase the %s log: %w", in.name, err)
	}
	// The reader lets go of the file that it had open.
	f.router.betweenBatches(func() error { return nil })
	return nil
}

// rewriteLogs takes the person's events out of the logs, which nobody sorts.
func (f *forgetting) rewriteLogs(ctx context.Context) error {
	memory := personMemory{stored: NewReader(f.store).storedIdentity, learned: map[identityKey]store.Identity{}}
	has := hasID(func(id store.PersonID) bool { return f.person.has(id) })
	for i, l := range f.logs {
		position := f.store.Position()
		if i == 1 {
			position = uint64(BulkPosition(f.store))
		}
		if _, err := l.Roll(); err != nil {
			return fmt.Errorf("begin a new segment of the log: %w", err)
		}
		if err := l.Erase(log.Offset(position)); err != nil {
			return fmt.Errorf("erase what is sorted of the log: %w", err)
		}
		dropped, err := l.Rewrite(func(rec log.Record) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			var ev event.Event
			if ev.Decode(rec.Data) != nil {
				return !f.person.names(string(rec.Data)), nil
			}
			ev.JSON = event.Normalize(ev.JSON)
			if !has.belongs(memory.lookUp(&ev)) {
				return true, nil
			}
			var ids []store.PersonID
			eventIDs(&ev, func(id store.PersonID, _ bool) bool {
				ids = append(ids, store.PersonID{Kind: id.Kind, APIKey: id.APIKey, Value: strings.Clone(id.Value)})
				return true
			})
			f.person.learn(ids)
			return false, nil
		})
		f.result.Logged += int64(dropped)
		if err != nil {
			return fmt.Errorf("rewrite the log: %w", err)
		}
	}
	return nil
}

// tell completes the answer.
func (f *forgetting) tell(ctx context.Context) error {
	r := f.result
	for id := range f.person.all() {
		r.ids = append(r.ids, id)
		r.IDs = append(r.IDs, ForgottenID{id.Kind, id.APIKey, id.Value})
	}
	slices.SortFunc(r.IDs, func(a, b ForgottenID) int {
		return strings.Compare(a.Kind+"\x00"+a.APIKey+"\x00"+a.Value, b.Kind+"\x00"+b.APIKey+"\x00"+b.Value)
	})
	exports, err := f.store.Exports(ctx)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("read earlier exports: %w", err)
	}
	for _, x := range exports {
		r.Exports = append(r.Exports, ForgottenFile{x.At, x.Target, x.Letters})
	}
	r.Notes = append(r.Notes, "HubSpot and other remotes keep what was delivered: delete the person there (HubSpot: POST /crm/v3/objects/contacts/gdpr-delete).")
	if len(exports) > 0 {
		r.Notes = append(r.Notes, "Dead letters were exported before: the router can not reach those files, look through them.")
	}
	if r.Mentioned > 0 {
		r.Notes = append(r.Notes, "Dead letters of others name the person in what they say: see router deadletters list.")
	}
	if r.Unreadable > 0 {
		r.Notes = append(r.Notes, "What is damaged could not be read: nobody can say whether the person is in it.")
	}
	return nil
}

// Names says whether a text, such as an event as JSON, names the person.
func (f *Forgotten) Names() func(text string) bool {
	p := newForgottenPerson(f.ids)
	return p.names
}

// betweenBatches has the sorter do something when it has no records in hand. It does not wait. Before Run
// it is done first.
func (r *Router) betweenBatches(do func() error) (done <-chan error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := make(chan error, 1)
	r.errands = append(r.errands, func() { ended <- do() })
	if r.interrupt != nil {
		r.interrupt()
	}
	return ended
}

// doErrands is the sorter's part.
func (r *Router) doErrands() {
	r.mu.Lock()
	errands := r.errands
	r.errands = nil
	r.mu.Unlock()
	for _, do := range errands {
		do()
	}
}

// stopped is closed when Run ends.
func (r *Router) stopped() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ending
}

// markForgotten keeps ids that were learned of persons who are forgotten, before what else the batch does.
func (h *handover) markForgotten(ctx context.Context) error {
	if len(h.forgotten) == 0 {
		return nil
	}
	live, bulk := h.r.store.Forgets()
	ids := slices.Collect(maps.Keys(h.forgotten))
	if err := h.r.store.MarkForgotten(ctx, ids, store.Forgotten{At: h.now, Position: live, BulkPosition: bulk}); err != nil {
		return fmt.Errorf("mark who is forgotten: %w", err)
	}
	h.r.mu.Lock()
	f := h.r.forgetting
	h.r.mu.Unlock()
	if f != nil {
		f.learn(ids)
	}
	return nil
}

// dropMarks takes marks away that a call has left that did not finish, once nothing is left that was there when they were set.
func (r *Router) dropMarks(ctx context.Context) error {
	live, bulk := r.store.Forgets()
	if live == 0 && bulk == 0 || r.live.position.Load() < live || r.bulk != nil && r.bulk.position.Load() < bulk {
		return nil
	}
	for _, l := range r.store.Lanes() {
		if l.Entries > 0 {
			return nil
		}
	}
	select {
	case r.forgetTurn <- struct{}{}:
		defer func() { <-r.forgetTurn }()
	default:
		return nil
	}
	return r.store.DropForgotten(ctx)
}
