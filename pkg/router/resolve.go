package router

import (
	"fmt"
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

// idPaths are where clients put ids, in the order in which they are asked.
var idPaths = [...]struct{ kind, path string }{
	{kindUser, "id"}, {kindUser, "internal_id"}, {kindUser, "user_id"}, {kindAnonymous, "anonymous_id"},
}

// resolve teaches the identity memory the e-mail of an event that has one, and supplies one to an event that has none but carries a
// user or anonymous id that the memory knows.
func (h *handover) resolve(ev *event.Event) {
	user := ev.User()
	if !user.IsObject() {
		return
	}
	email, own := event.OwnEmail(user)
	for _, p := range idPaths {
		v := user.Get(p.path)
		if v.Type != gjson.String && v.Type != gjson.Number {
			continue
		}
		id := v.Str
		if v.Type == gjson.Number {
			id = v.Raw
		}
		if id == "" || len(id) > maxIDBytes {
			continue
		}
		key := identityKey{ev.APIKey, p.kind, id}
		known, ok := h.identity(key)
		if !own {
			if ok {
				ev.Email = known.Email
				return
			}
			continue
		}
		if ok && known.Server && !ev.Server {
			continue // what a browser says never replaces what a server said
		}
		if ok && known.Email == email && known.Server == ev.Server && ev.Received.Sub(known.Seen) < identityRefresh {
			continue
		}
		h.identities[key] = store.Identity{
			APIKey: ev.APIKey, Kind: p.kind, Value: id, Email: email, Server: ev.Server, Seen: ev.Received,
		}
	}
}

// identity looks in this batch and then in the store. A store that cannot be read is as one that does not know: the event is
// skipped or waits for no e-mail, and the failing store ends the process.
func (h *handover) identity(key identityKey) (store.Identity, bool) {
	if id, ok := h.identities[key]; ok {
		return id, true
	}
	id, ok, err := h.r.store.Identity(key.apiKey, key.kind, key.value)
	if err != nil {
		h.failed = fmt.Errorf("read identities: %w", err)
	}
	return id, ok && err == nil
}
