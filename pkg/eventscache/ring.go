package eventscache

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"eventrouter/pkg/event"
)

// ring holds the last events of an API key or a destination.
type ring struct {
	capacity int
	interval time.Duration

	mu       sync.Mutex // guards the fields below
	began    time.Time  // the interval
	taken    int        // in it
	limited  [60]second // events that were left out
	entries  []*entry   // oldest first
	bytes    int
	byOffset map[uint64]*entry // those of a destination
}

// second counts the events of one second that were left out.
type second struct {
	at int64
	n  int64
}

// entry is one event, and what became of it. It belongs to its ring's mutex.
type entry struct {
	at          time.Time // of receipt
	id          string
	apiKey      string
	destination string
	offset      uint64
	original    []byte // JSON; nil for a malformed body
	malformed   string
	success     []byte // JSON
	skip        string
	problem     string

	// Of an event of which a transform makes several: of which output success and a final problem are.
	succeeded, failed int // 1 more than the index; 0: of none
}

func newRing(capacity int, interval time.Duration) *ring {
	return &ring{capacity: capacity, interval: interval, byOffset: map[uint64]*entry{}}
}

func entryOf(ev *event.Event) *entry {
	return &entry{at: ev.Received, id: ev.ID, apiKey: ev.APIKey, original: ev.AppendView(make([]byte, 0, len(ev.JSON)+256))}
}

// size is what counts of an entry: success is small beside it.
func (e *entry) size() int { return len(e.original) + len(e.malformed) }

// admitLocked says whether the ring takes an event now. If not, n events are left out.
func (r *ring) admitLocked(now time.Time, n int) bool {
	if since := now.Sub(r.began); since >= r.interval || since < 0 {
		r.began, r.taken = now, 0
	}
	if r.taken < r.capacity {
		r.taken++
		return true
	}
	s := &r.limited[now.Unix()%int64(len(r.limited))]
	if s.at != now.Unix() {
		*s = second{at: now.Unix()}
	}
	s.n += int64(n)
	return false
}

func (r *ring) addLocked(e *entry) {
	r.entries = append(r.entries, e)
	r.bytes += e.size()
	if e.destination != "" {
		r.byOffset[e.offset] = e
	}
	drop := 0
	for len(r.entries)-drop > r.capacity || r.bytes > maxRingBytes && len(r.entries)-drop > 1 {
		old := r.entries[drop]
		r.bytes -= old.size()
		if r.byOffset[old.offset] == old {
			delete(r.byOffset, old.offset)
		}
		drop++
	}
	r.entries = slices.Delete(r.entries, 0, drop)
}

// newestLocked is the last event with an id that was received then; nil: there is none. An id may come again.
func (r *ring) newestLocked(id string, received time.Time) *entry {
	for i := len(r.entries) - 1; i >= 0; i-- {
		if r.entries[i].id == id && r.entries[i].at.Equal(received) {
			return r.entries[i]
		}
	}
	return nil
}

// limitedLocked is how many events were left out in the last minute.
func (r *ring) limitedLocked(now time.Time) (n int64) {
	for _, s := range r.limited {
		if now.Unix()-s.at < int64(len(r.limited)) {
			n += s.n
		}
	}
	return n
}

// credentials are members whose values a malformed body must not show: what is no JSON can not be cleaned of write keys as events are.
var credentials = regexp.MustCompile(`(?i)((?:api_?key|writekey|[a-z_]*token|[a-z_]*secret|password|authorization)["']?\s*[:=]\s*["']?(?:Bearer |Basic )?)[^"'&,\s}\]]+`)

// maskedBody is the beginning of a body, as text.
func maskedBody(body []byte) string {
	text := cut(strings.ToValidUTF8(string(body[:min(len(body), maxMalformedBytes+utf8.UTFMax)]), "\uFFFD"), maxMalformedBytes)
	if len(text) < len(body) {
		text = withoutLastWord(text)
	}
	return credentials.ReplaceAllString(text, "${1}***")
}

// maxWordBytes is how much is left off the end of a body: secrets are shorter.
const maxWordBytes = 256

// withoutLastWord leaves off a word that was cut through: who looks for a secret finds no half of it.
func withoutLastWord(text string) string {
	end := strings.LastIndexAny(text, "\"'`,&{}[]<> \t\r\n") + 1
	return cut(text, max(end, len(text)-maxWordBytes))
}

// cut shortens s to at most n bytes, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
