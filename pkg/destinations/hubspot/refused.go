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

// refused handles a whole call that HubSpot judged and refused: nothing of it was written.
func (s *contactSend) refused(ctx context.Context, writes []*write, a *answer, round int) {
	r := parseRefusal(a.body)
	if a.status == http.StatusNotFound && (s.d.contacts.key != objectIDProperty || r.category != categoryNotFound) {
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
	case final(a.status, &r) || a.conflict(&r) || r.category == categoryNotFound:
		s.bisect(ctx, writes)
	default: // it would be the same for each half
		s.stop = a.err()
		s.settle(writes, s.stop)
	}
}

// bisect sends each half alone.
func (s *contactSend) bisect(ctx context.Context, writes []*write) {
	half := len(writes) / 2
	s.deliver(ctx, writes[:half], 0)
	s.deliver(ctx, writes[half:], 0)
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
	freed := s.freeEmail(writes, r)
	changed := freed
	for i, p := range r.problems {
		// One that is told twice, in errors[] and in the message, is not about the value that takes the place of the first.
		again := slices.ContainsFunc(r.problems[:i], func(o problem) bool { return o.property == p.property })
		if again || p.property == "" || p.property == s.d.contacts.key || freed && p.property == emailProperty || p.code == codeRequired || p.code == codeRequiredIf {
			continue
		}
		if s.lags(writes, &p) {
			changed = changed || !s.lag.over()
			continue
		}
		reason := reasonRefused
		switch p.code {
		case codeUnknownProperty:
			reason = reasonUnknown
			s.refreshSchema(ctx)
		case codeInvalidOption: // a person may have deleted it
			if s.deleted(ctx, writes, p.property) {
				continue
			}
		case codeReadOnly:
			reason = reasonReadOnly
		case codeInvalidEmail:
			reason = reasonValue
		}
		holders := holding(writes, p.property)
		switch {
		case reason == reasonUnknown || reason == reasonReadOnly:
			for _, w := range holders {
				w.drop(p.property, reason)
				changed = true
			}
		case len(holders) != 1: // a value is bad, and it is not said whose
		case holders[0].values[holders[0].find(p.property)].sum: // nor of which of the write's entries: it is taken apart
		default:
			holders[0].refuse(p.property, reason)
			changed = true
		}
	}
	return changed
}

// deleted says whether a property that HubSpot refuses lacks an option that the policy makes again. Then the only write that has it waits for that.
func (s *contactSend) deleted(ctx context.Context, writes []*write, property string) bool {
	holders := holding(writes, property)
	if !s.d.contacts.properties.addOption || len(holders) != 1 {
		return false
	}
	s.refreshSchema(ctx)
	p := s.schema.properties[property]
	if p == nil {
		return false
	}
	w := holders[0]
	options := strings.Split(w.values[w.find(property)].value, ";")
	w.late = len(s.d.missingOptions(&needOption{p, options})) > 0
	return w.late
}

// freeEmail leaves the e-mail address out of a write by another property, when HubSpot says that it is another contact's.
func (s *contactSend) freeEmail(writes []*write, r *refusal) bool {
	if len(writes) != 1 || s.d.contacts.key == emailProperty || writes[0].find(emailProperty) < 0 || !r.emailInUse() {
		return false
	}
	writes[0].refuse(emailProperty, reasonInUse)
	return true
}

// emailInUse says whether the refusal is about an e-mail address that another contact has.
func (r *refusal) emailInUse() bool {
	if len(r.problems) == 0 {
		return r.category == "CONFLICT" || r.category == "OBJECT_ALREADY_EXISTS"
	}
	return slices.ContainsFunc(r.problems, func(p problem) bool {
		return p.property == emailProperty && (strings.Contains(p.code, "CONFLICT") || strings.Contains(p.code, "UNIQUE") || strings.Contains(p.message, "already"))
	})
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
	if s.aboutKey(r) {
		s.refreshSchema(ctx)
		if s.stop = s.checkKey(ctx); s.stop == nil {
			s.stop = destinations.RetryAfter(err, schemaAgain)
		}
		s.settle([]*write{w}, s.stop)
		return
	}
	badEmail := s.d.contacts.key == emailProperty && r.badEmail()
	switch {
	case w.late:
		s.settle([]*write{w}, destinations.RetryAfter(err, lagRetry))
	case r.category == categoryNotFound:
		s.settle([]*write{w}, destinations.Reject(fmt.Errorf("HubSpot has no contact with the id %s (correlation id %s)", w.id, a.correlation)))
	case a.conflict(r) && !s.lasts(w):
		s.settle([]*write{w}, destinations.RetryAfter(err, lockedWait))
	case !a.conflict(r) && !final(a.status, r):
		s.settle([]*write{w}, err)
	case len(w.entries) > 1 && !badEmail:
		s.apart(ctx, w)
	default:
		s.settle([]*write{w}, destinations.Reject(err))
		if badEmail {
			s.d.account.refuseEmail(w.id, time.Now())
		}
		if len(r.problems) == 0 && !a.conflict(r) {
			s.opaque++
		}
		if s.opaque >= maxOpaque {
			s.stop = err
			s.d.log.Error("HubSpot refuses one contact after the other without saying why; the others are tried again", "error", err.Error())
		}
	}
}

// aboutKey says whether a refusal is about the property that identifies contacts, not its value: a person has deleted it.
func (s *contactSend) aboutKey(r *refusal) bool {
	return s.d.contacts.ownKey() && (strings.Contains(r.message, "by non-unique") ||
		slices.ContainsFunc(r.problems, func(p problem) bool { return p.property == s.d.contacts.key && p.code == codeUnknownProperty }))
}

// lasts counts a conflict of the write, and says whether one of its entries has met so many that it is no coincidence.
func (s *contactSend) lasts(w *write) (lasts bool) {
	for _, i := range w.entries {
		lasts = s.d.contactPoison.conflicts(s.batch[i].Name) >= maxConflicts || lasts
	}
	return lasts
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
