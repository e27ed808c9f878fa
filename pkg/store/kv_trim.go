package store

import (
	"cmp"
	"slices"
)

// trimKV takes away what is beyond the bounds of the destinations that the transaction has written to: of those accounts that keep most, what each wrote longest ago, until all of these keep as much as
// one another. So an account that keeps less than its share loses nothing for others.
func (t *tx) trimKV() error {
	left := kvRows
	for destination, u := range t.kvStep.use {
		if !t.s.kv.over(u) {
			continue
		}
		most := [2]int64{t.s.kv.maxEntries.Load(), t.s.kv.maxBytes.Load()}
		owners := t.kvOwners(destination)
		if len(owners) > 1 { // a bit more at a time, for then all of them are looked at
			most = [2]int64{most[0] - most[0]/100, most[1] - most[1]/100}
		}
		for by := range most {
			excess := kvAmount(t.kvStep.use[destination], by) - most[by]
			if excess <= 0 {
				continue
			}
			level := kvLevel(owners, by, excess)
			for i := range owners {
				if err := t.trimOwner(owners[i].kvOwner, by, level, most[by], &left); err != nil || left <= 0 {
					return err
				}
			}
			owners = t.kvOwners(destination)
		}
	}
	return nil
}

// kvAmount is what is kept: entries, or bytes.
func kvAmount(u KVUse, by int) int64 { return [2]int64{u.Entries, u.Bytes}[by] }

type ownerUse struct {
	kvOwner
	KVUse
}

// kvOwners are the accounts of a destination that keep something.
func (t *tx) kvOwners(destination string) (owners []ownerUse) {
	for owner, u := range t.s.kv.of {
		if _, changed := t.kvStep.of[owner]; !changed && owner.destination == destination {
			owners = append(owners, ownerUse{owner, u})
		}
	}
	for owner, u := range t.kvStep.of {
		if owner.destination == destination && u.Entries > 0 {
			owners = append(owners, ownerUse{owner, u})
		}
	}
	return owners
}

// kvLevel is how much each may keep at most for so much less to be kept in all. It sorts them, those with most first.
func kvLevel(owners []ownerUse, by int, excess int64) (level int64) {
	slices.SortFunc(owners, func(a, b ownerUse) int {
		return cmp.Or(cmp.Compare(kvAmount(b.KVUse, by), kvAmount(a.KVUse, by)), cmp.Compare(a.account, b.account))
	})
	above := int64(0)
	for i := range owners {
		above += kvAmount(owners[i].KVUse, by)
		level = max(0, above-excess) / int64(i+1)
		if i+1 == len(owners) || level >= kvAmount(owners[i+1].KVUse, by) {
			break
		}
	}
	return level
}

// trimOwner takes away what an account wrote longest ago, down to a level, while the destination keeps more than most.
func (t *tx) trimOwner(owner kvOwner, by int, level, most int64, left *int) error {
	st := &t.kvStep
	for kvAmount(st.ownerOf(&t.s.kv, owner), by) > level && kvAmount(st.use[owner.destination], by) > most && *left > 0 {
		var rows []kvRow
		err := t.s.w.query(`SELECT id, size, destination, account FROM kv WHERE destination = ? AND account = ? ORDER BY id LIMIT ?+0`, rowsOf(&rows), owner.destination, owner.account, min(100, *left))
		if err != nil {
			return err
		}
		if len(rows) == 0 { // somebody else took them away
			u := st.ownerOf(&t.s.kv, owner)
			st.add(&t.s.kv, owner, -u.Entries, -u.Bytes)
		}
		for i := range rows {
			if kvAmount(st.ownerOf(&t.s.kv, owner), by) <= level || kvAmount(st.use[owner.destination], by) <= most {
				break
			}
			if err := t.dropKV(&rows[i], true); err != nil {
				return err
			}
			*left--
		}
	}
	return nil
}
