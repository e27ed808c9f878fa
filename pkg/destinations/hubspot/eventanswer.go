package hubspot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
)

// deliver sends the occurrences in one call and settles each by the answer, with further calls where it takes them.
func (s *eventSend) deliver(ctx context.Context, all []*occurrence, round int) {
	if s.stop != nil {
		s.settle(entriesOf(all), s.stop)
		return
	}
	p, err := s.permits.next(ctx, s.d.account.events)
	if err != nil {
		s.stop = err
		s.settle(entriesOf(all), err)
		return
	}
	a, err := s.d.do(ctx, p, request{
		endpoint: endpointSend, method: http.MethodPost, url: s.d.eventsURL + s.d.paths.send,
		body: appendSend(make([]byte, 0, 512*len(all)), all),
	})
	// The uuid makes a call repeatable, so none is ambiguous.
	if fault := s.d.fault(s.d.account.events, a, err, false); fault != nil {
		s.broken(ctx, all, a, fault)
		return
	}
	switch {
	case a.status >= 300:
		s.refused(ctx, all, a, round)
	case a.status == http.StatusMultiStatus && json.Valid(a.body):
		s.partly(ctx, all, a, round)
	case a.tookEvents():
		s.delivered(all, a, false)
	case json.Valid(a.body):
		s.refused(ctx, all, a, round)
	default:
		s.stop = a.noSuchPath()
		s.settle(entriesOf(all), s.stop)
	}
}

// tookEvents says whether a success is one: HubSpot's has no body. Anything may answer 200, such as a proxy that asks for a login.
func (a *answer) tookEvents() bool {
	if len(bytes.TrimSpace(a.body)) == 0 {
		return true
	}
	said := gjson.ParseBytes(a.body)
	return json.Valid(a.body) && said.IsObject() && said.Get("status").Str != "error"
}

// broken settles a call that HubSpot did not judge.
func (s *eventSend) broken(ctx context.Context, all []*occurrence, a *answer, fault error) {
	if a == nil || a.status != http.StatusInternalServerError {
		s.stop = fault
		s.fail(entriesOf(all), fault)
		return
	}
	guilty := s.d.eventPoison.failed(time.Now(), s.names(all), len(all) == 1)
	switch {
	case !guilty:
		s.settle(entriesOf(all), fault)
	case len(all) > 1:
		s.bisect(ctx, all)
	default:
		s.settle(entriesOf(all), destinations.Reject(fmt.Errorf("%w; again and again, while other events are taken", a.err())))
	}
}

func (s *eventSend) bisect(ctx context.Context, all []*occurrence) {
	half := len(all) / 2
	s.deliver(ctx, all[:half], 0)
	s.deliver(ctx, all[half:], 0)
}

func (s *eventSend) names(all []*occurrence) []destinations.OutputName {
	names := make([]destinations.OutputName, len(all))
	for i, o := range all {
		names[i] = s.batch[o.entry].Name
	}
	return names
}

// delivered settles occurrences that HubSpot took, now or before.
func (s *eventSend) delivered(all []*occurrence, a *answer, repeated bool) {
	s.opaque = 0
	for _, o := range all {
		s.out[o.entry] = destinations.Outcome{Detail: o.appendDetail(make([]byte, 0, 256), repeated, s.d.simulation, a.correlation)}
		for _, p := range o.stripped {
			s.d.metrics.Stripped(s.d.client.destination, p.name, p.reason)
		}
		for _, name := range o.cut {
			s.d.metrics.Stripped(s.d.client.destination, name, reasonCut)
		}
	}
	s.d.eventPoison.cleared(time.Now(), s.names(all))
	if s.d.tier.set(false) && s.d.connections == nil { // of a customer's account the router says that its lane flows again
		s.d.log.Info("HubSpot takes custom events again")
	}
}

// refused handles a call that HubSpot judged and refused. It does not say whether the others were taken; their uuids make that
// no matter. What is said of a definition or its property holds for all that use it, so a batch is not halved for that.
func (s *eventSend) refused(ctx context.Context, all []*occurrence, a *answer, round int) {
	r := parseRefusal(a.body)
	if rest, again := s.setAside(ctx, all, &r, a); len(rest) < len(all) || again {
		if len(rest) > 0 && round < maxRounds {
			s.deliver(ctx, rest, round+1)
		} else {
			s.settle(entriesOf(rest), s.refusal(&r, a))
		}
		return
	}
	if a.status == http.StatusNotFound {
		s.stop = a.noSuchPath()
		s.settle(entriesOf(all), s.stop)
		return
	}
	judged := final(a.status, &r) || a.conflict(&r)
	switch {
	case len(all) == 1:
		s.judge(ctx, all[0], a, &r, round)
	case judged && s.apart(ctx, all, &r):
	case judged:
		s.bisect(ctx, all)
	default: // it would be the same for each half
		s.stop = s.refusal(&r, a)
		s.settle(entriesOf(all), s.stop)
	}
}

func (s *eventSend) refusal(r *refusal, a *answer) error {
	if a.correlation == "" {
		return fmt.Errorf("HubSpot refuses the event: %s", r)
	}
	return fmt.Errorf("HubSpot refuses the event: %s (correlation id %s)", r, a.correlation)
}

// setAside settles the occurrences whose definition HubSpot says does not exist, and takes out of all a property that does not: again
// says that it did. What was just made is waited for.
func (s *eventSend) setAside(ctx context.Context, all []*occurrence, r *refusal, a *answer) (rest []*occurrence, again bool) {
	if !strings.Contains(r.message, "not exist") && !strings.Contains(r.message, "not found") && a.status != http.StatusNotFound {
		return all, false
	}
	property := ""
	var concerned []*occurrence
	for _, o := range all {
		if !mentions(r.message, o.def.qualified) {
			rest = append(rest, o)
			continue
		}
		concerned = append(concerned, o)
		if property == "" {
			property = r.property(o)
		}
	}
	if len(concerned) == 0 {
		return all, false
	}
	def := concerned[0].def
	if time.Since(def.fresh) < lagMost && (property == "" || isFresh(def, property)) {
		s.settle(entriesOf(concerned), destinations.RetryAfter(s.refusal(r, a), 2*definitionLag))
		return rest, false
	}
	// Somebody deleted it in HubSpot: an event is defined anew if it may be, a property is left out.
	def, err := s.d.loadDefinition(ctx, s.permits, def.name)
	switch {
	case err != nil:
		s.fail(entriesOf(concerned), outsideLane(err))
		return rest, false
	case def == nil:
		s.d.account.definitions.forget(concerned[0].name)
		fallthrough
	case property == "":
		s.settle(entriesOf(concerned), destinations.RetryAfter(s.refusal(r, a), 2*definitionLag))
		return rest, false
	}
	for _, o := range concerned {
		o.fill(def)
		o.drop(property, reasonUnknown)
	}
	return append(rest, concerned...), true
}

func isFresh(def *definition, property string) bool {
	p := def.properties[property]
	return p != nil && time.Since(p.fresh) < lagMost
}

// property is the property of o that the refusal names; "" when it names none.
func (r *refusal) property(o *occurrence) string {
	for _, p := range r.problems {
		if p.property != "" && slices.ContainsFunc(o.values, func(v field) bool { return v.name == p.property }) {
			return p.property
		}
	}
	if !strings.Contains(strings.ToLower(r.message), "propert") {
		return ""
	}
	found := ""
	for _, v := range o.values {
		if len(v.name) > len(found) && mentions(r.message, v.name) {
			found = v.name
		}
	}
	return found
}

// mentions says whether name stands in s as a word of its own.
func mentions(s, name string) bool {
	for from := 0; ; {
		i := strings.Index(s[from:], name)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(name)
		if (i == 0 || !isWord(s[i-1])) && (end == len(s) || !isWord(s[end])) {
			return true
		}
		from = i + 1
	}
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// amend takes the properties that HubSpot named out of the occurrence and says whether there were any.
func (s *eventSend) amend(o *occurrence, r *refusal) bool {
	changed := false
	for _, p := range r.problems {
		changed = p.property != "" && o.drop(p.property, reasonRefused) || changed
	}
	if !changed {
		if name := r.property(o); name != "" {
			changed = o.drop(name, reasonRefused)
		}
	}
	return changed
}
