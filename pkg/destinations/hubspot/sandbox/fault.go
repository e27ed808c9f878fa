package sandbox

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault makes matching calls fail.
//
// A fault without Status and Drop does not fail but only delays. What a faulty call writes: by default nothing, except that a call
// which is only delayed is processed at the end of its delay if the client still waits; with Apply everything, on arrival; with
// ApplyLate everything, that long after arrival, whether or not the client still waits. Calls that are not processed count in no quota.
type Fault struct {
	// Endpoint is an operation such as "contacts/batch/upsert", "events/send/batch", "properties/create" or a part of the path
	// before a slash ("contacts", "properties", "definitions", "events"); "*" or "" is any.
	Endpoint string
	Times    int // how many calls; 0: until cleared
	// Status of the answer; 0: the true answer. Body and Header are as given; an empty body gets a plausible one.
	Status int
	Body   string
	Header map[string]string
	// Delay is the time from arrival to the answer.
	Delay time.Duration
	// Apply makes the write happen although the answer says otherwise or never comes.
	Apply bool
	// ApplyLate makes the write happen that long after arrival, by a timer: what becomes of calls that timed out.
	ApplyLate time.Duration
	// Drop closes the connection without an answer, after Delay.
	Drop bool
	// Contains is text that a body must hold for its call to be meant; "" means all.
	Contains string
	// Match says which bodies are meant, such as those that hold one e-mail; nil means all. It must not call the sandbox.
	Match func(body []byte) bool
}

// fault is an injected Fault; the Sandbox's mutex guards left.
type fault struct {
	Fault
	id   int // from 1
	left int // calls to go; -1: no end
}

// Inject adds a fault; of several that match a call the oldest acts. clear removes it. One of the whole sandbox acts on the calls of every
// hub, and before those of a hub. Those of a hub act on oauth/token, too, when its code or refresh token is in the form.
func (s *Sandbox) Inject(f Fault) (clear func()) {
	in := s.inject(f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(g *fault) bool { return g == in })
	}
}

func (s *Sandbox) inject(f Fault) *fault {
	in := &fault{Fault: f, left: f.Times}
	if f.Times == 0 {
		in.left = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastFault++
	in.id = s.lastFault
	s.faults = append(s.faults, in)
	return in
}

// takeFault returns the fault that acts on c and uses one of its times.
func (s *Sandbox) takeFault(c *call) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if !f.matches(c) {
			continue
		}
		if f.left > 0 {
			if f.left--; f.left == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return f
	}
	return nil
}

func (f *fault) matches(c *call) bool {
	name := c.endpoint()
	if f.Endpoint != "" && f.Endpoint != "*" && f.Endpoint != name && !strings.HasPrefix(name, f.Endpoint+"/") {
		return false
	}
	return (f.Contains == "" || bytes.Contains(c.body, []byte(f.Contains))) && (f.Match == nil || f.Match(c.body))
}

// doFaulty answers by a fault. st is the state that the call arrived at.
func (s *Sandbox) doFaulty(ctx context.Context, c *call, f *fault, st *state) (a answer, err error) {
	defer func() { s.record(c, st, a.status) }()
	var done chan answer // gets the true answer of a write that is applied, now or late
	switch {
	case f.ApplyLate > 0:
		done = make(chan answer, 1)
		time.AfterFunc(f.ApplyLate, func() { done <- s.apply(c, st) })
	case f.Apply:
		done = make(chan answer, 1)
		done <- s.apply(c, st)
	}
	if err := wait(ctx, f.Delay); err != nil {
		return answer{}, err
	}
	switch {
	case f.Drop:
		return answer{}, errDropped
	case f.Status != 0:
		return s.faultAnswer(c, f), nil
	case done == nil:
		return s.apply(c, st), nil
	}
	select {
	case a := <-done:
		return a, nil
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// wait ends after d, or with ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// plausible is what HubSpot would say with a status.
func plausible(status int) *apiError {
	switch status {
	case http.StatusUnauthorized:
		return unauthorized()
	case http.StatusForbidden:
		return &apiError{status: status, category: missingScopes, message: "This app hasn't been granted all required scopes to make this call."}
	case http.StatusLocked:
		return &apiError{status: status, message: "The records are locked by another call"} // modelled
	case http.StatusTooManyRequests:
		return limitReached("ten_secondly_rolling", "TEN_SECONDLY_ROLLING")
	case 477:
		return &apiError{status: status, message: "The account is being migrated"} // modelled
	}
	return &apiError{status: status, message: http.StatusText(status)}
}

// faultAnswer is what the fault says.
func (s *Sandbox) faultAnswer(c *call, f *fault) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.begin(s.opts.Now(), c)
	a := answer{status: f.Status, body: []byte(f.Body), header: http.Header{"Content-Type": {"application/json;charset=utf-8"}}}
	if f.Body == "" && f.Status >= 400 {
		a.body = s.st.fail(plausible(f.Status)).body
	}
	a.header.Set("X-HubSpot-Correlation-Id", s.st.correlation)
	for k, v := range f.Header {
		a.header.Set(k, v)
	}
	return a
}
