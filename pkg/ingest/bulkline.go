package ingest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// event takes the event of a line over into the batch, or says why there is none.
func (u *upload) event(ln line) (problem string) {
	b, s := u.b, &u.b.scanner
	s.data = u.lines.buf[:ln.to]
	cuts := len(s.cuts)
	e, problem := u.element(ln)
	if problem != "" || u.checks {
		s.cuts = s.cuts[:cuts]
		return problem
	}
	b.elements = append(b.elements, e)
	u.numbers = append(u.numbers, ln.number)
	u.read.accepted++
	return ""
}

// element finds the event of a line. What it checks and how it says so is as in the body of a common request, but that bytes which are
// not UTF-8 are no event: in a file they mean that it has another encoding.
func (u *upload) element(ln line) (e element, problem string) {
	s, text := &u.b.scanner, ln.of(u.lines.buf)
	if !utf8.Valid(text) {
		return e, fmt.Sprintf("not UTF-8 at byte %d", firstInvalid(text))
	}
	if text[0] != '{' {
		if kind := kindOf(text[0]); kind == "an array" || kind != "" && gjson.ValidBytes(text) {
			return e, kind + ", not an object"
		}
		problem, _ = syntaxOf(text)
		return e, problem
	}
	end, err := s.event(ln.from, 1, &e)
	if depth, ok := err.(depthError); ok { //nolint:errorlint // never wrapped, and this is the fast path
		return e, fmt.Sprintf("nesting exceeds limit: %d (at byte %d)", maxDepth, int(depth)-ln.from)
	}
	if err != nil || end != ln.to || !gjson.ValidBytes(text) {
		text, at := syntaxOf(text)
		return e, fmt.Sprintf("%s (at byte %d)", text, at)
	}
	if u.options.fallback {
		if e, problem = u.fallback(ln); problem != "" {
			return e, problem
		}
	}
	if size, limit := e.to-e.from, u.server.limits().event; size > limit {
		return e, fmt.Sprintf("Event size %d exceeds limit: %d", size, limit)
	}
	return e, ""
}

// fallback finds the event in a line of Jitsu's fallback files: {"event":{…},"error":"…","event_id":"…"}.
func (u *upload) fallback(ln line) (e element, problem string) {
	s := &u.b.scanner
	wrapper := gjson.ParseBytes(ln.of(s.data))
	inner := wrapper.Get("event")
	switch {
	case inner.IsObject():
	case wrapper.Get("malformed_event").Exists():
		return e, "a malformed event, which Jitsu could not read either"
	default:
		return e, `no "event" that is an object, as lines of fallback files have`
	}
	from := ln.from + inner.Index
	if _, err := s.event(from, 2, &e); err != nil {
		return e, err.Error()
	}
	if id := wrapper.Get("event_id"); e.ids == [3]span{} && id.Exists() {
		at := ln.from + id.Index
		e.ids[2] = span{at, at + len(id.Raw)}
	}
	return e, ""
}

// bulkID returns the id of an event, valid until the next call: the client's own; else the one that its line has in the upload, where that
// has a name; else, as for other events, one made of its content if it has a time, or a random one. Equal lines with a time are then one
// event: to tell a copy from a second event all lines would have to be kept.
func (u *upload) bulkID(e *element, number int64, json []byte) string {
	b := u.b
	for _, v := range e.ids {
		if id := b.clientID(v.of(b.scanner.data)); id != "" {
			return id
		}
	}
	switch {
	case u.idSeed != nil:
		binary.BigEndian.PutUint64(u.idSeed[len(u.idSeed)-8:], uint64(number))
		sum := sha256.Sum256(u.idSeed)
		return b.uuid(contentHash(sum[:]), 8)
	case e.timed || e.ctxTimed:
		sum := sha256.Sum256(json)
		return b.uuid(contentHash(sum[:]), 8)
	}
	return b.randomID()
}

// firstInvalid returns the offset of the first byte of text that is not UTF-8.
func firstInvalid(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(text)
}
