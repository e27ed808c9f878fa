package destinations

import (
	"testing"
	"time"

	"eventrouter/pkg/event"
)

func TestUUIDDependsOnKeyEventAndOutput(t *testing.T) {
	a := event.Event{ID: "1", APIKey: "k", Server: true}
	same := event.Event{ID: "1", APIKey: "k", Server: true, JSON: []byte(`{"other":1}`), Received: time.Now()}
	if EventUUID(&a, 0) != EventUUID(&same, 0) {
		t.Error("the uuid depends on more than key, id and index")
	}
	for _, o := range []struct {
		ev    event.Event
		index int
	}{
		{event.Event{ID: "2", APIKey: "k", Server: true}, 0},
		{event.Event{ID: "1", APIKey: "l", Server: true}, 0},
		{event.Event{ID: "1", APIKey: "k"}, 0}, // of a browser
		{a, 1},
	} {
		if EventUUID(&a, 0) == EventUUID(&o.ev, o.index) {
			t.Errorf("%+v has the uuid of %+v", o, a)
		}
	}
	// Known to HubSpot for a year: it must not change with a release.
	if got, want := EventUUID(&a, 0).String(), "7224b186-34e1-5942-946a-9c6dd188a412"; got != want {
		t.Errorf("uuid %s, want %s", got, want)
	}
}
