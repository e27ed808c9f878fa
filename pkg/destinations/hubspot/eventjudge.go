package hubspot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
)

// partly settles the occurrences of a partial success, which HubSpot does not document for events: whom its errors do not name was taken.
// Where it is not clear whom they mean the batch is halved: the uuids make it no matter what was taken before.
func (s *eventSend) partly(ctx context.Context, all []*occurrence, a *answer, round int) {
	errs, failed := partialErrors(a.body)
	switch {
	case !failed:
		s.delivered(all, a, false)
		return
	case len(all) == 1 && len(errs) > 0:
		s.judge(ctx, all[0], a, &errs[0], round)
		return
	case len(all) == 1:
		s.settle(entriesOf(all), fmt.Errorf("HubSpot answered %d and does not say what is wrong with the event (correlation id %s)", a.status, a.correlation))
		return
	}
	bad, ok := blame(all, errs)
	judged := func(r refusal) bool { return final(a.status, &r) || a.conflict(&r) }
	switch {
	case !ok && len(errs) > 0 && !slices.ContainsFunc(errs, judged): // it would be the same for each half
		s.stop = s.refusal(&errs[0], a)
		s.settle(entriesOf(all), s.stop)
		return
	case !ok:
		s.bisect(ctx, all)
		return
	}
	s.delivered(slices.DeleteFunc(slices.Clone(all), func(o *occurrence) bool { return bad[o] != nil }), a, false)
	for _, o := range all {
		if r := bad[o]; r != nil {
			s.judge(ctx, o, a, r, round)
		}
	}
}

// partialErrors reads the errors of a partial success; failed says that there are any, listed or not.
func partialErrors(body []byte) (errs []refusal, failed bool) {
	gjson.GetBytes(body, "errors").ForEach(func(_, e gjson.Result) bool {
		errs = append(errs, parseRefusal([]byte(e.Raw)))
		return len(errs) < maxProblems
	})
	return errs, len(errs) > 0 || gjson.GetBytes(body, "numErrors").Int() > 0
}

// blame finds whom each error is about; ok is false when one names nobody.
func blame(all []*occurrence, errs []refusal) (bad map[*occurrence]*refusal, ok bool) {
	bad = map[*occurrence]*refusal{}
	for i := range errs {
		named := false
		for _, o := range all {
			if errs[i].names(o) {
				bad[o], named = &errs[i], true
			}
		}
		if !named {
			return nil, false
		}
	}
	return bad, len(bad) > 0
}

// maxNamed is how many are sent alone because a refusal names them: halving finds one of 500 in 18 calls.
const maxNamed = 20

// apart sends those alone that the refusal names, and the others together. It says whether it could.
func (s *eventSend) apart(ctx context.Context, all []*occurrence, r *refusal) bool {
	var named, others []*occurrence
	for _, o := range all {
		if r.names(o) {
			named = append(named, o)
		} else {
			others = append(others, o)
		}
	}
	if len(named) == 0 || len(others) == 0 || len(named) > maxNamed {
		return false
	}
	s.deliver(ctx, others, 0)
	for _, o := range named {
		s.deliver(ctx, []*occurrence{o}, 0)
	}
	return true
}

// names says whether the refusal is about o: its uuid stands in it, or who did it.
func (r *refusal) names(o *occurrence) bool {
	id := o.uuid.String()
	if slices.Contains(r.uuids, id) {
		return true
	}
	text := r.words()
	return strings.Contains(text, id) || o.person.email != "" && mentionsEmail(text, o.person.email) ||
		o.person.utk != "" && mentions(text, strings.ToLower(o.person.utk))
}

// mentionsEmail says whether the address stands in s, and not as a part of another.
func mentionsEmail(s, email string) bool {
	for from := 0; ; {
		i := strings.Index(s[from:], email)
		if i < 0 {
			return false
		}
		i += from
		rest := strings.TrimPrefix(s[i+len(email):], ".") // it may end a sentence
		if (i == 0 || !inAddress(s[i-1])) && (rest == "" || !inAddress(rest[0])) {
			return true
		}
		from = i + 1
	}
}

func inAddress(c byte) bool { return isWord(c) || c >= 0x80 || strings.IndexByte("@.+-", c) >= 0 }

// judge settles one occurrence that HubSpot refuses, which may be sent again with less in it.
func (s *eventSend) judge(ctx context.Context, o *occurrence, a *answer, r *refusal, round int) {
	one := []*occurrence{o}
	again := round < maxRounds
	switch {
	case r.repeats(o):
		s.delivered(one, a, true)
	case again && s.withoutIdentity(o, r), again && s.amend(o, r):
		s.deliver(ctx, one, round+1)
	case o.person.lookedUp && s.batch[o.entry].Attempt < lookUpTries && mentions(r.words(), o.person.objectID):
		// The contact was merged into another, or deleted.
		s.d.account.contactIDs.forget(contactKey{s.d.contacts.key, s.batch[o.entry].Plan.ID})
		s.settle([]int{o.entry}, destinations.RetryAfter(s.refusal(r, a), lookUpWait))
	case final(a.status, r) || a.conflict(r):
		err := s.refusal(r, a)
		s.settle([]int{o.entry}, destinations.Reject(err))
		if s.opaque++; s.opaque >= maxOpaque {
			s.stop = err
			s.d.log.Error("HubSpot refuses one event after the other; the others are tried again", "error", err.Error())
		}
	default:
		s.settle([]int{o.entry}, s.refusal(r, a))
	}
}

// withoutIdentity takes out what HubSpot does not take to identify a person by, if something else does. It says whether it did.
func (s *eventSend) withoutIdentity(o *occurrence, r *refusal) bool {
	p, text := o.person, r.words()
	switch {
	case p.email != "" && (r.badEmail() || mentionsEmail(text, p.email)):
		if r.badEmail() || containsAny(text, "invalid", "not valid") {
			s.d.account.refuseEmail(p.email, time.Now()) // so the next event of it is not refused
		}
		if p.utk == "" && p.objectID == "" {
			return false
		}
		p.email = ""
		o.lose(emailProperty)
	case p.utk != "" && (p.email != "" || p.objectID != "") && (mentions(text, strings.ToLower(p.utk)) || mentions(text, utkIdentity)):
		p.utk = ""
		o.lose(utkIdentity)
	case p.objectID != "" && (p.email != "" || p.utk != "") && (mentions(text, p.objectID) || containsAny(text, "objectid", "object id")):
		p.objectID = ""
		o.lose(objectIDIdentity)
	default:
		return false
	}
	return true
}

// repeats says whether the refusal is that the occurrence was taken before. HubSpot does not document how it says so: a word for programs
// counts, then words for people, then that it names the event by its uuid and finds no fault with it.
func (r *refusal) repeats(o *occurrence) bool {
	text, id := r.words(), o.uuid.String()
	own := strings.Contains(text, id) || slices.Contains(r.uuids, id)
	// The word alone may be about a property of that name.
	if !own && (!strings.Contains(text, "uuid") || slices.ContainsFunc(o.values, func(v field) bool { return v.name == "uuid" })) {
		return false
	}
	for _, code := range r.codes {
		if containsAny(strings.ToUpper(code), "DUPLICATE", "ALREADY_EXISTS", "ALREADY_USED", "NOT_UNIQUE", "UUID") {
			return true
		}
	}
	for _, word := range [...]string{"already", "duplicate", "duplicated", "used", "reused", "unique"} {
		if mentions(text, word) {
			return true
		}
	}
	return own && r.property(o) == "" && !r.badEmail() &&
		!containsAny(text, "invalid", "not valid", "not exist", "not found", "required", "missing", "limit", "exceed", "longer than", "not allowed")
}
