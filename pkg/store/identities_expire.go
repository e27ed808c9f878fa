package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Identities are expired by going through all of them, some at a time: an index by age would cost as much as the table.
const (
	identitiesExpireAfter = 3 * time.Minute // from the start to the first time
	identitiesExpireEvery = 6 * time.Hour
	identitiesPerStep     = 2000 // that are looked at in one go, and deleted in one transaction at most
	identitiesStepPause   = 20 * time.Millisecond
)

// ExpireIdentitiesNowAndThen is ExpireIdentities some minutes after the start, and then every few hours, until ctx ends. It always returns nil: what is not deleted is
// no harm.
func (s *Store) ExpireIdentitiesNowAndThen(ctx context.Context) error {
	timer := time.NewTimer(identitiesExpireAfter)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		timer.Reset(identitiesExpireEvery)
		if err := s.ExpireIdentities(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("identities could not be expired", "store", s.path, "error", err.Error())
		}
	}
}

// ExpireIdentities deletes the identities that were last seen longer ago than Options.IdentityAge, and the oldest ones while there are more than Options.IdentityMax. It
// goes through all of them, a few at a time beside what else is to do.
func (s *Store) ExpireIdentities(ctx context.Context) error {
	if s.readOnly {
		return ErrReadOnly
	}
	cutoff := int64(1) // Unix milliseconds: those that were seen before go; 0 is of a person who is being forgotten
	if s.opts.IdentityAge > 0 {
		cutoff = max(1, time.Now().Add(-s.opts.IdentityAge).UnixMilli())
	}
	const hour = int64(time.Hour / time.Millisecond)
	left := map[int64]int64{} // by the hour in which they were seen
	var count int64
	err := s.sweepIdentities(ctx, func(seen int64) bool {
		switch {
		case seen == 0: // going already
		case seen < cutoff:
			return true
		default:
			left[seen/hour]++
			count++
		}
		return false
	}, &s.stats.identitiesTooOld)
	if err != nil {
		return fmt.Errorf("expire identities: %w", err)
	}
	s.stats.identities.Store(count)
	excess := count - int64(s.opts.IdentityMax)
	if s.opts.IdentityMax <= 0 || excess <= 0 {
		return nil
	}
	// All of the hours before last go, and of that one as many as are too many.
	var last int64
	for _, last = range slices.Sorted(maps.Keys(left)) {
		if left[last] >= excess {
			break
		}
		excess -= left[last]
	}
	err = s.sweepIdentities(ctx, func(seen int64) bool {
		switch h := seen / hour; {
		case seen == 0 || h > last:
			return false
		case h == last && excess == 0:
			return false
		case h == last:
			excess--
		}
		count--
		return true
	}, &s.stats.identitiesTooMany)
	s.stats.identities.Store(count)
	if err != nil {
		return fmt.Errorf("expire identities: %w", err)
	}
	return nil
}

// storedIdentity is the key of an identity's row, as it is stored, and when it was seen.
type storedIdentity struct {
	key  [3]driver.Value
	seen int64
}

// sweepIdentities goes through all identities and deletes those for which goes says so, unless they were seen again meanwhile.
func (s *Store) sweepIdentities(ctx context.Context, goes func(seen int64) bool, gone *atomic.Int64) error {
	for last, n := [3]driver.Value{"", "", ""}, identitiesPerStep; n == identitiesPerStep; {
		var old []storedIdentity
		n = 0
		err := s.read(func(c *conn) error {
			return c.query(`SELECT api_key, kind, value, seen FROM identities WHERE (api_key, kind, value) > (?, ?, ?)
				ORDER BY api_key, kind, value LIMIT ?`, func(row []driver.Value) error {
				n++
				last = [3]driver.Value(row)
				if goes(toInt(row[3])) {
					old = append(old, storedIdentity{last, toInt(row[3])})
				}
				return nil
			}, last[0], last[1], last[2], identitiesPerStep)
		})
		if err == nil && len(old) > 0 {
			err = s.change(ctx, nil, func(t *tx) error { return t.deleteIdentities(old) })
			gone.Add(int64(len(old)))
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(identitiesStepPause):
		}
	}
	return nil
}

func (t *tx) deleteIdentities(old []storedIdentity) error {
	for _, id := range old {
		err := t.s.w.exec(`DELETE FROM identities WHERE api_key = ? AND kind = ? AND value = ? AND seen = ?`, id.key[0], id.key[1], id.key[2], id.seen)
		if err != nil {
			return err
		}
	}
	t.allHidden = true
	return nil
}
