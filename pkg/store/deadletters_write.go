package store

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of EditDeadLetter.
var (
	ErrNoLetter = errors.New("there is no such dead letter")
	ErrMarked   = errors.New("the dead letter is to be replayed")
)

// Bounds of one transaction that changes dead letters: it holds the writer for some milliseconds.
const (
	lettersPerStep     = 1000
	letterBytesPerStep = 4 << 20
)

func (t *tx) putDeadLetters(letters []DeadLetter) error {
	for i := range letters {
		if err := t.putDeadLetter(&letters[i]); err != nil {
			return err
		}
		if how := letters[i].Replay; how != nil {
			err := t.s.w.exec(`INSERT INTO replays (letter, destination, how, problem) VALUES (last_insert_rowid(), ?, ?, '')`, letters[i].Destination, how.words())
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// putDeadLetter adds a letter, under its id if it has one that is free.
func (t *tx) putDeadLetter(d *DeadLetter) error {
	t.letters = true
	l := t.s.w.storedLetter(d)
	return t.s.w.exec(`INSERT INTO dead_letters (id, destination, hub, account, lane, log_offset, output, api_key, event_id, event_type, person,
		received, at, attempts, reason, error, outputs, replays, crc, event, original, sum)
		VALUES ((SELECT CASE WHEN ?1 > 0 AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE id = ?1) THEN ?1 END),
		?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)`,
		d.ID, d.Destination, d.Hub, d.Account, d.Lane, d.Offset, d.Index, d.APIKey, l.eventID, l.eventType, l.person,
		d.Received, d.At, d.Attempts, d.Reason, l.error, d.Outputs, d.Replays, l.crc, l.event, l.original, letterPlaceSum(d))
}

// putReplayed notes what became of letters that were to be sent again.
func (t *tx) putReplayed(all []Replayed) error {
	for i := range all {
		r := &all[i]
		t.letters = true
		marked, err := t.s.w.queryInt(`SELECT count(*) FROM replays JOIN dead_letters ON id = letter WHERE letter = ? AND how <> ''`, r.ID)
		switch {
		case err != nil:
			return err
		case marked == 0:
			return fmt.Errorf("dead letter %d is not to be replayed", r.ID)
		case r.Problem == "":
			err = t.s.w.exec(`DELETE FROM dead_letters WHERE id = ?`, r.ID)
		default:
			err = t.s.w.exec(`UPDATE replays SET how = '', problem = ? WHERE letter = ?`, t.s.w.sealTexts(problemName(r.ID), cut(r.Problem, 1000)), r.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// MarkReplay marks what q finds, all of it with a Limit of 0, to be sent again; the router does so in the background, also after a restart. What is
// marked already is sent as how says now. It returns how many there are now that were not marked before. On return that is on disk; when ctx ends
// earlier, some of it is.
func (s *Store) MarkReplay(ctx context.Context, q DeadLetterQuery, how Replay) (marked int64, err error) {
	err = s.eachStep(ctx, q, func(ids []int64) error {
		var n int64
		err := s.change(ctx, nil, func(t *tx) (err error) {
			list := idList(ids)
			n, err = t.s.w.queryInt(`SELECT count(*) FROM json_each(?) JOIN dead_letters d ON d.id = value LEFT JOIN replays ON letter = value
				WHERE coalesce(how, '') = ''`, list)
			if err != nil {
				return err
			}
			t.letters = true
			return t.s.w.exec(`INSERT INTO replays (letter, destination, how, problem)
				SELECT d.id, d.destination, ?, '' FROM json_each(?) JOIN dead_letters d ON d.id = value WHERE TRUE
				ON CONFLICT DO UPDATE SET how = excluded.how, problem = ''`, how.words(), list)
		})
		if err == nil {
			marked += n
			s.tellMarked()
		}
		return err
	})
	return marked, err
}

func (s *Store) tellMarked() {
	select {
	case s.letters.marked <- struct{}{}:
	default:
	}
}

// UnmarkReplay takes the marks of what q finds away, all of it with a Limit of 0, and returns how many there were. What is handed over already is not
// called back.
func (s *Store) UnmarkReplay(ctx context.Context, q DeadLetterQuery) (unmarked int64, err error) {
	q.Marked = true
	err = s.eachStep(ctx, q, func(ids []int64) error {
		var n int64
		err := s.change(ctx, nil, func(t *tx) (err error) {
			list := idList(ids)
			if n, err = t.s.w.queryInt(`SELECT count(*) FROM replays WHERE how <> '' AND letter IN (SELECT value FROM json_each(?))`, list); err != nil {
				return err
			}
			t.letters = true
			return t.s.w.exec(`DELETE FROM replays WHERE letter IN (SELECT value FROM json_each(?))`, list)
		})
		if err == nil {
			unmarked += n
		}
		return err
	})
	return unmarked, err
}

// Reasons of outcomes that are Dropped.
const (
	droppedByHand = "deleted by hand"
	droppedTooOld = "older than server.dead_letters.max_age"
	droppedPushed = "the dead letters of the destination's accounts were at server.dead_letters.max_bytes, and this account had most of them"
)

// DropDeadLetters deletes what q finds, all of it with a Limit of 0, also what is to be replayed, and returns how many that were. Each leaves an outcome.
// Those that are damaged so that they can not be deleted stay: an ErrDamaged names them when all others are gone.
func (s *Store) DropDeadLetters(ctx context.Context, q DeadLetterQuery) (dropped int64, err error) {
	var stuck []int64
	err = s.eachStep(ctx, q, func(ids []int64) error {
		n, stay, err := s.dropEach(ctx, ids, droppedByHand, ``)
		dropped += n
		stuck = append(stuck, stay...)
		return err
	})
	if err == nil && len(stuck) > 0 {
		err = fmt.Errorf("%w: %d dead letters can not be deleted, among them %d: see what a check of the store says", ErrDamaged, len(stuck), stuck[0])
	}
	return dropped, err
}

// dropEach is drop that goes on past letters that are damaged, which it returns.
func (s *Store) dropEach(ctx context.Context, ids []int64, reason, condition string) (dropped int64, stuck []int64, err error) {
	dropped, err = s.drop(ctx, ids, reason, condition)
	switch {
	case !errors.Is(err, ErrDamaged):
		return dropped, nil, err
	case len(ids) == 1:
		s.tellDamaged(damagedLetters, fmt.Errorf("dead letter %d can not be deleted: %w", ids[0], err))
		return 0, ids, nil
	}
	for _, half := range [][]int64{ids[:len(ids)/2], ids[len(ids)/2:]} {
		n, stay, err := s.dropEach(ctx, half, reason, condition)
		dropped, stuck = dropped+n, append(stuck, stay...)
		if err != nil {
			return dropped, stuck, err
		}
	}
	return dropped, stuck, nil
}

// ExpireDeadLetters deletes some of the letters that became dead before a time, the oldest first, but none that are to be replayed. Each leaves an outcome.
// It returns how many went, by destination; with more there are others.
func (s *Store) ExpireDeadLetters(ctx context.Context, before time.Time) (dropped map[string]int64, more bool, err error) {
	counts, err := s.deadLetterBytes()
	if err != nil || len(counts) == 0 {
		return nil, false, err
	}
	dropped = map[string]int64{}
	for destination := range counts {
		var ids []int64
		var bytes int64
		err := s.read(func(c *conn) error {
			return c.query(`SELECT d.id, coalesce(length(event), 0) + coalesce(length(original), 0) FROM dead_letters d LEFT JOIN replays ON letter = d.id
				WHERE d.destination = ? AND at < ? AND coalesce(how, '') = '' ORDER BY at LIMIT ?`, func(row []driver.Value) error {
				if bytes += toInt(row[1]); len(ids) == 0 || bytes <= letterBytesPerStep {
					ids = append(ids, toInt(row[0]))
				} else {
					more = true
				}
				return nil
			}, destination, before, lettersPerStep)
		})
		if err == nil && len(ids) > 0 {
			more = more || len(ids) == lettersPerStep
			dropped[destination], _, err = s.dropEach(ctx, ids, droppedTooOld, ` AND id NOT IN (SELECT letter FROM replays WHERE how <> '')`)
		}
		if err != nil {
			return dropped, more, err
		}
	}
	return dropped, more, nil
}

// drop deletes letters for which a further condition holds.
func (s *Store) drop(ctx context.Context, ids []int64, reason, condition string) (dropped int64, err error) {
	letters, err := s.DeadLetters(ctx, DeadLetterQuery{IDs: ids, Limit: len(ids)})
	if err != nil {
		return 0, err
	}
	now := time.Now()
	outcomes := make([]Outcome, len(letters))
	for i := range letters {
		d := &letters[i]
		outcomes[i] = Outcome{
			Received: d.Received, Settled: now, APIKey: d.APIKey, EventID: d.EventID, EventType: d.EventType, Person: strings.ToLower(d.Person),
			Destination: d.Destination, Hub: d.Hub, Account: d.Account, Lane: d.Lane, Offset: d.Offset, Index: d.Index,
			Status: Dropped, Reason: reason, Error: d.Error, Attempts: d.Attempts,
		}
	}
	err = s.change(ctx, outcomes, func(t *tx) error {
		t.letters = true
		list := idList(ids)
		var err error
		if dropped, err = t.s.w.queryInt(`SELECT count(*) FROM dead_letters WHERE id IN (SELECT value FROM json_each(?))`+condition, list); err != nil {
			return err
		}
		return t.s.w.exec(`DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(?))`+condition, list)
	})
	if err != nil {
		return 0, err
	}
	return dropped, nil
}

// LetterEdit is what changes of a dead letter.
type LetterEdit struct {
	Event, Original   []byte // its records; nil for none
	EventType, Person string // of what is now in them: by these it is found
}

// EditDeadLetter replaces the records of a dead letter that is not marked, and whose they are. ErrNoLetter: there is none; ErrMarked: it is to be replayed.
func (s *Store) EditDeadLetter(ctx context.Context, id int64, e LetterEdit) error {
	return s.change(ctx, nil, func(t *tx) error {
		letters, err := t.s.w.queryInt(`SELECT count(*) FROM dead_letters WHERE id = ?`, id)
		if err != nil {
			return err
		}
		marked, err := t.s.w.queryInt(`SELECT count(*) FROM replays WHERE letter = ? AND how <> ''`, id)
		switch {
		case err != nil:
			return err
		case letters == 0:
			return fmt.Errorf("dead letter %d: %w", id, ErrNoLetter)
		case marked > 0:
			return fmt.Errorf("dead letter %d: %w", id, ErrMarked)
		}
		t.letters = true
		return t.editLetter(id, &e)
	})
}

// editLetter replaces what an edit names, and nothing else. The texts of a letter are sealed in one, so that they are all written anew.
func (t *tx) editLetter(id int64, e *LetterEdit) error {
	c := t.s.w
	var d DeadLetter
	err := c.query(letterColumns+letterBodies+` FROM dead_letters d LEFT JOIN replays r ON r.letter = d.id WHERE d.id = ?`, func(row []driver.Value) (err error) {
		d, err = c.rowDeadLetter(row)
		return err
	}, id)
	if err != nil {
		return err
	}
	d.Event, d.Original, d.EventType, d.Person = e.Event, e.Original, e.EventType, e.Person
	l := c.storedLetter(&d)
	return c.exec(`UPDATE dead_letters SET event_type = ?, person = ?, error = ?, event = ?, original = ?, crc = ? WHERE id = ?`,
		l.eventType, l.person, l.error, l.event, l.original, l.crc, id)
}

// ImportDeadLetters puts letters back that an export took out, under new ids; those with a Replay are marked with it. Those of which the store has the same output with the same time
// and reason are left out. When it fails, some of them may be in the store; to import them again adds the others.
func (s *Store) ImportDeadLetters(ctx context.Context, letters []DeadLetter) (added int64, err error) {
	for len(letters) > 0 {
		n, bytes := 0, 0
		for n < len(letters) && n < lettersPerStep && (n == 0 || bytes < letterBytesPerStep) {
			bytes += len(letters[n].Event) + len(letters[n].Original)
			n++
		}
		step := letters[:n]
		letters = letters[n:]
		var fresh int64
		marked := false
		err := s.change(ctx, nil, func(t *tx) error {
			fresh = 0
			for i := range step {
				d := step[i]
				there, err := t.s.w.queryInt(`SELECT count(*) FROM dead_letters INDEXED BY dead_letters_event WHERE event_id = ? AND log_offset = ? AND output = ? AND api_key = ?
					AND destination = ? AND hub = ? AND account = ? AND lane = ? AND at = ? AND reason = ?`,
					t.s.w.hashedUnlessEmpty("event_id", d.EventID), d.Offset, d.Index, d.APIKey, d.Destination, d.Hub, d.Account, d.Lane, d.At, d.Reason)
				if err != nil {
					return err
				}
				if there > 0 {
					continue
				}
				d.ID = 0
				if err := t.putDeadLetter(&d); err != nil {
					return err
				}
				fresh++
				if d.Replay == nil && d.Problem == "" {
					continue
				}
				how := ""
				if d.Replay != nil {
					how, marked = d.Replay.words(), true
				}
				id, err := t.s.w.queryInt(`SELECT last_insert_rowid()`)
				if err != nil {
					return err
				}
				problem := t.s.w.sealTexts(problemName(id), cut(d.Problem, 1000))
				if err := t.s.w.exec(`INSERT INTO replays (letter, destination, how, problem) VALUES (?, ?, ?, ?)`, id, d.Destination, how, problem); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return added, err
		}
		added += fresh
		if marked {
			s.tellMarked()
		}
	}
	return added, nil
}

// eachStep calls do with the ids of what q finds, some at a time.
func (s *Store) eachStep(ctx context.Context, q DeadLetterQuery, do func(ids []int64) error) error {
	if s.readOnly {
		return ErrReadOnly
	}
	for left := q.Limit; ; {
		var ids []int64
		var bytes int64
		most, whole := lettersPerStep, true
		if q.Limit > 0 {
			most = min(most, left)
		}
		sql := `SELECT d.id, coalesce(length(event), 0) + coalesce(length(original), 0)`
		err := s.queryLetters(ctx, &q, sql, most, func(_ *conn, row []driver.Value) error {
			if bytes += toInt(row[1]); whole && (len(ids) == 0 || bytes <= letterBytesPerStep) {
				ids = append(ids, toInt(row[0]))
			} else {
				whole = false
			}
			return nil
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := do(ids); err != nil {
			return err
		}
		q.Past = ids[len(ids)-1]
		if left -= len(ids); q.Limit > 0 && left == 0 || whole && len(ids) < most {
			return nil
		}
	}
}

// change has the writer do something, in a transaction that it may share with others, and write outcomes with it.
func (s *Store) change(ctx context.Context, outcomes []Outcome, do func(*tx) error) error {
	req := &request{do: do, outcomes: s.packOutcomes(outcomes), done: make(chan struct{})}
	defer req.outcomes.release()
	return s.submit(ctx, req)
}

func idList(ids []int64) string {
	list, _ := json.Marshal(ids) // of numbers: can not fail
	return string(list)
}
