package router

import (
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
)

// unidentifiedLane holds live events of users that the identity memory does not know yet.
const unidentifiedLane = "unidentified"

// identityWait is how long such an event waits. Browser SDKs post each event in a request of its own, and what the user did just after signing in may
// come before the request that says who it is.
const identityWait = 3 * time.Second

// mayWait says whether one may know soon whose event it is: it names a user, of whom no e-mail is known, and does not describe that user itself.
func (h *handover) mayWait(ev *event.Event) bool {
	if h.final || ev.Class != event.Live || ev.Email != "" {
		return false
	}
	if _, own := ev.OwnEmail(); own {
		return false
	}
	switch ev.Type() {
	case "user_identify", "alias":
		return false
	}
	var space [1]identityKey
	return len(appendKey(space[:0], ev.APIKey, kindUser, ev.User().Get("id"))) > 0
}

// wait puts an event off for a destination until one may know whose it is. It stands as it was before the destination's own enrichment.
func (h *handover) wait(i int, rec log.Record, ev *event.Event) {
	a := h.r.aside(h.table, i)
	h.putOff(a, &a.late, rec, ev)
}
