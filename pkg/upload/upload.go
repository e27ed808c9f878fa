// Package upload sends files of events, one a line, through a router's bulk route.
//
//	lines ─▶ pieces of some MiB ─▶ POST ─▶ 200: the next · 503, broken connection: wait, again · 4xx: stop
//
// Each piece says which lines it holds and of which upload, so one that is sent again, because its answer was lost or the sender was started anew,
// counts nothing twice.
package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// Options of Send.
type Options struct {
	URL   string // of the router, without a path
	Token string // server secret of an API key; sent in a header, and in no error
	ID    string // names the upload: the same for all pieces and for every attempt

	PieceBytes    int  // of lines in a request; 0: 4 MiB
	Gzip          bool // compress what is sent
	SkipMalformed bool // pass over lines that hold no event; else the first one ends the upload
	Fallback      bool // the lines are those of Jitsu's fallback files

	From    Progress      // to go on from; its counts go on, too
	MaxWait time.Duration // give up when so much time has passed without progress; 0: 10 minutes
	Client  *http.Client  // nil: one that follows no redirects

	Progress func(Progress)                   // called after each piece
	Waiting  func(why error, d time.Duration) // called before a wait for another attempt
}

// Position is a place between two lines of the text.
type Position struct {
	Line   int64 `json:"line"`   // the next, from 1
	Offset int64 `json:"offset"` // of its first byte
}

// Progress is what has become of the lines so far.
type Progress struct {
	Position
	Accepted int64     `json:"accepted"`
	Rejected int64     `json:"rejected"`
	Errors   []BadLine `json:"errors,omitempty"` // the first of the rejected
}

// BadLine is a line that the router has rejected.
type BadLine struct {
	Line   int64  `json:"line"`
	Reason string `json:"reason"`
}

const (
	defaultPieceBytes = 4 << 20
	defaultMaxWait    = 10 * time.Minute
	requestTime       = 2 * time.Minute // for one request, in which the router may wait for room
	firstWait         = 500 * time.Millisecond
	longestWait       = 30 * time.Second
	maxErrors         = 20
)

// RejectedError ends an upload: the router has answered that it will never take what it was sent.
type RejectedError struct {
	Status  int
	Message string
	Lines   []BadLine // bad lines, where it is because of them
}

// Error implements error.
func (e *RejectedError) Error() string { return fmt.Sprintf("%d: %s", e.Status, e.Message) }

// Send sends the lines of text, which begins at the position of o.From, and returns how far it came: all up to there is on the router's disk or was rejected. It
// returns before the end with ctx's error, a *RejectedError, an error of reading, or the last of those that it waited for too long to go away.
func Send(ctx context.Context, text io.Reader, o Options) (Progress, error) {
	s := sender{o: o.withDefaults()}
	s.done = s.o.From
	pieces := newPieces(text, s.done.Position, s.o.PieceBytes)
	for {
		p, err := pieces.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return s.done, err
		}
		if p.lines > 0 {
			if err := s.deliver(ctx, p); err != nil {
				return s.done, err
			}
		}
		s.done.Position = p.end
		s.o.Progress(s.done)
		if err != nil {
			return s.done, nil
		}
	}
}

func (o Options) withDefaults() Options {
	if o.PieceBytes <= 0 {
		o.PieceBytes = defaultPieceBytes
	}
	if o.MaxWait <= 0 {
		o.MaxWait = defaultMaxWait
	}
	if o.From.Line < 1 {
		o.From.Line = 1
	}
	if o.Client == nil {
		// A redirect would carry the token elsewhere.
		o.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Waiting == nil {
		o.Waiting = func(error, time.Duration) {}
	}
	return o
}

// sender is one Send under way.
type sender struct {
	o    Options
	done Progress
	body bytes.Buffer // compressed
}

// deliver sends a piece until the router has taken it.
func (s *sender) deliver(ctx context.Context, p piece) error {
	progressed, wait := time.Now(), firstWait
	for {
		a, err := s.post(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var rejected *RejectedError
		if errors.As(err, &rejected) {
			a.rejected, a.errors = 0, nil // they are of the line that it stopped at, which is not passed over
		}
		if err != nil && a.next > p.begin.Line { // part of it is stored
			p = p.from(a.next)
			s.add(a, p.begin)
			progressed, wait = time.Now(), firstWait
		}
		switch {
		case err == nil && a.accepted+a.rejected != p.lines:
			return fmt.Errorf("the router counts %d lines where %d were sent: is something between that changes them?", a.accepted+a.rejected, p.lines)
		case err == nil:
			s.add(a, p.end)
			return nil
		case rejected != nil:
			return err
		case time.Since(progressed) > s.o.MaxWait:
			return fmt.Errorf("no progress for %v: %w", s.o.MaxWait, err)
		}
		d := max(a.retryAfter, wait)
		d += time.Duration(rand.Int64N(int64(d)/4 + 1)) // or many senders come back at once
		s.o.Waiting(err, d)
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, longestWait)
	}
}

// add counts what an answer says of lines up to a position.
func (s *sender) add(a answer, upTo Position) {
	s.done.Position = upTo
	s.done.Accepted += a.accepted
	s.done.Rejected += a.rejected
	if room := maxErrors - len(s.done.Errors); room > 0 {
		s.done.Errors = append(s.done.Errors, a.errors[:min(room, len(a.errors))]...)
	}
}
