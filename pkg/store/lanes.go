package store

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
)

// lane is a lane in memory.
type lane struct {
	Lane
	oldestKnown bool // Oldest is up to date
}

// laneChange is what a transaction does to a lane.
type laneChange struct {
	entries, bytes int64 // more or less
	added, removed bool  // blocks
}

// LaneID returns the id of the lane called name. It makes the lane where it is missing: then it is on disk on return.
func (s *Store) LaneID(name LaneName) (LaneID, error) {
	s.lanesMu.RLock()
	id := s.byName[name]
	s.lanesMu.RUnlock()
	if id != 0 {
		return id, nil
	}
	if s.readOnly {
		return s.findLane(name)
	}
	req := &request{name: &name, done: make(chan struct{})}
	if err := s.submit(context.Background(), req); err != nil {
		return 0, fmt.Errorf("lane %v: %w", name, err)
	}
	return req.laneID, nil
}

func (s *Store) findLane(name LaneName) (LaneID, error) {
	lanes, err := s.readLanes()
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(lanes, func(l Lane) bool { return l.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("lane %v: %w", name, ErrReadOnly)
	}
	return lanes[i].ID, nil
}

// Lanes returns all lanes, by id.
func (s *Store) Lanes() []Lane {
	if s.readOnly {
		lanes, err := s.readLanes()
		if err != nil {
			s.opts.Logger.Error("read lanes", "store", s.path, "error", err)
		}
		return lanes
	}
	s.refreshOldest()
	s.lanesMu.RLock()
	defer s.lanesMu.RUnlock()
	lanes := make([]Lane, 0, len(s.lanes))
	for _, l := range s.lanes {
		lanes = append(lanes, l.Lane)
	}
	slices.SortFunc(lanes, func(a, b Lane) int { return cmp.Compare(a.ID, b.ID) })
	return lanes
}

// refreshOldest looks up the first block of the lanes whose first block may have changed.
func (s *Store) refreshOldest() {
	s.oldestMu.Lock() // or a second caller would find oldestKnown before Oldest is
	defer s.oldestMu.Unlock()
	var stale []LaneID
	s.lanesMu.Lock()
	for id, l := range s.lanes {
		if !l.oldestKnown {
			l.oldestKnown = true // a commit from here on says false again
			stale = append(stale, id)
		}
	}
	s.lanesMu.Unlock()
	if len(stale) == 0 {
		return
	}
	err := s.read(func(c *conn) error {
		for _, id := range stale {
			ms, err := c.queryInt(`SELECT oldest FROM blocks WHERE lane = ? AND id NOT IN (SELECT block FROM damaged) ORDER BY id LIMIT 1`, id)
			if err != nil {
				return err
			}
			s.lanesMu.Lock()
			s.lanes[id].Oldest = toTime(ms)
			s.lanesMu.Unlock()
		}
		return nil
	})
	if err != nil {
		s.opts.Logger.Error("read oldest blocks", "store", s.path, "error", err)
	}
}

// readLanes reads the lanes from the database.
func (s *Store) readLanes() (lanes []Lane, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT id, destination, hub, account, lane, entries, bytes,
			(SELECT oldest FROM blocks b WHERE b.lane = l.id AND b.id NOT IN (SELECT block FROM damaged) ORDER BY id LIMIT 1) FROM lanes l ORDER BY id`, func(row []driver.Value) error {
			l := rowLane(row)
			l.Oldest = toTime(row[7])
			lanes = append(lanes, l)
			return nil
		})
	})
	return lanes, err
}

func rowLane(row []driver.Value) Lane {
	return Lane{
		ID:      LaneID(toInt(row[0])),
		Name:    LaneName{toString(row[1]), toString(row[2]), toString(row[3]), toString(row[4])},
		Entries: toInt(row[5]),
		Bytes:   toInt(row[6]),
	}
}

// loadLanes is how Open fills the lanes in memory.
func (s *Store) loadLanes() error {
	return s.w.query(`SELECT id, destination, hub, account, lane, entries, bytes FROM lanes`, func(row []driver.Value) error {
		l := &lane{Lane: rowLane(row)}
		s.lanes[l.ID], s.byName[l.Name] = l, l.ID
		return nil
	})
}

// makeLane answers a request for a lane's id.
func (t *tx) makeLane(req *request) error {
	name := *req.name
	if id := max(t.s.byName[name], t.made[name]); id != 0 {
		req.laneID = id
		return nil
	}
	err := t.s.w.exec(`INSERT INTO lanes (destination, hub, account, lane) VALUES (?, ?, ?, ?)`, name.Destination, name.Hub, name.Account, name.Lane)
	if err != nil {
		return err
	}
	id, err := t.s.w.queryInt(`SELECT last_insert_rowid()`)
	if err != nil {
		return err
	}
	if t.made == nil {
		t.made = make(map[LaneName]LaneID)
	}
	req.laneID = LaneID(id)
	t.made[name] = LaneID(id)
	return nil
}

// lane returns the change of a lane that exists.
func (t *tx) lane(id LaneID) (*laneChange, error) {
	if change := t.lanes[id]; change != nil {
		return change, nil
	}
	if t.s.lanes[id] == nil { // only the writer changes the map
		return nil, fmt.Errorf("lane %d is not in the store", id)
	}
	change := &laneChange{}
	t.lanes[id] = change
	return change, nil
}

func (t *tx) writeLanes() error {
	for id, change := range t.lanes {
		l := t.s.lanes[id]
		err := t.s.w.exec(`UPDATE lanes SET entries = ?, bytes = ? WHERE id = ?`, l.Entries+change.entries, l.Bytes+change.bytes, id)
		if err != nil {
			return err
		}
	}
	return nil
}

// DropLanes deletes lanes in which nothing is, and returns how many. Nobody may be about to put something into one of them, or know their ids.
func (s *Store) DropLanes(ctx context.Context, ids []LaneID) (dropped int, err error) {
	err = s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
		dropped = 0
		for _, id := range ids {
			l := t.s.lanes[id]
			if l == nil || l.Entries != 0 || t.lanes[id] != nil {
				continue
			}
			used, err := t.s.w.queryInt(`SELECT EXISTS (SELECT 1 FROM blocks WHERE lane = ?1) OR EXISTS (SELECT 1 FROM calls WHERE lane = ?1) OR EXISTS (SELECT 1 FROM holds WHERE lane = ?1)`, id)
			if err == nil && used == 0 {
				err = t.s.w.exec(`DELETE FROM lanes WHERE id = ?`, id)
				t.gone = append(t.gone, id)
				dropped++
			}
			if err != nil {
				return err
			}
		}
		return nil
	}})
	return dropped, err
}

func (t *tx) adoptLanes() {
	s := t.s
	s.lanesMu.Lock()
	defer s.lanesMu.Unlock()
	for _, id := range t.gone {
		delete(s.byName, s.lanes[id].Name)
		delete(s.lanes, id)
	}
	for name, id := range t.made {
		s.lanes[id], s.byName[name] = &lane{Lane: Lane{ID: id, Name: name}}, id
	}
	for id, change := range t.lanes {
		l := s.lanes[id]
		if change.removed || change.added && l.Entries == 0 {
			l.oldestKnown = false
		}
		l.Entries += change.entries
		l.Bytes += change.bytes
	}
}
