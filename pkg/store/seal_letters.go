package store

import (
	"database/sql/driver"
	"strings"

	"eventrouter/pkg/seal"
)

// letterName binds what is sealed of a dead letter to it, and to the part of it that it is.
func letterName(d *DeadLetter, part string) seal.Name {
	return seal.Name{Kind: sealedLetter, IDs: [3]uint64{d.Offset, uint64(d.Index), uint64(toMillis(d.At))}, Text: part + " " + d.Destination}
}

// storedLetter is what is stored of a dead letter's texts and records. Its person is kept in lower case, for SQLite compares ASCII only in any case.
type storedLetter struct {
	eventID, eventType, person any
	error                      any // with the three before it, where it is sealed
	crc                        int64
	event, original            []byte
}

func (c *conn) storedLetter(d *DeadLetter) storedLetter {
	person := strings.ToLower(d.Person)
	l := storedLetter{
		eventID: c.hashedUnlessEmpty("event_id", d.EventID), eventType: c.hashedUnlessEmpty("event_type", d.EventType), person: c.hashedUnlessEmpty("person", person),
		error: c.sealTexts(letterName(d, "texts"), cut(d.Error, 2000), d.EventID, d.EventType, person),
		event: c.sealRecord(d, "event", d.Event), original: c.sealRecord(d, "original", d.Original),
	}
	l.crc = int64(letterSum(l.event, l.original))
	return l
}

// sealRecord returns a record of a dead letter as it is stored; nil stays nil.
func (c *conn) sealRecord(d *DeadLetter, part string, record []byte) []byte {
	if record == nil || !c.box.Seals() {
		return record
	}
	return c.box.Seal(make([]byte, 0, len(record)+seal.Overhead), record, letterName(d, part))
}

// openLetter puts the true texts and records of a dead letter in the place of those that its row has. errText is the column error; the other texts and the records stand in d.
func (c *conn) openLetter(d *DeadLetter, errText driver.Value) error {
	if _, sealed := errText.([]byte); !sealed {
		d.Error = toString(errText)
		return nil
	}
	texts, err := c.openTexts(errText, letterName(d, "texts"), 4)
	if err != nil {
		return err
	}
	d.Error, d.EventID, d.EventType, d.Person = texts[0], texts[1], texts[2], texts[3]
	for part, record := range map[string]*[]byte{"event": &d.Event, "original": &d.Original} {
		if *record == nil {
			continue
		}
		if *record, err = c.box.Open(nil, *record, letterName(d, part)); err != nil {
			return err
		}
	}
	return nil
}
