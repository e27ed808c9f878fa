package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Status says what became of an output of the sorter.
type Status string

// Statuses of outcomes.
const (
	Delivered Status = "delivered"
	Skipped   Status = "skipped"     // not for the destination, for Reason
	Filtered  Status = "filtered"    // left out by the destination's template
	Duplicate Status = "duplicate"   // the API key had sent the id before; of no destination
	Unrouted  Status = "unrouted"    // the API key feeds no destination
	Dead      Status = "dead_letter" // can not be delivered, for Reason
	Dropped   Status = "dropped"     // a dead letter that was deleted, for Reason
)

// Outcome is what became of one output.
type Outcome struct {
	Received    time.Time // of the event, to the microsecond
	Settled     time.Time // likewise
	APIKey      string
	EventID     string
	EventType   string
	Person      string // the lane key; for what got to no lane, the e-mail
	Destination string // "" for Duplicate and Unrouted
	Hub         string
	Account     string
	Lane        string // "" when it did not get as far as a lane
	Offset      uint64
	Index       int
	Status      Status
	Minimal     bool   // a write without the event's data, made only so that its person exists
	Reason      string // one word or phrase of a closed list
	Error       string // what happened; never a secret
	Attempts    int
	Replays     int             // how often it was replayed before this
	Detail      json.RawMessage // the destination's own account of it; never a secret
}

// Bounds of an outcome, in bytes. A text that is longer is cut, and a Detail is left out.
const (
	MaxOutcomeText   = 1 << 10
	MaxOutcomeDetail = 8 << 10
)

// An outcome is encoded against the one before it in its row: bit i of the head says that text i is the same. Head (uvarint), times as
// differences in microseconds (varints), the difference of the offset (varint), index, attempts, replays (uvarints), the texts that differ.
const (
	outcomeTexts   = 11
	outcomeMinimal = 1 << outcomeTexts       // flag: Minimal
	outcomeOnce    = 1 << (outcomeTexts + 1) // flag: index 0 and one attempt, not written
	outcomeReplays = 1 << (outcomeTexts + 2) // flag: Replays is written
	outcomeHeads   = 1 << (outcomeTexts + 3)

	outcomesVersion = 1
)

var errOutcomes = errors.New("not a row of outcomes")

// texts are the texts of o in the order in which they are written; those that stay the same from one to the next stand together.
func (o *Outcome) texts() [outcomeTexts]string {
	return [...]string{
		o.APIKey, o.Destination, o.Hub, o.Account, o.Lane, string(o.Status), o.Reason, o.Error, o.EventType, o.Person, o.EventID,
	}
}

func (o *Outcome) setTexts(t *[outcomeTexts]string) {
	o.APIKey, o.Destination, o.Hub, o.Account, o.Lane, o.Status = t[0], t[1], t[2], t[3], t[4], Status(t[5])
	o.Reason, o.Error, o.EventType, o.Person, o.EventID = t[6], t[7], t[8], t[9], t[10]
}

// appendOutcomes appends the outcomes as a row holds them, before compression.
func appendOutcomes(dst []byte, outcomes []Outcome) []byte {
	dst = append(dst, outcomesVersion)
	last := &Outcome{Received: time.UnixMicro(0), Settled: time.UnixMicro(0)}
	var lastTexts [outcomeTexts]string
	for i := range outcomes {
		o := &outcomes[i]
		texts := o.texts()
		head := uint64(0)
		for j := range texts {
			if texts[j] == lastTexts[j] {
				head |= 1 << j
			}
		}
		if o.Minimal {
			head |= outcomeMinimal
		}
		once := o.Index == 0 && o.Attempts == 1
		if once {
			head |= outcomeOnce
		}
		if o.Replays > 0 {
			head |= outcomeReplays
		}
		dst = binary.AppendUvarint(dst, head)
		dst = binary.AppendVarint(dst, micros(o.Received)-micros(last.Received))
		dst = binary.AppendVarint(dst, micros(o.Settled)-micros(last.Settled))
		dst = binary.AppendVarint(dst, int64(o.Offset-last.Offset))
		if !once {
			dst = binary.AppendUvarint(dst, uint64(max(o.Index, 0)))
			dst = binary.AppendUvarint(dst, uint64(max(o.Attempts, 0)))
		}
		if o.Replays > 0 {
			dst = binary.AppendUvarint(dst, uint64(o.Replays))
		}
		for j, text := range texts {
			if head&(1<<j) == 0 {
				dst = appendOutcomeText(dst, cut(text, MaxOutcomeText))
			}
		}
		detail := o.Detail
		if len(detail) > MaxOutcomeDetail {
			detail = fmt.Appendf(nil, `{"left_out":"%d bytes"}`, len(detail))
		}
		if i > 0 && bytes.Equal(detail, last.Detail) { // of merged writes it is one
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
			dst = binary.AppendUvarint(dst, uint64(len(detail)))
			dst = append(dst, detail...)
		}
		last, lastTexts = o, texts
	}
	return dst
}

func appendOutcomeText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// micros keeps the zero time as 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// decodeOutcomes is the inverse of appendOutcomes.
func decodeOutcomes(data []byte) ([]Outcome, error) {
	if len(data) == 0 || data[0] != outcomesVersion {
		return nil, fmt.Errorf("%w: version", errOutcomes)
	}
	d := outcomeDecoder{rest: data[1:]}
	var outcomes []Outcome
	var texts [outcomeTexts]string
	var last Outcome
	var received, settled int64
	for len(d.rest) > 0 {
		head := d.uvarint()
		o := Outcome{Minimal: head&outcomeMinimal != 0, Attempts: 1}
		received += d.varint()
		settled += d.varint()
		o.Received, o.Settled = fromMicros(received), fromMicros(settled)
		o.Offset = last.Offset + uint64(d.varint())
		if head&outcomeOnce == 0 {
			o.Index, o.Attempts = int(d.uvarint()&0x7fffffff), int(d.uvarint()&0x7fffffff)
		}
		if head&outcomeReplays != 0 {
			o.Replays = int(d.uvarint() & 0x7fffffff)
		}
		for j := range texts {
			if head&(1<<j) == 0 {
				texts[j] = string(d.bytes(MaxOutcomeText))
			}
		}
		o.setTexts(&texts)
		if d.byte() == 1 {
			o.Detail = last.Detail
		} else if detail := d.bytes(MaxOutcomeDetail); len(detail) > 0 {
			o.Detail = bytes.Clone(detail)
		}
		if d.failed || head >= outcomeHeads {
			return nil, fmt.Errorf("%w: outcome %d", errOutcomes, len(outcomes))
		}
		outcomes = append(outcomes, o)
		last = o
	}
	return outcomes, nil
}

// outcomeDecoder reads from rest; after a failure it returns zero values.
type outcomeDecoder struct {
	rest   []byte
	failed bool
}

func (d *outcomeDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if !d.pass(n) {
		return 0
	}
	return v
}

func (d *outcomeDecoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if !d.pass(n) {
		return 0
	}
	return v
}

// pass moves on by n bytes; none or fewer is a failure.
func (d *outcomeDecoder) pass(n int) bool {
	if n <= 0 {
		d.failed, d.rest = true, nil
		return false
	}
	d.rest = d.rest[n:]
	return true
}

func (d *outcomeDecoder) byte() byte {
	if len(d.rest) == 0 {
		d.failed = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *outcomeDecoder) bytes(most int) []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) || n > uint64(most) {
		d.failed, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}
