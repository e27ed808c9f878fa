package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// encode writes definitions and counts as decode reads them.
func (c *definitionCache) encode() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	dst := append([]byte(nil), `{"made":`...)
	dst = strconv.AppendInt(dst, int64(c.made), 10)
	dst = append(dst, `,"day":`...)
	dst = event.AppendString(dst, c.day)
	dst = append(dst, `,"browser":`...)
	dst = strconv.AppendInt(dst, int64(c.browser), 10)
	dst = append(dst, `,"results":[`...)
	first := true
	for _, def := range c.byName {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, `{"name":`...)
		dst = event.AppendString(dst, def.name)
		dst = append(dst, `,"fullyQualifiedName":`...)
		dst = event.AppendString(dst, def.qualified)
		dst = append(dst, `,"properties":[`...)
		n := 0
		for name, p := range def.properties {
			if n++; n > 1 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"name":`...)
			dst = event.AppendString(dst, name)
			dst = append(dst, `,"type":`...)
			dst = event.AppendString(dst, p.typeName)
			dst = appendOptions(dst, p.choices)
			dst = append(dst, '}')
		}
		dst = append(dst, "]}"...)
	}
	return append(dst, "]}"...)
}

// restore takes what encode wrote from the router's cache, once.
func (c *definitionCache) restore(cache destinations.Cache, key, hubID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restored || cache == nil {
		return
	}
	c.restored = true
	body, at, ok := cache.Load(key)
	if !ok || c.byName != nil || !json.Valid(body) {
		return
	}
	list, _, err := parseDefinitions(body, hubID)
	if err != nil {
		return
	}
	counts := gjson.GetManyBytes(body, "made", "day", "browser")
	c.byName, c.loaded = list, at
	c.made, c.day, c.browser = int(counts[0].Int()), counts[1].Str, int(counts[2].Int())
}

// parseDefinitions reads one page of a list, and where the next one begins; "" for the last.
func parseDefinitions(body []byte, hubID string) (list map[string]*definition, after string, err error) {
	results := gjson.GetBytes(body, "results")
	if !results.IsArray() {
		return nil, "", errors.New("the answer is not a list of event definitions")
	}
	list = map[string]*definition{}
	results.ForEach(func(_, r gjson.Result) bool {
		if def := parseDefinition(r, hubID); def != nil && !def.archived {
			list[def.name] = def
		}
		return true
	})
	return list, gjson.GetBytes(body, "paging.next.after").String(), nil
}

// parseDefinition reads one definition; nil when it has no name.
func parseDefinition(r gjson.Result, hubID string) *definition {
	if !r.IsObject() {
		return nil
	}
	prefix := "pe" + hubID + "_"
	def := &definition{
		name: r.Get("name").String(), qualified: r.Get("fullyQualifiedName").String(),
		properties: map[string]*eventProperty{}, archived: r.Get("archived").Bool(),
	}
	if def.name == "" {
		def.name = def.qualified
	}
	def.name = strings.TrimPrefix(def.name, prefix)
	if def.name == "" {
		return nil
	}
	if def.qualified == "" {
		def.qualified = prefix + def.name
	}
	r.Get("properties").ForEach(func(_, p gjson.Result) bool {
		name := p.Get("name").String()
		if name == "" {
			return true
		}
		def.properties[name] = newEventProperty(p.Get("type").String(), parseOptions(p.Get("options")))
		return true
	})
	return def
}

// storeDefinitions writes the cache through.
func (d *Destination) storeDefinitions() {
	if d.cache != nil {
		d.cache.Store(d.cacheKey("definitions"), d.account.definitions.encode())
	}
}

// work waits for the right to load or make definitions: one at a time, so that no two calls make the same.
func (c *definitionCache) work(ctx context.Context) (done func(), err error) {
	select {
	case c.working <- struct{}{}:
		return func() { <-c.working }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// needDefinitions makes sure that the list was loaded at some time. The error is an outcome.
func (d *Destination) needDefinitions(ctx context.Context, ps *permits) error {
	c := &d.account.definitions
	c.restore(d.cache, d.cacheKey("definitions"), d.hubID)
	if c.known() {
		return nil
	}
	began := time.Now()
	done, err := c.work(ctx)
	if err != nil {
		return err
	}
	defer done()
	if c.known() {
		return nil
	}
	c.mu.Lock()
	failed := c.failed.since(began)
	c.mu.Unlock()
	if failed != nil && !isForbidden(failed) { // a 403 is the probe's to find out
		return failed
	}
	return d.loadDefinitions(ctx, ps)
}

// refreshDefinitions loads the list anew unless someone is at work.
func (d *Destination) refreshDefinitions(ctx context.Context, ps *permits) {
	c := &d.account.definitions
	select {
	case c.working <- struct{}{}:
		defer func() { <-c.working }()
	default:
		return
	}
	if err := d.loadDefinitions(ctx, ps); err != nil && ctx.Err() == nil {
		d.log.Warn("event definitions are not refreshed, the known ones stay in use", "error", err.Error())
	}
}

func (d *Destination) loadDefinitions(ctx context.Context, ps *permits) error {
	c := &d.account.definitions
	c.mu.Lock()
	c.tried = time.Now()
	c.mu.Unlock()
	list, err := d.listDefinitions(ctx, ps)
	if err != nil {
		err = fmt.Errorf("load event definitions: %w", err)
	} else {
		c.replace(list, time.Now())
		d.storeDefinitions()
	}
	c.mu.Lock()
	c.failed = failure{err, time.Now()}
	c.mu.Unlock()
	return err
}

// listDefinitions reads all pages of the list.
func (d *Destination) listDefinitions(ctx context.Context, ps *permits) (map[string]*definition, error) {
	list := map[string]*definition{}
	after := ""
	for range maxDefinitionPages {
		a, err := d.call(ctx, ps, request{endpoint: endpointDefinitions, method: http.MethodGet, url: d.definitionsPage(after)})
		if err != nil {
			return nil, err
		}
		page, next, err := parseDefinitions(a.body, d.hubID)
		if err != nil {
			return nil, err
		}
		maps.Copy(list, page)
		if next == "" || next == after {
			break
		}
		after = next
	}
	return list, nil
}

// definitionsPage is where the page of the list after a place stands; "" is the first.
func (d *Destination) definitionsPage(after string) string {
	query := url.Values{"limit": {"100"}, "includeProperties": {"true"}}
	if after != "" {
		query.Set("after", after)
	}
	return d.eventsURL + d.paths.definitions + "?" + query.Encode()
}

// loadDefinition reads one definition anew; nil when there is none to send events of.
func (d *Destination) loadDefinition(ctx context.Context, ps *permits, name string) (*definition, error) {
	def, err := d.askDefinition(ctx, ps, name)
	if def == nil || def.archived {
		return nil, err
	}
	d.account.definitions.put(def)
	return def, nil
}

// askDefinition reads one definition, be it archived; nil when there is none.
func (d *Destination) askDefinition(ctx context.Context, ps *permits, name string) (*definition, error) {
	a, err := d.call(ctx, ps, request{
		endpoint: endpointDefinitions, method: http.MethodGet, url: d.definitionURL(name),
	}, http.StatusNotFound, http.StatusBadRequest)
	if err != nil {
		return nil, fmt.Errorf("load event definition %s: %w", name, err)
	}
	if a.status != http.StatusOK {
		return nil, nil
	}
	return parseDefinition(gjson.ParseBytes(a.body), d.hubID), nil
}

func (d *Destination) definitionURL(name string) string {
	return d.eventsURL + d.paths.definitions + "/" + url.PathEscape(name)
}
