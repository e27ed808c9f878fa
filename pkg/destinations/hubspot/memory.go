package hubspot

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// recentWrite is how long a value that we wrote is taken for what HubSpot has, without asking.
const recentWrite = 10 * time.Minute

// memory is what is remembered of one contact: the properties that were written, newest first. The router keeps it with the outcomes, so it
// holds over a restart.
//
// It answers two questions. Is a property filled, as we have just written it? And does it hold the value of a later event than this one?
type memory []remembered

// remembered is one property that was written. Names are kept as hashes: of a few hundred two meet once in some hundred thousand contacts, and
// then an old bulk write leaves a property out.
type remembered struct {
	hash    uint32
	cleared bool
	wall    int64 // when it was last written, by our clock, in seconds
	newest  int64 // effective time of the newest value that was written, in microseconds
	// replaced is like newest, but of the newest value that took the place of all before it; 0: options were added only.
	replaced int64
}

func nameHash(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

func (m memory) find(name string) *remembered {
	hash := nameHash(name)
	for i := range m {
		if m[i].hash == hash {
			return &m[i]
		}
	}
	return nil
}

// filled says whether the property has a value because we wrote it a moment ago.
func (m memory) filled(name string, now time.Time) bool {
	r := m.find(name)
	if r == nil || r.cleared {
		return false
	}
	age := now.Sub(time.Unix(r.wall, 0))
	return age < recentWrite && age > -recentWrite
}

// older says whether an event's value of the property must not be written, because a later event's was. Live events come in order by themselves,
// unless they are late. What is added to a list does not harm what was added later.
func (m memory) older(name string, of *destinations.Entry, adds bool) bool {
	if len(m) == 0 || of.Event.Class == event.Live && !of.Late {
		return false
	}
	r := m.find(name)
	if r == nil {
		return false
	}
	at := rememberedAs(of).UnixMicro()
	if adds {
		return r.replaced > at
	}
	return r.newest > at
}

// rememberedAs is when an entry counts, for note: of two with the same time the live one is later, as in the router's lanes. A replay has the time of
// the events that came with it in one request, and those may have been delivered.
func rememberedAs(e *destinations.Entry) time.Time {
	if e.Event.Class == event.Live {
		return e.CountsAt().Add(time.Microsecond)
	}
	return e.CountsAt()
}

// note remembers a write. effective is the time of the event that supplied the value.
func (m memory) note(name, value string, adds bool, effective, now time.Time) memory {
	r := m.find(name)
	if r == nil {
		m = append(m, remembered{hash: nameHash(name)})
		r = &m[len(m)-1]
	}
	at := min(max(effective.UnixMicro(), 1-maxSeconds*1e6), maxSeconds*1e6-1)
	r.wall, r.cleared = now.Unix(), value == ""
	r.newest = max(r.newest, at)
	if !adds {
		r.replaced = max(r.replaced, at)
	}
	return m
}

const (
	// memoryVersion is the first byte of an encoded memory. Another value is another format.
	memoryVersion = 1

	flagCleared   = 1 << 0
	flagAddedOnly = 1 << 1 // no replaced follows, it is 0
	flagAddedTo   = 1 << 2 // replaced follows, as its distance from newest
)

// encode writes the memory in at most [destinations.MaxMemory] bytes; what was written longest ago is left out. It sorts m. Nil when
// there is nothing to remember.
func (m memory) encode() []byte {
	if len(m) == 0 {
		return nil
	}
	slices.SortStableFunc(m, func(a, b remembered) int { return cmp.Compare(b.wall, a.wall) })
	base := m[0].wall
	dst := make([]byte, 0, 16+12*len(m))
	dst = append(dst, memoryVersion)
	dst = binary.AppendVarint(dst, base)
	for _, r := range m {
		before := len(dst)
		dst = r.append(dst, base)
		if len(dst) > destinations.MaxMemory {
			return dst[:before]
		}
	}
	return dst
}

func (r *remembered) append(dst []byte, base int64) []byte {
	flags := byte(0)
	if r.cleared {
		flags |= flagCleared
	}
	switch r.replaced {
	case r.newest:
	case 0:
		flags |= flagAddedOnly
	default:
		flags |= flagAddedTo
	}
	dst = binary.LittleEndian.AppendUint32(dst, r.hash)
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(base-r.wall))
	dst = binary.AppendVarint(dst, r.wall*1e6-r.newest)
	if flags&flagAddedTo != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.newest-r.replaced))
	}
	return dst
}

// maxSeconds bounds the times in a memory, a thousand years around 1970: within it no sum overflows.
const maxSeconds = 1 << 35

func plausibleSeconds(s int64) bool { return s > -maxSeconds && s < maxSeconds }
func plausibleMicros(us int64) bool { return us > -maxSeconds*1e6 && us < maxSeconds*1e6 }

// decodeMemory reads what encode wrote. Of other bytes nothing is remembered.
func decodeMemory(b []byte) memory {
	if len(b) < 2 || len(b) > destinations.MaxMemory || b[0] != memoryVersion {
		return nil
	}
	base, n := binary.Varint(b[1:])
	if n <= 0 || !plausibleSeconds(base) {
		return nil
	}
	b = b[1+n:]
	m := make(memory, 0, len(b)/8)
	for len(b) > 0 {
		r, rest, ok := decodeRemembered(b, base)
		if !ok {
			return nil
		}
		m, b = append(m, r), rest
	}
	return m
}

func decodeRemembered(b []byte, base int64) (r remembered, rest []byte, ok bool) {
	if len(b) < 5 {
		return r, nil, false
	}
	r.hash = binary.LittleEndian.Uint32(b)
	flags := b[4]
	if flags&^(flagCleared|flagAddedOnly|flagAddedTo) != 0 || flags&flagAddedOnly != 0 && flags&flagAddedTo != 0 {
		return r, nil, false
	}
	b = b[5:]
	age, n := binary.Uvarint(b)
	if n <= 0 || age > 2*maxSeconds {
		return r, nil, false
	}
	b = b[n:]
	distance, n := binary.Varint(b)
	if n <= 0 || distance < -2*maxSeconds*1e6 || distance > 2*maxSeconds*1e6 {
		return r, nil, false
	}
	b = b[n:]
	r.cleared = flags&flagCleared != 0
	r.wall = base - int64(age)
	r.newest = r.wall*1e6 - distance
	r.replaced = r.newest
	if flags&flagAddedOnly != 0 {
		r.replaced = 0
	}
	if flags&flagAddedTo != 0 {
		before, n := binary.Uvarint(b)
		if n <= 0 || before > 2*maxSeconds*1e6 {
			return r, nil, false
		}
		r.replaced, b = r.newest-int64(before), b[n:]
	}
	return r, b, plausibleSeconds(r.wall) && plausibleMicros(r.newest) && plausibleMicros(r.replaced)
}
