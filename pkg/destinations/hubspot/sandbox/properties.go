package sandbox

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// maxCustomProperties is the limit of custom properties of an object.
const maxCustomProperties = 1000

// listProperties answers GET properties: all at once, no paging.
func (st *state) listProperties(c *call) answer {
	archived := c.query.Get("archived") == "true"
	b := append(make([]byte, 0, 256<<10), `{"results":[`...)
	n := 0
	for _, name := range st.properties.names() {
		if p := st.properties.view[name]; p.Archived == archived {
			if n++; n > 1 {
				b = append(b, ',')
			}
			b = p.append(b, true)
		}
	}
	return answer{status: http.StatusOK, body: append(b, "]}"...)}
}

// readProperty answers GET properties/{name}.
func (st *state) readProperty(c *call) answer {
	p := st.properties.view[c.args[0]]
	if p == nil || p.Archived != (c.query.Get("archived") == "true") {
		return st.fail(unknownProperty(c.args[0]))
	}
	return answer{status: http.StatusOK, body: p.append(nil, true)}
}

func unknownProperty(name string) *apiError {
	e := missing("A property named '"+name+"' does not exist.", contextEntry{"name", []string{name}})
	e.subCategory = "Properties.PROPERTY_NOT_FOUND" // modelled
	return e
}

// readProperties answers POST properties/batch/read.
func (st *state) readProperties(c *call) answer {
	a := st.newBatch(4096)
	archived := c.json.Get("archived").Bool()
	for _, in := range c.items {
		name := in.Get("name").String()
		p := st.properties.view[name]
		if p == nil || p.Archived != archived {
			a.failures = append(a.failures, *unknownProperty(name))
			continue
		}
		a.next()
		a.b = p.append(a.b, true)
	}
	return a.finish(http.StatusOK)
}

// createProperty answers POST properties. An archived name is restored with the new definition and its old type.
func (st *state) createProperty(c *call) answer {
	p, e := st.define(c.json)
	if e != nil {
		return st.fail(e)
	}
	h := http.Header{"Location": {"/crm/v3/properties/0-1/" + p.Name}}
	return answer{status: http.StatusCreated, header: h, body: p.append(nil, true)}
}

// createProperties answers POST properties/batch/create: existing names fail alone.
func (st *state) createProperties(c *call) answer {
	a := st.newBatch(4096)
	for _, in := range c.items {
		p, e := st.define(in)
		switch {
		case e == nil:
			a.next()
			a.b = p.append(a.b, false)
		case e.category == alreadyExists:
			e.context = []contextEntry{{"name", []string{in.Get("name").Str}}}
			a.failures = append(a.failures, *e)
		default:
			return st.fail(e)
		}
	}
	return a.finish(http.StatusCreated)
}

// define makes a property of a posted definition.
func (st *state) define(in gjson.Result) (*property, *apiError) {
	var absent []string
	for _, n := range []string{"name", "label", "type", "fieldType", "groupName"} {
		if in.Get(n).String() == "" {
			absent = append(absent, n)
		}
	}
	if len(absent) > 0 {
		return nil, badInput("Invalid input JSON on line 1, column 1: Some required fields were not set: [" + strings.Join(absent, ", ") + "]")
	}
	p := Property{
		Name: in.Get("name").Str, HasUniqueValue: in.Get("hasUniqueValue").Bool(),
		created: st.now.at, updated: st.now.at,
	}
	p.merge(in)
	if e := st.checkDefinition(&p); e != nil {
		return nil, e
	}
	if old := st.properties.truth[p.Name]; old != nil { // restored: what it is stays, for contacts have values of it (modelled)
		p.created, p.Type, p.FieldType = old.created, old.Type, old.FieldType
	}
	q := newProperty(p)
	change(st, &st.properties, p.Name, q)
	return q, nil
}

func (st *state) checkDefinition(p *Property) *apiError {
	if wrong := p.validate(); wrong != "" {
		return badInput(wrong)
	}
	custom := 0
	for _, q := range st.properties.truth {
		if !q.HubSpotDefined && !q.Archived {
			custom++
		}
	}
	if st.groups[p.GroupName] == "" {
		return badInput("Property group " + p.GroupName + " does not exist") // the text is modelled
	}
	if old := st.properties.truth[p.Name]; old != nil && !old.Archived {
		return &apiError{
			status: http.StatusConflict, category: alreadyExists, subCategory: "Properties.PROPERTY_WITH_NAME_EXISTS",
			message: "A property named '" + p.Name + "' already exists.",
		}
	}
	if custom >= maxCustomProperties {
		return badInput("The limit of " + strconv.Itoa(maxCustomProperties) + " custom properties is reached")
	}
	return nil
}

// merge takes over the members that a create or update gives.
func (p *Property) merge(in gjson.Result) {
	for name, to := range map[string]*string{
		"label": &p.Label, "type": &p.Type, "fieldType": &p.FieldType, "description": &p.Description, "groupName": &p.GroupName,
	} {
		if v := in.Get(name); v.Exists() {
			*to = strings.Clone(v.String())
		}
	}
	if v := in.Get("hidden"); v.Exists() {
		p.Hidden = v.Bool()
	}
	if v := in.Get("options"); v.IsArray() {
		p.Options = parseOptions(v)
	}
}

// updateProperty answers PATCH properties/{name}. Options given replace the list: those left out are gone.
func (st *state) updateProperty(c *call) answer {
	old := st.properties.truth[c.args[0]]
	if old == nil || old.Archived {
		return st.fail(unknownProperty(c.args[0]))
	}
	p := old.Property
	p.merge(c.json)
	p.updated = st.now.at
	if p.ReadOnlyOptions && c.json.Get("options").Exists() {
		return st.fail(badInput("The options of property '" + p.Name + "' cannot be changed")) // the text is modelled
	}
	wrong := p.validateOptions()
	if !old.HubSpotDefined {
		wrong = p.validate()
	}
	if wrong == "" && st.groups[p.GroupName] == "" {
		wrong = "Property group " + p.GroupName + " does not exist"
	}
	if wrong != "" {
		return st.fail(badInput(wrong))
	}
	q := newProperty(p)
	change(st, &st.properties, p.Name, q)
	return answer{status: http.StatusOK, body: q.append(nil, true)}
}

// archiveProperty answers DELETE properties/{name}; creating the name again restores it.
func (st *state) archiveProperty(c *call) answer {
	if e := st.archiveName(c.args[0]); e != nil {
		return st.fail(e)
	}
	return answer{status: http.StatusNoContent}
}

// archiveProperties answers POST properties/batch/archive.
func (st *state) archiveProperties(c *call) answer {
	for _, in := range c.items {
		if e := st.archiveName(in.Get("name").String()); e != nil {
			return st.fail(e)
		}
	}
	return answer{status: http.StatusNoContent}
}

func (st *state) archiveName(name string) *apiError {
	old := st.properties.truth[name]
	if old == nil || old.Archived {
		return unknownProperty(name)
	}
	if old.HubSpotDefined {
		return badInput("Property '" + name + "' is defined by HubSpot and cannot be archived") // modelled
	}
	p := old.Property
	p.Archived, p.updated = true, st.now.at
	change(st, &st.properties, name, newProperty(p))
	return nil
}

// append appends the property as JSON. stamped adds what a batch create leaves out; HubSpot's own properties have members that those
// of the account lack, and the reverse.
func (p *property) append(b []byte, stamped bool) []byte {
	own := stamped && !p.HubSpotDefined
	b = append(b, '{')
	if stamped {
		b = append(b, `"updatedAt":"`...)
		b = append(b, stampOf(p.updated).text...)
		b = append(b, `","createdAt":"`...)
		b = append(b, stampOf(p.created).text...)
		b = append(b, `",`...)
	}
	b = append(b, `"name":`...)
	b = appendString(b, p.Name)
	for _, m := range [...][2]string{
		{`,"label":`, p.Label}, {`,"type":`, p.Type}, {`,"fieldType":`, p.FieldType}, {`,"description":`, p.Description}, {`,"groupName":`, p.GroupName},
	} {
		b = append(b, m[0]...)
		b = appendString(b, m[1])
	}
	b = append(b, `,"options":[`...)
	for i, o := range p.Options {
		if i > 0 {
			b = append(b, ',')
		}
		b = o.append(b)
	}
	b = append(b, ']')
	if own {
		b = append(b, `,"createdUserId":"1","updatedUserId":"1"`...)
	}
	b = append(b, `,"displayOrder":-1`...)
	b = appendFlag(b, "calculated", p.Calculated)
	b = appendFlag(b, "externalOptions", p.ExternalOptions)
	if own {
		b = appendFlag(b, "archived", p.Archived)
	}
	b = appendFlag(b, "hasUniqueValue", p.HasUniqueValue)
	b = appendFlag(b, "hidden", p.Hidden)
	if p.HubSpotDefined {
		b = appendFlag(b, "hubspotDefined", true)
	}
	b = append(b, `,"modificationMetadata":{"archivable":true`...)
	b = appendFlag(b, "readOnlyDefinition", p.HubSpotDefined)
	b = appendFlag(b, "readOnlyValue", p.ReadOnlyValue)
	if p.ReadOnlyOptions {
		b = appendFlag(b, "readOnlyOptions", true)
	}
	b = append(b, '}')
	b = appendFlag(b, "formField", !p.ReadOnlyValue)
	return append(b, `,"dataSensitivity":"non_sensitive"}`...)
}

func (o *Option) append(b []byte) []byte {
	b = append(b, `{"label":`...)
	b = appendString(b, o.Label)
	b = append(b, `,"value":`...)
	b = appendString(b, o.Value)
	b = appendMember(b, "description", o.Description)
	b = append(b, `,"displayOrder":`...)
	b = strconv.AppendInt(b, int64(o.DisplayOrder), 10)
	b = appendFlag(b, "hidden", o.Hidden)
	return append(b, '}')
}

func appendFlag(b []byte, name string, v bool) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendBool(b, v)
}
