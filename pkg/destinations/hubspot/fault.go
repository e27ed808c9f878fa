package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/destinations"
)

const (
	// statusLocked and statusMigrating are HubSpot's own uses: large batches too close together, and an account that moves to another
	// data centre.
	statusLocked    = 423
	statusMigrating = 477

	// lockedWait is the least that HubSpot asks to wait after a 423.
	lockedWait = 2 * time.Second
)

// err is the answer as an error: what a person needs, cut short, and nothing of the request.
func (a *answer) err() error {
	var b strings.Builder
	fmt.Fprintf(&b, "HubSpot answered %d", a.status)
	r := parseRefusal(a.body)
	if text := r.String(); text != "" {
		b.WriteString(" " + text)
	} else if text := strings.TrimSpace(shorten(string(a.body))); text != "" {
		b.WriteString(" " + strings.Join(strings.Fields(text), " "))
	}
	if a.correlation != "" {
		b.WriteString(" (correlation id " + a.correlation + ")")
	}
	return errors.New(b.String())
}

// fault classifies what a call met that is not about its inputs; nil when the answer is. write says that the call must not be repeated
// lightly, so that one without a complete answer is ambiguous.
func (d *Destination) fault(w *window, a *answer, err error, write bool) error {
	if err != nil {
		var lost *lostError
		if !errors.As(err, &lost) {
			return err
		}
		if write && lost.sent {
			return destinations.Ambiguous(destinations.Unavailable(err))
		}
		return destinations.Unavailable(err)
	}
	now := time.Now()
	switch a.status {
	case http.StatusUnauthorized:
		if d.connections != nil {
			return destinations.Block(fmt.Errorf("HubSpot refuses the tokens of account %s: it may have to connect anew: %w", d.of, a.err()), destinations.AccountScope, time.Time{})
		}
		return destinations.Block(fmt.Errorf("check access_token: %w", a.err()), destinations.AccountScope, time.Time{})
	case http.StatusForbidden:
		return destinations.Block(a.forbidden(), destinations.LaneScope, time.Time{})
	case statusLocked:
		return destinations.Block(a.err(), destinations.LaneScope, now.Add(max(a.retryAfter(now), lockedWait)))
	case http.StatusTooManyRequests:
		return destinations.Block(&limitedError{a.err()}, destinations.LaneScope, w.opens())
	case statusMigrating:
		var until time.Time
		if wait := a.retryAfter(now); wait > 0 {
			until = now.Add(wait)
		}
		return destinations.Block(destinations.Unavailable(a.err()), destinations.AccountScope, until)
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusRequestURITooLong, http.StatusUnsupportedMediaType:
		return a.noSuchPath()
	}
	switch {
	case a.status >= 300 && a.status < 400:
		return a.noSuchPath()
	case a.status >= 500 && write:
		return destinations.Ambiguous(a.failure())
	case a.status >= 500, a.status == http.StatusRequestTimeout:
		if wait := a.retryAfter(now); wait > 0 {
			return destinations.RetryAfter(a.failure(), wait)
		}
		return a.failure()
	}
	return nil
}

// failure is err of an answer that is no fault of the inputs, where that is certain.
func (a *answer) failure() error {
	if destinations.AnsweredByGateway(a.status) || a.status == http.StatusRequestTimeout {
		return destinations.Unavailable(a.err())
	}
	return a.err()
}

// noSuchPath blocks a lane whose calls cannot work whatever is in them: the configuration leads elsewhere.
func (a *answer) noSuchPath() error {
	return destinations.Block(fmt.Errorf("check base_url, events_url and api_version: %w", a.err()), destinations.LaneScope, time.Time{})
}

// forbiddenError is a 403.
type forbiddenError struct{ err error }

func (e *forbiddenError) Error() string { return e.err.Error() }

// Cause is for destinations.CauseOf.
func (e *forbiddenError) Cause() destinations.Cause { return destinations.CausePermission }

// limitedError is a 429.
type limitedError struct{ error }

// Cause is for destinations.CauseOf.
func (e *limitedError) Cause() destinations.Cause { return destinations.CauseLimit }

// forbidden says what a 403 is about.
func (a *answer) forbidden() error {
	if r := parseRefusal(a.body); len(r.scopes) > 0 {
		return &forbiddenError{fmt.Errorf("the access token lacks the scope %s: %w", shorten(strings.Join(r.scopes, ", ")), a.err())}
	}
	return &forbiddenError{fmt.Errorf("the access token lacks a scope, or the account the tier: %w", a.err())}
}

// failure is what a load met that others wait for.
type failure struct {
	err error
	at  time.Time
}

// forbiddenFor is how long a 403 is not asked for again by every batch.
const forbiddenFor = time.Minute

// since is the failure if it holds for who began to wait then.
func (f *failure) since(began time.Time) error {
	if f.err == nil || errors.Is(f.err, context.Canceled) {
		return nil
	}
	if f.at.After(began) || isForbidden(f.err) && time.Since(f.at) < forbiddenFor {
		return f.err
	}
	return nil
}

// call makes a call that changes nothing that a repetition would spoil. An error is an outcome; statuses in accept are not errors.
func (d *Destination) call(ctx context.Context, ps *permits, r request, accept ...int) (*answer, error) {
	p, err := ps.next(ctx, d.account.crm)
	if err != nil {
		return nil, err
	}
	a, err := d.do(ctx, p, r)
	if err := d.fault(d.account.crm, a, err, false); err != nil {
		return nil, err
	}
	if a.status >= 200 && a.status < 300 {
		if r.method == http.MethodGet && !json.Valid(a.body) { // what is missing would count as not there
			return nil, fmt.Errorf("HubSpot answered %d with a body that is not whole", a.status)
		}
		return a, nil
	}
	if slices.Contains(accept, a.status) {
		return a, nil
	}
	if a.status == http.StatusNotFound {
		return nil, a.noSuchPath()
	}
	return nil, a.err()
}
