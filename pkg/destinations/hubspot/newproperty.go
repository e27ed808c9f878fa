package hubspot

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

const (
	// maxNewLabel is what we show of a client's name for a property.
	maxNewLabel = 100
	// maxTextField is the length of text, in characters, that fits a field of one line.
	maxTextField = 255
	// maxExactNumber is how many digits a number may have that HubSpot keeps exactly.
	maxExactNumber = 15
	// maxNewOptions is how many options a property is made with.
	maxNewOptions = 50
)

// fieldType is what a property is made as: HubSpot's type and kind of field.
type fieldType struct{ typeName, field string }

var (
	fieldText     = fieldType{"string", "text"}
	fieldTextarea = fieldType{"string", "textarea"}
	fieldNumber   = fieldType{"number", "number"}
	fieldBool     = fieldType{"bool", "booleancheckbox"}
	fieldDate     = fieldType{"date", "date"}
	fieldDatetime = fieldType{"datetime", "date"}
	fieldChoices  = fieldType{"enumeration", "checkbox"}
)

// inferType finds the type that all values fit.
func inferType(values []gjson.Result) fieldType {
	var t fieldType
	for _, v := range values {
		if absent(v) {
			continue
		}
		next := typeOf(v)
		switch {
		case t == fieldType{} || t == next:
			t = next
		case t == fieldDate && next == fieldDatetime || t == fieldDatetime && next == fieldDate:
			t = fieldDatetime
		case t == fieldTextarea || next == fieldTextarea:
			t = fieldTextarea
		default:
			t = fieldText
		}
	}
	if t == (fieldType{}) {
		return fieldText
	}
	return t
}

// typeOf is the type of one value. Text with digits stays text: it may be a number of a house or a phone.
func typeOf(v gjson.Result) fieldType {
	switch v.Type {
	case gjson.True, gjson.False:
		return fieldBool
	case gjson.Number:
		if f, ok := formatNumber(v); ok && len(strings.Trim(f.text, "-.0")) <= maxExactNumber {
			return fieldNumber
		}
		return fieldText
	case gjson.JSON:
		return fieldTextarea
	}
	s := strings.TrimSpace(v.Str)
	if at, err := time.Parse(time.DateOnly, s); err == nil && plausible(at) {
		return fieldDate
	}
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05"} {
		if at, err := time.Parse(layout, s); err == nil && plausible(at) {
			return fieldDatetime
		}
	}
	if utf8.RuneCountInString(s) > maxTextField || strings.Contains(s, "\n") {
		return fieldTextarea
	}
	return fieldText
}

// makeable says whether a property of that name can be made: HubSpot keeps hs_ for its own.
func makeable(name string) bool {
	return propertyName.MatchString(name) && !strings.HasPrefix(name, "hs_")
}

// provideProperties makes the properties that the account lacks. What is not made is left out of the writes; an error is the outcome
// of the batch.
func (s *contactSend) provideProperties(ctx context.Context, needs []need) error {
	d, c := s.d, &s.d.account.creations
	wanted := func(n *need) bool {
		return makeable(n.name) && d.account.schema.get().properties[n.name] == nil && c.may(n.name, time.Now()) && d.room(n.name)
	}
	some := false
	for i := range needs {
		some = some || wanted(&needs[i])
	}
	if !some {
		return nil
	}
	done, err := c.work(ctx, s.permits)
	if err != nil {
		return err
	}
	defer done()
	for i := range needs {
		if n := &needs[i]; wanted(n) {
			if err := d.makeProperty(ctx, s.permits, n); err != nil {
				return fmt.Errorf("make contact property %s: %w", n.name, err)
			}
		}
	}
	return nil
}

// room says whether one more property may be made.
func (d *Destination) room(name string) bool {
	most := d.contacts.properties.newProperties
	if d.account.creations.madeProperties() < most {
		return true
	}
	if d.account.creations.tell("properties") {
		d.log.Warn("contact properties are left out: the router has made as many in this account as it may; those of browser keys count too. To have more made, add to this destination",
			"first", name, "made", most, "add", "properties: {new_per_account: "+strconv.Itoa(2*max(most, 50))+"}")
	}
	return false
}

// makeProperty makes one property. HubSpot says 409 when it exists, made by another writer or hidden from us; a name that was archived
// comes back as it was.
func (d *Destination) makeProperty(ctx context.Context, ps *permits, n *need) error {
	c := &d.account.creations
	a, err := d.call(ctx, ps, request{
		endpoint: endpointMakeProperty, method: http.MethodPost, url: d.baseURL + d.paths.properties, body: d.propertyBody(n),
	}, judgements...)
	if err != nil {
		return d.makeError(ctx, n.name, err)
	}
	switch {
	case a.status == http.StatusConflict:
		return d.adoptProperty(ctx, ps, n.name, a)
	case a.status >= 300:
		d.makeRefused(n.name, a)
		return nil
	}
	p := parseProperty(gjson.ParseBytes(a.body))
	if p == nil || p.name != n.name { // nobody knows whether it was made: the next try will be told
		return d.makeError(ctx, n.name, a.noProperty())
	}
	c.succeeded(n.name, freshField{at: time.Now(), property: p})
	c.count(d.cache, d.cacheKey("made"), n.name, 0)
	d.learnProperty(p)
	d.log.Info("made a contact property in HubSpot", "property", p.name, "type", p.typeName)
	return nil
}

// adoptProperty takes a property that another writer has just made.
func (d *Destination) adoptProperty(ctx context.Context, ps *permits, name string, conflict *answer) error {
	for waited := time.Duration(0); ; waited += lagStep {
		p, _, err := d.readProperty(ctx, ps, name)
		if err != nil {
			return d.makeError(ctx, name, err)
		}
		if p != nil {
			d.account.creations.succeeded(name, freshField{at: time.Now(), property: p})
			d.learnProperty(p)
			return nil
		}
		if waited >= lagInSend {
			d.makeRefused(name, conflict)
			return nil
		}
		if err := pause(ctx, ps, lagStep); err != nil {
			return err
		}
	}
}

// readProperty reads one property as it is now; nil when there is none.
func (d *Destination) readProperty(ctx context.Context, ps *permits, name string) (p *property, definition gjson.Result, err error) {
	a, err := d.call(ctx, ps, request{
		endpoint: endpointReadProperty, method: http.MethodGet, url: d.baseURL + d.paths.properties + "/" + name,
	}, http.StatusNotFound)
	if err != nil || a.status == http.StatusNotFound {
		return nil, definition, err
	}
	definition = gjson.ParseBytes(a.body)
	if p = parseProperty(definition); p == nil || p.name != name {
		return nil, definition, a.noProperty()
	}
	return p, definition, nil
}

// noProperty is the outcome of a success that does not name the property it is about.
func (a *answer) noProperty() error {
	return fmt.Errorf("HubSpot answered %d without the property (correlation id %s)", a.status, a.correlation)
}

// learnProperty puts a property into the schema in use.
func (d *Destination) learnProperty(p *property) {
	s := d.account.schema.learn(p)
	if d.cache != nil {
		d.cache.Store(d.cacheKey("properties"), s.encode())
	}
}

// propertyBody writes the definition of a property.
func (d *Destination) propertyBody(n *need) []byte {
	t := inferType(n.values)
	var options []option
	if d.contacts.properties.policyOf(n.name) == appendTo || d.contacts.properties.addOption && slices.ContainsFunc(n.values, isList) {
		t, options = fieldChoices, choicesOf(n.values)
	}
	if t == fieldBool {
		options = []option{{"true", "Yes"}, {"false", "No"}}
	}
	dst := append([]byte(nil), `{"name":`...)
	dst = event.AppendString(dst, n.name)
	dst = append(dst, `,"label":`...)
	dst = event.AppendString(dst, humanLabel(n.label, n.name))
	dst = append(dst, `,"groupName":`...)
	dst = event.AppendString(dst, d.contacts.properties.group)
	dst = append(dst, `,"type":`...)
	dst = event.AppendString(dst, t.typeName)
	dst = append(dst, `,"fieldType":`...)
	dst = event.AppendString(dst, t.field)
	if len(options) > 0 {
		dst = append(dst, `,"options":[`...)
		for i, o := range options {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = o.append(dst, i)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// isList says whether v is a list of plain values: checkboxes, where options may grow.
func isList(v gjson.Result) bool {
	_, ok := scalars(v)
	return ok
}

// choicesOf are the options of a list of checkboxes that begins with the values.
func choicesOf(values []gjson.Result) (options []option) {
	var t valueType
	for _, v := range values {
		items, ok := scalars(v)
		if !ok && v.Type != gjson.JSON {
			text, _ := plainText(v)
			items = strings.Split(text, ";")
		}
		for _, item := range items {
			if item = strings.TrimSpace(item); !newOption(item) || len(options) == maxNewOptions {
				continue
			}
			if _, known := t.option(item); !known {
				options = append(options, option{item, item})
				t.setOptions(options)
			}
		}
	}
	return options
}

// humanLabel is the client's own name, with a capital and spaces where it is written as programs write names.
func humanLabel(s, name string) string {
	s = label(s, name, maxNewLabel)
	if s == name {
		s = strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '_' }), " ")
	}
	if s == "" {
		return name
	}
	if s[0] >= 'a' && s[0] <= 'z' {
		s = string(s[0]-'a'+'A') + s[1:]
	}
	return s
}
