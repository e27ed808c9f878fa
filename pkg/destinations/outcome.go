package destinations

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Scope says what a block is about.
type Scope int

// Scopes of a block.
const (
	LaneScope    Scope = iota // one lane of the account
	AccountScope              // all lanes of the account
)

// SkipError is made by Skip.
type SkipError struct{ Reason string }

func (e *SkipError) Error() string { return "skipped: " + e.Reason }

// Skip says that an event is not for this destination. reason is a short constant phrase: it becomes a metric label.
func Skip(reason string) error { return &SkipError{Reason: reason} }

// UnidentifiedError is made by Unidentified.
type UnidentifiedError struct{ Err error }

func (e *UnidentifiedError) Error() string { return e.Err.Error() }
func (e *UnidentifiedError) Unwrap() error { return e.Err }

// Unidentified says of what Plan returns, err, that it would be otherwise if one knew whose event it is. The client may have said so in another request
// that is still on its way: Plan may be asked once more, and then err counts.
func Unidentified(err error) error { return &UnidentifiedError{Err: err} }

// RejectError is made by Reject.
type RejectError struct{ Err error }

func (e *RejectError) Error() string { return e.Err.Error() }
func (e *RejectError) Unwrap() error { return e.Err }

// Reject says that an entry can never be delivered: it becomes a dead letter.
func Reject(err error) error { return &RejectError{Err: err} }

// RetryError is made by RetryAfter.
type RetryError struct {
	Err   error
	After time.Duration
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// RetryAfter says that an entry is to be tried again, not before d.
func RetryAfter(err error, d time.Duration) error { return &RetryError{Err: err, After: d} }

// BlockError is made by Block and BlockSkipping.
type BlockError struct {
	Err   error
	Scope Scope
	Until time.Time
	// SkipAfter and SkipReason are as in BlockSkipping; 0: entries wait as long as it takes.
	SkipAfter  time.Duration
	SkipReason string
}

func (e *BlockError) Error() string {
	if e.Until.IsZero() {
		return fmt.Sprintf("blocked: %v", e.Err)
	}
	return fmt.Sprintf("blocked until %s: %v", e.Until.UTC().Format(time.RFC3339), e.Err)
}
func (e *BlockError) Unwrap() error { return e.Err }

// Block says that a lane, or all lanes of the account, cannot deliver at present, through no fault of the entry, which goes back to
// where it was and is charged no attempt. A zero until means: probe with backoff, and at once after a reload.
func Block(err error, scope Scope, until time.Time) error {
	return &BlockError{Err: err, Scope: scope, Until: until}
}

// BlockSkipping is a Block of one lane without a time, for a cause that may last for ever, such as a plan that lacks a feature. Entries that
// were received longer ago than after are skipped for reason, and so are the oldest of a lane at its limit: such a lane never makes
// ingest refuse events.
func BlockSkipping(err error, after time.Duration, reason string) error {
	return &BlockError{Err: err, Scope: LaneScope, SkipAfter: after, SkipReason: reason}
}

// AmbiguousError is made by Ambiguous.
type AmbiguousError struct{ Err error }

func (e *AmbiguousError) Error() string { return "no complete answer: " + e.Err.Error() }
func (e *AmbiguousError) Unwrap() error { return e.Err }

// Ambiguous says that bytes of a call were sent and no complete answer came: the remote may have applied it, or may yet. The router sends
// the same entries again, unchanged, and holds later writes of their keys until LateAfter has passed.
func Ambiguous(err error) error { return &AmbiguousError{Err: err} }

// UnavailableError is made by Unavailable.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return e.Err.Error() }
func (e *UnavailableError) Unwrap() error { return e.Err }

// Unavailable says that the remote could not be reached, gave no answer in time, or that a gateway answered in its place (502, 503, 504, 52x): as far as one
// can tell the entry has no part in it. Ambiguous and RetryAfter may be made of it. The entry is tried again as after any other error; but while nothing of its
// lane goes through, the time does not count towards retry.max_age, so that an outage makes no dead letters. While other lanes of the hub flow
// it counts half, and whole where the lane's calls fail for one ID only.
func Unavailable(err error) error { return &UnavailableError{Err: err} }

// IsUnavailable says whether err was made by Unavailable, or of one that was.
func IsUnavailable(err error) bool {
	var e *UnavailableError
	return errors.As(err, &e)
}

// AnsweredByGateway says whether an HTTP status is one that a gateway answers with when the remote behind it does not.
func AnsweredByGateway(status int) bool {
	return status >= http.StatusBadGateway && status <= http.StatusGatewayTimeout || status >= 520 && status < 530
}

// IsSkip reports the reason when err was made by Skip.
func IsSkip(err error) (reason string, ok bool) {
	var e *SkipError
	if errors.As(err, &e) {
		return e.Reason, true
	}
	return "", false
}
