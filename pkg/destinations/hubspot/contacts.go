package hubspot

import (
	"context"
	"fmt"
	"net/http"
	"slices"
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
	lacks   lacks
	found   []found // of one event; reused
	known   map[string]*known
	claims  map[claim]string // the id of the write that fills it
	lag     lag
	off     destinations.Choices // what the account has switched off
	sources map[source]string    // in a simulation: the JSON that values are made of; nil: nobody asks
}

func (d *Destination) sendContacts(ctx context.Context, ps *permits, batch []destinations.Entry, out []destinations.Outcome) {
	s := &contactSend{d: d, permits: ps, batch: batch, out: out}
	if d.simulation {
		s.sources = map[source]string{}
	}
	s.off = d.choices()
	var err error
	if s.schema, err = d.contactSchema(ctx, ps); err == nil {
		err = s.checkKey(ctx)
	}
	if err != nil {
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

// checkKey blocks the lane when the account has no property by which contacts can be identified: HubSpot would refuse each of them.
func (s *contactSend) checkKey(ctx context.Context) error {
	if !s.d.contacts.ownKey() {
		return nil
	}
	key := s.d.contacts.key
	if p := s.schema.properties[key]; p == nil || !p.unique {
		s.refreshSchema(ctx)
	}
	switch p := s.schema.properties[key]; {
	case p == nil:
		return destinations.Block(fmt.Errorf("id_property is %s, and the account has no such contact property: make it in HubSpot, with unique values", key),
			destinations.LaneScope, time.Time{})
	case !p.unique:
		return destinations.Block(fmt.Errorf("id_property is %s, which may have the same value in several contacts: make a property with unique values in HubSpot", key),
			destinations.LaneScope, time.Time{})
	}
	return nil
}

// refreshSchema goes on by the account's properties as they are now, unless they were loaded a moment ago.
func (s *contactSend) refreshSchema(ctx context.Context) {
	s.d.refreshSchema(ctx, s.permits, schemaAgain)
	s.schema = s.d.account.schema.get()
}

// deliver sends the writes in one call and settles each by the answer, with further calls where it takes them.
func (s *contactSend) deliver(ctx context.Context, writes []*write, round int) {
	if s.stop != nil {
		s.settle(writes, s.stop)
		return
	}
	s.waitForLag(ctx)
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
	endpoint, url := s.d.contactsCall()
	a, err := s.d.do(ctx, p, request{
		endpoint: endpoint, method: http.MethodPost, url: url,
		body: appendBatch(make([]byte, 0, 512*len(writes)), s.d.contacts.key, writes),
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

// answered settles the writes of a call that succeeded, wholly or in part.
func (s *contactSend) answered(ctx context.Context, writes []*write, a *answer, round int) {
	res := parseUpsert(a.body, len(writes))
	res.recognise(s.d.contacts.key, func(i int) string { return writes[i].id })
	adoptMissing(writes, &res)
	adopt(writes, &res)
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

// adoptMissing takes errors about contacts that do not exist for the inputs whose ids they name: HubSpot lists the ids of all in one.
func adoptMissing(writes []*write, res *upsertAnswer) {
	res.strangers = slices.DeleteFunc(res.strangers, func(r refusal) bool {
		if r.category != categoryNotFound || len(r.ids) == 0 {
			return false
		}
		for i, w := range writes {
			if u := &res.inputs[i]; !u.done && u.refused == nil && slices.Contains(r.ids, w.id) {
				u.refused = &r
			}
		}
		return true
	})
}

// adopt takes the only error that names no input for the only input without a result.
func adopt(writes []*write, res *upsertAnswer) {
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
	if s.d.contacts.ownKey() && isObjectID(u.id) { // events cannot name a contact by its key
		s.d.account.contactIDs.put(contactKey{s.d.contacts.key, w.id}, u.id)
	}
	detail := s.appendDetail(make([]byte, 0, 256), w, u, correlation)
	memory := s.remember(w)
	for _, i := range w.entries {
		s.out[i] = destinations.Outcome{Detail: detail, Memory: memory}
	}
	for _, p := range w.stripped {
		s.d.metrics.Stripped(s.d.client.destination, p.name, p.reason)
	}
}
