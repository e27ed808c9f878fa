package enrich

import "sync"

// maxCached is how much a cache holds, at most twice: the latest, and what was used before it.
const maxCached = 10_000

// cache remembers what was made of a key. The zero cache is empty. It may be used from many goroutines.
type cache[K comparable, V any] struct {
	mu         sync.Mutex // guards the fields below
	young, old map[K]V
}

func (c *cache[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[key]; ok {
		return v, true
	}
	v, ok := c.old[key]
	if ok {
		c.putLocked(key, v) // what is in use stays young
	}
	return v, ok
}

func (c *cache[K, V]) put(key K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(key, v)
}

func (c *cache[K, V]) putLocked(key K, v V) {
	if c.young == nil || len(c.young) >= maxCached {
		c.young, c.old = map[K]V{}, c.young
	}
	c.young[key] = v
}
