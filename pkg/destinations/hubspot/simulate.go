package hubspot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// snapshot is what a simulation knows of an account, as Schema writes it: sorted, so that versions can be compared line by line. It holds no values of
// contacts, and no secrets.
type snapshot struct {
	Type       string               `json:"type"` // hubspot
	HubID      string               `json:"hub_id"`
	Properties []snapshotProperty   `json:"properties"`
	Groups     []string             `json:"groups"`
	Events     []snapshotDefinition `json:"event_definitions"`
	// NoEvents says why there are no event definitions; "": there are those in the list.
	NoEvents string `json:"no_events,omitempty"`
}

type snapshotProperty struct {
	Name      string           `json:"name"`
	Type      string           `json:"type"`
	FieldType string           `json:"fieldType,omitempty"`
	Group     string           `json:"groupName,omitempty"`
	ReadOnly  bool             `json:"readOnlyValue,omitempty"`
	Unique    bool             `json:"hasUniqueValue,omitempty"`
	External  bool             `json:"externalOptions,omitempty"`
	Options   []snapshotOption `json:"options,omitempty"`
}

type snapshotOption struct {
	Value string `json:"value"`
	Label string `json:"label"`
}

type snapshotDefinition struct {
	Name       string             `json:"name"`
	Properties []snapshotProperty `json:"properties,omitempty"`
}

// tierOrScope is why an account has no custom events.
const tierOrScope = "HubSpot refuses custom events (403): the token lacks the scope for them, or the account the Enterprise tier"

// Schema implements [destinations.Simulated]. What was loaded in the last minutes is used, and the rest read from the account, in a few calls, which take
// their quota like all others.
func (d *Destination) Schema(ctx context.Context) (json.RawMessage, error) {
	ps := &permits{d: d}
	out := snapshot{Type: "hubspot", HubID: d.hubID, Events: []snapshotDefinition{}}
	properties, loaded, err := d.freshSchema(ctx, ps)
	if err != nil {
		return nil, err
	}
	groups := map[string]bool{}
	if !loaded || !d.loadGroups(ctx, ps, groups) {
		groups[d.contacts.properties.group] = true // whether it exists, the live check tells
	}
	for _, p := range properties.properties {
		out.Properties = append(out.Properties, p.snapshot())
		if p.group != "" {
			groups[p.group] = true
		}
	}
	for name := range groups {
		out.Groups = append(out.Groups, name)
	}
	switch err := d.freshDefinitions(ctx, ps); {
	case isForbidden(err):
		out.NoEvents = tierOrScope
	case err != nil:
		return nil, err
	}
	for _, def := range d.account.definitions.list() {
		out.Events = append(out.Events, def.snapshot())
	}
	slices.Sort(out.Groups)
	byName := func(a, b snapshotProperty) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(out.Properties, byName)
	for _, def := range out.Events {
		slices.SortFunc(def.Properties, byName)
	}
	slices.SortFunc(out.Events, func(a, b snapshotDefinition) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(&out, "", "  ")
	if err != nil {
		return nil, err
	}
	return d.withoutToken(data), nil
}

// withoutToken takes the token out of JSON: whoever answers may have repeated it.
func (d *Destination) withoutToken(data []byte) []byte {
	for _, token := range []string{string(d.client.token), strings.Trim(string(event.AppendString(nil, string(d.client.token))), `"`)} {
		data = bytes.ReplaceAll(data, []byte(token), []byte(d.client.token.String()))
	}
	return data
}

// freshSchema returns the account's properties as they were a few minutes ago, or are: then loaded is true.
func (d *Destination) freshSchema(ctx context.Context, ps *permits) (s *schema, loaded bool, err error) {
	d.account.schema.restore(d.cache, d.cacheKey("properties"))
	if s := d.account.schema.get(); s != nil && !s.stale(time.Now()) && s.grouped() {
		return s, false, nil
	}
	c := &d.account.schema
	select {
	case c.loading <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	defer func() { <-c.loading }()
	s, err = d.loadSchema(ctx, ps)
	return s, true, err
}

// grouped says whether it is known of properties to which group they belong: what an older router has kept does not tell.
func (s *schema) grouped() bool {
	for _, p := range s.properties {
		if p.group != "" {
			return true
		}
	}
	return false
}

// freshDefinitions makes sure that the list of definitions is not older than a few minutes.
func (d *Destination) freshDefinitions(ctx context.Context, ps *permits) error {
	c := &d.account.definitions
	c.restore(d.cache, d.cacheKey("definitions"), d.hubID)
	done, err := c.work(ctx)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	fresh := c.byName != nil && time.Since(c.loaded) < definitionsFresh
	c.mu.Unlock()
	if fresh {
		return nil
	}
	return d.loadDefinitions(ctx, ps)
}

// list is a snapshot of the definitions.
func (c *definitionCache) list() []*definition {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*definition, 0, len(c.byName))
	for _, def := range c.byName {
		all = append(all, def)
	}
	return all
}

// loadGroups adds the names of the account's property groups, also of those without a property, to found, and says whether they could be read.
func (d *Destination) loadGroups(ctx context.Context, ps *permits, found map[string]bool) bool {
	a, err := d.call(ctx, ps, request{endpoint: endpointGroups, method: http.MethodGet, url: d.baseURL + d.paths.properties + "/groups"})
	if err != nil {
		return false
	}
	gjson.GetBytes(a.body, "results").ForEach(func(_, g gjson.Result) bool {
		if name := g.Get("name").Str; name != "" && !g.Get("archived").Bool() {
			found[name] = true
		}
		return true
	})
	return true
}

func (p *property) snapshot() snapshotProperty {
	return snapshotProperty{
		Name: p.name, Type: p.typeName, FieldType: p.fieldType, Group: p.group, ReadOnly: p.readOnly, Unique: p.unique, External: p.external,
		Options: p.ownOptions(),
	}
}

// ownOptions are options that are the account's own. Those that HubSpot takes from elsewhere, such as its users, name persons.
func (p *property) ownOptions() []snapshotOption {
	if p.external {
		return nil
	}
	return snapshotOptions(p.choices)
}

func (def *definition) snapshot() snapshotDefinition {
	out := snapshotDefinition{Name: def.name}
	for name, p := range def.properties {
		out.Properties = append(out.Properties, snapshotProperty{Name: name, Type: p.typeName, Options: snapshotOptions(p.choices)})
	}
	return out
}

func snapshotOptions(choices []option) (all []snapshotOption) {
	for _, o := range choices {
		all = append(all, snapshotOption{o.value, o.label})
	}
	return all
}

// Simulate implements [destinations.Simulated]: a sandbox without limits and lags.
func (d *Destination) Simulate(schema json.RawMessage) (http.RoundTripper, error) {
	o := sandbox.Options{HubID: d.hubID, Token: string(d.client.token)}
	if len(schema) == 0 {
		return sandbox.New(o).RoundTripper(), nil
	}
	var from snapshot
	if err := json.Unmarshal(schema, &from); err != nil || from.Type != "hubspot" || len(from.Properties) == 0 {
		return nil, errors.New("the schema is none of a HubSpot account: read it anew with router schema pull")
	}
	if from.HubID != d.hubID {
		return nil, fmt.Errorf("the schema is that of account %s, and hub_id is %s: read it anew with router schema pull", shorten(from.HubID), d.hubID)
	}
	o.OnlyProperties, o.Groups, o.NoEnterprise = true, from.Groups, from.NoEvents != ""
	for _, p := range from.Properties {
		o.Properties = append(o.Properties, p.sandbox())
	}
	for _, def := range from.Events {
		made := sandbox.Definition{Name: def.Name, Label: def.Name}
		for _, p := range def.Properties {
			if isDefaultProperty(p.Name) {
				made.IncludeDefaults = true
			} else {
				made.Properties = append(made.Properties, p.sandbox())
			}
		}
		o.Definitions = append(o.Definitions, made)
	}
	return sandbox.New(o).RoundTripper(), nil
}

func (p *snapshotProperty) sandbox() sandbox.Property {
	out := sandbox.Property{
		Name: p.Name, Label: p.Name, Type: p.Type, FieldType: p.FieldType, GroupName: p.Group, ReadOnlyValue: p.ReadOnly, HasUniqueValue: p.Unique,
		ExternalOptions: p.External,
	}
	for i, o := range p.Options {
		out.Options = append(out.Options, sandbox.Option{Value: o.Value, Label: o.Label, DisplayOrder: i})
	}
	return out
}

// source names what a value is made of.
type source struct {
	entry int
	name  string // of the property
}

// tellSource keeps what a value is made of, for a detail that tells it.
func (s *contactSend) tellSource(entry int, name, from string) {
	if s.sources != nil {
		s.sources[source{entry, name}] = from
	}
}

// appendValues appends the values of a write, before and after, in a simulation.
func (s *contactSend) appendValues(dst []byte, w *write) []byte {
	if s.sources == nil {
		return dst
	}
	var all []told
	if key := s.d.contacts.key; key != objectIDProperty {
		all = append(all, told{name: key, to: w.id})
	}
	for _, v := range w.values {
		all = append(all, told{v.name, s.sources[source{v.entry, v.name}], v.value})
	}
	return appendTold(dst, all)
}

// told is a value before and after.
type told struct {
	name, from, to string // from is JSON; "": it is made of nothing in the event
}

// appendValues appends the values of an occurrence, before and after.
func (o *occurrence) appendValues(dst []byte) []byte {
	all := make([]told, 0, len(o.values))
	for _, v := range o.values {
		from := ""
		if i := slices.IndexFunc(o.candidates, func(c candidate) bool { return c.name == v.name }); i >= 0 {
			from = o.candidates[i].value.Raw
		}
		all = append(all, told{v.name, from, v.value})
	}
	return appendTold(dst, all)
}

func appendTold(dst []byte, all []told) []byte {
	dst = append(dst, `,"values":{`...)
	for i, v := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(event.AppendString(dst, v.name), `:{`...)
		if json.Valid([]byte(v.from)) {
			dst = append(append(append(dst, `"from":`...), v.from...), ',')
		}
		dst = append(event.AppendString(append(dst, `"to":`...), v.to), '}')
	}
	return append(dst, '}')
}
