package dryrun

import (
	"maps"
	"time"

	"eventrouter/pkg/filters"
)

// overlay keeps what scripts write over another KV, which it only reads. One goroutine owns it.
type overlay struct {
	under  filters.KV // nil: empty
	values map[string]kept
	now    func() time.Time
}

type kept struct {
	json  string
	until time.Time // zero: deleted
}

func newOverlay(under filters.KV, now func() time.Time) *overlay {
	return &overlay{under: under, values: map[string]kept{}, now: now}
}

// Load implements [filters.KV].
func (o *overlay) Load(key string) (string, bool, error) {
	if v, ok := o.values[key]; ok {
		return v.json, o.now().Before(v.until), nil
	}
	if o.under == nil {
		return "", false, nil
	}
	return o.under.Load(key)
}

// Store implements [filters.KV].
func (o *overlay) Store(key, json string, ttl time.Duration) error {
	o.values[key] = kept{json, o.now().Add(ttl)}
	return nil
}

// Delete implements [filters.KV].
func (o *overlay) Delete(key string) error {
	o.values[key] = kept{}
	return nil
}

// settle writes what was kept into the overlay below.
func (o *overlay) settle(below *overlay) { maps.Copy(below.values, o.values) }
