package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"time"

	"eventrouter/pkg/event"
)

// version is that of lines. Another one is another format.
const version = 1

// line is one line. The checksum is of the bytes of letter as they stand there.
type line struct {
	Version  int             `json:"v"`
	Checksum string          `json:"crc32c"`
	Letter   json.RawMessage `json:"letter"`
	Damaged  string          `json:"damaged,omitempty"` // why the records are missing
}

// Letter is a dead letter as a file has it: all that the store keeps of it, but for marks of replays.
type Letter struct {
	ID          int64     `json:"id"` // where it comes from; an import gives it another one
	Destination string    `json:"destination"`
	Hub         string    `json:"hub"`
	Account     string    `json:"account"`
	Lane        string    `json:"lane"`
	Offset      uint64    `json:"log_offset"`
	Index       int       `json:"output"`
	Outputs     int       `json:"outputs"`
	APIKey      string    `json:"api_key"`
	EventID     string    `json:"event_id"`
	EventType   string    `json:"event_type"`
	Person      string    `json:"person"`
	Received    time.Time `json:"received"`
	At          time.Time `json:"at"`
	Attempts    int       `json:"attempts"`
	Replays     int       `json:"replays"`
	Reason      string    `json:"reason"`
	Error       string    `json:"error"`
	Problem     string    `json:"problem,omitempty"`
	Event       Record    `json:"event,omitzero"`
	Original    Record    `json:"original,omitzero"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendLine appends the line of a letter to dst, with its end, and returns the checksum in it. damaged says why the records are missing; "": they are there.
func AppendLine(dst []byte, l *Letter, damaged string) (out []byte, sum string, err error) {
	letter, err := plainJSON(l)
	if err != nil {
		return dst, "", fmt.Errorf("dead letter %d: %w", l.ID, err)
	}
	sum = checksum(letter)
	text, err := plainJSON(&line{version, sum, letter, damaged})
	if err != nil {
		return dst, "", fmt.Errorf("dead letter %d: %w", l.ID, err)
	}
	return append(append(dst, text...), '\n'), sum, nil
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

// Errors of ReadLine, beside those of lines that are none.
var (
	ErrVersion  = errors.New("it is of another version of the router")
	ErrChecksum = errors.New("its checksum does not match: the line is damaged, or was changed")
	ErrDamaged  = errors.New("it holds no event: the dead letter was damaged when it was exported") // with the letter as far as it is there
)

// ReadLine reads a line and returns the letter and the checksum in it. It keeps nothing of data.
func ReadLine(data []byte) (l Letter, sum string, err error) {
	var in line
	if err := json.Unmarshal(data, &in); err != nil {
		return l, "", fmt.Errorf("it is no dead letter of an export: %w", err)
	}
	switch {
	case in.Letter == nil:
		return l, "", errors.New("it is no dead letter of an export")
	case in.Version != version:
		return l, "", fmt.Errorf("%w: %d, this one reads %d", ErrVersion, in.Version, version)
	case checksum(in.Letter) != in.Checksum:
		return l, "", ErrChecksum
	}
	dec := json.NewDecoder(bytes.NewReader(in.Letter))
	dec.DisallowUnknownFields() // it would be lost
	if err := dec.Decode(&l); err != nil {
		return l, "", fmt.Errorf("it is no dead letter: %w", err)
	}
	l.Received, l.At = l.Received.UTC(), l.At.UTC()
	if in.Damaged != "" {
		return l, in.Checksum, ErrDamaged
	}
	return l, in.Checksum, l.check()
}

// check says what the store could not keep, or the router not read again: checksums are right of what somebody wrote himself, too.
func (l *Letter) check() error {
	const (
		maxName   = 64 << 10
		maxOffset = 1 << 62 // no log gets as far; beyond, numbers that are made of it would overflow
	)
	for _, t := range []string{l.Destination, l.Hub, l.Account, l.Lane, l.APIKey, l.EventID, l.EventType, l.Person, l.Error, l.Problem} {
		if len(t) > maxName {
			return fmt.Errorf("it is no dead letter: a text in it has %d bytes", len(t))
		}
	}
	switch {
	case min(l.Index, l.Outputs, l.Attempts, l.Replays) < 0 || max(l.Index, l.Outputs, l.Attempts, l.Replays) >= math.MaxInt32 || l.Offset > maxOffset:
		return errors.New("it is no dead letter: a number in it can not be")
	case l.At.Year() < 1970 || l.At.Year() > 9999 || l.Received.Year() < 0 || l.Received.Year() > 9999:
		return errors.New("it is no dead letter: a time in it can not be")
	case l.Reason == "" || len(l.Reason) > 40 || strings.Trim(l.Reason, "abcdefghijklmnopqrstuvwxyz_") != "":
		return fmt.Errorf("it is no dead letter: its reason is %.40q", l.Reason)
	case l.Reason == "record" || l.Reason == "damaged":
		return nil // perhaps nobody can read it
	case l.Event == nil:
		return errors.New("it is no dead letter: it has no event")
	}
	for _, record := range []Record{l.Event, l.Original} {
		var ev event.Event
		if record == nil {
			continue
		}
		if err := ev.Decode(record); err != nil {
			return fmt.Errorf("it is no dead letter: %w", err)
		}
		if CheckObject(ev.JSON) != nil || ev.Added != nil && CheckObject(ev.Added) != nil {
			return errors.New("it is no dead letter: its event is no JSON object")
		}
	}
	return nil
}
