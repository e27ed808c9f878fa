package router

import (
	"strconv"

	"eventrouter/pkg/store"
)

// letters are all dead letters that there are.
func (x *torture) letters() []store.DeadLetter {
	x.t.Helper()
	dead, err := x.g.store.DeadLetters(x.t.Context(), store.DeadLetterQuery{Limit: 10_000})
	if err != nil {
		x.t.Fatal(err)
	}
	return dead
}

// replay has dead letters sent again: some, from the original or as they were, or all that there are, from the original.
func (x *torture) replay(all bool) {
	how := store.Replay{AsIs: !all && x.rnd.IntN(3) == 0}
	var ids []int64
	for _, d := range x.letters() {
		if d.Replay != nil || !all && x.rnd.IntN(2) == 0 {
			continue
		}
		ids = append(ids, d.ID)
		v := x.victimOf(d)
		v.remote.mu.Lock()
		for _, of := range x.outputsOf(d) {
			v.remote.watch.replays(of)
		}
		v.remote.mu.Unlock()
		if how.AsIs || d.Reason == "transform" {
			continue
		}
		for _, p := range x.texts {
			if p.event == d.EventID {
				v.recounted[p.key]++
				break
			}
		}
	}
	if len(ids) == 0 {
		return
	}
	if _, err := x.g.store.MarkReplay(x.t.Context(), store.DeadLetterQuery{IDs: ids}, how); err != nil {
		x.t.Fatal(err)
	}
}

func (x *torture) victimOf(d store.DeadLetter) *victim {
	for _, v := range x.victims {
		if v.destination == d.Destination && v.account == d.Account {
			return v
		}
	}
	x.t.Fatalf("a dead letter of account %q of destination %s: %+v", d.Account, d.Destination, d)
	return nil
}

// outputsOf are the outputs that a letter stands for, one that was given up unsorted for all of its event, by the names that they have in posted.
func (x *torture) outputsOf(d store.DeadLetter) (all []store.DeadLetter) {
	switch {
	case d.Reason == "transform":
		return nil
	case d.Lane != "":
		if d.Index > 0 {
			d.EventID += "_" + strconv.Itoa(d.Index)
		}
		return append(all, d)
	}
	for _, p := range x.texts {
		if p.event != d.EventID || p.fate != "" {
			continue
		}
		of := d
		if of.EventID, of.Lane = p.id, "contacts"; !p.write {
			of.Lane = "events"
		}
		all = append(all, of)
	}
	return all
}
