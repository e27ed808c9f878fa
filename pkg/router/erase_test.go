package router

import (
	"bytes"
	"slices"
	"testing"

	"eventrouter/pkg/event"
)

// stub is what stands for an erased entry in these tests.
func stub(*entry) *event.Event { return &event.Event{ID: "gone", APIKey: "key", JSON: []byte(`{}`)} }

// erasing erases the entries with these numbers.
func erasing(numbers ...int) func(int, *entry) *event.Event {
	return func(i int, e *entry) *event.Event {
		if slices.Contains(numbers, i) {
			return stub(e)
		}
		return nil
	}
}

func TestErasedEntriesKeepTheirPlace(t *testing.T) {
	f := func(data []byte, numbers ...int) {
		t.Helper()
		before, err := decodeBlock(data, "crm", "", "events")
		if err != nil {
			t.Fatal(err)
		}
		erased, rewritten, err := eraseEntries(data, erasing(numbers...))
		if err != nil || erased != len(numbers) {
			t.Fatalf("erase %v: %d erased, %v", numbers, erased, err)
		}
		after, err := decodeBlock(rewritten, "crm", "", "events")
		if err != nil || len(after) != len(before) {
			t.Fatalf("erase %v: %d of %d entries are left, %v", numbers, len(after), len(before), err)
		}
		for i, e := range after {
			was := before[i]
			if e.Name != was.Name || e.Late != was.Late || e.erased != slices.Contains(numbers, i) {
				t.Errorf("erase %v: entry %d is %+v, was %+v", numbers, i, e, was)
			}
			switch {
			case e.erased:
				if e.eventID() != "gone" || e.Plan.Key != "" || e.Plan.ID != "" || e.Plan.Also != nil || e.original != nil {
					t.Errorf("erase %v: of entry %d there is %+v left", numbers, i, e)
				}
			case !bytes.Equal(e.record, was.record) || !bytes.Equal(e.original, was.original) || e.Plan.Key != was.Plan.Key:
				t.Errorf("erase %v: entry %d is %+v, was %+v", numbers, i, e, was)
			}
		}
		again, same, err := eraseEntries(rewritten, erasing(numbers...))
		if err != nil || again != 0 || !bytes.Equal(same, rewritten) {
			t.Errorf("erase %v again: %d erased, %v", numbers, again, err)
		}
	}
	f(sampleBlock())
	f(sampleBlock(), 1)
	f(sampleBlock(), 0, 1, 2)
	f(originals(), 0)    // the next two share its original
	f(originals(), 1)    // it shares one, and so does the next
	f(originals(), 0, 1) //
	f(originals(), 2, 3)
	f(originals(), 4)
	older := sampleBlock()
	older[0] = blockVersion1
	f(older, 0)

	data := originals()
	_, rewritten, err := eraseEntries(data, erasing(0, 1, 2))
	if err != nil || bytes.Contains(rewritten, original("first")) {
		t.Errorf("the original of siblings that are erased is left: %v", err)
	}
}

// FuzzEraseEntries: no bytes panic, and a block that decodes still does when entries of it are erased.
func FuzzEraseEntries(f *testing.F) {
	f.Add(sampleBlock(), byte(1))
	f.Add(originals(), byte(0b10101))
	f.Add(originals(), byte(0b11))
	f.Fuzz(func(t *testing.T, data []byte, which byte) {
		before, err := decodeBlock(data, "d", "", "l")
		_, rewritten, eraseErr := eraseEntries(data, func(i int, e *entry) *event.Event {
			if which&(1<<(i%8)) == 0 {
				return nil
			}
			return stub(e)
		})
		if (err == nil) != (eraseErr == nil) {
			t.Fatalf("it decodes: %v; it is erased: %v", err, eraseErr)
		}
		if err != nil {
			return
		}
		after, err := decodeBlock(rewritten, "d", "", "l")
		if err != nil || len(after) != len(before) {
			t.Fatalf("%d of %d entries are left: %v", len(after), len(before), err)
		}
		for i, e := range after {
			if !e.erased && (!bytes.Equal(e.record, before[i].record) || !bytes.Equal(e.original, before[i].original)) {
				t.Fatalf("entry %d has changed", i)
			}
		}
	})
}
