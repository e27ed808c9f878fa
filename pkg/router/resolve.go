package router

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// Kinds of ids that the identity memory maps to an e-mail.
const (
	kindUser      = "user_id"
	kindAnonymous = "anonymous_id"

	maxIDBytes = 256
	// An identity that is seen again is written again only after this, so that age can prune without a write per event.
	identityRefresh = 24 * time.Hour
)

// userIDs are the members of a user that hold ids, in the order in which they are asked.
var userIDs = [...]struct{ kind, name string }{
	{kindUser, "id"}, {kindUser, "internal_id"}, {kindUser, "user_id"}, {kindAnonymous, "anonymous_id"},
}

// personMemory is the memory of whose ids are whose: what the store knows, and what was learned since, which is not in the store yet. One goroutine owns it.
type personMemory struct {
	stored  func(identityKey) (store.Identity, bool)
	learned map[identityKey]store.Identity
}

// resolve teaches the identity memory the e-mail of an event that has one, and supplies one to an event that has none but carries a
// user or anonymous id that the memory knows. An alias says that two ids are one person's, and so does an identify with several: what is known of one is
// taught to the others.
func (m *personMemory) resolve(ev *event.Event) {
	user := ev.User()
	if !user.IsObject() {
		return
	}
	var ids [len(userIDs)]gjson.Result
	user.ForEach(func(k, v gjson.Result) bool {
		for i := range userIDs {
			if k.Str == userIDs[i].name {
				ids[i] = v
			}
		}
		return true
	})
	if anonymous := &ids[len(ids)-1]; ev.AnonymousHash != "" && anonymous.Str == ev.AnonymousHash {
		*anonymous = gjson.Result{} // all people behind one address with equal browsers share it
	}
	var space [len(userIDs) + 2]identityKey
	keys, scope := space[:0], scopeOf(ev)
	for i := range ids {
		keys = appendKey(keys, scope, userIDs[i].kind, ids[i])
	}
	if previous := previousID(ev); previous.Exists() {
		keys = appendKey(keys, scope, kindUser, previous) // an alias does not say of which kind it is
		keys = appendKey(keys, scope, kindAnonymous, previous)
		m.share(ev, keys)
		return
	}
	email, own := ev.OwnEmail()
	if !own && len(keys) > 1 && ev.Type() == "user_identify" {
		m.share(ev, keys)
		return
	}
	for _, key := range keys {
		if own {
			m.teach(key, email, ev.Server, ev.Received)
		} else if known, ok := m.identity(key); ok {
			ev.Email = known.Email
			m.use(key, known, ev.Received)
			return
		}
	}
}

// use lets the memory know that an identity is still of use, lest it expires.
func (m *personMemory) use(key identityKey, known store.Identity, at time.Time) {
	if at.Sub(known.Seen) >= identityRefresh {
		known.Seen = at
		m.learned[key] = known
	}
}

// share resolves an event whose keys are all one person's. Of several e-mails that are known of them the first one's counts, and each key keeps its own.
func (m *personMemory) share(ev *event.Event, keys []identityKey) {
	email, own := ev.OwnEmail()
	server := ev.Server
	for _, key := range keys {
		known, ok := m.identity(key)
		if ok && email == "" {
			// What a server's key taught and a browser's passes on is what a browser's key said.
			email, server, ev.Email = known.Email, server && known.Server, known.Email
		}
	}
	if email == "" {
		return
	}
	for _, key := range keys {
		if _, ok := m.identity(key); own || !ok {
			m.teach(key, email, server, ev.Received)
		}
	}
}

// teach lets the memory know the e-mail of a key.
func (m *personMemory) teach(key identityKey, email string, server bool, at time.Time) {
	known, ok := m.identity(key)
	switch {
	case ok && known.Server && !server: // what a browser says never replaces what a server said
	case ok && known.Email == email && known.Server == server && at.Sub(known.Seen) < identityRefresh:
	default:
		// Copies: the store keeps it, and these are parts of the whole user.
		m.learned[key] = store.Identity{
			APIKey: key.apiKey, Kind: key.kind, Value: strings.Clone(key.value), Email: strings.Clone(email), Server: server, Seen: at,
		}
	}
}

// previousID is the id that an alias gives another one to; it does not exist for other events.
func previousID(ev *event.Event) gjson.Result {
	if !bytes.Contains(ev.JSON, []byte("previous_id")) || ev.Type() != "alias" {
		return gjson.Result{}
	}
	return gjson.GetBytes(ev.JSON, "previous_id")
}

// appendKey appends the key of an id, unless it is none.
func appendKey(keys []identityKey, apiKey, kind string, v gjson.Result) []identityKey {
	id := v.Str
	if v.Type == gjson.Number {
		id = v.Raw
	}
	if id == "" || v.Type != gjson.String && v.Type != gjson.Number || len(id) > maxIDBytes {
		return keys
	}
	return append(keys, identityKey{apiKey, kind, id})
}

// identity looks in what was learned and then in the store.
func (m *personMemory) identity(key identityKey) (store.Identity, bool) {
	if id, ok := m.learned[key]; ok {
		return id, true
	}
	return m.stored(key)
}

// storedIdentity looks in the store. One that cannot be read is as one that does not know: the event is skipped or waits for no e-mail, and the failing store
// ends the process.
func (h *handover) storedIdentity(key identityKey) (store.Identity, bool) {
	id, ok, err := h.r.store.Identity(key.apiKey, key.kind, key.value)
	if err != nil {
		h.failed = fmt.Errorf("read identities: %w", err)
	}
	return id, ok && err == nil
}
