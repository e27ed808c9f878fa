package router

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// reasonForgotten is why what waited of a person who is forgotten was not delivered.
const reasonForgotten = "forgotten"

// hasID says whether an id is one of a person's: an e-mail in lower case, or an id of an API key.
type hasID func(store.PersonID) bool

// belongs says whether an event is of a person: by its user ids, by its e-mail, its own or the one that the identity memory supplied, and by its anonymous id
// where nothing else says whose it is. Who uses a browser after somebody else shares the anonymous id, and not the person.
func (has hasID) belongs(ev *event.Event) bool {
	found, others := false, false
	eventIDs(ev, func(id store.PersonID, names bool) bool {
		switch {
		case names && has(id), !names && !others && has(id):
			found = true
		case names && id.Kind == store.KindEmail:
			others = true
		}
		return !found
	})
	return found
}

// eventIDs calls each with the ids of an event until it returns false: those that name a person first, then the anonymous one.
func eventIDs(ev *event.Event, each func(id store.PersonID, names bool) bool) {
	emails := [2]string{ev.Email}
	if own, ok := ev.OwnEmail(); ok {
		emails[1] = own
	}
	for _, email := range emails {
		if email = strings.ToLower(strings.TrimSpace(email)); email != "" && !each(store.PersonID{Kind: store.KindEmail, Value: email}, true) {
			return
		}
	}
	var space [1]identityKey
	scope := scopeOf(ev)
	id := func(kind string, v gjson.Result, names bool) bool {
		for _, key := range appendKey(space[:0], scope, kind, v) {
			return each(store.PersonID{Kind: kind, APIKey: scope, Value: key.value}, names)
		}
		return true
	}
	if previous := previousID(ev); previous.Exists() && !(id(kindUser, previous, true) && id(kindAnonymous, previous, true)) {
		return
	}
	user := ev.User()
	for _, own := range userIDs {
		v := user.Get(own.name)
		if own.kind == kindAnonymous && ev.AnonymousHash != "" && v.Str == ev.AnonymousHash {
			continue // all people behind one address with equal browsers share it
		}
		if v.Exists() && !id(own.kind, v, own.kind != kindAnonymous) {
			return
		}
	}
}

// belongsRecord is belongs of the event in a record; false where it is none.
func (has hasID) belongsRecord(record []byte) bool {
	var ev event.Event
	return len(record) > 0 && ev.Decode(record) == nil && has.belongs(&ev)
}

// belongsEntry says whether an entry is of a person: by its event, by that which came in, or by the identities that order it.
func (has hasID) belongsEntry(e *entry) bool {
	if has.belongs(e.Event) || has.belongsRecord(e.original) || has.key(scopeOf(e.Event), e.Plan.Key) || has.key(scopeOf(e.Event), e.Plan.ID) {
		return true
	}
	for _, also := range e.Plan.Also {
		if has.key(scopeOf(e.Event), also) {
			return true
		}
	}
	return false
}

// key says whether an identity of a lane is one of a person's.
func (has hasID) key(apiKey, text string) bool {
	return text != "" && (has(store.PersonID{Kind: store.KindEmail, Value: strings.ToLower(text)}) || has(store.PersonID{Kind: kindUser, APIKey: apiKey, Value: text}))
}

// letter says whether a dead letter is of a person: by its key, or by its event or that which came in.
func (has hasID) letter(d *store.DeadLetter) bool {
	return has.key(d.APIKey, d.Person) || has.belongsRecord(d.Event) || has.belongsRecord(d.Original)
}

// blank is what is left of an event that was of a person: that it was there, and what it is asked for by.
func blank(ev *event.Event, id string) *event.Event {
	left := &event.Event{APIKey: ev.APIKey, Account: ev.Account, Received: ev.Received, Class: ev.Class, Server: ev.Server, JSON: []byte(`{}`)}
	eventType := ev.Type()
	names := func(text string) (found bool) {
		eventIDs(ev, func(own store.PersonID, _ bool) bool {
			found = strings.Contains(strings.ToLower(text), strings.ToLower(own.Value))
			return !found
		})
		return found
	}
	if !names(id) {
		left.ID = id
	}
	if eventType != "" && utf8.ValidString(eventType) && !names(eventType) {
		left.JSON = append(event.AppendString([]byte(`{"event_type":`), eventType), '}')
	}
	return left
}

// forgetsBelow returns who is forgotten of what came in with an offset; nil: nobody.
func (r *Router) forgetsBelow(offset uint64) hasID {
	live, bulk := r.store.Forgets()
	isBulk := offset >= uint64(FirstBulk)
	if !isBulk && offset >= live || isBulk && offset >= bulk {
		return nil
	}
	return func(id store.PersonID) bool {
		f, ok := r.store.Forgotten(id)
		return ok && (isBulk && offset < f.BulkPosition || !isBulk && offset < f.Position)
	}
}

// forgetsLetter returns who is forgotten of a dead letter, and of an entry that was one: see forgetting.cameBefore.
func (r *Router) forgetsLetter(offset uint64, received time.Time) hasID {
	below := r.forgetsBelow(offset)
	return func(id store.PersonID) bool {
		f, ok := r.store.Forgotten(id)
		return ok && received.Before(f.At) || below != nil && below(id)
	}
}

// forgetsEntry says whether an entry is of a person who is forgotten, and came before that.
func (r *Router) forgetsEntry(e *entry) bool {
	if e.erased {
		return true
	}
	has := r.forgetsBelow(e.Name.Offset)
	if e.replayed != nil {
		has = r.forgetsLetter(e.Name.Offset, e.Event.Received)
	}
	return has != nil && has.belongsEntry(e)
}

// forgets says whether an event of the log is of a person who is forgotten. If so it is skipped, and all its ids are that person's from then on.
func (h *handover) forgets(rec log.Record, ev *event.Event) bool {
	has := h.r.forgetsBelow(uint64(rec.Offset))
	if has == nil {
		return false
	}
	var found store.Forgotten // the mark of the id that was asked for last, and is there
	learned := hasID(func(id store.PersonID) bool {
		mark, ok := h.forgotten[id]
		if !ok && has(id) {
			mark, ok = h.r.store.Forgotten(id)
		}
		if ok {
			found = mark
		}
		return ok
	})
	if !learned.belongs(h.identities.lookUp(ev)) {
		return false
	}
	mark := found
	emailKnown := mark.EmailKnown
	for id, other := range h.forgotten {
		emailKnown = emailKnown || id.Kind == store.KindEmail && other.At.Equal(mark.At)
	}
	for _, id := range learned.others(ev, emailKnown, &h.identities) {
		if h.forgotten == nil {
			h.forgotten = map[store.PersonID]store.Forgotten{}
		}
		h.forgotten[id] = mark
	}
	return true
}

// others are ids of an event of the person's that are the person's as well, which was not known. An event may name somebody else beside: one with an e-mail that is none of
// the person's, if one is known, tells nothing of whose its ids are, and an id that goes with another e-mail is that one's.
func (has hasID) others(ev *event.Event, emailKnown bool, memory *personMemory) (ids []store.PersonID) {
	email := ""
	eventIDs(ev, func(id store.PersonID, _ bool) bool {
		if id.Kind == store.KindEmail && !has(id) {
			email = id.Value
		}
		return true
	})
	if email != "" && emailKnown {
		return nil
	}
	eventIDs(ev, func(id store.PersonID, _ bool) bool {
		if has(id) {
			return true
		}
		if id.Kind != store.KindEmail {
			known, ok := memory.identity(identityKey{id.APIKey, id.Kind, id.Value})
			if with := strings.ToLower(known.Email); ok && with != email && !has(store.PersonID{Kind: store.KindEmail, Value: with}) {
				return true
			}
		}
		ids = append(ids, store.PersonID{Kind: id.Kind, APIKey: id.APIKey, Value: strings.Clone(id.Value)})
		return true
	})
	return ids
}

// forgetsAny is forgets of what any route gets of the event.
func (h *handover) forgetsAny(rec log.Record, ev *event.Event) (found bool) {
	for _, version := range h.versions(ev) {
		found = h.forgets(rec, version) || found
	}
	return found
}

// lookUp is ev with the e-mail that the memory knows of its user ids, where it carries none. Nothing is taught.
func (m *personMemory) lookUp(ev *event.Event) *event.Event {
	if ev.UserEmail() != "" {
		return ev
	}
	email := ""
	eventIDs(ev, func(id store.PersonID, names bool) bool {
		if known, ok := m.identity(identityKey{id.APIKey, id.Kind, id.Value}); ok && names {
			email = known.Email
		}
		return email == ""
	})
	if email == "" {
		return ev
	}
	known := *ev
	known.Email = email
	return &known
}

// skipForgotten notes that an event goes nowhere, because its person is forgotten.
func (h *handover) skipForgotten(rec log.Record, ev *event.Event) {
	left := blank(ev, ev.ID)
	for i, route := range h.table.routes {
		if route.Takes(ev) {
			h.skipOutput(i, route, rec, left)
		}
	}
}

func (h *handover) skipOutput(i int, route *Route, rec log.Record, left *event.Event) {
	h.count.skip(i, reasonForgotten)
	h.record(route, rec, left.ID, Decision{Event: left, Status: store.Skipped, Reason: reasonForgotten})
}
