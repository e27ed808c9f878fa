package destinations

import (
	"fmt"

	"github.com/google/uuid"

	"eventrouter/pkg/event"
)

// uuidSpace is the name space of the uuids of events. It must never change: remotes know for a year which uuids they took.
var uuidSpace = uuid.MustParse("6d5a4e0c-0d7b-5a0e-9f0e-6b1f6a1c2f3e")

// EventUUID is the same whenever the same output of the same event is sent, to whichever remote and whatever happened in between, so that a remote knows what
// comes twice. Events of two accounts never have one. index is that of the entry's [OutputName]. Ids of browsers are apart: a remote would take one that is guessed in place of a server's event.
func EventUUID(ev *event.Event, index int) uuid.UUID {
	name := fmt.Appendf(nil, "%s\x00%s\x00%d", ev.APIKey, ev.ID, index)
	if ev.Account != "" {
		name = fmt.Appendf(name, "\x00%d\x00%s", len(ev.Account), ev.Account)
	}
	if !ev.Server {
		name = append(name, "\x00browser"...)
	}
	return uuid.NewSHA1(uuidSpace, name)
}
