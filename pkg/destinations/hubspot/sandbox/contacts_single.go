package sandbox

import (
	"net/http"
	"strings"

	"github.com/tidwall/gjson"
)

// createContact answers POST contacts.
func (st *state) createContact(c *call) answer {
	in, e := single(c)
	if e != nil {
		return st.fail(e)
	}
	in.isNew = true
	st.checkInput(&in)
	return st.writeSingle(&in, http.StatusCreated)
}

// updateContact answers PATCH contacts/{id} and contacts/{address}?idProperty=email.
func (st *state) updateContact(c *call) answer {
	in, e := single(c)
	if e == nil {
		in.target, e = st.lookUp(c)
	}
	if e != nil {
		return st.fail(e)
	}
	st.checkInput(&in)
	return st.writeSingle(&in, http.StatusOK)
}

// single reads a body {"properties":{}}.
func single(c *call) (input, *apiError) {
	properties := c.json.Get("properties")
	if !properties.Exists() {
		return input{}, badInput("Invalid input JSON on line 1, column 1: Some required fields were not set: [properties]")
	}
	fields, e := parseFields(properties, nil)
	return input{fields: fields, hasFields: true, trace: c.json.Get("objectWriteTraceId").Str}, e
}

func (st *state) writeSingle(in *input, ok int) answer {
	if in.failed == nil {
		in.failed = st.write(in)
	}
	if in.failed != nil {
		e := *in.failed
		if e.category == conflict {
			e.context = nil // the id is in the message alone
		}
		return st.fail(&e)
	}
	return answer{status: ok, body: st.appendWrite(nil, in)}
}

// lookUp finds the record that a path names, or answers 404.
func (st *state) lookUp(c *call) (*contact, *apiError) {
	idProperty := c.query.Get("idProperty")
	if idProperty != "" && idProperty != "hs_object_id" {
		if e := st.checkIDProperty(idProperty); e != nil {
			return nil, e
		}
	}
	ct := st.contacts.by(idProperty, c.args[0])
	if ct == nil {
		return nil, missing("resource not found")
	}
	return ct, nil
}

// readContact answers GET contacts/{id}?properties=a,b.
func (st *state) readContact(c *call) answer {
	ct, e := st.lookUp(c)
	if e != nil {
		return st.fail(e)
	}
	names := st.readNames(listed(c.query["properties"]))
	b := st.appendRecord(nil, ct, func(b []byte) []byte { return appendRead(b, ct, names) })
	b = st.appendHistory(b, ct, listed(c.query["propertiesWithHistory"]))
	return answer{status: http.StatusOK, body: append(b, '}')}
}

// listed reads a parameter that is given several times, with commas, or both.
func listed(values []string) []string {
	var all []string
	for _, v := range values {
		all = append(all, strings.Split(v, ",")...)
	}
	return all
}

// archiveContact answers DELETE contacts/{id}: 204 even when there is no such record.
func (st *state) archiveContact(c *call) answer {
	if ct := st.contacts.by(c.query.Get("idProperty"), c.args[0]); ct != nil {
		st.contacts.archive(ct)
	}
	return answer{status: http.StatusNoContent}
}

// archiveContacts answers POST contacts/batch/archive.
func (st *state) archiveContacts(c *call) answer {
	if e := st.checkBatch(c, need{id: true}); e != nil {
		return st.fail(e)
	}
	for i := range c.inputs {
		if ct := st.contacts.byID(c.inputs[i].id); ct != nil {
			st.contacts.archive(ct)
		}
	}
	return answer{status: http.StatusNoContent}
}

// readContacts answers POST contacts/batch/read.
func (st *state) readContacts(c *call) answer {
	if e := st.checkBatch(c, need{id: true}); e != nil {
		return st.fail(e)
	}
	var unknown []string
	var found []*contact
	seen := map[*contact]bool{}
	for i := range c.inputs {
		in := &c.inputs[i]
		if in.idProperty != "" {
			if e := st.checkIDProperty(in.idProperty); e != nil {
				return st.fail(e)
			}
		}
		ct := st.contacts.by(in.idProperty, in.id)
		if ct == nil {
			unknown = append(unknown, in.id)
		} else if !seen[ct] {
			seen[ct] = true
			found = append(found, ct)
		}
	}
	names, history := st.readNames(texts(c.json.Get("properties"))), texts(c.json.Get("propertiesWithHistory"))
	a := st.newBatch(len(found) * 512)
	a.failures = unknownContacts(unknown)
	for _, i := range st.shuffle(len(found)) {
		a.next()
		a.b = st.appendRecord(a.b, found[i], func(b []byte) []byte { return appendRead(b, found[i], names) })
		a.b = st.appendHistory(a.b, found[i], history)
		a.b = append(a.b, '}')
	}
	return a.finish(http.StatusOK)
}

// texts reads a list of strings.
func texts(list gjson.Result) []string {
	var out []string
	for _, v := range list.Array() {
		out = append(out, v.String())
	}
	return out
}
