package hubspot

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

func at(class event.Class, effective time.Time) *event.Event {
	ev := &event.Event{Class: class, Received: effective, JSON: []byte(`{}`)}
	if class == event.Bulk {
		ev.Received = effective.Add(1000 * time.Hour)
		ev.JSON = []byte(`{"utc_time":"` + effective.UTC().Format("2006-01-02T15:04:05.000000Z") + `"}`)
	}
	return ev
}

func TestMemory(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	var m memory
	m = m.note("plan", "pro", false, now, now)
	m = m.note("phone", "", false, now, now)
	m = m.note("city", "Paris", false, now.Add(-3*day), now.Add(-time.Hour))
	m = m.note("interests", "a", true, now.Add(-day), now)
	m = m.note("topics", "a", false, now.Add(-2*day), now.Add(-time.Minute))
	m = m.note("topics", "a;b", true, now.Add(-day), now)
	m = m.note("topics", "c", true, now.Add(-40*time.Hour), now)
	m = decodeMemory(m.encode())

	filled := func(name string, want bool) {
		t.Helper()
		if got := m.filled(name, now.Add(time.Minute)); got != want {
			t.Errorf("filled(%s) = %v", name, got)
		}
	}
	filled("plan", true)
	filled("phone", false) // cleared
	filled("city", false)  // an hour ago
	filled("interests", true)
	filled("other", false)
	if m.filled("plan", now.Add(recentWrite)) || m.filled("plan", now.Add(-day)) {
		t.Error("filled although it was not written within the last minutes")
	}

	older := func(name string, class event.Class, effective time.Time, adds, want bool) {
		t.Helper()
		if got := m.older(name, &destinations.Entry{Event: at(class, effective)}, adds); got != want {
			t.Errorf("older(%s, %v, %v, adds %v) = %v", name, class, effective, adds, got)
		}
	}
	older("plan", event.Bulk, now.Add(-time.Microsecond), false, true)
	older("plan", event.Bulk, now, false, false) // the same event again
	older("plan", event.Bulk, now.Add(time.Second), false, false)
	older("plan", event.Replay, now.Add(-day), false, true)
	older("plan", event.Live, now.Add(-day), false, false)
	late := func(effective time.Time, want bool) {
		t.Helper()
		if got := m.older("plan", &destinations.Entry{Event: at(event.Live, effective), Late: true}, false); got != want {
			t.Errorf("older(plan, late, %v) = %v", effective, got)
		}
	}
	late(now.Add(-time.Second), true)
	late(now, false) // the same event again
	live := at(event.Live, now.Add(-time.Hour))
	m = m.note("plan2", "pro", false, rememberedAs(&destinations.Entry{Event: live}), now)
	older("plan2", event.Replay, now.Add(-time.Hour), false, true) // of the same request
	m = m.note("plan3", "pro", false, rememberedAs(&destinations.Entry{Event: at(event.Bulk, now.Add(-time.Hour))}), now)
	older("plan3", event.Bulk, now.Add(-time.Hour), false, false) // of the same day
	older("phone", event.Bulk, now.Add(-day), false, true)        // clearing counts
	older("city", event.Bulk, now.Add(-4*day), false, true)
	older("city", event.Bulk, now.Add(-2*day), false, false)
	older("other", event.Bulk, now.Add(-4*day), false, false)
	older("interests", event.Bulk, now.Add(-9*day), true, false) // only added to
	older("interests", event.Bulk, now.Add(-9*day), false, true)
	older("topics", event.Bulk, now.Add(-3*day), true, true)
	older("topics", event.Bulk, now.Add(-36*time.Hour), true, false)
	older("topics", event.Bulk, now.Add(-36*time.Hour), false, true)
}

// The oldest writes are forgotten where there is no room, and the rest stays.
func TestMemoryIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var m memory
	for i := range 1000 {
		m = m.note(fmt.Sprintf("p%d", i), "x", i%3 == 0, now.Add(-50*24*time.Hour), now.Add(time.Duration(i)*time.Second))
	}
	b := m.encode()
	if len(b) > destinations.MaxMemory || len(b) < destinations.MaxMemory-30 {
		t.Fatalf("%d bytes", len(b))
	}
	back := decodeMemory(b)
	if len(back) < 250 {
		t.Errorf("only %d properties fit", len(back))
	}
	if back.find("p999") == nil || back.find("p0") != nil {
		t.Error("the newest must stay and the oldest go")
	}
	ancient := memory(nil).note("plan", "x", false, time.Time{}, now)
	if decodeMemory(ancient.encode()).find("plan") == nil {
		t.Error("an event of the year 1 makes the memory unreadable")
	}
	if memory(nil).encode() != nil {
		t.Error("nothing to remember takes no bytes")
	}
}

func FuzzDecodeMemory(f *testing.F) {
	now := time.Unix(1795000000, 0)
	f.Add([]byte(nil))
	f.Add([]byte{memoryVersion})
	f.Add(memory(nil).note("plan", "pro", false, now, now).encode())
	f.Add(memory(nil).note("plan", "", true, now.Add(-time.Hour), now).note("a", "b", false, now, now).note("a", "c", true, now.Add(time.Hour), now).encode())
	f.Add([]byte("\x01303030\x03\xf1\xf1\xf1\xf1\xf1300"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := decodeMemory(b)
		if len(m) == 0 {
			return
		}
		m.filled("plan", now)
		m.older("plan", &destinations.Entry{Event: at(event.Replay, now)}, true)
		again := decodeMemory(m.encode())
		if len(again) > len(m) || len(again) == 0 {
			t.Fatalf("%d properties of %x became %d", len(m), b, len(again))
		}
		if len(again) == len(m) && !reflect.DeepEqual(again, m) {
			t.Errorf("%x: %v became %v", b, m, again)
		}
	})
}
