package upload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	maxPieceLines = 50_000
	// maxLineBytes bounds memory: a router takes no such line (server.max_event_size).
	maxLineBytes = 64 << 20
)

// ErrArray is returned for a text that is a JSON array.
var ErrArray = errors.New("is a JSON array, not one event a line: make lines of it, for example with jq -c '.[]'")

// piece is some lines, whole ones, of the text.
type piece struct {
	text       []byte // valid until the next one is made
	begin, end Position
	lines      int64 // that are not blank
}

// from is what of the piece begins with a line.
func (p piece) from(line int64) piece {
	for p.begin.Line < line && len(p.text) > 0 {
		n := bytes.IndexByte(p.text, '\n') + 1
		if n == 0 {
			n = len(p.text)
		}
		if !isBlank(p.text[:n]) {
			p.lines--
		}
		p.text = p.text[n:]
		p.begin.Line++
		p.begin.Offset += int64(n)
	}
	return p
}

// pieces cuts a text.
type pieces struct {
	in    *bufio.Reader
	size  int
	at    Position
	buf   []byte
	begun bool
}

func newPieces(text io.Reader, from Position, size int) *pieces {
	return &pieces{in: bufio.NewReaderSize(text, 256<<10), size: size, at: from, begun: from.Line > 1}
}

// next returns the next lines, about as many as fit into a piece; with io.EOF the last ones.
func (c *pieces) next() (piece, error) {
	p := piece{begin: c.at, end: c.at}
	c.buf = c.buf[:0]
	for n := 0; n < maxPieceLines && len(c.buf) < c.size; n++ {
		from := len(c.buf)
		err := c.line()
		line := c.buf[from:]
		if err != nil && !errors.Is(err, io.EOF) {
			return p, err
		}
		if len(line) > 0 {
			p.end.Line++
			p.end.Offset += int64(len(line))
		}
		if !isBlank(line) {
			if text := bytes.TrimPrefix(line, byteOrderMark); !c.begun && bytes.Trim(text, " \t\r\n")[0] == '[' {
				return p, ErrArray
			}
			c.begun = true
			p.lines++
		}
		c.at, p.text = p.end, c.buf
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// isBlank says whether a line holds nothing, as the router sees it.
func isBlank(line []byte) bool {
	return len(bytes.Trim(bytes.TrimPrefix(line, byteOrderMark), " \t\r\n")) == 0
}

// line appends a line to the buffer, its newline included.
func (c *pieces) line() error {
	for from := len(c.buf); ; {
		part, err := c.in.ReadSlice('\n')
		c.buf = append(c.buf, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if len(c.buf)-from > maxLineBytes {
			return fmt.Errorf("line %d is longer than %d bytes: is this one event a line?", c.at.Line, maxLineBytes)
		}
	}
}
