package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// bulkChunkBytes is what is read, and then made durable, at a time of an upload: large enough that an fsync is shared by a thousand
// events, small enough that many uploads fit into memory.
const bulkChunkBytes = 1 << 20

// lines finds the events of an upload: one a line, or the elements of one JSON array. It holds a piece of the stream in memory, never
// the whole, and never more than one event longer than limit.
//
//	fill ─▶ buf[ given out by next | whole events | begun one ] ─▶ next ─▶ … ─▶ fill
type lines struct {
	src   io.Reader
	limit int // bytes of one event with the white space around it

	tooLongText string // problem of one that is longer

	buf     []byte
	at, end int   // what is read and not given out: buf[at:end]
	seen    int   // buf[at:seen] holds no end of the event that begins at `at`
	err     error // of src; io.EOF at its end

	first    int64 // number of the first line or element
	number   int64 // of the next
	begun    bool  // the beginning has been looked at
	shape    shape
	skipping bool // the rest of one that is longer than limit
	state    arrayState
	value    valueEnd // of the element in hand
}

// shape says how the events of an upload are set apart.
type shape uint8

const (
	unknownShape shape = iota
	linewise
	inArray
)

// noEnd is the problem of an array that is cut off.
const noEnd = "the array does not end: unexpected EOF"

// arrayState is where in an array the bytes at `at` stand.
type arrayState uint8

const (
	atFirst    arrayState = iota // behind the bracket: an element or the end
	atElement                    // behind a comma
	inElement                    // in the middle of one
	behindOne                    // a comma or the end
	behindLast                   // nothing but white space
)

// line is one line or element, without the white space around it. Its bytes stand in lines.buf until the next fill.
type line struct {
	span
	number  int64
	problem string // why it is none; then the span may be empty
	broken  bool   // where the next one begins cannot be known
}

// newLines cuts src, whose first line has the number first. It works in buf, which must have room for more than limit bytes.
func newLines(src io.Reader, limit int, first int64, buf []byte) *lines {
	return &lines{src: src, limit: limit, first: first, number: first, buf: buf}
}

// fill reads on, until the buffer is full or the stream has ended. What next gave out is gone then. The error is that of the stream;
// at its end it is io.EOF, and next gives out the last line.
func (l *lines) fill() error {
	l.end = copy(l.buf, l.buf[l.at:l.end])
	l.seen -= l.at
	l.at = 0
	for l.end < len(l.buf) && l.err == nil {
		var n int
		n, l.err = l.src.Read(l.buf[l.end:])
		l.end += n
	}
	return l.err
}

// next returns the next line that is not blank; false: there is no whole one in the buffer, and none at all where the stream has ended.
func (l *lines) next() (line, bool) {
	if l.shape == unknownShape && !l.begin() {
		return line{}, false
	}
	if l.shape == inArray {
		return l.nextElement()
	}
	for {
		ln, ok := l.nextLine()
		if !ok || ln.problem != "" || ln.to > ln.from {
			return ln, ok
		}
	}
}

// begin finds out how the events are set apart; false: so far there is nothing but white space.
func (l *lines) begin() bool {
	if !l.begun && bytes.HasPrefix(l.buf[:l.end], byteOrderMark) { // fill has read enough to know
		l.at = len(byteOrderMark)
	}
	l.begun = l.end > 0
	for ; l.at < l.end && isSpace(l.buf[l.at]); l.at++ {
		if l.buf[l.at] == '\n' {
			l.number++
		}
	}
	if l.seen = l.at; l.at == l.end {
		return false
	}
	l.shape = linewise
	if l.buf[l.at] == '[' {
		l.shape, l.number = inArray, l.first
		l.at++
		l.seen++
	}
	return true
}

// nextLine returns the next line, which is empty where that is blank.
func (l *lines) nextLine() (line, bool) {
	for {
		i := bytes.IndexByte(l.buf[l.seen:l.end], '\n')
		to := l.seen + i
		if i < 0 {
			to = l.end
		}
		switch {
		case l.skipping && i < 0:
			l.at, l.seen = l.end, l.end
			return line{}, false
		case l.skipping:
			l.at, l.seen, l.skipping = to+1, to+1, false
			l.number++
			continue
		case i < 0 && to-l.at > l.limit:
			ln := l.tooLong()
			l.at, l.seen, l.skipping = l.end, l.end, true
			return ln, true
		case i < 0 && (!errors.Is(l.err, io.EOF) || to == l.at):
			l.seen = l.end
			return line{}, false
		}
		ln := line{span: l.trimmed(l.at, to), number: l.number}
		if to-l.at > l.limit {
			ln = l.tooLong()
		}
		l.number++
		l.at = min(to+1, l.end)
		l.seen = l.at
		return ln, true
	}
}

// nextElement returns the next element of the array.
func (l *lines) nextElement() (line, bool) {
	for l.at < l.end {
		c := l.buf[l.at]
		if l.state != inElement && isSpace(c) {
			l.at++
			continue
		}
		switch l.state {
		case atFirst, atElement:
			if c == ']' && l.state == atFirst {
				l.at, l.state = l.at+1, behindLast
				continue
			}
			if c == ',' || c == ']' || c == '}' {
				return l.breaks(fmt.Sprintf("an element must begin here, not %q", c)), true
			}
			l.state, l.value, l.seen = inElement, valueEnd{}, l.at
		case inElement:
			if ln, ok := l.element(); ok || l.state == inElement {
				return ln, ok
			}
		case behindOne:
			if c != ',' && c != ']' {
				return l.breaks(fmt.Sprintf("invalid character %q after the element before", c)), true
			}
			l.at, l.state = l.at+1, atElement
			if c == ']' {
				l.state = behindLast
			}
		case behindLast:
			return l.breaks(fmt.Sprintf("invalid character %q after the array", c)), true
		}
	}
	if errors.Is(l.err, io.EOF) && l.state != behindLast {
		return l.breaks(noEnd), true
	}
	return line{}, false
}

// element goes on in the element in hand; false: it goes on behind what is in the buffer, or was too long and is passed over now.
func (l *lines) element() (line, bool) {
	n, whole := l.value.find(l.buf[l.seen:l.end])
	l.seen += n
	from, skipped := l.at, l.skipping
	switch {
	case !whole && !l.skipping && l.seen-l.at > l.limit:
		l.at, l.skipping = l.seen, true
		return l.tooLong(), true
	case !whole && errors.Is(l.err, io.EOF):
		return l.breaks(noEnd), true
	case !whole && l.skipping:
		l.at = l.seen
		return line{}, false
	case !whole:
		return line{}, false
	}
	l.at, l.state, l.skipping, l.value = l.seen, behindOne, false, valueEnd{}
	number := l.number
	l.number++
	if skipped {
		return line{}, false
	}
	ln := line{span: span{from, l.seen}, number: number}
	if l.seen-from > l.limit {
		ln.span, ln.problem = span{}, l.tooLongText
	}
	return ln, true
}

// breaks ends the array where it is no array any more.
func (l *lines) breaks(problem string) line {
	l.at, l.seen, l.state = l.end, l.end, behindLast
	return line{number: l.number, problem: problem, broken: true}
}

func (l *lines) tooLong() line { return line{number: l.number, problem: l.tooLongText} }

// trimmed is buf[from:to] without the white space around it.
func (l *lines) trimmed(from, to int) span {
	for from < to && isSpace(l.buf[from]) {
		from++
	}
	for from < to && isSpace(l.buf[to-1]) {
		to--
	}
	return span{from, to}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// valueEnd finds the end of a JSON value that comes in pieces. It looks at strings and brackets only.
type valueEnd struct {
	depth    int // of brackets
	inText   bool
	escaped  bool
	isScalar bool
}

// find looks at the next piece of the value and returns how much of it belongs to the value, and whether that ends there.
func (v *valueEnd) find(data []byte) (n int, whole bool) {
	for i, c := range data {
		switch {
		case v.escaped:
			v.escaped = false
		case v.inText && c == '\\':
			v.escaped = true
		case v.inText && c != '"':
		case v.isScalar:
			if c == ',' || c == ']' || c == '}' || isSpace(c) {
				return i, true
			}
		case c == '"':
			if v.inText = !v.inText; !v.inText && v.depth == 0 {
				return i + 1, true
			}
		case c == '{' || c == '[':
			v.depth++
		case c == '}' || c == ']':
			if v.depth--; v.depth == 0 {
				return i + 1, true
			}
		case v.depth == 0:
			v.isScalar = true
		}
	}
	return len(data), false
}
