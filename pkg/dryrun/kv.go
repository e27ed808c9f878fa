package dryrun

import (
	"errors"
	"maps"
	"time"

	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// remembered is what the scripts of a destination have kept in a store. It is only read.
type remembered struct {
	store       *store.Store
	destination string
}

// Load implements [filters.KV].
func (r remembered) Load(key string) (string, bool, error) {
	v, ok, err := r.store.KV(r.destination, key)
	return v.Value, ok, err
}

// Store implements [filters.KV]: an overlay stands before it.
func (remembered) Store(string, string, time.Duration) error { return errReadOnly }

// Delete implements [filters.KV].
func (remembered) Delete(string) error { return errReadOnly }

var errReadOnly = errors.New("BUG: a dry run writes into the memory of the router")

// overlay keeps what scripts write over another KV, which it only reads. One goroutine owns it.
type overlay struct {
	under  filters.KV // nil: empty
	values map[string]kept
	now    func() time.Time
}

type kept struct {
	json  string
	until time.Time // zero: for ever
	gone  bool
}

func newOverlay(under filters.KV, now func() time.Time) *overlay {
	return &overlay{under: under, values: map[string]kept{}, now: now}
}

// Load implements [filters.KV].
func (o *overlay) Load(key string) (string, bool, error) {
	if v, ok := o.values[key]; ok {
		return v.json, !v.gone && (v.until.IsZero() || o.now().Before(v.until)), nil
	}
	if o.under == nil {
		return "", false, nil
	}
	return o.under.Load(key)
}

// Store implements [filters.KV].
func (o *overlay) Store(key, json string, ttl time.Duration) error {
	v := kept{json: json}
	if ttl > 0 {
		v.until = o.now().Add(ttl)
	}
	o.values[key] = v
	return nil
}

// Delete implements [filters.KV].
func (o *overlay) Delete(key string) error {
	o.values[key] = kept{gone: true}
	return nil
}

// settle writes what was kept into the overlay below.
func (o *overlay) settle(below *overlay) { maps.Copy(below.values, o.values) }
