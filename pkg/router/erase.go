package router

import (
	"encoding/binary"
	"fmt"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// eraseEntries copies a block's data without what it holds of those entries for which blank returns an event to stand in their place; nil: the entry stays, byte
// for byte. All keep their index. It returns how many were erased; with none, data itself.
func eraseEntries(data []byte, blank func(i int, e *entry) *event.Event) (erased int, rewritten []byte, err error) {
	d, err := newDecoder(data)
	if err != nil {
		return 0, nil, err
	}
	out := append(make([]byte, 0, len(data)), data[0])
	var last *entry
	originals := false // whether the entry before in out has its original
	for i := 0; len(d.rest) > 0; i++ {
		from := len(data) - len(d.rest)
		e, err := d.entry(last)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: entry %d: %w", errBlock, i, err)
		}
		last = e
		raw := data[from : len(data)-len(d.rest)]
		var stub *event.Event
		if !e.erased {
			stub = blank(i, e)
		}
		if stub != nil {
			out = appendErased(out, e, stub)
			erased++
			originals = false
			continue
		}
		if e.shared && !originals {
			out = appendWithOriginal(out, raw, e.original)
		} else {
			out = append(out, raw...)
		}
		originals = e.original != nil
	}
	if erased == 0 {
		return 0, data, nil
	}
	return erased, out, nil
}

// appendErased appends what is left of an entry.
func appendErased(dst []byte, e *entry, stub *event.Event) []byte {
	dst, _ = appendEntry(dst, origin{offset: e.Name.Offset, index: e.Name.Index, late: e.Late, erased: true, outputs: 1}, &destinations.Plan{}, stub, nil)
	return dst
}

// appendWithOriginal appends an entry, as it stands in a block, with the original that it shared with the one before.
func appendWithOriginal(dst, raw, original []byte) []byte {
	at := len(dst)
	_, n := binary.Uvarint(raw) // the offset
	_, m := binary.Uvarint(raw[n:])
	dst = append(dst, raw...)
	flags := &dst[at+n+m]
	*flags = *flags&^entryShared | entryOriginal
	dst = binary.AppendUvarint(dst, uint64(len(original)))
	return append(dst, original...)
}
