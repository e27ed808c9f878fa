package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/store"
)

const (
	replayPage  = 64                     // letters that are looked up in one go
	replayRetry = time.Second            // until it is looked again whether lanes that were full have room
	fullFor     = 100 * time.Millisecond // so long lanes that were looked at count as full, or not
)

// replayer is what the sorter reads beside the logs: dead letters that are to be sent again, oldest first. One destination has its turn after the other. Those
// of a destination whose lanes are at a limit wait there, as uploads wait outside. The sorter owns it.
type replayer struct {
	r       *Router
	mark    deathMark
	waiting []store.DeadLetter // of one destination, without bodies

	suspects span            // letters in hand when the process died
	last     string          // whose turn it was
	full     map[string]bool // by destination
	fullAt   time.Time       // when it was found out
	resting  time.Time       // not before
	singly   bool            // one of those that wait is damaged
}

func newReplayer(r *Router, mark deathMark) *replayer { return &replayer{r: r, mark: mark} }

func (p *replayer) open() (err error) {
	p.suspects, err = p.mark.open()
	return err
}

// look reads the next letters, if none wait, and says whether some do.
func (p *replayer) look(ctx context.Context, now time.Time) (bool, error) {
	if len(p.waiting) > 0 {
		return true, nil
	}
	left := p.r.store.ReplaysLeft()
	if len(left) == 0 || p.resting.After(now) {
		return false, nil
	}
	names := slices.Sorted(maps.Keys(left))
	if i, _ := slices.BinarySearch(names, p.last+"\x00"); i > 0 { // who comes behind the last one
		names = append(names[i:len(names):len(names)], names[:i]...)
	}
	for _, name := range names {
		if p.isFull(name, now) {
			continue
		}
		q := store.DeadLetterQuery{Marked: true, Destination: name, NoDestination: name == "", OldestFirst: true, Limit: replayPage}
		letters, err := p.r.store.DeadLetters(ctx, q)
		if err != nil {
			if ctx.Err() != nil {
				return false, nil
			}
			return false, fmt.Errorf("read dead letters that are to be replayed: %w", err)
		}
		if len(letters) > 0 {
			if letters[0].ID < int64(p.suspects.to) || p.singly {
				letters = letters[:1] // one of these killed the process, or can not be deleted: find out which
			}
			p.last, p.waiting = name, letters
			return true, nil
		}
	}
	p.resting, p.singly = now.Add(replayRetry), false
	return false, nil
}

// isFull says whether a destination's letters have to wait; those of no destination may go to any.
func (p *replayer) isFull(destination string, now time.Time) bool {
	if p.full == nil || now.Sub(p.fullAt) >= fullFor || now.Before(p.fullAt) {
		p.full, p.fullAt = map[string]bool{}, now
		t := p.r.table.Load()
		for _, stored := range p.r.store.Lanes() {
			i := t.index(stored.Name.Destination)
			if i >= 0 && t.routes[i].Connection == "" && strings.HasSuffix(stored.Name.Lane, bulkSuffix) && over(stored, t.routes[i].Lanes, now) && !p.r.parked(stored.Name, t.routes[i]) {
				p.full[stored.Name.Destination] = true
			}
		}
		if p.r.store.Full() {
			for name := range p.r.store.ReplaysLeft() {
				p.full[name] = true
			}
		}
	}
	return p.full[destination] || destination == "" && len(p.full) > 0
}

// wake receives when letters were marked.
func (p *replayer) wake() <-chan struct{} { return p.r.store.ReplayWanted() }

// rest is how long nothing is looked for, where letters are left; else forever.
func (p *replayer) rest(now time.Time) time.Duration {
	if len(p.r.store.ReplaysLeft()) == 0 {
		return time.Hour
	}
	return max(p.resting.Sub(now), 0)
}

// replay hands over as many of the letters that wait as there is time for. What is to overwrite counts at the time until, if that is not zero: of what is
// live something may be unsorted that counts as later.
func (s *sorter) replay(ctx context.Context, until time.Time) error {
	p, h := s.replays, s.h
	s.passed, s.replayed = 0, true
	first, last := p.waiting[0].ID, p.waiting[len(p.waiting)-1].ID
	deaths, err := p.mark.begin(uint64(first), uint64(last)+1, p.suspects)
	if err != nil {
		return err
	}
	h.begin(ctx)
	began := time.Now()
	if until.IsZero() {
		until = began
	}
	n := 0
	if deaths >= maxDeaths {
		h.done(&p.waiting[0], fmt.Sprintf("the process died %d times while this letter alone was being replayed: report it, with the event", deaths))
		n = 1
	}
	for ; n < len(p.waiting) && (n == 0 || time.Since(began) < bulkTime) && h.failed == nil; n++ {
		if err := p.hand(ctx, h, p.waiting[n].ID, until); err != nil {
			return err
		}
	}
	if err := p.mark.end(); err != nil {
		return err
	}
	p.waiting = p.waiting[n:]
	if took := time.Since(began); took > 2*bulkTime { // scripts are slow: what is live has most of the time
		p.resting = time.Now().Add(4 * took)
	}
	if len(h.batch.Replayed) == 0 && h.failed == nil {
		h.releaseKV()
		h.letGoOfAccounts()
		return nil
	}
	err = h.commit(ctx)
	if errors.Is(err, store.ErrBatch) {
		// Some were dropped or unmarked meanwhile. Nothing of this counts; it is looked again at what is marked.
		s.r.logger.Info("dead letters are replayed again from the first of some, for one was dropped or is no longer to be replayed", "detail", err.Error())
		h.count = newCounts(h.r, h.table)
		p.waiting, p.resting = nil, time.Now().Add(fullFor)
		return nil
	}
	if errors.Is(err, store.ErrDamaged) && len(h.batch.Replayed) > 0 {
		return p.damaged(ctx, h, err)
	}
	return err
}

// damaged goes on without a letter that is damaged so that it can not be deleted: nothing of what was handed over with it counts.
func (p *replayer) damaged(ctx context.Context, h *handover, cause error) error {
	h.count = newCounts(h.r, h.table)
	all := h.batch.Replayed
	p.waiting = nil
	if len(all) > 1 {
		p.singly = true
		return nil
	}
	id := all[0].ID
	if _, err := p.r.store.UnmarkReplay(ctx, store.DeadLetterQuery{IDs: []int64{id}}); err != nil {
		return fmt.Errorf("replay dead letter %d, which is damaged (%w): %w", id, cause, err)
	}
	p.r.logger.Error("a dead letter is damaged on the disk, so that it can not be deleted, and is not replayed", "id", id, "error", cause.Error())
	return nil
}

// hand hands one letter over, unless it is gone or no longer to be.
func (p *replayer) hand(ctx context.Context, h *handover, id int64, until time.Time) error {
	letters, err := p.r.store.DeadLetters(ctx, store.DeadLetterQuery{IDs: []int64{id}, Bodies: true})
	switch {
	case errors.Is(err, store.ErrDamaged):
		h.done(&store.DeadLetter{ID: id, Destination: p.last}, "its records can not be read: "+err.Error())
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("read dead letter %d: %w", id, err)
	case len(letters) > 0 && letters[0].Replay != nil:
		h.again(&letters[0], until.UnixMicro())
	}
	return nil
}
