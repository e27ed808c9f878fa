package proxy

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// readBytes is what is read of an answer at once.
const readBytes = 32 << 10

var (
	errTooLong = errors.New("the answer is longer than proxy.max_bytes")
	errCut     = errors.New("the caller did not take all of the answer")
)

// stream is the body of an answer on its way to the caller: of at most a number of bytes, and with stars in place of secrets. One goroutine reads it.
type stream struct {
	source  io.Reader
	secrets [][]byte
	size    int64                       // of the answer; -1: not known
	most    int64                       // bytes
	before  func()                      // each read; nil: nothing
	done    func(read int64, err error) // once: err is nil when the caller has it all

	store []byte
	buf   []byte // in store: read, and not given out
	held  int    // bytes at the end of buf that may be the beginning of a secret
	err   error  // behind buf
	n     int64  // bytes given out
	once  sync.Once
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.buf) == s.held {
		if s.err != nil {
			s.finish()
			return 0, s.err
		}
		s.fill()
	}
	n := copy(p, s.buf[:len(s.buf)-s.held])
	s.buf = s.buf[n:]
	s.n += int64(n)
	return n, nil
}

// fill reads more behind what is held.
func (s *stream) fill() {
	if s.before != nil {
		s.before()
	}
	if s.store == nil {
		longest := 0
		for _, secret := range s.secrets {
			longest = max(longest, len(secret))
		}
		room := int64(readBytes)
		if s.size >= 0 { // most answers are small
			room = min(room, s.size+bytes.MinRead)
		}
		s.store = make([]byte, int64(longest)+room)
	}
	had := copy(s.store, s.buf)
	n, err := s.source.Read(s.store[had:])
	s.buf, s.err = s.store[:had+n], err
	for _, secret := range s.secrets { // as many stars as it has bytes: how long the answer is has been said
		for at := bytes.Index(s.buf, secret); at >= 0; at = bytes.Index(s.buf, secret) {
			copy(s.buf[at:], bytes.Repeat([]byte{'*'}, len(secret)))
		}
	}
	if left := s.most - s.n; int64(len(s.buf)) > left {
		s.buf, s.err = s.buf[:left], errTooLong
	}
	s.held = s.beginning()
}

// beginning is how many bytes at the end may be the beginning of a secret.
func (s *stream) beginning() (most int) {
	if s.err != nil {
		return 0
	}
	for _, secret := range s.secrets {
		for n := min(len(secret)-1, len(s.buf)); n > most; n-- {
			if bytes.HasPrefix(secret, s.buf[len(s.buf)-n:]) {
				most = n
			}
		}
	}
	return most
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.finish()
	return nil
}

func (s *stream) finish() {
	s.once.Do(func() {
		err := s.err
		switch {
		case err == io.EOF && len(s.buf) == 0, err == nil && s.n == s.size: //nolint:errorlint // readers return it as it is
			err = nil
		case err == nil, err == io.EOF: //nolint:errorlint
			err = errCut
		}
		s.done(s.n, err)
	})
}
