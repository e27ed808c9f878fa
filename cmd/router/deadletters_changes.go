package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/export"
	"eventrouter/pkg/store"
)

// lettersChange is the body of a request that changes dead letters.
type lettersChange struct {
	letterFilter
	Everything bool `json:"everything,omitempty"` // where nothing is filtered by: else that is taken for a mistake
	DryRun     bool `json:"dry_run,omitempty"`    // only count
}

// query is what the change is about.
func (c *lettersChange) query(what string) (store.DeadLetterQuery, error) {
	if c.isEmpty() && !c.Everything {
		return store.DeadLetterQuery{}, &lettersRefusal{
			status: http.StatusBadRequest, Message: "No filter says which dead letters to " + what,
			Err: "give ids, destination, reason or another filter; or everything: true",
		}
	}
	q, err := c.letterFilter.query(time.Now())
	if err != nil {
		return q, badRequest("%s", err)
	}
	return q, nil
}

// replayChange is the body of POST /api/v1/deadletters/replay.
type replayChange struct {
	lettersChange
	AsIs      bool `json:"as_is,omitempty"`
	Overwrite bool `json:"overwrite,omitempty"`
	All       bool `json:"all,omitempty"`
	Cancel    bool `json:"cancel,omitempty"` // take marks away
}

// replayAnswer says what was marked.
type replayAnswer struct {
	At       time.Time      `json:"at"`    // by the router's clock
	Found    lettersSummary `json:"found"` // before
	Marked   int64          `json:"marked"`
	Unmarked int64          `json:"unmarked"`
}

// replay answers POST /api/v1/deadletters/replay.
func (p *lettersPages) replay(ctx context.Context, r *http.Request) (any, error) {
	var c replayChange
	if err := readBody(r, &c); err != nil {
		return nil, err
	}
	if c.Cancel && (c.AsIs || c.Overwrite || c.All) {
		return nil, badRequest("cancel takes marks away: as_is, overwrite and all say how to replay")
	}
	q, err := c.query("replay")
	if err != nil {
		return nil, err
	}
	answer := replayAnswer{At: time.Now().UTC()}
	if answer.Found, err = p.summarize(ctx, q); err != nil || c.DryRun {
		return answer, err
	}
	if c.Cancel {
		answer.Unmarked, err = p.store.UnmarkReplay(ctx, q)
	} else {
		answer.Marked, err = p.store.MarkReplay(ctx, q, store.Replay{AsIs: c.AsIs, Overwrite: c.Overwrite, All: c.All})
	}
	return answer, err
}

// dropChange is the body of POST /api/v1/deadletters/drop.
type dropChange struct {
	lettersChange
	// Exported are the checksums of what was exported, by id: what has changed since stays. Not with filters.
	Exported map[int64]string `json:"exported,omitempty"`
}

// dropAnswer says what was dropped.
type dropAnswer struct {
	Found   lettersSummary `json:"found"` // before
	Dropped int64          `json:"dropped"`
}

// drop answers POST /api/v1/deadletters/drop.
func (p *lettersPages) drop(ctx context.Context, r *http.Request) (any, error) {
	var c dropChange
	if err := readBody(r, &c); err != nil {
		return nil, err
	}
	if c.Exported != nil {
		if !c.isEmpty() || c.Everything || c.DryRun || len(c.Exported) > maxLetterIDs {
			return nil, badRequest("exported says which dead letters to drop, at most %d, and no filter beside it", maxLetterIDs)
		}
		return p.dropExported(ctx, c.Exported)
	}
	q, err := c.query("drop")
	if err != nil {
		return nil, err
	}
	var answer dropAnswer
	if answer.Found, err = p.summarize(ctx, q); err != nil || c.DryRun {
		return answer, err
	}
	p.changes.Lock()
	defer p.changes.Unlock()
	answer.Dropped, err = p.store.DropDeadLetters(ctx, q)
	return answer, err
}

// dropExported drops what is as it was exported.
func (p *lettersPages) dropExported(ctx context.Context, exported map[int64]string) (answer dropAnswer, err error) {
	p.changes.Lock()
	defer p.changes.Unlock()
	ids := []int64{} // nil would be all
	for id := range exported {
		ids = append(ids, id)
	}
	same := []int64{}
	err = eachLetter(ctx, p.store, store.DeadLetterQuery{IDs: ids, Bodies: true}, func(d *store.DeadLetter, damaged string) error {
		_, sum, err := appendLetterLine(nil, d, damaged)
		if err == nil && damaged == "" && d.Replay == nil && sum == exported[d.ID] {
			same = append(same, d.ID)
		}
		return err
	})
	if err != nil || len(same) == 0 {
		return answer, err
	}
	q := store.DeadLetterQuery{IDs: same}
	if answer.Found, err = p.summarize(ctx, q); err == nil {
		answer.Dropped, err = p.store.DropDeadLetters(ctx, q)
	}
	return answer, err
}

// editableLetter is a dead letter as somebody edits it: nothing of it is hidden.
type editableLetter struct {
	ID       int64           `json:"id"`
	Checksum string          `json:"crc32c"` // of the whole letter
	Event    json.RawMessage `json:"event"`
	Original json.RawMessage `json:"original,omitempty"` // where a transform made event of it
}

// editable answers GET /api/v1/deadletters/edit.
func (p *lettersPages) editable(ctx context.Context, r *http.Request) (any, error) {
	id, err := strconv.ParseInt(r.URL.Query().Get("id"), 10, 64)
	if err != nil {
		return nil, badRequest("id must be the number of a dead letter")
	}
	_, l, err := p.forEdit(ctx, id)
	if err != nil {
		return nil, err
	}
	data, err := plainJSON(l)
	return json.RawMessage(data), err // with what is hidden elsewhere: it would be lost
}

// forEdit finds a letter that can be edited.
func (p *lettersPages) forEdit(ctx context.Context, id int64) (d store.DeadLetter, l editableLetter, err error) {
	letters, err := p.store.DeadLetters(ctx, store.DeadLetterQuery{IDs: []int64{id}, Bodies: true})
	switch {
	case errors.Is(err, store.ErrDamaged):
		return d, l, &lettersRefusal{status: http.StatusConflict, Message: fmt.Sprintf("Dead letter %d is damaged on the disk", id)}
	case err != nil:
		return d, l, err
	case len(letters) == 0:
		return d, l, noLetter(id)
	}
	d = letters[0]
	ev, first := eventIn(d.Event), eventIn(d.Original)
	if ev.JSON == nil || d.Original != nil && first.JSON == nil {
		return d, l, &lettersRefusal{status: http.StatusConflict, Message: fmt.Sprintf("Dead letter %d holds no event that this router can read", id)}
	}
	_, sum, err := appendLetterLine(nil, &d, "")
	return d, editableLetter{id, sum, ev.JSON, first.JSON}, err
}

func noLetter(id int64) error {
	return &lettersRefusal{status: http.StatusNotFound, Message: fmt.Sprintf("There is no dead letter %d", id)}
}

// letterEdit is the body of POST /api/v1/deadletters/edit. What is not given stays.
type letterEdit struct {
	ID        int64           `json:"id"`
	Checksum  string          `json:"crc32c,omitempty"` // of the letter that was looked at: another one is not changed
	Event     json.RawMessage `json:"event,omitempty"`
	Original  json.RawMessage `json:"original,omitempty"`
	OtherType bool            `json:"other_type,omitempty"` // event_type may change
}

var errReplaying = &lettersRefusal{status: http.StatusConflict, Message: "The dead letter is being replayed", Err: "wait for the replay, or cancel it"}

// edited is the answer.
type edited struct {
	ID      int64 `json:"id"`
	Changed bool  `json:"changed"`
}

// edit answers POST /api/v1/deadletters/edit.
func (p *lettersPages) edit(ctx context.Context, r *http.Request) (any, error) {
	var c letterEdit
	if err := readBody(r, &c); err != nil {
		return nil, err
	}
	if c.Event == nil && c.Original == nil {
		return nil, badRequest("event or original is required")
	}
	p.changes.Lock()
	defer p.changes.Unlock()
	d, l, err := p.forEdit(ctx, c.ID)
	switch {
	case err != nil:
		return nil, err
	case c.Checksum != "" && c.Checksum != l.Checksum:
		return nil, &lettersRefusal{status: http.StatusConflict, Message: "The dead letter has changed meanwhile", Err: "look at it again"}
	case d.Replay != nil:
		return nil, errReplaying
	case c.Original != nil && d.Original == nil:
		return nil, badRequest("Dead letter %d has no original: no transform changed its event", c.ID)
	}
	ev, original := d.Event, d.Original
	if c.Event != nil {
		if ev, err = p.withJSON(d.Event, c.Event, c.OtherType); err != nil {
			return nil, err
		}
	}
	if c.Original != nil {
		if original, err = p.withJSON(d.Original, c.Original, c.OtherType); err != nil {
			return nil, err
		}
	}
	if bytes.Equal(ev, d.Event) && bytes.Equal(original, d.Original) {
		return edited{c.ID, false}, nil
	}
	change := store.LetterEdit{Event: ev, Original: original, EventType: d.EventType, Person: d.Person}
	retell(&change, d.Person, d.Original, original)
	retell(&change, d.Person, d.Event, ev) // which is what lists show
	err = p.store.EditDeadLetter(ctx, c.ID, change)
	switch {
	case errors.Is(err, store.ErrMarked): // meanwhile
		err = errReplaying
	case errors.Is(err, store.ErrNoLetter):
		err = noLetter(c.ID)
	}
	return edited{c.ID, true}, err
}

// withJSON is a record with another event in the same envelope.
func (p *lettersPages) withJSON(record, text []byte, otherType bool) ([]byte, error) {
	if most := p.config().Server.MaxEventBytes; len(text) > most {
		return nil, &lettersRefusal{status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("Event size exceeds limit: %d", most)}
	}
	if err := export.CheckObject(text); err != nil {
		return nil, badRequest("The event is refused: %s", err)
	}
	ev := eventIn(record)
	before := ev.Type()
	ev.JSON = event.Normalize(text)
	if after := ev.Type(); after != before && !otherType {
		return nil, &lettersRefusal{
			status: http.StatusBadRequest, Message: fmt.Sprintf("event_type would change from %.60q to %.60q", before, after), Err: "allow it with other_type",
		}
	}
	return ev.AppendTo(nil), nil
}

// importAnswer says what was put back.
type importAnswer struct {
	Added   int64     `json:"added"`
	Present int64     `json:"present"` // there already
	Refused []badLine `json:"refused"` // the first hundred
	Bad     int       `json:"bad"`     // all of them
}

// badLine is a line that holds no dead letter.
type badLine struct {
	Line   int    `json:"line"` // from 1
	Reason string `json:"reason"`
}

const maxBadLines = 100

// importLines answers POST /api/v1/deadletters/import: all lines of the body or, where one is damaged, none, unless skip_malformed=true.
func (p *lettersPages) importLines(ctx context.Context, r *http.Request) (any, error) {
	v := r.URL.Query()
	skip, err := yes(v, "skip_malformed")
	if err != nil {
		return nil, err
	}
	how, err := replayOf(v.Get("replay"))
	if err != nil {
		return nil, err
	}
	answer := importAnswer{Refused: []badLine{}}
	var letters []store.DeadLetter
	err = eachLine(r.Body, func(n int, line []byte) error {
		l, _, err := export.ReadLine(line)
		if err != nil {
			if !skip {
				return &lettersRefusal{
					status: http.StatusBadRequest, Line: n, Message: fmt.Sprintf("Line %d is refused: %s", n, err), Err: "nothing of this request is imported; skip_malformed=true passes over such lines",
				}
			}
			if answer.Bad++; answer.Bad <= maxBadLines {
				answer.Refused = append(answer.Refused, badLine{n, err.Error()})
			}
			return nil
		}
		letters = append(letters, imported(&l, how))
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.changes.Lock()
	defer p.changes.Unlock()
	if len(letters) > 0 {
		answer.Added, err = p.store.ImportDeadLetters(ctx, letters)
	}
	answer.Present = int64(len(letters)) - answer.Added
	return answer, err
}

// replayOf reads how to replay: words with commas between.
func replayOf(text string) (*store.Replay, error) {
	if text == "" {
		return nil, nil
	}
	how := &store.Replay{}
	for _, word := range strings.Split(text, ",") {
		switch word {
		case "original":
		case "as_is":
			how.AsIs = true
		case "overwrite":
			how.Overwrite = true
		case "all":
			how.All = true
		default:
			return nil, badRequest("replay must be original or as_is, with overwrite or all behind commas, not %.40q", word)
		}
	}
	return how, nil
}

// eachLine calls f with each line that is not blank, and its number. The line is valid until f returns.
func eachLine(r io.Reader, f func(n int, line []byte) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var long []byte
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long[:0], line...)
			for errors.Is(err, bufio.ErrBufferFull) {
				if len(long) > maxLineBytes {
					return badRequest("Line %d has more than %d bytes", n, maxLineBytes)
				}
				line, err = in.ReadSlice('\n')
				long = append(long, line...)
			}
			line = long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			if err := f(n, line); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// maxLineBytes bounds a line of an export: two events, each as large as the router takes them at most, and as base64.
const maxLineBytes = 256 << 20
