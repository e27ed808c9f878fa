package filters

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/tidwall/gjson"
)

// KV is what the scripts of one destination keep between events. Values are JSON.
type KV interface {
	// Load returns the value of key, and false when there is none or its time is over.
	Load(key string) (json string, ok bool, err error)
	// Store sets key for ttl.
	Store(key, json string, ttl time.Duration) error
	// Delete removes key, if it is there.
	Delete(key string) error
}

// Bounds of $kv. Those of keys, values and time are Jitsu's.
const (
	maxKeyBytes     = 256
	maxValueChars   = 10_000
	maxKVOperations = 100
	// DefaultTTL is how long $kv keeps what is set without a ttl.
	DefaultTTL = 60 * 24 * time.Hour
	maxTTL     = 10 * 365 * 24 * time.Hour
)

// session is what one evaluation does with $kv. What it writes is seen by itself alone until it has succeeded.
type session struct {
	world      KV // nil: empty
	operations int
	written    map[string]kept
	order      []string // keys of written
	err        error    // of world: no fault of the script
}

// kept is a value that was set; with a ttl of 0, one that was deleted.
type kept struct {
	json string
	ttl  time.Duration
}

func (k *session) begin(world KV) {
	*k = session{world: world, written: k.written, order: k.order[:0]}
	clear(k.written)
}

func (k *session) load(key string) (string, bool) {
	if v, ok := k.written[key]; ok {
		return v.json, v.ttl > 0
	}
	if k.world == nil || k.err != nil {
		return "", false
	}
	json, ok, err := k.world.Load(key)
	if err != nil {
		k.err = fmt.Errorf("$kv.get: %w", err)
	}
	return json, ok && err == nil
}

func (k *session) write(key string, v kept) {
	if k.written == nil {
		k.written = map[string]kept{}
	}
	if _, ok := k.written[key]; !ok {
		k.order = append(k.order, key)
	}
	k.written[key] = v
}

// apply makes what was written last.
func (k *session) apply() error {
	if k.world == nil {
		return nil
	}
	for _, key := range k.order {
		v := k.written[key]
		var err error
		if v.ttl > 0 {
			err = k.world.Store(key, v.json, v.ttl)
		} else {
			err = k.world.Delete(key)
		}
		if err != nil {
			return fmt.Errorf("$kv: %w", err)
		}
	}
	return nil
}

// key counts an operation and checks its key.
func (s *script) key(operation string, v goja.Value) string {
	if s.kv.operations++; s.kv.operations > maxKVOperations {
		s.runtime.Interrupt(fmt.Errorf("%w: more than %d operations of $kv", ErrLimit, maxKVOperations))
	}
	key := v.String()
	switch {
	case goja.IsUndefined(v) || key == "":
		panic(s.runtime.NewTypeError("$kv.%s: the key is missing", operation))
	case len(key) > maxKeyBytes:
		panic(s.runtime.NewTypeError("$kv.%s: the key is %d bytes long; keys have at most %d", operation, len(key), maxKeyBytes))
	}
	return key
}

func (s *script) kvGet(c goja.FunctionCall) goja.Value {
	json, ok := s.kv.load(s.key("get", c.Argument(0)))
	if !ok {
		return goja.Undefined()
	}
	return s.space.value(gjson.Parse(json))
}

func (s *script) kvSet(c goja.FunctionCall) goja.Value {
	key := s.key("set", c.Argument(0))
	json, err := s.appendJSON(nil, c.Argument(1), 0)
	if n := utf8.RuneCount(json); errors.Is(err, errTooLong) || n > maxValueChars {
		panic(s.runtime.NewTypeError("$kv.set: the value of %q is longer than %d characters as JSON", key, maxValueChars))
	}
	if errors.Is(err, errNoValue) {
		panic(s.runtime.NewTypeError("$kv.set: the value of %q is %s, which is no value; use del to remove a key", key, kindOf(c.Argument(1))))
	}
	s.must(err)
	s.kv.write(key, kept{string(json), s.ttl(key, c.Argument(2))})
	return goja.Undefined()
}

// ttl reads {ttlMs} or {ttlSec}.
func (s *script) ttl(key string, v goja.Value) time.Duration {
	options, ok := v.(*goja.Object)
	if !ok {
		if goja.IsUndefined(v) || goja.IsNull(v) {
			return DefaultTTL
		}
		panic(s.runtime.NewTypeError("$kv.set: the third argument for %q is %s; write {ttlSec: 3600} or {ttlMs: 500}", key, kindOf(v)))
	}
	for _, unit := range [...]struct {
		name string
		is   time.Duration
	}{{"ttlMs", time.Millisecond}, {"ttlSec", time.Second}} {
		given := options.Get(unit.name)
		if given == nil || goja.IsUndefined(given) || goja.IsNull(given) {
			continue
		}
		ttl := given.ToFloat() * float64(unit.is)
		if math.IsNaN(ttl) || ttl < 1 {
			panic(s.runtime.NewTypeError("$kv.set: %s of %q is %s; it is a number above 0", unit.name, key, given))
		}
		return time.Duration(min(ttl, float64(maxTTL)))
	}
	return DefaultTTL
}

func (s *script) kvDel(c goja.FunctionCall) goja.Value {
	s.kv.write(s.key("del", c.Argument(0)), kept{})
	return goja.Undefined()
}

// MemoryKV is a KV that lasts as long as the process: for tests, and for trying a transform. It holds a bounded number of keys. It may be used from many goroutines.
type MemoryKV struct {
	now func() time.Time

	mu     sync.Mutex // guards the field below
	values map[string]memoryValue
}

type memoryValue struct {
	json  string
	until time.Time
}

// maxMemoryKeys bounds a MemoryKV, at 100 MB and mostly far less.
const maxMemoryKeys = 10_000

// NewMemoryKV returns an empty one. now tells the time; nil: the clock.
func NewMemoryKV(now func() time.Time) *MemoryKV {
	if now == nil {
		now = time.Now
	}
	return &MemoryKV{now: now, values: map[string]memoryValue{}}
}

// Load implements [KV].
func (m *MemoryKV) Load(key string) (json string, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	if !ok || !m.now().Before(v.until) {
		return "", false, nil
	}
	return v.json, true, nil
}

// Store implements [KV]. It fails when there are too many keys whose time is not over.
func (m *MemoryKV) Store(key, json string, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if _, ok := m.values[key]; !ok && len(m.values) >= maxMemoryKeys {
		for k, v := range m.values {
			if !now.Before(v.until) {
				delete(m.values, k)
			}
		}
		if len(m.values) >= maxMemoryKeys {
			return fmt.Errorf("more than %d keys", maxMemoryKeys)
		}
	}
	m.values[key] = memoryValue{json, now.Add(ttl)}
	return nil
}

// Delete implements [KV].
func (m *MemoryKV) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}
