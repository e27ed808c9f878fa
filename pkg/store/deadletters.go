package store

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"eventrouter/pkg/seal"
)

// DeadLetterQuery selects dead letters. The zero value asks for the newest 100, without bodies.
type DeadLetterQuery struct {
	IDs         []int64 // nil for all
	Destination string  // "" for all; likewise below
	Hub         string
	Account     string
	Lane        string
	APIKey      string
	Reason      string
	EventID     string
	EventType   string
	Person      string    // the lane key or e-mail, in any case of letters
	Since       time.Time // At, from then on; zero for all
	Until       time.Time // At, before then; zero for all
	Marked      bool      // only those that are to be replayed
	Past        int64     // only those behind the one with this id, in the order asked for; 0: from the start
	OldestFirst bool
	Bodies      bool // with Event and Original
	Limit       int  // 0: 100

	NoDestination bool // only those of no destination
}

// conditions are the query's filters in SQL, but for Past, on dead_letters as d and replays as r. A + before a column keeps SQLite from its index: it does
// not know that of one person there are fewer letters than of one destination, nor that to sort a million of them for a page is slower than to look at them in
// the order of their ids.
func (q *DeadLetterQuery) conditions(lookup *seal.Lookup) (sql string, args []any) {
	plus := ""
	if q.IDs != nil || q.EventID != "" || q.Person != "" || q.Marked {
		plus = "+"
	}
	where := []string{"TRUE"}
	add := func(wanted bool, condition string, arg any) {
		if wanted {
			where, args = append(where, condition), append(args, arg)
		}
	}
	if q.IDs != nil {
		ids, _ := json.Marshal(q.IDs) // of numbers: can not fail
		add(true, `d.id IN (SELECT value FROM json_each(?))`, string(ids))
	}
	destination := plus + "d.destination"
	if q.Marked {
		destination = "r.destination"
	}
	for _, f := range [...]struct{ column, want string }{
		{destination, q.Destination},
		{"d.hub", q.Hub},
		{"d.account", q.Account},
		{"d.lane", q.Lane},
		{"d.api_key", q.APIKey},
		{plus + "d.reason", q.Reason},
	} {
		add(f.want != "", f.column+" = ?", f.want)
	}
	add(q.EventID != "", `d.event_id = ?`, hashed(lookup, "event_id", q.EventID))
	add(q.EventType != "", `d.event_type = ?`, hashed(lookup, "event_type", q.EventType))
	add(q.Person != "", `d.person = ? COLLATE NOCASE`, hashed(lookup, "person", strings.ToLower(q.Person))) // see storedLetter
	add(!q.Since.IsZero(), `+d.at >= ?`, q.Since)
	add(!q.Until.IsZero(), `+d.at < ?`, q.Until)
	add(q.NoDestination, destination+` = ?`, "")
	if q.Marked {
		where = append(where, `r.how <> ''`)
	}
	return strings.Join(where, " AND "), args
}

// from is the tables that a query reads: with Marked by the marks, of which there may be few.
func (q *DeadLetterQuery) from() string {
	if q.Marked {
		return ` FROM replays r CROSS JOIN dead_letters d ON d.id = r.letter `
	}
	return ` FROM dead_letters d LEFT JOIN replays r ON r.letter = d.id `
}

// page is the rest of a statement behind conditions: from Past on, most of them.
func (q *DeadLetterQuery) page(most int) string {
	id := `d.id`
	if q.Marked {
		id = `r.letter`
	}
	order := ` ORDER BY ` + id
	if !q.OldestFirst {
		order += ` DESC`
	}
	switch {
	case q.Past == 0:
	case q.OldestFirst:
		order = fmt.Sprintf(` AND %s > %d`, id, q.Past) + order
	default:
		order = fmt.Sprintf(` AND %s < %d`, id, q.Past) + order
	}
	return order + fmt.Sprintf(` LIMIT %d`, most)
}

// DeadLetters returns dead letters. With bodies, one whose body does not match its checksum gives an ErrDamaged that names it,
// together with those before it.
func (s *Store) DeadLetters(ctx context.Context, q DeadLetterQuery) (letters []DeadLetter, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	columns := letterColumns
	if q.Bodies {
		columns += letterBodies
	}
	err = s.queryLetters(ctx, &q, columns, q.Limit, func(c *conn, row []driver.Value) error {
		letter, err := c.rowDeadLetter(row)
		if err == nil {
			letters = append(letters, letter)
		}
		return err
	})
	return letters, err
}

// letterColumns are what rowDeadLetter reads; letterBodies may follow.
const (
	letterColumns = `SELECT d.id, d.destination, hub, account, lane, log_offset, output, api_key, event_id, event_type, person,
		received, at, attempts, reason, error, outputs, replays, coalesce(r.how, ''), coalesce(r.problem, ''), sum`
	letterBodies = `, crc, event, original`

	letterColumnCount = 21
)

func (c *conn) rowDeadLetter(row []driver.Value) (DeadLetter, error) {
	d := DeadLetter{
		ID:          toInt(row[0]),
		Destination: toString(row[1]), Hub: toString(row[2]), Account: toString(row[3]), Lane: toString(row[4]),
		Offset: uint64(toInt(row[5])), Index: int(toInt(row[6])),
		APIKey: toString(row[7]), EventID: toString(row[8]), EventType: toString(row[9]), Person: toString(row[10]),
		Received: toTime(row[11]), At: toTime(row[12]), Attempts: int(toInt(row[13])),
		Reason:  toString(row[14]),
		Outputs: int(toInt(row[16])), Replays: int(toInt(row[17])), Problem: c.openNote(row[19], problemName(toInt(row[0]))),
	}
	var damage error
	known := true
	if d.Replay, known = parseReplay(toString(row[18])); !known {
		damage = fmt.Errorf("%w: how it is to be replayed can not be read", ErrDamaged)
	}
	if sumDiffers(row[20], letterPlaceSum(&d)) {
		damage = fmt.Errorf("%w: where it belongs: checksum does not match", ErrDamaged)
	}
	bodies := len(row) > letterColumnCount
	if bodies {
		d.Event, d.Original = toBytes(row[22]), toBytes(row[23])
		if letterSum(d.Event, d.Original) != uint32(toInt(row[21])) {
			damage = errSum
		}
	}
	if damage != nil && bodies {
		return d, fmt.Errorf("dead letter %d: %w", d.ID, damage)
	}
	switch err := c.openLetter(&d, row[15]); {
	case err == nil:
	case errors.Is(err, ErrKey) || bodies:
		return d, fmt.Errorf("dead letter %d: %w", d.ID, unopened(err))
	default: // the others are to be seen, and this one too
		d.Error = "(" + err.Error() + ")"
	}
	if damage != nil {
		d.Error = "(" + damage.Error() + ") " + d.Error
	}
	return d, nil
}

// Words of the column how of replays.
const (
	replayOriginal  = "original"
	replayAsIs      = "as_is"
	replayOverwrite = "overwrite"
	replayAll       = "all"
)

func (r *Replay) words() string {
	words := replayOriginal
	if r.AsIs {
		words = replayAsIs
	}
	if r.Overwrite {
		words += "," + replayOverwrite
	}
	if r.All {
		words += "," + replayAll
	}
	return words
}

// parseReplay is the inverse of words. With a word that it does not know, it returns false, and those that it does.
func parseReplay(words string) (r *Replay, known bool) {
	if words == "" {
		return nil, true
	}
	r, known = &Replay{}, true
	for word := range strings.SplitSeq(words, ",") {
		switch word {
		case replayAsIs:
			r.AsIs = true
		case replayOverwrite:
			r.Overwrite = true
		case replayAll:
			r.All = true
		case replayOriginal:
		default:
			known = false
		}
	}
	return r, known
}
