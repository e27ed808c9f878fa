package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/tidwall/gjson"
)

var (
	byteOrderMark = []byte("\xef\xbb\xbf")
	gzipMagic     = []byte{0x1f, 0x8b}
)

// limits of one body: bytes of an event and of all, and the number of events, of which each costs an envelope, however small it is.
type limits struct{ event, body, events int }

// parse reads a request's body into b.data and b.elements: all events or a refusal. body may be gzipped, whatever its
// headers say: no JSON text begins with gzip's magic number.
func (b *batch) parse(body []byte, lim limits) *refusal {
	body, r := b.plainText(body, lim)
	if r != nil {
		return r
	}
	if r := b.scan(body, lim); r != nil {
		return r
	}
	if !gjson.ValidBytes(body) {
		return syntaxError(body)
	}
	if e := b.templated(); e != nil {
		return b.merge(*e, lim)
	}
	return nil
}

// plainText returns a body decompressed, in UTF-8 and without a mark at its beginning, valid until b is released.
func (b *batch) plainText(body []byte, lim limits) ([]byte, *refusal) {
	if bytes.HasPrefix(body, gzipMagic) {
		var r *refusal
		if body, r = b.gunzip(body, lim.body); r != nil {
			return nil, r
		}
	}
	if len(body) > lightBytes {
		if r := b.takeTurn(); r != nil {
			return nil, r
		}
	}
	if len(body) > lim.body {
		return nil, refuseBodySize(lim.body)
	}
	body = bytes.TrimPrefix(body, byteOrderMark)
	if !utf8.Valid(body) {
		b.clean = appendValidUTF8(b.clean[:0], body)
		body = b.clean
	}
	return body, nil
}

// scan finds the events of an unchecked body, and refuses what is too deep, too big or no event.
func (b *batch) scan(body []byte, lim limits) *refusal {
	b.scanner.data = body
	i := b.scanner.space(0)
	if i == len(body) {
		return malformed("empty JSON body", "")
	}
	var end int
	var err error
	switch body[i] {
	case '{':
		b.object, b.elements = true, append(b.elements, element{})
		e := &b.elements[0]
		end, err = b.scanner.event(i, 1, e)
		if err == nil && e.to-e.from > lim.event && b.templated() == nil {
			return refuseEventSize(fmt.Sprintf("Event size %d exceeds limit: %d", e.to-e.from, lim.event), "")
		}
	case '[':
		var r *refusal
		if end, r, err = b.scanArray(i, lim); r != nil {
			return r
		}
	default:
		return malformed(fmt.Sprintf("malformed JSON body begins with: %q", firstRune(body[i:])),
			fmt.Sprintf("at byte %d: an event, an array of events or a template object must begin here", i))
	}
	if err != nil {
		return scanError(body, err)
	}
	if b.scanner.space(end) != len(body) {
		return syntaxError(body)
	}
	return nil
}

// scanArray scans the array of events at i.
func (b *batch) scanArray(i int, lim limits) (end int, r *refusal, err error) {
	s := &b.scanner
	for i = s.space(i + 1); ; i = s.space(i + 1) {
		if i >= len(s.data) {
			return i, nil, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil, nil
		}
		n := len(b.elements)
		if s.data[i] != '{' {
			return i, refuseElement(s.data, i, n), nil
		}
		if n == lim.events {
			return i, refuseEventCount(lim.events), nil
		}
		if n == lightEvents {
			if r := b.takeTurn(); r != nil {
				return i, r, nil
			}
		}
		b.elements = append(b.elements, element{})
		e := &b.elements[n]
		if i, err = s.event(i, 2, e); err != nil {
			return i, nil, err
		}
		if size := e.to - e.from; size > lim.event {
			return i, refuseEventSize(fmt.Sprintf("Size of one of events exceeds limit: %d", lim.event),
				fmt.Sprintf("element %d, at byte %d, has %d bytes", n, e.from, size)), nil
		}
		i = s.space(i)
		if i >= len(s.data) || s.data[i] != ',' && s.data[i] != ']' {
			return i, nil, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil, nil
		}
	}
}

// gunzip decompresses body, up to limit bytes.
func (b *batch) gunzip(body []byte, limit int) ([]byte, *refusal) {
	b.compressed.Reset(body)
	if b.gzip == nil {
		b.gzip = new(gzip.Reader)
	}
	if err := b.gzip.Reset(&b.compressed); err != nil {
		return nil, malformed("gzip: "+err.Error(), "")
	}
	b.plain = b.plain[:0]
	for {
		if len(b.plain) > lightBytes {
			if r := b.takeTurn(); r != nil {
				return nil, r
			}
		}
		if len(b.plain) == cap(b.plain) {
			b.plain = append(b.plain, 0)[:len(b.plain)]
		}
		n, err := b.gzip.Read(b.plain[len(b.plain):cap(b.plain)])
		b.plain = b.plain[:len(b.plain)+n]
		switch {
		case len(b.plain) > limit:
			return nil, refuseBodySize(limit)
		case errors.Is(err, io.EOF):
			return b.plain, nil
		case err != nil:
			return nil, malformed("gzip: "+err.Error(), "")
		}
	}
}

// appendValidUTF8 appends data with every byte that is not UTF-8 replaced by U+FFFD, as encoding/json and so Jitsu do it.
func appendValidUTF8(dst, data []byte) []byte {
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			dst = utf8.AppendRune(dst, utf8.RuneError)
		} else {
			dst = append(dst, data[:n]...)
		}
		data = data[n:]
	}
	return dst
}

// scanError turns an error of the scanner into the answer.
func scanError(body []byte, err error) *refusal {
	if at, ok := errors.AsType[depthError](err); ok {
		return refuseDepth(int(at))
	}
	return syntaxError(body)
}

// syntaxError refuses a body that is no JSON.
func syntaxError(body []byte) *refusal {
	text, at := syntaxOf(body)
	if at < 0 {
		return malformed(text, "")
	}
	return malformed("error parsing HTTP body: "+text, fmt.Sprintf("at byte %d", at))
}

// syntaxOf says what is wrong with text that is no JSON, and where, in the words of encoding/json, which Jitsu answers with. Its check
// does not recurse.
func syntaxOf(data []byte) (text string, at int) {
	var v json.RawMessage
	err := json.Unmarshal(data, &v)
	se, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return "malformed JSON", -1
	}
	if text = se.Error(); int(se.Offset) >= len(data) && text == "unexpected end of JSON input" {
		text = "unexpected EOF"
	}
	return text, int(se.Offset)
}

// refuseElement names what stands at i in place of an event.
func refuseElement(body []byte, i, index int) *refusal {
	kind := kindOf(body[i])
	if kind == "" {
		return malformed(fmt.Sprintf("element %d is not an object", index), fmt.Sprintf("at byte %d", i))
	}
	return malformed(fmt.Sprintf("element %d is %s, not an object", index, kind), fmt.Sprintf("at byte %d", i))
}

// kindOf names the JSON value that is no object and begins with c; "" where none does.
func kindOf(c byte) string {
	switch {
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || '0' <= c && c <= '9':
		return "a number"
	}
	return ""
}

// firstRune returns the first character of data for a message.
func firstRune(data []byte) string {
	_, n := utf8.DecodeRune(data)
	return string(data[:n])
}
