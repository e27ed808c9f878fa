package hubspot

import (
	"context"
	"errors"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

// tierReason is why an event is skipped that has waited for long enough.
const tierReason = "no tier or scope"

// standing tells whether the account may take custom events at all: an Enterprise tier and a scope are needed.
type standing struct {
	mu        sync.Mutex
	forbidden bool // the last call was answered 403
}

// set says whether that is news.
func (s *standing) set(forbidden bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.forbidden != forbidden
	s.forbidden = forbidden
	return news
}

// eventSend is one Send of the events lane.
type eventSend struct {
	d       *Destination
	permits *permits
	batch   []destinations.Entry
	out     []destinations.Outcome
	people  []person // of the batch
	schema  *schema
	stop    error // the outcome of everything not sent yet
	undone  error // what the last definition met that others would meet too
	opaque  int   // refusals in a row that name no reason
}

func (d *Destination) sendEvents(ctx context.Context, ps *permits, batch []destinations.Entry, out []destinations.Outcome) {
	s := &eventSend{d: d, permits: ps, batch: batch, out: out}
	if d.grantLacksEvents() {
		s.skipAll()
		return
	}
	entries := s.identify(ctx)
	if len(entries) == 0 {
		return
	}
	var err error
	if s.schema, err = d.contactSchema(ctx, ps); err != nil && !isForbidden(err) {
		s.settle(entries, outsideLane(err)) // without the schema scope events go out without properties of the user
		return
	}
	if err := d.needDefinitions(ctx, ps); err != nil {
		s.fail(entries, outsideLane(err))
		return
	}
	all := make([]*occurrence, len(entries))
	for n, i := range entries {
		all[n] = newOccurrence(i, &batch[i], &s.people[i], s.schema, d.rules)
	}
	ready := s.resolve(ctx, all)
	if err := s.waitForLag(ctx, ready); err != nil {
		s.stop = err
	}
	for len(ready) > maxEvents {
		s.deliver(ctx, ready[:maxEvents], 0)
		ready = ready[maxEvents:]
	}
	if len(ready) > 0 {
		s.deliver(ctx, ready, 0)
	}
}

func isForbidden(err error) bool {
	var f *forbiddenError
	return errors.As(err, &f)
}

// outsideLane makes an outcome of this lane from one that the contacts' quota is the reason of: events are exempt from it, and others of
// this lane may be ready.
func outsideLane(err error) error {
	var block *destinations.BlockError
	if errors.As(err, &block) && block.Scope == destinations.LaneScope && !block.Until.IsZero() {
		return destinations.RetryAfter(block.Err, min(max(time.Until(block.Until), time.Second), 15*time.Minute))
	}
	return err
}

// settle gives entries one outcome.
func (s *eventSend) settle(entries []int, err error) {
	for _, i := range entries {
		s.out[i] = destinations.Outcome{Err: err}
	}
}

// fail settles entries by an outcome that may be a 403: then they wait, but not for ever, for most accounts have no such tier.
func (s *eventSend) fail(entries []int, err error) {
	if !isForbidden(err) {
		s.settle(entries, err)
		return
	}
	hold := s.d.events.Hold
	switch news := s.d.tier.set(true); {
	case news && s.d.connections != nil:
		s.d.tierNews.refused(s.d.log, hold, err)
	case news:
		s.d.log.Error("HubSpot refuses custom events: they need an Enterprise tier and the scopes analytics.behavioral_events.send and "+
			"behavioral_events.event_definitions.read_write; contacts flow on, events wait", "hold", hold.String(), "error", err.Error())
	}
	s.settle(entries, destinations.BlockSkipping(err, max(hold, 1), tierReason))
}

// resolve gives each occurrence its definition, making what is missing. It returns those that can be sent.
func (s *eventSend) resolve(ctx context.Context, all []*occurrence) (ready []*occurrence) {
	byName := map[string][]*occurrence{}
	var names []string
	for _, o := range all {
		if byName[o.name] == nil {
			names = append(names, o.name)
		}
		byName[o.name] = append(byName[o.name], o)
	}
	for _, name := range names {
		group := byName[name]
		def, err := s.definition(ctx, name, group)
		if err != nil {
			s.fail(entriesOf(group), outsideLane(err))
			continue
		}
		for _, o := range group {
			o.fill(def)
		}
	}
	for _, o := range all {
		if o.def != nil {
			ready = append(ready, o)
		}
	}
	return ready
}

// definition returns the definition for occurrences of one name, with the properties that they need as far as they may be made.
func (s *eventSend) definition(ctx context.Context, name string, group []*occurrence) (*definition, error) {
	if s.stop != nil {
		return nil, s.stop
	}
	def := s.d.account.definitions.get(name)
	if def == nil {
		w := &wanted{name: name, label: group[0].label, browser: true, properties: s.wanted(group)}
		for _, o := range group {
			w.browser = w.browser && !s.batch[o.entry].Event.Server
		}
		w.properties = w.properties[:min(len(w.properties), maxOwnProperties)]
		if s.undone != nil {
			return nil, s.undone
		}
		var err error
		if def, err = s.d.define(ctx, s.permits, w); err != nil {
			return nil, s.note(err)
		}
	}
	if !s.d.rules.create && !s.d.rules.named[name] {
		return def, nil
	}
	more := missing(def, s.wanted(group))
	if len(more) == 0 || def.own() >= maxOwnProperties {
		return def, nil
	}
	if s.undone != nil {
		return nil, s.undone
	}
	def, err := s.d.extend(ctx, s.permits, name, more)
	return def, s.note(err)
}

// note keeps an error that all further definitions of this Send would meet, each after its own wait.
func (s *eventSend) note(err error) error {
	var lost *lostError
	var block *destinations.BlockError
	if errors.As(err, &lost) || errors.As(err, &block) {
		s.undone = err
	}
	return err
}

// wanted are the properties that the occurrences carry, each once.
func (s *eventSend) wanted(group []*occurrence) []newProperty {
	var all []newProperty
	seen := map[string]bool{}
	for _, o := range group {
		for _, p := range o.wants() {
			if !seen[p.name] {
				seen[p.name] = true
				all = append(all, p)
			}
		}
	}
	return all
}

func entriesOf(all []*occurrence) []int {
	entries := make([]int, len(all))
	for i, o := range all {
		entries[i] = o.entry
	}
	return entries
}

// waitForLag gives HubSpot the time that it takes until what was just made can be used.
func (s *eventSend) waitForLag(ctx context.Context, all []*occurrence) error {
	var newest time.Time
	for _, o := range all {
		if o.def.fresh.After(newest) {
			newest = o.def.fresh
		}
	}
	left := time.Until(newest.Add(definitionLag))
	if newest.IsZero() || left <= 0 || s.d.simulation {
		return nil
	}
	return wait(ctx, left)
}
