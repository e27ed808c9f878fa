package webhook

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

const (
	// splitAfter is how often all events of a request must have been tried before a 500 of it is looked into: an endpoint may break down over one of them.
	splitAfter = 3
	// mostFailures is how many 500s in a row end that search: then the endpoint is down, and not because of an event.
	mostFailures = 12
)

// sending is one Send.
type sending struct {
	d      *Destination
	permit *permit // nil: used
	batch  []destinations.Entry
	out    []destinations.Outcome

	stop     error            // no more calls: what they would meet
	held     map[string]error // keys of which an earlier event waits, and why
	failures int              // 500s in a row
}

// release gives the first permit back, if it is unused.
func (s *sending) release() {
	if s.permit != nil {
		s.permit.Release()
	}
}

// next is a permit for one more call.
func (s *sending) next(ctx context.Context) (*permit, error) {
	if p := s.permit; p != nil {
		s.permit = nil
		return p, nil
	}
	return s.d.acquire(ctx)
}

// deliver makes one request of messages that share a target, and more if it is refused because of some of them.
func (s *sending) deliver(ctx context.Context, messages []*message) {
	if messages = s.ready(messages); len(messages) == 0 {
		return
	}
	if s.stop == nil {
		s.stop = ctx.Err()
	}
	if s.stop != nil {
		s.settle(messages, s.stop, nil)
		return
	}
	p, err := s.next(ctx)
	if err != nil {
		s.stop = err
		s.settle(messages, err, nil)
		return
	}
	t := messages[0].target
	c := &call{target: t, id: requestID(messages)}
	if methods[t.method] {
		c.body = s.d.format.join(messages)
	}
	a, err := s.d.exchange(ctx, p, c)
	v := s.d.judge(ctx, c, a, err)
	if a != nil && a.status == http.StatusInternalServerError {
		s.failures++
	} else {
		s.failures = 0
	}
	switch {
	case v.err != nil && len(messages) > 1 && (v.about == anEvent || s.suspect(a, messages)):
		half := len(messages) / 2
		s.deliver(ctx, messages[:half])
		s.deliver(ctx, messages[half:])
		return
	case v.about == everything:
		s.stop = v.err
	}
	s.settle(messages, v.err, s.detail(c, a, len(messages)))
}

// ready settles the messages that must not pass an earlier one of their key, and returns the others.
func (s *sending) ready(messages []*message) []*message {
	if len(s.held) == 0 {
		return messages
	}
	var free []*message
	for _, m := range messages {
		if err := s.held[s.batch[m.entry].Plan.Key]; err != nil {
			s.out[m.entry].Err = err
		} else {
			free = append(free, m)
		}
	}
	return free
}

// suspect says whether a 500 may be about one of the messages.
func (s *sending) suspect(a *answer, messages []*message) bool {
	if a == nil || a.status != http.StatusInternalServerError || s.failures >= mostFailures {
		return false
	}
	for _, m := range messages {
		if s.batch[m.entry].Attempt < splitAfter {
			return false
		}
	}
	return true
}

// settle gives all messages one outcome. Those that are to be sent later hold what follows of their keys.
func (s *sending) settle(messages []*message, err error, detail json.RawMessage) {
	for _, m := range messages {
		s.out[m.entry] = destinations.Outcome{Err: err, Detail: detail}
		if key := s.batch[m.entry].Plan.Key; key != "" && err != nil && !final(err) {
			s.held[key] = err
		}
	}
}

// detail is what explain shows of a request.
func (s *sending) detail(c *call, a *answer, events int) json.RawMessage {
	dst := []byte(`{"webhook_id":`)
	dst = event.AppendString(dst, c.id)
	if a != nil {
		dst = strconv.AppendInt(append(dst, `,"status":`...), int64(a.status), 10)
	}
	if s.d.format.several && !c.target.enveloped {
		dst = strconv.AppendInt(append(dst, `,"events":`...), int64(events), 10)
	}
	return append(dst, '}')
}

// requestID is the same for the same events: that of the event where there is one, else one that is made of theirs.
func requestID(messages []*message) string {
	if len(messages) == 1 {
		return messages[0].id.String()
	}
	ids := make([]byte, 0, len(messages)*len(uuid.UUID{}))
	for _, m := range messages {
		ids = append(ids, m.id[:]...)
	}
	return uuid.NewSHA1(requestSpace, ids).String()
}

// requestSpace is the name space of ids of requests about several events. It must never change.
var requestSpace = uuid.MustParse("0b9f3f5e-9d0a-5c3e-8a43-3d1f6f0c7f52")
