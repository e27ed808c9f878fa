package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// letterVersion is the version of lines of exported dead letters. Another one is another format.
const letterVersion = 1

// letterLine is a line of an export: one dead letter, whole.
//
//	{"v":1,"crc32c":"0a1b2c3d","letter":{…}}
//
// The checksum is of the bytes of letter as they stand there.
type letterLine struct {
	Version  int             `json:"v"`
	Checksum string          `json:"crc32c"`
	Letter   json.RawMessage `json:"letter"`
	Damaged  string          `json:"damaged,omitempty"` // why the records are missing
}

// lineLetter is the letter in a line.
type lineLetter struct {
	ID          int64       `json:"id"` // where it comes from; an import gives it another one
	Destination string      `json:"destination"`
	Hub         string      `json:"hub"`
	Account     string      `json:"account"`
	Lane        string      `json:"lane"`
	Offset      uint64      `json:"log_offset"`
	Index       int         `json:"output"`
	Outputs     int         `json:"outputs"`
	APIKey      string      `json:"api_key"`
	EventID     string      `json:"event_id"`
	EventType   string      `json:"event_type"`
	Person      string      `json:"person"`
	Received    time.Time   `json:"received"`
	At          time.Time   `json:"at"`
	Attempts    int         `json:"attempts"`
	Replays     int         `json:"replays"`
	Reason      string      `json:"reason"`
	Error       string      `json:"error"`
	Problem     string      `json:"problem,omitempty"`
	Event       *lineRecord `json:"event,omitempty"`
	Original    *lineRecord `json:"original,omitempty"`
}

// lineRecord is a record. One that could not be made again of its parts, byte for byte, stands there as it is.
type lineRecord struct {
	Record []byte `json:"record,omitempty"` // base64

	ID            string          `json:"id,omitempty"`
	APIKey        string          `json:"api_key,omitempty"`
	Received      time.Time       `json:"received,omitzero"`
	Class         event.Class     `json:"class,omitempty"`
	Server        bool            `json:"server,omitempty"`
	Enveloped     bool            `json:"enveloped,omitempty"`
	Source        string          `json:"source,omitempty"`
	SourceIP      string          `json:"source_ip,omitempty"`
	UserAgent     string          `json:"user_agent,omitempty"`
	Email         string          `json:"email,omitempty"`
	AnonymousHash string          `json:"anonymous_hash,omitempty"`
	Added         json.RawMessage `json:"added,omitempty"`
	Hidden        event.Hidden    `json:"hidden,omitempty"`
	JSON          json.RawMessage `json:"json,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendLetterLine appends the line of a letter to dst, with its end. damaged says why its records can not be read; "": they can.
func appendLetterLine(dst []byte, d *store.DeadLetter, damaged string) ([]byte, error) {
	l := lineLetter{
		ID: d.ID, Destination: d.Destination, Hub: d.Hub, Account: d.Account, Lane: d.Lane, Offset: d.Offset, Index: d.Index, Outputs: d.Outputs,
		APIKey: d.APIKey, EventID: d.EventID, EventType: d.EventType, Person: d.Person, Received: d.Received.UTC(), At: d.At.UTC(),
		Attempts: d.Attempts, Replays: d.Replays, Reason: d.Reason, Error: d.Error, Problem: d.Problem,
	}
	if damaged == "" {
		l.Event, l.Original = newLineRecord(d.Event), newLineRecord(d.Original)
	}
	letter, err := plainJSON(&l)
	if err != nil {
		return dst, fmt.Errorf("dead letter %d: %w", d.ID, err)
	}
	line, err := plainJSON(&letterLine{letterVersion, checksum(letter), letter, damaged})
	if err != nil {
		return dst, fmt.Errorf("dead letter %d: %w", d.ID, err)
	}
	return append(append(dst, line...), '\n'), nil
}

func checksum(letter []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(letter, castagnoli)) }

// plainJSON is v as JSON without escapes for HTML, which would change what is to stay as it is.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), err
}

func newLineRecord(record []byte) *lineRecord {
	if record == nil {
		return nil
	}
	var ev event.Event
	if err := ev.Decode(record); err == nil {
		r := &lineRecord{
			ID: ev.ID, APIKey: ev.APIKey, Received: ev.Received, Class: ev.Class, Server: ev.Server, Enveloped: ev.Enveloped, Source: ev.Source,
			SourceIP: ev.SourceIP, UserAgent: ev.UserAgent, Email: ev.Email, AnonymousHash: ev.AnonymousHash, Added: ev.Added, Hidden: ev.Hidden, JSON: ev.JSON,
		}
		// What JSON would change, such as white space between lines of the client's JSON or a name that is not UTF-8, shows only when it is read again.
		if text, err := plainJSON(r); err == nil {
			var again lineRecord
			if json.Unmarshal(text, &again) == nil && bytes.Equal(again.record(), record) {
				return r
			}
		}
	}
	return &lineRecord{Record: append([]byte{}, record...)}
}

// record is what an event's record was made of again; nil for nil.
func (r *lineRecord) record() []byte {
	switch {
	case r == nil:
		return nil
	case r.JSON == nil:
		return append([]byte{}, r.Record...)
	}
	ev := event.Event{
		ID: r.ID, APIKey: r.APIKey, Received: r.Received, Class: r.Class, Server: r.Server, Enveloped: r.Enveloped, Source: r.Source,
		SourceIP: r.SourceIP, UserAgent: r.UserAgent, Email: r.Email, AnonymousHash: r.AnonymousHash, Added: r.Added, Hidden: r.Hidden, JSON: r.JSON,
	}
	return ev.AppendTo(nil)
}

// lineChecksum is the checksum in a line that appendLetterLine wrote.
func lineChecksum(line []byte) string {
	var l struct {
		Checksum string `json:"crc32c"`
	}
	_ = json.Unmarshal(line, &l) // it is one
	return l.Checksum
}

// cut shortens a text to at most n bytes, at a rune's border.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}

// Errors of readLetterLine.
var (
	errLineVersion  = errors.New("it is of another version of the router")
	errLineChecksum = errors.New("its checksum does not match: the line is damaged, or was changed")
	errLineDamaged  = errors.New("it holds no event: the dead letter was damaged when it was exported")
)

// readLetterLine reads a line of an export. The letter has the id that it had.
func readLetterLine(line []byte) (d store.DeadLetter, err error) {
	var l letterLine
	if err := json.Unmarshal(line, &l); err != nil {
		return d, fmt.Errorf("it is no dead letter of an export: %w", err)
	}
	switch {
	case l.Letter == nil:
		return d, errors.New("it is no dead letter of an export")
	case l.Version != letterVersion:
		return d, fmt.Errorf("%w: %d, this one reads %d", errLineVersion, l.Version, letterVersion)
	case checksum(l.Letter) != l.Checksum:
		return d, errLineChecksum
	case l.Damaged != "":
		return d, errLineDamaged
	}
	var in lineLetter
	dec := json.NewDecoder(bytes.NewReader(l.Letter))
	dec.DisallowUnknownFields() // it would be lost
	if err := dec.Decode(&in); err != nil {
		return d, fmt.Errorf("it is no dead letter: %w", err)
	}
	d = store.DeadLetter{
		ID: in.ID, Destination: in.Destination, Hub: in.Hub, Account: in.Account, Lane: in.Lane, Offset: in.Offset, Index: in.Index, Outputs: in.Outputs,
		APIKey: in.APIKey, EventID: in.EventID, EventType: in.EventType, Person: in.Person, Received: in.Received.UTC(), At: in.At.UTC(),
		Attempts: in.Attempts, Replays: in.Replays, Reason: in.Reason, Error: in.Error, Problem: in.Problem,
		Event: in.Event.record(), Original: in.Original.record(),
	}
	return d, checkLetter(&d)
}

// checkLetter says what the store could not keep, or the router not read again: checksums are right of what somebody wrote himself, too.
func checkLetter(d *store.DeadLetter) error {
	const maxName = 64 << 10
	for _, t := range []string{d.Destination, d.Hub, d.Account, d.Lane, d.APIKey, d.EventID, d.EventType, d.Person, d.Error, d.Problem} {
		if len(t) > maxName {
			return fmt.Errorf("it is no dead letter: a text in it has %d bytes", len(t))
		}
	}
	switch {
	case d.Index < 0 || d.Outputs < 0 || d.Attempts < 0 || d.Replays < 0:
		return errors.New("it is no dead letter: a number in it can not be")
	case d.At.Year() < 1970 || d.At.Year() > 9999 || d.Received.Year() < 0 || d.Received.Year() > 9999:
		return errors.New("it is no dead letter: a time in it can not be")
	case d.Reason == "" || len(d.Reason) > 40 || strings.Trim(d.Reason, "abcdefghijklmnopqrstuvwxyz_") != "":
		return fmt.Errorf("it is no dead letter: its reason is %.40q", d.Reason)
	case d.Reason == "record" || d.Reason == "damaged":
		return nil // perhaps nobody can read it
	}
	for _, record := range [][]byte{d.Event, d.Original} {
		var ev event.Event
		if record == nil {
			continue
		}
		if err := ev.Decode(record); err != nil {
			return fmt.Errorf("it is no dead letter: %w", err)
		}
		if checkObject(ev.JSON) != nil || ev.Added != nil && checkObject(ev.Added) != nil {
			return errors.New("it is no dead letter: its event is no JSON object")
		}
	}
	if d.Event == nil {
		return errors.New("it is no dead letter: it has no event")
	}
	return nil
}

// maxLetterDepth bounds the nesting of events: what reads them recurses. Ingest takes less.
const maxLetterDepth = 256

// checkObject says why data is not one JSON object.
func checkObject(data []byte) error {
	depth, inText := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			if depth++; depth > maxLetterDepth {
				return fmt.Errorf("nesting exceeds limit: %d", maxLetterDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	var object map[string]json.RawMessage
	err := json.Unmarshal(data, &object)
	switch _, syntax := errors.AsType[*json.SyntaxError](err); {
	case syntax:
		return fmt.Errorf("it must be one JSON object: %w", err)
	case err != nil || object == nil:
		return errors.New("it must be one JSON object")
	}
	return nil
}
