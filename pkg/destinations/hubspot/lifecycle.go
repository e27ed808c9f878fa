package hubspot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"eventrouter/pkg/destinations"
)

// stuckStage is a delivered write whose lifecycle stage HubSpot did not take: it moves a contact forward only, and says nothing.
type stuckStage struct {
	write       *write
	upserted    *upserted
	correlation string
	want        string
}

// stuck says whether the delivered write is to force a stage that the contact may not have; nil: it has it, or nothing is forced.
func (s *contactSend) stuck(w *write, u *upserted, correlation string) *stuckStage {
	i := w.find(stageProperty)
	if i < 0 || w.values[i].policy != force {
		return nil
	}
	want := w.values[i].value
	if want == "" || strings.EqualFold(u.stage, want) {
		return nil
	}
	return &stuckStage{write: w, upserted: u, correlation: correlation, want: want}
}

// free moves contacts back to an earlier stage by clearing the stage and then setting it, in two calls for all of them. Their entries are
// delivered with the second one. An entry whose second call fails is tried again from the start, and a contact without a stage takes any, so
// none stays without one. What HubSpot refuses for good leaves the contact with the stage that it had.
func (s *contactSend) free(ctx context.Context, all []*stuckStage) {
	all = s.confirm(ctx, all)
	cleared, refused := s.setStages(ctx, all, func(*stuckStage) string { return "" })
	set, again := s.setStages(ctx, cleared, func(c *stuckStage) string { return c.want })
	restored, lost := s.setStages(ctx, again, func(c *stuckStage) string { return c.upserted.stage })
	for _, c := range lost {
		s.settle([]*write{c.write}, destinations.RetryAfter(errors.New("HubSpot cleared lifecyclestage and takes none"), lockedWait))
	}
	for _, c := range slices.Concat(refused, restored) {
		c.write.drop(stageProperty, reasonRefused)
	}
	for _, c := range slices.Concat(set, refused, restored) {
		s.delivered(c.write, c.upserted, c.correlation)
	}
}

// confirm reads the stage of contacts where the answer did not show it, delivers those that have the right one and returns the others.
func (s *contactSend) confirm(ctx context.Context, all []*stuckStage) []*stuckStage {
	var ids []string
	for _, c := range all {
		if c.upserted.stage == "" {
			ids = append(ids, c.write.id)
		}
	}
	if len(ids) == 0 {
		return all
	}
	read, err := s.d.readContacts(ctx, s.permits, s.d.contacts.key, ids, []string{stageProperty})
	if err != nil {
		s.broke(all, err)
		return nil
	}
	return slices.DeleteFunc(all, func(c *stuckStage) bool {
		if c.upserted.stage == "" {
			c.upserted.stage = read.found[c.write.id][stageProperty]
		}
		right := strings.EqualFold(c.upserted.stage, c.want)
		if right {
			s.delivered(c.write, c.upserted, c.correlation)
		}
		return right
	})
}

// broke settles contacts with what a call met that is not about them.
func (s *contactSend) broke(all []*stuckStage, err error) {
	s.stop = unsent(err)
	for _, c := range all {
		s.settle([]*write{c.write}, err)
	}
}

// setStages writes the stage of each contact and nothing else. Those that are in neither list have their outcome.
func (s *contactSend) setStages(ctx context.Context, all []*stuckStage, stage func(*stuckStage) string) (set, refused []*stuckStage) {
	if s.stop != nil {
		s.broke(all, s.stop)
		return nil, nil
	}
	if len(all) == 0 {
		return nil, nil
	}
	writes := make([]*write, len(all))
	for i, c := range all {
		writes[i] = &write{id: c.write.id, values: []written{{name: stageProperty, value: stage(c)}}}
	}
	p, err := s.permits.next(ctx, s.d.account.crm)
	if err != nil {
		s.broke(all, err)
		return nil, nil
	}
	a, fault := s.call(ctx, p, writes)
	switch {
	case fault != nil:
		s.broke(all, fault)
		return nil, nil
	case a.status >= 200 && a.status < 300:
		return s.stagesSet(all, a)
	}
	r := parseRefusal(a.body)
	switch {
	case !final(a.status, &r):
		s.broke(all, fmt.Errorf("move lifecyclestage back: %w", a.err()))
		return nil, nil
	case len(all) == 1:
		return nil, all
	}
	half := len(all) / 2
	set, refused = s.setStages(ctx, all[:half], stage)
	more, others := s.setStages(ctx, all[half:], stage)
	return append(set, more...), append(refused, others...)
}

// stagesSet parts the contacts of a call that succeeded, wholly or in part.
func (s *contactSend) stagesSet(all []*stuckStage, a *answer) (set, refused []*stuckStage) {
	res := parseUpsert(a.body, len(all))
	res.recognise(s.d.contacts.key, func(i int) string { return all[i].write.id })
	for i, c := range all {
		switch u := &res.inputs[i]; {
		case u.done:
			set = append(set, c)
		case u.refused != nil && !a.conflict(u.refused) && final(a.status, u.refused):
			refused = append(refused, c)
		default:
			err := fmt.Errorf("move lifecyclestage back: HubSpot answered %d and did not do it (correlation id %s)", a.status, a.correlation)
			s.settle([]*write{c.write}, destinations.RetryAfter(err, lockedWait))
		}
	}
	return set, refused
}
