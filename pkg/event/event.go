// Package event is the value every stage passes on: one client's event with a small envelope of what the router
// itself knows of it.
//
//	client's JSON ─▶ Event{envelope, JSON} ─AppendTo─▶ bytes in log and lanes ─Decode─▶ Event
//
// The JSON stays the client's own, byte for byte, so that large integers and key order survive; what the router adds is
// in the envelope and becomes visible to filters and transforms by [Event.AppendView].
package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Class tells how an event came in; it decides its effective time.
type Class uint8

// Classes of events.
const (
	Live   Class = 0 // posted as it happened: effective time is receipt
	Bulk   Class = 1 // uploaded later: effective time is the event's own time
	Replay Class = 2 // sent again from the dead letters: effective time is its first receipt
)

// Event is one analytics event with its envelope. The strings and JSON of a decoded Event point into the bytes that it was decoded
// from; an Event is read-only once it is appended or decoded.
type Event struct {
	// ID is the client's event id; where it sent none, one derived from the content or drawn at random.
	// With the API key it identifies the event for de-duplication.
	ID string
	// APIKey is the id of the API key that the event was posted with, never one of its secrets.
	APIKey string
	// Account is the customer whose event it is, where destinations deliver to customers' accounts: an opaque id of the team's choosing, from the token of an end user
	// or from the API key's configuration, or what a destination read from an event that a server posted; never what a browser says in a body. "" for none.
	Account string
	// Received is the time of receipt in UTC, to the microsecond.
	Received time.Time
	// Class says whether the event is live, from a bulk upload or a replay.
	Class Class
	// Server is true when a server secret posted the event; a browser's key gives no trust.
	Server bool
	// Enveloped is true when a transform wrote the JITSU_ENVELOP that is in JSON, which says where webhooks send the event. What a client sends under that name
	// is data: it would choose what the router calls.
	Enveloped bool
	// Source is what `src` says where the client's JSON has none: api, jitsu, bulk, ...
	Source string
	// SourceIP is the client's address in text form, IPv4 or IPv6, after trusted proxies were taken away; "" if not kept.
	SourceIP string
	// UserAgent is the User-Agent header of browser posts; "" for server posts.
	UserAgent string
	// Email is what the identity memory supplied for an event that carries no e-mail of its own; "" otherwise.
	Email string
	// AnonymousHash is a hash of the client's address and User-Agent, which filters see as user.hashed_anonymous_id; "" if that is not wanted.
	AnonymousHash string
	// Added is a JSON object of what the router found out beside the client's event: request headers, location, user agent. Its members are seen
	// behind the client's own, whose names go before. Nil: nothing.
	Added []byte
	// Hidden is what of the above the view does not show, although it is there: what a transform removed and the router itself needs.
	Hidden Hidden
	// JSON is the client's event: one valid JSON object in UTF-8, write keys removed. Never nil.
	JSON []byte
}

// AppSource is Source of the events of apps, and of no others.
const AppSource = "app"

// AppPrefix begins what stands for an API key in the events of an app, before its name.
const AppPrefix = "app:"

// App returns the app whose event it is, "" for other events. Nobody can post one but by the app's own route.
func (e *Event) App() string {
	if e.Source != AppSource {
		return ""
	}
	app, _ := strings.CutPrefix(e.APIKey, AppPrefix)
	return app
}

// Hidden is a set of parts of the envelope.
type Hidden uint8

// Parts of the envelope that a view may lack. With HideID the event's JSON says itself what the view shows as ids.
const (
	HideID Hidden = 1 << iota
	HideAPIKey
	HideTimestamp
	HideSource

	hideAll = HideID | HideAPIKey | HideTimestamp | HideSource
)

// Effective is the time at which the event counts, among those of its person: receipt for one that is live and for a replay, which keeps
// its first receipt, and the event's own time for one from a bulk upload, but never later than its receipt.
func (e *Event) Effective() time.Time {
	if e.Class == Bulk {
		if at := e.Time(); at.Before(e.Received) {
			return at
		}
	}
	return e.Received
}

// The first byte of an encoded Event. Another value is another format.
const (
	recordVersion = 3
	// recordVersion2 is as 3 without Account, and recordVersion1 as 2 without AnonymousHash and Added. They are still read: logs and lanes of an older router hold them.
	recordVersion2 = 2
	recordVersion1 = 1
)

const (
	flagServer    = 1 << 0
	flagEnveloped = 1 << 7
	// Hidden stands in the bits between. An older router does not look at them, and shows what is hidden.
	hiddenShift = 1

	maxStringBytes = 1 << 20
)

// ErrRecord is wrapped by every error of [Decode].
var ErrRecord = errors.New("not an event record")

// AppendTo appends the record of e to dst and returns it. The record carries no checksum of its own: the log and the lanes
// check every body that they store (CRC-32C).
func (e *Event) AppendTo(dst []byte) []byte {
	flags := byte(e.Hidden&hideAll) << hiddenShift
	if e.Server {
		flags |= flagServer
	}
	if e.Enveloped {
		flags |= flagEnveloped
	}
	dst = append(dst, recordVersion, byte(e.Class), flags)
	dst = binary.AppendVarint(dst, e.Received.UnixMicro())
	for _, s := range [...]string{e.ID, e.APIKey, e.Source, e.SourceIP, e.UserAgent, e.Email, e.AnonymousHash} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Added)))
	dst = append(dst, e.Added...)
	dst = binary.AppendUvarint(dst, uint64(len(e.Account)))
	dst = append(dst, e.Account...)
	return append(dst, e.JSON...)
}

// Decode reads a record that AppendTo wrote into e. Its JSON and Added point into rec; its strings are copies.
// Bytes that are no record give an error that wraps [ErrRecord]; the JSON itself is not checked.
func (e *Event) Decode(rec []byte) error {
	if len(rec) < 3 {
		return fmt.Errorf("%w: %d bytes", ErrRecord, len(rec))
	}
	if rec[0] < recordVersion1 || rec[0] > recordVersion {
		return fmt.Errorf("%w: version %d, this router reads %d", ErrRecord, rec[0], recordVersion)
	}
	if rec[1] > byte(Replay) {
		return fmt.Errorf("%w: class %d", ErrRecord, rec[1])
	}
	class, flags := Class(rec[1]), rec[2]
	rest := rec[3:]
	micros, n := binary.Varint(rest)
	if n <= 0 {
		return fmt.Errorf("%w: time", ErrRecord)
	}
	rest = rest[n:]
	var fields [9][]byte
	have := fields[:]
	switch rec[0] {
	case recordVersion1:
		have = fields[:6]
	case recordVersion2:
		have = fields[:8]
	}
	for i := range have {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > maxStringBytes || size > uint64(len(rest)-n) {
			return fmt.Errorf("%w: field %d", ErrRecord, i)
		}
		have[i] = rest[n : n+int(size)]
		rest = rest[n+int(size):]
	}
	*e = Event{
		ID: string(fields[0]), APIKey: string(fields[1]), Source: string(fields[2]), SourceIP: string(fields[3]), UserAgent: string(fields[4]),
		Email: string(fields[5]), AnonymousHash: string(fields[6]), Account: string(fields[8]),
		Received: time.UnixMicro(micros).UTC(), Class: class, Server: flags&flagServer != 0,
		Hidden: Hidden(flags>>hiddenShift) & hideAll, Enveloped: flags&flagEnveloped != 0, JSON: rest,
	}
	if len(fields[7]) > 0 {
		e.Added = fields[7]
	}
	return nil
}

// Same says whether two events are the same in everything that a record holds.
func (e *Event) Same(o *Event) bool {
	if e == o {
		return true
	}
	return e.ID == o.ID && e.APIKey == o.APIKey && e.Account == o.Account && e.Received.Equal(o.Received) && e.Class == o.Class && e.Server == o.Server && e.Enveloped == o.Enveloped &&
		e.Hidden == o.Hidden && e.Source == o.Source && e.SourceIP == o.SourceIP && e.UserAgent == o.UserAgent && e.Email == o.Email &&
		e.AnonymousHash == o.AnonymousHash && bytes.Equal(e.Added, o.Added) && bytes.Equal(e.JSON, o.JSON)
}

// RecordID is the ID in a record, "" where that is none. It reads nothing else.
func RecordID(rec []byte) string {
	if len(rec) < 3 || rec[0] < recordVersion1 || rec[0] > recordVersion {
		return ""
	}
	rest := rec[3:]
	_, n := binary.Varint(rest)
	if n <= 0 {
		return ""
	}
	rest = rest[n:]
	size, n := binary.Uvarint(rest)
	if n <= 0 || size > maxStringBytes || size > uint64(len(rest)-n) {
		return ""
	}
	return string(rest[n : n+int(size)])
}
