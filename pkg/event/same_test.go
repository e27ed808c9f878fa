package event

import (
	"reflect"
	"testing"
	"time"
)

// TestSameInEveryField: a field that is new must be compared, too.
func TestSameInEveryField(t *testing.T) {
	for field := range reflect.TypeFor[Event]().Fields() {
		ev := Event{ID: "1", JSON: []byte(`{}`), Added: []byte(`{}`)}
		like := ev
		like.JSON, like.Added = []byte(`{}`), []byte(`{}`)
		if !ev.Same(&like) {
			t.Fatal("an event differs from its like")
		}
		v := reflect.ValueOf(&like).Elem().FieldByIndex(field.Index)
		switch v.Interface().(type) {
		case string:
			v.SetString("other")
		case bool:
			v.SetBool(true)
		case time.Time:
			v.Set(reflect.ValueOf(time.Now()))
		case []byte:
			v.SetBytes([]byte(`{"a":1}`))
		default:
			v.SetUint(1)
		}
		if ev.Same(&like) {
			t.Errorf("events with another %s are the same", field.Name)
		}
	}
}

func TestRecordID(t *testing.T) {
	ev := Event{ID: "order-4711", APIKey: "web", Received: time.Now(), JSON: []byte(`{}`)}
	rec := ev.AppendTo(nil)
	if got := RecordID(rec); got != ev.ID {
		t.Errorf("id %q, want %q", got, ev.ID)
	}
	for n := range rec {
		var whole Event
		if got := RecordID(rec[:n]); got != "" && got != ev.ID || whole.Decode(rec[:n]) == nil && got != whole.ID {
			t.Errorf("the first %d bytes: id %q", n, got)
		}
	}
}
