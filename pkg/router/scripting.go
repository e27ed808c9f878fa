package router

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// scripting is what the scripts of one destination share, whatever route is in force: it belongs to the destination's name.
type scripting struct {
	// kv has capacity 1: whoever has put something in has the destination's $kv, from the first evaluation that may use it until what was written is
	// durable. So evaluations by the sorter and by an aside are as if one came after the other. Lock order: kv, then Route.filtering. The sorter alone may
	// have that of several destinations; an aside, which it waits for, has that of its own and waits for no other.
	kv      chan struct{}
	console console
}

// scripting returns that of a destination.
func (r *Router) scripting(destination string) *scripting {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.scriptings[destination]
	if s == nil {
		s = &scripting{kv: make(chan struct{}, 1), console: console{logger: r.logger, destination: destination}}
		r.scriptings[destination] = s
	}
	return s
}

// kv is a destination's $kv as one hand-over sees it: first what the evaluation in hand has written, then what the batch has, then the store. It implements
// [filters.KV].
type kv struct {
	h           *handover
	destination string
	free        chan struct{} // scripting.kv
	held        bool
	account     string         // whose the event in hand is
	pending     []store.KV     // by the evaluation in hand
	written     []store.KV     // by the batch, in order
	last        map[string]int // by key, into written
}

// hold takes the destination's $kv for this hand-over, and for events of an account; false: the router stops.
func (k *kv) hold(stop <-chan struct{}, account string) bool {
	k.account = account
	k.pending = k.pending[:0]
	if k.held {
		return true
	}
	select {
	case k.free <- struct{}{}:
		k.held = true
		return true
	case <-stop:
		return false
	}
}

// release lets others have it, once what was written is durable, or never will be.
func (k *kv) release() {
	if k == nil || !k.held {
		return
	}
	clear(k.written)
	clear(k.last)
	k.pending, k.written, k.held = k.pending[:0], k.written[:0], false
	<-k.free
}

// keep has the batch write what the evaluation in hand has written. Without it that counts for nothing.
func (k *kv) keep() {
	for _, v := range k.pending {
		k.last[v.Key] = len(k.written)
		k.written = append(k.written, v)
	}
	k.pending = k.pending[:0]
}

// appendTo appends what the batch writes, of each key the last.
func (k *kv) appendTo(dst []store.KV) []store.KV {
	for i := range k.written {
		if k.last[k.written[i].Key] == i {
			dst = append(dst, k.written[i])
		}
	}
	return dst
}

// scoped is the key under which the store has it: scripts meet what events of the same account have left, and nothing else.
func (k *kv) scoped(key string) string { return ScopedKey(k.account, key) }

// ScopedKey is the key under which the store has what scripts keep under key while they see events of an account; "": of none. Keys may come from events, and are any text: one with a NUL
// must not get into what an account has.
func ScopedKey(account, key string) string {
	if account == "" && !strings.Contains(key, "\x00") {
		return key
	}
	return account + "\x00" + key
}

// Load implements [filters.KV]. A store that can not be read fails, and with it the router: no event is a dead letter for that.
func (k *kv) Load(key string) (string, bool, error) {
	key = k.scoped(key)
	for i := len(k.pending) - 1; i >= 0; i-- {
		if v := &k.pending[i]; v.Key == key {
			return v.Value, alive(v), nil
		}
	}
	if i, ok := k.last[key]; ok {
		v := &k.written[i]
		return v.Value, alive(v), nil
	}
	v, ok, err := k.h.r.store.KV(k.destination, key)
	if err != nil {
		k.h.failed = fmt.Errorf("read $kv of %s: %w", k.destination, err)
	}
	return v.Value, ok, err
}

func alive(v *store.KV) bool {
	return v.Value != "" && (v.Expires.IsZero() || v.Expires.After(time.Now()))
}

// Store implements [filters.KV].
func (k *kv) Store(key, json string, ttl time.Duration) error {
	v := store.KV{Destination: k.destination, Account: k.account, Key: k.scoped(key), Value: json}
	if ttl > 0 {
		v.Expires = time.Now().Add(ttl)
	}
	k.pending = append(k.pending, v)
	return nil
}

// Delete implements [filters.KV].
func (k *kv) Delete(key string) error {
	k.pending = append(k.pending, store.KV{Destination: k.destination, Account: k.account, Key: k.scoped(key)})
	return nil
}

// newWorlds makes what the transforms of a table's routes may reach.
func (h *handover) newWorlds() {
	n := len(h.table.routes)
	h.worlds, h.kvs, h.consoles = make([]filters.World, n), make([]*kv, n), make([]*console, n)
	for i, route := range h.table.routes {
		if route.Transform == nil {
			continue
		}
		s := h.r.scripting(route.Name)
		h.consoles[i] = &s.console
		if route.Transform.UsesKV() {
			h.kvs[i] = &kv{h: h, destination: route.Name, free: s.kv, last: map[string]int{}}
			h.worlds[i].KV = h.kvs[i]
		}
	}
}

// listen has the scripts' lines read in this batch, if the log takes them: else they need not be made.
func (h *handover) listen() {
	reads := h.r.logger.Enabled(context.Background(), slog.LevelDebug)
	for i, c := range h.consoles {
		if h.worlds[i].Log = nil; c != nil && reads {
			h.worlds[i].Log = c.print
		}
	}
}

// releaseKV lets others have the $kv that the hand-over holds.
func (h *handover) releaseKV() {
	for _, k := range h.kvs {
		k.release()
	}
}

// Bounds of what scripts print into the log.
const (
	consoleLines  = 10 // of a destination in a second
	maxLineLogged = 1000
)

// console writes what the scripts of a destination print into the log.
type console struct {
	logger      *slog.Logger
	destination string

	mu      sync.Mutex // guards the fields below
	second  int64
	lines   int // in it
	leftOut int
}

// print writes a line, or leaves it out. The values of the event in hand that are to be hidden are hidden in it: see handover.route.
func (c *console) print(level, line string) {
	if c.admits(time.Now()) {
		c.logger.Debug("a script prints", "destination", c.destination, "level", level, "line", cut(line, maxLineLogged))
	}
}

// admits counts a line and says whether it is written.
func (c *console) admits(now time.Time) bool {
	c.tellLeftOut(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines++; c.lines > consoleLines {
		c.leftOut++
		return false
	}
	return true
}

// tellLeftOut says, once a second is over, how many lines of it were left out.
func (c *console) tellLeftOut(now time.Time) {
	c.mu.Lock()
	n := 0
	if second := now.Unix(); second != c.second {
		n, c.leftOut = c.leftOut, 0
		c.second, c.lines = second, 0
	}
	c.mu.Unlock()
	if n > 0 {
		c.logger.Debug("a script prints too much: lines are left out", "destination", c.destination, "left_out", n, "limit", fmt.Sprintf("%d a second", consoleLines))
	}
}

// tellLeftOut has the consoles say what they left out.
func (r *Router) tellLeftOut(now time.Time) {
	r.mu.Lock()
	all := make([]*scripting, 0, len(r.scriptings))
	for _, s := range r.scriptings {
		all = append(all, s)
	}
	r.mu.Unlock()
	for _, s := range all {
		s.console.tellLeftOut(now)
	}
}
