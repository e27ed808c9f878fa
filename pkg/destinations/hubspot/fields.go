package hubspot

import (
	"context"
	"slices"
	"time"

	"github.com/tidwall/gjson"
)

// need is a property that the account lacks and that the policy makes: what the batch has for it.
type need struct {
	name, label string // HubSpot's, and the client's
	values      []gjson.Result
}

// needOption is options that a property lacks and that the policy makes, as clients wrote them.
type needOption struct {
	property *property
	options  []string
}

// provide makes what the batch needs in the account and the policy allows to make. changed says that s.schema is a newer one. An error is
// the outcome of the whole batch.
func (s *contactSend) provide(ctx context.Context, needs []need, options []needOption) (changed bool, err error) {
	s.d.account.creations.restore(s.d.cache, s.d.cacheKey("made"))
	if err := s.provideProperties(ctx, needs); err != nil {
		return false, err
	}
	if err := s.provideOptions(ctx, options); err != nil {
		return false, err
	}
	var made time.Time
	for i := range needs {
		made = later(made, s.d.account.creations.madeAt(needs[i].name))
	}
	for i := range options {
		made = later(made, s.d.account.creations.madeAt(options[i].property.name))
	}
	if err := pause(ctx, s.permits, time.Until(made.Add(fieldLag))); err != nil {
		return false, err
	}
	before := s.schema
	s.schema = s.d.account.schema.get()
	return s.schema != before, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// lag is how a Send waits for HubSpot to know everywhere what was made a moment ago.
type lag struct {
	waiting bool          // before the next call
	waited  time.Duration // in all
}

func (l *lag) over() bool { return l.waited >= lagInSend }

// lagRetry is when the entries of a write that has waited enough are tried again.
const lagRetry = 5 * time.Second

// lags says whether a problem is put down to lag. The writes that have it wait, in this Send or for a later one.
func (s *contactSend) lags(writes []*write, p *problem) bool {
	if p.code != codeUnknownProperty && p.code != codeInvalidOption {
		return false
	}
	lags := false
	for _, w := range holding(writes, p.property) {
		if s.d.account.creations.lags(p.property, p.code, w.values[w.find(p.property)].value, time.Now()) {
			lags = true
			w.late = s.lag.over()
		}
	}
	s.lag.waiting = s.lag.waiting || lags
	return lags
}

// waitForLag waits where the last call met it. When ctx ends the call that follows says so.
func (s *contactSend) waitForLag(ctx context.Context) {
	if !s.lag.waiting || s.lag.over() {
		return
	}
	s.lag.waiting = false
	s.lag.waited += lagStep
	_ = pause(ctx, s.permits, lagStep)
}

// known is what is known of one contact in a Send.
type known struct {
	memory  memory
	changed bool            // memory has more than the entries brought
	filled  map[string]bool // properties that were read, and those written since: whether they have a value
	refused bool            // HubSpot does not let the contact be read
	contact string          // its number, where it was read
}

// claim is a property of a contact that if_empty is about to fill.
type claim struct{ contact, property string }

// knownOf is what is known of the write's contact.
func (s *contactSend) knownOf(w *write) *known {
	k := s.known[w.id]
	if k == nil {
		k = &known{memory: decodeMemory(s.batch[w.entries[0]].Memory)}
		if s.known == nil {
			s.known = make(map[string]*known, len(s.batch))
		}
		s.known[w.id] = k
	}
	return k
}

// isFilled says whether the property has a value in HubSpot, and whether that is known at all.
func (k *known) isFilled(name string, now time.Time) (filled, sure bool) {
	if k.refused {
		return true, true
	}
	if filled, sure = k.filled[name]; sure {
		return filled, true
	}
	filled = k.memory.filled(name, now)
	return filled, filled
}

// prepare takes out of the writes what if_empty finds not empty. It is called once for each write, before its first call; parts of a write
// that is taken apart are writes of their own. An error is the outcome of all of them.
func (s *contactSend) prepare(ctx context.Context, writes []*write) error {
	now := time.Now()
	var ids, names []string
	for _, w := range writes {
		k := s.knownOf(w)
		unsure := false
		for i := range w.values {
			v := &w.values[i]
			if v.policy != ifEmpty {
				continue
			}
			if _, sure := k.isFilled(v.name, now); !sure {
				unsure = true
				if !slices.Contains(names, v.name) {
					names = append(names, v.name)
				}
			}
		}
		if unsure {
			ids = append(ids, w.id)
		}
	}
	if len(ids) > 0 {
		if err := s.look(ctx, ids, names); err != nil {
			return err
		}
	}
	for _, w := range writes {
		s.dropFilled(w, now)
	}
	return nil
}

// look reads what is not known of the contacts.
func (s *contactSend) look(ctx context.Context, ids, names []string) error {
	read, err := s.d.readContacts(ctx, s.permits, s.d.contacts.key, ids, names)
	if err != nil {
		return err
	}
	for _, id := range ids {
		k := s.known[id]
		k.refused = read.refused[id]
		k.contact = read.found[id][objectIDProperty]
		if k.filled == nil {
			k.filled = make(map[string]bool, len(names))
		}
		for _, name := range names {
			if !k.memory.filled(name, time.Now()) {
				k.filled[name] = read.found[id][name] != ""
			}
		}
	}
	return nil
}

// dropFilled takes out what if_empty finds not empty.
func (s *contactSend) dropFilled(w *write, now time.Time) {
	k := s.knownOf(w)
	for _, v := range slices.Clone(w.values) {
		if v.policy != ifEmpty {
			continue
		}
		filled, _ := k.isFilled(v.name, now)
		if filled || s.claimed(k, w, v.name) {
			reason := reasonFilled
			if k.refused {
				reason = reasonRefused
			}
			w.drop(v.name, reason)
		}
	}
}

// claimed says whether a write by another address of the same contact fills the property in this call; if not, this one does.
func (s *contactSend) claimed(k *known, w *write, property string) bool {
	if k.contact == "" {
		return false
	}
	c := claim{k.contact, property}
	if owner, ok := s.claims[c]; ok {
		return owner != w.id
	}
	if s.claims == nil {
		s.claims = map[claim]string{}
	}
	s.claims[c] = w.id
	return false
}

// remember is what a write leaves for the next one of its ID; nil leaves what is there.
func (s *contactSend) remember(w *write) []byte {
	k := s.knownOf(w)
	now := time.Now()
	for i := range w.values {
		v := &w.values[i]
		k.memory = k.memory.note(v.name, v.value, v.adds(v.value), rememberedAs(&s.batch[v.entry]), now)
		k.changed = true
		if k.filled != nil {
			k.filled[v.name] = v.value != ""
		}
	}
	if !k.changed {
		return nil
	}
	return k.memory.encode()
}
