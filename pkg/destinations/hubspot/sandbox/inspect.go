package sandbox

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"
)

// maxCalls is how many calls are kept.
const maxCalls = 10000

// Call is one request.
type Call struct {
	Number   uint64    `json:"number"` // in order of arrival, from 1; the list is in order of the answers
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Endpoint string    `json:"endpoint"` // as in Fault
	Status   int       `json:"status"`   // 0: no answer was given, or the client had left
	Inputs   int       `json:"inputs"`   // records, events or definitions in the body
	At       time.Time `json:"at"`       // of the answer
	Faulty   bool      `json:"faulty"`   // a Fault acted on it
	// CorrelationID is that of the answer and of what the call wrote.
	CorrelationID string `json:"correlationId"`
}

// Count says how many calls of one operation had one status.
type Count struct {
	Endpoint string `json:"endpoint"`
	Status   int    `json:"status"`
	Calls    int    `json:"calls"`
	Inputs   int    `json:"inputs"`
}

type callLog struct {
	last   []Call
	counts map[countKey]*Count
}

type countKey struct {
	endpoint string
	status   int
}

// record notes a call that st answered; status 0 is no answer.
func (s *Sandbox) record(c *call, st *state, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st != s.st { // Reset came between
		return
	}
	l := &s.calls
	if len(l.last) == maxCalls {
		l.last = append(l.last[:0], l.last[maxCalls/10:]...) // a tenth at once: each time it is copied
	}
	l.last = append(l.last, Call{
		Number: c.number, Method: c.method, Path: c.path, Endpoint: c.endpoint(), Status: status, Inputs: c.count, At: s.opts.Now(),
		Faulty: c.faulty, CorrelationID: correlationID(c.number),
	})
	key := countKey{c.endpoint(), status}
	if l.counts == nil {
		l.counts = map[countKey]*Count{}
	}
	if l.counts[key] == nil {
		l.counts[key] = &Count{Endpoint: key.endpoint, Status: status}
	}
	l.counts[key].Calls++
	l.counts[key].Inputs += c.count
}

// Calls returns the last calls, oldest first.
func (s *Sandbox) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls.last)
}

// Counts returns the number of calls since the start by operation and status, sorted by these.
func (s *Sandbox) Counts() []Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Count
	for _, n := range s.calls.counts {
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Status, b.Status))
	})
	return all
}

// Contacts returns all records, archived ones too, in order of creation.
func (s *Sandbox) Contacts() []Contact {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Contact, len(s.st.contacts.all))
	for i, ct := range s.st.contacts.all {
		all[i] = ct.export()
	}
	return all
}

// ContactCount returns the number of records, without copying them.
func (s *Sandbox) ContactCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.st.contacts.all)
}

// Contact returns the record with that address, primary or secondary, in any case.
func (s *Sandbox) Contact(email string) (Contact, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ct := s.st.contacts.by("email", email)
	if ct == nil {
		return Contact{}, false
	}
	return ct.export(), true
}

// AddEmail gives the contact with the first address a secondary one, as people do in HubSpot and merging does. It fails when there is no
// such contact or the other address is taken.
func (s *Sandbox) AddEmail(email, secondary string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, secondary := &s.st.contacts, foldEmail(secondary)
	ct := k.by("email", email)
	switch {
	case ct == nil:
		return errors.New("no contact has " + email)
	case k.byEmail[secondary] != nil:
		return errors.New(secondary + " belongs to a contact")
	}
	ct.emails = append(ct.emails, secondary)
	k.byEmail[secondary] = ct
	return nil
}

// Events returns the accepted occurrences in order of arrival.
func (s *Sandbox) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Event, len(s.st.events.list))
	for i := range s.st.events.list {
		all[i] = s.st.events.list[i].export()
	}
	return all
}

// EventCount returns the number of accepted occurrences, without copying them.
func (s *Sandbox) EventCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.st.events.list)
}

// Definitions returns the event definitions sorted by name, also those that are not visible to the API yet.
func (s *Sandbox) Definitions() []Definition {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Definition
	for _, name := range slices.Sorted(maps.Keys(s.st.definitions.truth)) {
		d := s.st.definitions.truth[name].Definition
		d.Properties = slices.Clone(d.Properties)
		all = append(all, d)
	}
	return all
}

// Properties returns the contact properties sorted by name, also those that are not visible to the API yet.
func (s *Sandbox) Properties() []Property {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Property
	for _, name := range slices.Sorted(maps.Keys(s.st.properties.truth)) {
		p := s.st.properties.truth[name].Property
		p.Options = slices.Clone(p.Options)
		all = append(all, p)
	}
	return all
}

// export copies a record.
func (ct *contact) export() Contact {
	out := Contact{
		ID: ct.id, Properties: make(map[string]string, len(ct.values)), Emails: slices.Clone(ct.emails),
		CreatedAt: ct.created.at, UpdatedAt: ct.updated.at, Archived: ct.archived, History: make(map[string][]Write, len(ct.values)),
	}
	for _, v := range ct.values {
		if v.text != "" {
			out.Properties[v.name] = v.text
		}
	}
	for _, w := range ct.writes {
		out.History[w.name] = append(out.History[w.name], Write{w.text, w.at, correlationID(w.seq)})
	}
	return out
}

// ForgetCalls empties the list of calls and their counts; the account stays as it is.
func (s *Sandbox) ForgetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = callLog{}
}
