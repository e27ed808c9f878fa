package router

import (
	"cmp"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
)

// queue holds the entries in a lane's windows that share an identity: those in calls first, then those that wait, of both streams, in the order
// in which they count. That order is the same in all queues, so that entries of several identities can not wait for each other.
type queue struct {
	entries []*entry
	hold    time.Time // no write before this: a call without an answer may still be applied
}

// counts orders entries by their effective time. Of the same time what is live counts as later: a replay keeps the first receipt of its
// event, which it shares with others of its request. In a lane that waits for others a live entry comes before bulk ones all the same:
// those may wait for what is deep in an import.
func (e *entry) counts(o *entry) int {
	if e.bulk() != o.bulk() && e.stream.lane.index > 0 {
		return e.streamOrder() - o.streamOrder()
	}
	if c := cmp.Compare(e.effective, o.effective); c != 0 {
		return c
	}
	if c := o.streamOrder() - e.streamOrder(); c != 0 {
		return c
	}
	return compareNames(e.Name, o.Name)
}

func (e *entry) streamOrder() int {
	if e.bulk() {
		return 1
	}
	return 0
}

// follows says whether o, of another lane, was handed over before e or with it, so that e waits for it. Offsets order one stream, but for what
// is late and was handed over after what came later in its log; blocks order all.
func (e *entry) follows(o *entry) bool {
	if e.bulk() != o.bulk() || e.Late {
		return o.ref.Block < e.ref.Block
	}
	return compareNames(o.Name, e.Name) <= 0
}

func compareNames(a, b destinations.OutputName) int {
	if c := cmp.Compare(a.Offset, b.Offset); c != 0 {
		return c
	}
	return cmp.Compare(a.Index, b.Index)
}

// add puts e in its place. What is in a call stays before it; an entry that is itself in a call, found at start, comes before all that wait.
func (q *queue) add(e *entry) {
	n := len(q.entries)
	if n == 0 || !e.busy && q.entries[n-1].counts(e) < 0 {
		q.entries = append(q.entries, e)
		return
	}
	at := 0
	for at < n && q.entries[at].busy {
		at++
	}
	if !e.busy {
		waiting := q.entries[at:]
		i, _ := slices.BinarySearchFunc(waiting, e, (*entry).counts)
		at += i
	}
	q.entries = slices.Insert(q.entries, at, e)
}

// firstBefore is the first entry that e, which is in a later lane, has to wait for.
func (q *queue) firstBefore(e *entry) *entry {
	for _, o := range q.entries {
		if e.follows(o) {
			return o
		}
	}
	return nil
}

// enqueueLocked puts e into the queue of each of its identities.
func (l *lane) enqueueLocked(e *entry) {
	if e.Plan.Key != "" {
		e.persons = append(e.persons, l.account.personLocked(e.Plan.Key))
	}
	for _, also := range e.Plan.Also {
		if p := l.account.personLocked(also); !slices.Contains(e.persons, p) {
			e.persons = append(e.persons, p)
		}
	}
	for _, p := range e.persons {
		p.queues[l.index].add(e)
	}
}

// freeLocked puts entries back that were in calls and wait again: what came meanwhile may count as earlier. Each queue is put in order once, for thousands of
// one person may come back together.
func (l *lane) freeLocked(entries []*entry) {
	touched := map[*person]bool{}
	for _, e := range entries {
		e.busy = false
		for _, p := range e.persons {
			touched[p] = true
		}
	}
	for p := range touched {
		q := p.queues[l.index].entries
		slices.SortStableFunc(q, func(a, b *entry) int {
			switch {
			case a.busy && b.busy:
				return 0
			case a.busy:
				return -1
			case b.busy:
				return 1
			default:
				return a.counts(b)
			}
		})
	}
}
