package router

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// sampleBlock holds three entries.
func sampleBlock() []byte {
	ev := &event.Event{ID: "e1", APIKey: "key", Received: time.UnixMicro(1).UTC(), Server: true, JSON: []byte(`{"event_type":"t"}`)}
	var data, scratch []byte
	for i, p := range []destinations.Plan{
		{Key: "a@b.co", ID: "a@b.co", IfNew: true},
		{Key: "A", ID: "a", Also: []string{"u1", "u2"}},
		{},
	} {
		data, scratch = appendEntry(data, origin{offset: uint64(1000 + i), index: i, late: i == 1}, &p, ev, scratch)
	}
	return data
}

func TestBlockRoundTrip(t *testing.T) {
	entries, err := decodeBlock(sampleBlock(), "crm", "acme", "contacts")
	if err != nil {
		t.Fatal(err)
	}
	var got []destinations.Plan
	for i, e := range entries {
		got = append(got, e.Plan)
		if want := (destinations.OutputName{Offset: uint64(1000 + i), Destination: "crm", Index: i}); e.Name != want {
			t.Errorf("entry %d is named %+v, want %+v", i, e.Name, want)
		}
		if e.late != (i == 1) {
			t.Errorf("entry %d: late is %t", i, e.late)
		}
		if e.Event.ID != "e1" || string(e.Event.JSON) != `{"event_type":"t"}` {
			t.Errorf("entry %d has event %+v", i, e.Event)
		}
	}
	want := []destinations.Plan{
		{Account: "acme", Lane: "contacts", Key: "a@b.co", ID: "a@b.co", IfNew: true},
		{Account: "acme", Lane: "contacts", Key: "A", ID: "a", Also: []string{"u1", "u2"}},
		{Account: "acme", Lane: "contacts"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plans (-want +got):\n%s", diff)
	}
}

// FuzzDecodeBlock: no bytes panic, and what decodes holds records that lie within the block.
func FuzzDecodeBlock(f *testing.F) {
	sample := sampleBlock()
	f.Add(sample)
	f.Add(sample[:len(sample)-1])
	f.Add([]byte{blockVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeBlock(data, "d", "", "l")
		if err != nil {
			return
		}
		for _, e := range entries {
			if len(e.record) > 0 && !bytes.Contains(data, e.record) {
				t.Fatal("a record is not part of the block")
			}
		}
	})
}
