package sandbox

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Limits of event definitions.
const (
	maxDefinitions      = 500
	maxEventProperties  = 50 // custom ones of a definition, and of an occurrence
	maxEventName        = 50 // also property names and labels
	maxEventLabel       = 100
	defaultDefinitions  = 10  // of a page; the real default is not known
	maxDefinitionsLimit = 100 // of a page; modelled
)

// Definition is the schema of a custom event.
type Definition struct {
	ID                 string     `json:"id"`
	Name               string     `json:"name"`
	FullyQualifiedName string     `json:"fullyQualifiedName"` // pe{HubID}_{name}: what occurrences are sent under
	Label              string     `json:"label"`
	Description        string     `json:"description"`
	PrimaryObject      string     `json:"primaryObject"`
	Properties         []Property `json:"properties"` // custom ones
	// IncludeDefaults gives the event HubSpot's own properties (hs_page_url and so on) too.
	IncludeDefaults bool `json:"includeDefaultProperties"`
}

// definition is a Definition made ready for checking; immutable.
type definition struct {
	Definition
	custom           map[string]*property
	created, updated stamp
}

func newDefinition(d Definition, created, updated stamp) *definition {
	q := &definition{Definition: d, custom: make(map[string]*property, len(d.Properties)), created: created, updated: updated}
	for _, p := range d.Properties {
		q.custom[p.Name] = newProperty(p)
	}
	return q
}

// property finds one of the event's properties.
func (d *definition) property(name string) *property {
	if p := d.custom[name]; p != nil {
		return p
	}
	if d.IncludeDefaults {
		return defaultEventProperties()[name]
	}
	return nil
}

// shortName maps both forms of an event's name to the short one, by which definitions are kept.
func (st *state) shortName(name string) string {
	return strings.TrimPrefix(name, "pe"+st.opts.HubID+"_")
}

// createDefinition answers POST event-definitions.
func (st *state) createDefinition(c *call) answer {
	d := Definition{
		Name: c.json.Get("name").String(), Label: c.json.Get("label").String(), Description: c.json.Get("description").String(),
		PrimaryObject: c.json.Get("primaryObject").String(), IncludeDefaults: true,
	}
	if v := c.json.Get("includeDefaultProperties"); v.Exists() {
		d.IncludeDefaults = v.Bool()
	}
	if d.Name == "" {
		d.Name = nameOf(d.Label)
	}
	if d.PrimaryObject == "" {
		d.PrimaryObject = "CONTACT"
	}
	for _, in := range c.json.Get("propertyDefinitions").Array() {
		p, e := eventProperty(in)
		if e != nil {
			return st.fail(e)
		}
		d.Properties = append(d.Properties, p)
	}
	if e := st.checkNewDefinition(&d); e != nil {
		return st.fail(e)
	}
	d.FullyQualifiedName = "pe" + st.opts.HubID + "_" + d.Name
	d.ID = strconv.Itoa(1000 + len(st.definitions.truth) + len(st.burned))
	q := newDefinition(d, st.now, st.now)
	change(st, &st.definitions, d.Name, q)
	return answer{status: http.StatusCreated, body: q.append(nil, true)}
}

func (st *state) checkNewDefinition(d *Definition) *apiError {
	switch {
	case d.Label == "" || len(d.Label) > maxEventLabel:
		return badInput("An event label of 1 to 100 characters is required")
	case !isName(d.Name, maxEventName):
		return badInput("Event name " + d.Name + " is invalid: it must start with a letter and hold up to 50 lower-case letters, digits and underscores")
	case st.burned[d.Name]:
		return badInput("Event name " + d.Name + " was used by a deleted event and cannot be used again")
	case st.definitions.truth[d.Name] != nil:
		return &apiError{
			status: http.StatusConflict, category: alreadyExists,
			message: "Event with name " + d.Name + " already exists.",
		}
	case len(st.definitions.truth) >= maxDefinitions:
		return badInput("The limit of 500 event definitions is reached")
	case len(d.Properties) > maxEventProperties:
		return badInput("The limit of 50 custom properties of an event is exceeded")
	}
	seen := map[string]bool{}
	for _, p := range d.Properties {
		if seen[p.Name] {
			return badInput("Event property " + p.Name + " is given twice")
		}
		seen[p.Name] = true
	}
	return nil
}

// eventFieldTypes are the types of event properties with the field type that they get.
var eventFieldTypes = map[string]string{
	"string": "text", "number": "number", "enumeration": "select", "datetime": "date", "date": "date", "bool": "radio",
}

// eventProperty reads one posted property of an event.
func eventProperty(in gjson.Result) (Property, *apiError) {
	p := Property{
		Name: in.Get("name").String(), Label: in.Get("label").String(), Type: in.Get("type").String(),
		Description: in.Get("description").String(), Options: parseOptions(in.Get("options")),
	}
	if p.Type == "" {
		p.Type = "string"
	}
	if p.Name == "" {
		p.Name = nameOf(p.Label)
	}
	p.FieldType = eventFieldTypes[p.Type]
	switch {
	case p.FieldType == "":
		return p, badInput("Event property type " + p.Type + " is invalid")
	case p.Label == "" || len(p.Label) > maxEventName:
		return p, badInput("A property label of 1 to 50 characters is required")
	case !isName(p.Name, maxEventName):
		return p, badInput("Event property name " + p.Name + " is invalid: it must start with a letter and hold up to 50 lower-case letters, digits and underscores")
	case defaultEventProperties()[p.Name] != nil:
		return p, badInput("Event property " + p.Name + " is one of the default properties")
	case p.Type == "enumeration" && len(p.Options) == 0:
		return p, badInput("Event property " + p.Name + " needs options")
	}
	if wrong := p.validateOptions(); wrong != "" {
		return p, badInput(wrong)
	}
	return p, nil
}

// nameOf derives an internal name from a label.
func nameOf(label string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(label)), "_")
}

// unknownDefinition is the answer to a name that is not defined: 400, not 404, by the only published answer.
func unknownDefinition(name string) *apiError {
	return badInput("Event with fully qualified name " + name + " does not exist.")
}

// listDefinitions answers GET event-definitions, in pages.
func (st *state) listDefinitions(c *call) answer {
	limit := defaultDefinitions
	if v := c.query.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return st.fail(badInput("limit must be a whole number from 1"))
		}
		limit = min(n, maxDefinitionsLimit)
	}
	search, after := c.query.Get("searchString"), c.query.Get("after")
	withProperties := c.query.Get("includeProperties") == "true"
	b := append([]byte(nil), `{"results":[`...)
	n, more, last := 0, 0, ""
	for _, name := range st.definitions.names() {
		if !strings.Contains(name, search) || after != "" && name <= after {
			continue
		}
		if n == limit {
			more++
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = st.definitions.view[name].append(b, withProperties)
		last = name
	}
	b = append(b, ']')
	if more > 0 {
		b = append(b, `,"paging":{"next":{"after":`...)
		b = appendString(b, last)
		b = append(b, "}}"...)
	}
	b = append(b, `,"total":`...)
	b = strconv.AppendInt(b, int64(n+more), 10)
	return answer{status: http.StatusOK, body: append(b, '}')}
}

// readDefinition answers GET event-definitions/{name}; the short and the qualified name both work.
func (st *state) readDefinition(c *call) answer {
	d := st.definitions.view[st.shortName(c.args[0])]
	if d == nil {
		return st.fail(unknownDefinition(c.args[0]))
	}
	return answer{status: http.StatusOK, body: d.append(nil, true)}
}

// deleteDefinition answers DELETE event-definitions/{name}: the name can never be used again.
func (st *state) deleteDefinition(c *call) answer {
	name := st.shortName(c.args[0])
	if st.definitions.truth[name] == nil {
		return st.fail(unknownDefinition(c.args[0]))
	}
	st.burned[name] = true
	change(st, &st.definitions, name, nil)
	return answer{status: http.StatusNoContent}
}

// createEventProperty answers POST event-definitions/{name}/property.
func (st *state) createEventProperty(c *call) answer {
	d := st.definitions.truth[st.shortName(c.args[0])]
	if d == nil {
		return st.fail(unknownDefinition(c.args[0]))
	}
	p, e := eventProperty(c.json)
	switch {
	case e != nil:
		return st.fail(e)
	case d.custom[p.Name] != nil:
		return st.fail(&apiError{
			status: http.StatusConflict, category: alreadyExists, subCategory: "Properties.PROPERTY_WITH_NAME_EXISTS",
			message: "A property named '" + p.Name + "' already exists.",
		})
	case len(d.Properties) >= maxEventProperties:
		return st.fail(badInput("The limit of 50 custom properties of an event is exceeded"))
	}
	n := d.Definition
	n.Properties = append(n.Properties[:len(n.Properties):len(n.Properties)], p)
	q := newDefinition(n, d.created, st.now)
	change(st, &st.definitions, n.Name, q)
	p.created, p.updated = st.now.at, st.now.at
	return answer{status: http.StatusCreated, body: newProperty(p).append(nil, true)}
}

// append appends the definition as JSON.
func (d *definition) append(b []byte, withProperties bool) []byte {
	b = append(b, `{"labels":{"singular":`...)
	b = appendString(b, d.Label)
	b = append(b, `,"plural":null},"description":`...)
	b = appendString(b, d.Description)
	b = append(b, `,"archived":false,"primaryObjectId":"0-1","trackingType":"MANUAL"`...)
	b = appendMember(b, "name", d.Name)
	b = appendMember(b, "id", d.ID)
	b = appendMember(b, "objectTypeId", "6-"+d.ID)
	b = appendMember(b, "fullyQualifiedName", d.FullyQualifiedName)
	b = appendMember(b, "primaryObject", d.PrimaryObject)
	b = appendMember(b, "createdAt", d.created.text)
	b = appendMember(b, "updatedAt", d.updated.text)
	b = append(b, `,"properties":[`...)
	if withProperties {
		n := 0
		for _, p := range d.allProperties() {
			if n++; n > 1 {
				b = append(b, ',')
			}
			b = p.append(b, true)
		}
	}
	return append(b, "]}"...)
}

// allProperties lists the custom properties, then the default ones.
func (d *definition) allProperties() []*property {
	var all []*property
	for _, p := range d.Properties {
		all = append(all, d.custom[p.Name])
	}
	if d.IncludeDefaults {
		for _, name := range defaultEventNames() {
			all = append(all, defaultEventProperties()[name])
		}
	}
	return all
}
