package log

import "io"

// windowBytes is how much is read at once. 256 KiB read a cached log as fast as 1 MiB did, and stay in a core's L2 cache
// from the read to the checksum.
const windowBytes = 256 << 10

// window reads a file from pos to limit in large pieces. What peek returned stays valid until release, through moves to
// other files too.
type window struct {
	src   io.ReaderAt
	pos   int64 // of the next byte
	limit int64 // may be raised

	ahead []byte   // read from pos on; the end of the last piece
	held  [][]byte // pieces in use since release
	free  [][]byte
}

// move goes to another place.
func (w *window) move(src io.ReaderAt, pos, limit int64) {
	w.src, w.pos, w.limit, w.ahead = src, pos, limit, nil
}

// release ends the validity of all that was peeked and moved past.
func (w *window) release() {
	if len(w.held) == 0 {
		return
	}
	last := len(w.held) - 1
	for _, piece := range w.held[:last] {
		w.recycle(piece)
	}
	w.held[0] = w.held[last]
	w.held = w.held[:1]
	if len(w.ahead) == 0 {
		w.recycle(w.held[0])
		w.held, w.ahead = w.held[:0], nil
	}
}

func (w *window) recycle(piece []byte) {
	if cap(piece) == windowBytes { // larger ones held one large record
		w.free = append(w.free, piece)
	}
}

// peek returns the next n bytes without moving past them; fewer only where limit comes before. Its error is one of the
// file, io.ErrUnexpectedEOF if that is shorter than limit.
func (w *window) peek(n int) ([]byte, error) {
	if have := w.limit - w.pos; int64(n) > have {
		n = int(have)
	}
	if n <= len(w.ahead) {
		return w.ahead[:n], nil
	}
	if n > cap(w.ahead) {
		w.grow(n)
	}
	have := len(w.ahead)
	want := int(min(int64(cap(w.ahead)), w.limit-w.pos))
	got, err := w.src.ReadAt(w.ahead[have:want], w.pos+int64(have))
	w.ahead = w.ahead[:have+got]
	if n > len(w.ahead) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return w.ahead[:n], nil
}

// grow continues ahead in a piece that has room for n bytes.
func (w *window) grow(n int) {
	var piece []byte
	switch last := len(w.free) - 1; {
	case n > windowBytes:
		piece = make([]byte, n)
	case last >= 0:
		piece, w.free = w.free[last], w.free[:last]
	default:
		piece = make([]byte, windowBytes)
	}
	w.held = append(w.held, piece)
	w.ahead = piece[:copy(piece, w.ahead)]
}

// advance moves past n bytes, peeked or not.
func (w *window) advance(n int64) {
	w.pos += n
	if n <= int64(len(w.ahead)) {
		w.ahead = w.ahead[n:]
	} else {
		w.ahead = nil
	}
}
