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
		data, scratch = appendEntry(data, origin{offset: uint64(1000 + i), index: i, late: i == 1, outputs: 1}, &p, ev, scratch)
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
		if e.Late != (i == 1) {
			t.Errorf("entry %d: late is %t", i, e.Late)
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

// TestBlockOfAnOlderRouter: one without originals.
func TestBlockOfAnOlderRouter(t *testing.T) {
	data := sampleBlock()
	want, err := decodeBlock(data, "crm", "acme", "contacts")
	if err != nil {
		t.Fatal(err)
	}
	data[0] = blockVersion1
	got, err := decodeBlock(data, "crm", "acme", "contacts")
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range got {
		if e.Name != want[i].Name || e.Late != want[i].Late || !bytes.Equal(e.record, want[i].record) || e.original != nil {
			t.Errorf("entry %d is %+v, want %+v", i, e, want[i])
		}
	}
}

// originals is a block of two events, of which a transform has made three outputs and one, and one that it left alone.
func originals() []byte {
	var data, scratch []byte
	for _, e := range []struct {
		origin
		id string
	}{
		{origin{offset: 7, outputs: 1, original: original("first")}, "first"},
		{origin{offset: 7, outputs: 1, index: 1, original: original("first"), shared: true}, "first_1"},
		{origin{offset: 7, outputs: 1, index: 2, original: original("first"), shared: true}, "first_2"},
		{origin{offset: 8, outputs: 1}, "plain"},
		{origin{offset: 9, outputs: 1, original: original("second")}, "another id"},
	} {
		ev := &event.Event{ID: e.id, APIKey: "key", JSON: []byte(`{"changed":true}`)}
		data, scratch = appendEntry(data, e.origin, &destinations.Plan{}, ev, scratch)
	}
	return data
}

// original is the record of an event that came in with an id.
func original(id string) []byte {
	return (&event.Event{ID: id, APIKey: "key", JSON: []byte(`{"as":"it came"}`)}).AppendTo(nil)
}

func TestBlockKeepsOriginals(t *testing.T) {
	data := originals()
	entries, err := decodeBlock(data, "crm", "", "events")
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for i, want := range []string{"first", "first", "first", "plain", "second"} {
		e := entries[i]
		size += e.size()
		if got := e.eventID(); got != want {
			t.Errorf("entry %d is of event %q, want %q", i, got, want)
		}
		if want == "plain" {
			if e.original != nil {
				t.Errorf("entry %d has an original", i)
			}
		} else if !bytes.Equal(e.original, original(want)) {
			t.Errorf("entry %d: original %q", i, e.original)
		}
	}
	if size >= len(data) || size < len(data)-20*len(entries) {
		t.Errorf("entries of %d bytes in a block of %d", size, len(data))
	}
	if n := bytes.Count(data, original("first")); n != 1 {
		t.Errorf("the original of siblings stands %d times in the block", n)
	}
	first := bytes.Clone(data)
	first = first[:len(first)-1]
	if _, err := decodeBlock(first, "crm", "", "events"); err == nil {
		t.Error("a block whose last original is cut decodes")
	}
	var alone []byte
	alone, _ = appendEntry(alone, origin{offset: 1, outputs: 1, original: original("x"), shared: true}, &destinations.Plan{}, &event.Event{JSON: []byte(`{}`)}, nil)
	if _, err := decodeBlock(alone, "crm", "", "events"); err == nil {
		t.Error("a block whose first entry shares the original of one before decodes")
	}
}

// FuzzDecodeBlock: no bytes panic, and what decodes holds records that lie within the block.
func FuzzDecodeBlock(f *testing.F) {
	sample := sampleBlock()
	f.Add(sample)
	f.Add(sample[:len(sample)-1])
	f.Add(originals())
	f.Add([]byte{blockVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decodeBlock(data, "d", "", "l")
		if err != nil {
			return
		}
		for _, e := range entries {
			if !bytes.Contains(data, e.record) || !bytes.Contains(data, e.original) {
				t.Fatal("a record is not part of the block")
			}
			_ = e.eventID()
		}
	})
}
