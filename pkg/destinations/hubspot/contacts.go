package hubspot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/destinations"
)

// maxRounds bounds how often one write is sent again with less in it. Each time HubSpot has named a property; it names several at once.
const maxRounds = 20

// contactSend is one Send of the contacts lane.
type contactSend struct {
	d       *Destination
	permits *permits
	batch   []destinations.Entry
	out     []destinations.Outcome
	schema  *schema
	stop    error // the outcome of everything not sent yet, once one call has met what the others would meet too
	opaque  int   // refusals in a row that name no reason
	known   map[string]*known
}

func (d *Destination) sendContacts(ctx context.Context, ps *permits, batch []destinations.Entry, out []destinations.Outcome) {
	s := &contactSend{d: d, permits: ps, batch: batch, out: out}
	var err error
	if s.schema, err = d.contactSchema(ctx, ps); err != nil {
		for i := range out {
			out[i].Err = err
		}
		return
	}
	writes, needs, options := s.merge()
	if len(needs)+len(options) > 0 {
		changed, err := s.provide(ctx, needs, options)
		if err != nil {
			s.settle(writes, err)
			return
		}
		if changed {
			writes, _, _ = s.merge()
		}
	}
	if err := s.prepare(ctx, writes); err != nil {
		s.settle(writes, err)
		return
	}
	for len(writes) > maxContacts {
		s.deliver(ctx, writes[:maxContacts], 0)
		writes = writes[maxContacts:]
	}
	s.deliver(ctx, writes, 0)
}

// deliver sends the writes in one call and settles each by the answer, with further calls where it takes them.
func (s *contactSend) deliver(ctx context.Context, writes []*write, round int) {
	if s.stop != nil {
		s.settle(writes, s.stop)
		return
	}
	p, err := s.permits.next(ctx, s.d.account.crm)
	if err != nil {
		s.stop = err
		s.settle(writes, err)
		return
	}
	a, fault := s.call(ctx, p, writes)
	if fault != nil {
		s.broken(ctx, writes, a, fault)
		return
	}
	if a.status >= 200 && a.status < 300 {
		s.answered(ctx, writes, a, round)
		return
	}
	s.refused(ctx, writes, a, round)
}

// call sends the writes. fault is what it met that is not about them.
func (s *contactSend) call(ctx context.Context, p *permit, writes []*write) (a *answer, fault error) {
	a, err := s.d.client.do(ctx, p, request{
		endpoint: endpointUpsert, method: http.MethodPost, url: s.d.baseURL + s.d.paths.contacts + "/batch/upsert",
		body: appendUpsert(make([]byte, 0, 512*len(writes)), writes),
	})
	return a, s.d.fault(s.d.account.crm, a, err, true)
}

// settle gives all entries of the writes one outcome.
func (s *contactSend) settle(writes []*write, err error) {
	for _, w := range writes {
		for _, i := range w.entries {
			s.out[i] = destinations.Outcome{Err: err}
		}
	}
}

// broken settles a call that HubSpot did not judge. What comes after it in this Send is not tried: it was not sent, so its outcome is
// not ambiguous.
func (s *contactSend) broken(ctx context.Context, writes []*write, a *answer, fault error) {
	if a == nil || a.status != http.StatusInternalServerError {
		s.stop = unsent(fault)
		s.settle(writes, fault)
		return
	}
	guilty := s.d.contactPoison.failed(time.Now(), s.names(writes), len(writes) == 1)
	switch {
	case !guilty:
		s.settle(writes, fault)
	case len(writes) > 1:
		s.bisect(ctx, writes)
	case len(writes[0].entries) > 1:
		s.apart(ctx, writes[0])
	default:
		s.settle(writes, destinations.Reject(fmt.Errorf("%w; again and again, while other contacts are taken", a.err())))
	}
}

func (s *contactSend) names(writes []*write) []destinations.OutputName {
	var names []destinations.OutputName
	for _, w := range writes {
		for _, i := range w.entries {
			names = append(names, s.batch[i].Name)
		}
	}
	return names
}

// bisect sends each half alone.
func (s *contactSend) bisect(ctx context.Context, writes []*write) {
	half := len(writes) / 2
	s.deliver(ctx, writes[:half], 0)
	s.deliver(ctx, writes[half:], 0)
}

// answered settles the writes of a call that succeeded, wholly or in part.
func (s *contactSend) answered(ctx context.Context, writes []*write, a *answer, round int) {
	res := parseUpsert(a.body, len(writes))
	s.adopt(writes, &res)
	var again, unnamed []*write
	var stuck []*stuckStage
	var done []destinations.OutputName
	for i, w := range writes {
		u := &res.inputs[i]
		switch {
		case u.done:
			if stage := s.stuck(w, u, a.correlation); stage != nil {
				stuck = append(stuck, stage)
			} else {
				s.delivered(w, u, a.correlation)
			}
			for _, i := range w.entries {
				done = append(done, s.batch[i].Name)
			}
		case u.refused != nil:
			if s.amend(ctx, []*write{w}, u.refused) && round < maxRounds {
				again = append(again, w)
			} else {
				s.reject(ctx, w, u.refused, a)
			}
		default:
			unnamed = append(unnamed, w)
		}
	}
	s.d.contactPoison.cleared(time.Now(), done)
	s.free(ctx, stuck)
	if len(again) > 0 {
		s.deliver(ctx, again, round+1)
	}
	switch {
	case len(unnamed) == 0:
	case len(res.strangers) > 0 && len(writes) == 1:
		s.refuseSingle(ctx, unnamed[0], &res.strangers[0], a, round)
	case slices.ContainsFunc(res.strangers, func(r refusal) bool { return final(a.status, &r) || a.conflict(&r) }):
		s.bisectOrSend(ctx, unnamed)
	case len(res.strangers) > 0:
		s.settle(unnamed, fmt.Errorf("HubSpot leaves the contact out: %s (correlation id %s)", &res.strangers[0], a.correlation))
	default:
		// Seen in the wild: success with no results, and nothing written.
		err := fmt.Errorf("HubSpot answered %d and named no result for the contact: %d results and %d errors for %d inputs (correlation id %s)",
			a.status, res.results, res.errors, len(writes), a.correlation)
		s.d.log.Error("HubSpot says a call succeeded that left contacts out; they are sent again",
			"inputs", len(writes), "results", res.results, "errors", res.errors, "correlation_id", a.correlation)
		s.settle(unnamed, err)
	}
}

// adopt takes the only error that names no input for the only input without a result.
func (s *contactSend) adopt(writes []*write, res *upsertAnswer) {
	if len(res.strangers) != 1 || len(writes) == 1 {
		return
	}
	missing := -1
	for i := range res.inputs {
		if u := &res.inputs[i]; !u.done && u.refused == nil {
			if missing >= 0 {
				return
			}
			missing = i
		}
	}
	if missing >= 0 {
		res.inputs[missing].refused = &res.strangers[0]
		res.strangers = nil
	}
}

// delivered settles a write that HubSpot took.
func (s *contactSend) delivered(w *write, u *upserted, correlation string) {
	s.opaque = 0
	detail := w.appendDetail(make([]byte, 0, 256), u, correlation)
	memory := s.remember(w)
	for _, i := range w.entries {
		s.out[i] = destinations.Outcome{Detail: detail, Memory: memory}
	}
	for _, p := range w.stripped {
		s.d.metrics.Stripped(s.d.client.destination, p.name, p.reason)
	}
}

// refused handles a whole call that HubSpot judged and refused: nothing of it was written.
func (s *contactSend) refused(ctx context.Context, writes []*write, a *answer, round int) {
	r := parseRefusal(a.body)
	if a.status == http.StatusNotFound {
		// An upsert finds or makes its contacts, so it is the path that does not exist.
		s.stop = a.noSuchPath()
		s.settle(writes, s.stop)
		return
	}
	if len(writes) == 1 {
		s.refuseSingle(ctx, writes[0], &r, a, round)
		return
	}
	if twice, rest := duplicates(writes, r.ids); len(twice) > 0 && len(rest) > 0 {
		s.deliver(ctx, rest, 0)
		for _, w := range twice {
			s.deliver(ctx, []*write{w}, 0)
		}
		return
	}
	switch {
	case a.status == http.StatusBadRequest && round < maxRounds && s.amend(ctx, writes, &r):
		s.deliver(ctx, writes, round+1)
	case final(a.status, &r) || a.conflict(&r):
		s.bisect(ctx, writes)
	default: // it would be the same for each half
		s.stop = a.err()
		s.settle(writes, s.stop)
	}
}

// duplicates parts off the writes that HubSpot takes for one contact twice in a batch.
func duplicates(writes []*write, ids []string) (twice, rest []*write) {
	for _, w := range writes {
		if slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(strings.TrimSpace(id), w.id) }) {
			twice = append(twice, w)
		} else {
			rest = append(rest, w)
		}
	}
	return twice, rest
}

func (s *contactSend) bisectOrSend(ctx context.Context, writes []*write) {
	if len(writes) == 1 {
		s.deliver(ctx, writes, 0)
		return
	}
	s.bisect(ctx, writes)
}

func (s *contactSend) refuseSingle(ctx context.Context, w *write, r *refusal, a *answer, round int) {
	if round < maxRounds && s.amend(ctx, []*write{w}, r) {
		s.deliver(ctx, []*write{w}, round+1)
		return
	}
	s.reject(ctx, w, r, a)
}

// amend takes the properties that HubSpot named out of the writes, if it is certain which writes it means. It says whether they may be
// sent again.
func (s *contactSend) amend(ctx context.Context, writes []*write, r *refusal) bool {
	changed := false
	for _, p := range r.problems {
		if p.property == "" || p.property == emailProperty || p.code == codeRequired || p.code == codeRequiredIf {
			continue
		}
		reason := reasonRefused
		switch p.code {
		case codeUnknownProperty:
			reason = reasonUnknown
			s.d.refreshSchema(ctx, s.permits, schemaAgain)
			s.schema = s.d.account.schema.get()
		case codeReadOnly:
			reason = reasonReadOnly
		}
		holders := holding(writes, p.property)
		switch {
		case reason != reasonRefused:
			for _, w := range holders {
				w.drop(p.property, reason)
				changed = true
			}
		case len(holders) == 1: // else a value is bad, and it is not said whose
			holders[0].refuse(p.property)
			changed = true
		}
	}
	return changed
}

func holding(writes []*write, property string) (holders []*write) {
	for _, w := range writes {
		for _, v := range w.values {
			if v.name == property {
				holders = append(holders, w)
				break
			}
		}
	}
	return holders
}

// maxOpaque is how many inputs in a row may be refused, each alone and without a reason, before that looks like a fault of something else
// and the rest of the batch is kept.
const maxOpaque = 10

// maxConflicts is how many conflicts an entry may meet: HubSpot has them where two calls make one contact at a time.
const maxConflicts = 5

// conflict says whether an input is refused because of another contact, or of another call.
func (a *answer) conflict(r *refusal) bool {
	return a.status == http.StatusConflict || r.category == "CONFLICT"
}

// reject settles a single write that HubSpot refuses for good. A merged one is taken apart first: one of its entries may be the
// reason, unless it is the identity that they share.
func (s *contactSend) reject(ctx context.Context, w *write, r *refusal, a *answer) {
	err := fmt.Errorf("HubSpot refuses the contact: %s", r)
	if a.correlation != "" {
		err = fmt.Errorf("%w (correlation id %s)", err, a.correlation)
	}
	switch {
	case a.conflict(r):
		for _, i := range w.entries {
			s.out[i].Err = destinations.RetryAfter(err, lockedWait)
			if s.d.contactPoison.conflicts(s.batch[i].Name) >= maxConflicts {
				s.out[i].Err = destinations.Reject(err)
			}
		}
	case !final(a.status, r):
		s.settle([]*write{w}, err)
	case len(w.entries) > 1 && !r.badEmail():
		s.apart(ctx, w)
	default:
		s.settle([]*write{w}, destinations.Reject(err))
		if r.badEmail() {
			s.d.account.refuseEmail(w.id, time.Now())
		}
		if len(r.problems) == 0 {
			s.opaque++
		}
		if s.opaque >= maxOpaque {
			s.stop = err
			s.d.log.Error("HubSpot refuses one contact after the other without saying why; the others are tried again", "error", err.Error())
		}
	}
}

// final says whether a refusal is HubSpot's judgement of the input. Anything else is tried again.
func final(status int, r *refusal) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return r.category == "VALIDATION_ERROR" ||
		slices.ContainsFunc(r.problems, func(p problem) bool { return p.code != "" || p.property != "" })
}

// apart sends the older half of a merged write's entries, and then the newer one if all of the older are settled: one that is to be tried
// again must not come after a newer one.
func (s *contactSend) apart(ctx context.Context, w *write) {
	older, newer := w.entries[:len(w.entries)/2], w.entries[len(w.entries)/2:]
	s.deliverPart(ctx, s.part(w, older))
	for _, i := range older {
		var reject *destinations.RejectError
		if err := s.out[i].Err; err != nil && !errors.As(err, &reject) {
			for _, later := range newer {
				s.out[later] = destinations.Outcome{Err: unsent(err)}
			}
			return
		}
	}
	s.deliverPart(ctx, s.part(w, newer))
}

// deliverPart sends a part of a write that was taken apart.
func (s *contactSend) deliverPart(ctx context.Context, w *write) {
	writes := []*write{w}
	if err := s.prepare(ctx, writes); err != nil {
		s.settle(writes, err)
		return
	}
	s.deliver(ctx, writes, 0)
}

// unsent is the outcome of an entry that was not sent because another one met err.
func unsent(err error) error {
	var unanswered *destinations.AmbiguousError
	if errors.As(err, &unanswered) {
		return unanswered.Err
	}
	return err
}

// badEmail says whether the refusal is about the identity.
func (r *refusal) badEmail() bool {
	for _, p := range r.problems {
		if p.code == codeInvalidEmail && (p.property == emailProperty || p.property == "") {
			return true
		}
	}
	return false
}
